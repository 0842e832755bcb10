//! Servers that want to know who asks.

use std::collections::BTreeMap;
use std::fs;

use nixlayer::failure::Failure;
use nixlayer::http::{ClientCertificate, Http, HttpError, HttpSettings, Request};
use nixlayer::secret::Secret;

use crate::support::Scripted;
use crate::tls::{Authority, Front, registry};
use crate::trust::{check_push, config};

/// A registry for clients that an authority knows, and a place for what the admin decides.
struct Scene {
    folder: tempfile::TempDir,
    authority: Authority,
    registry: Scripted,
    front: Front,
}

impl Scene {
    async fn new() -> Self {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let registry = registry().await;
        let front = Front::start(registry.address, authority.certify_for_known_clients("IP:127.0.0.1")).await;
        Self { folder, authority, registry, front }
    }

    fn host(&self) -> String {
        self.front.address.to_string()
    }

    /// What comes of a job where the admin gives `keys` for `section`.
    async fn check(&self, section: &str, keys: &str) -> Result<(), Failure> {
        let ca_file = self.authority.file("ca", "pem");
        let yaml = format!("{section}: {{ ca_file: {}{keys} }} }}", ca_file.display());
        check_push(&config(&self.folder, &yaml), &self.host()).await
    }

    fn keys(&self, authority: &Authority) -> String {
        authority.sign("client", "DNS:runner.example", 1);
        let [certificate, key] = ["pem", "key"].map(|extension| authority.file("client", extension));
        format!(", client_certificate: {}, client_key: {}", certificate.display(), key.display())
    }
}

#[tokio::test]
async fn a_host_sees_the_client_certificate_that_the_admin_gives_for_it() {
    let scene = Scene::new().await;
    let keys = scene.keys(&scene.authority);

    scene.check(&format!("registries: {{ '{}'", scene.host()), &keys).await.unwrap();
    scene.check(&format!("caches: {{ 'https://{}/cache'", scene.host()), &keys).await.unwrap();
}

#[tokio::test]
async fn a_host_that_wants_another_client_certificate_or_one_at_all_is_told_as_such() {
    let scene = Scene::new().await;
    let section = format!("registries: {{ '{}'", scene.host());
    let foreign = Authority::new();
    for (keys, reason) in [(String::new(), "we have none for it"), (scene.keys(&foreign), "not ours")] {
        let told = scene.check(&section, &keys).await.unwrap_err().to_string();

        let expected =
            format!("error: `{}` wants a client certificate, and {reason}\n  cause: ", scene.host());
        assert!(told.starts_with(&expected), "{told}");
        assert!(told.contains("\n  fix:   give `client_certificate` and `client_key`"), "{told}");
    }
    assert_eq!(scene.registry.log(), []);
}

/// It says who we are, so only those see it whom the admin means.
#[tokio::test]
async fn another_host_does_not_see_the_client_certificate() {
    let scene = Scene::new().await;
    let other =
        Front::start(scene.registry.address, scene.authority.certify_for_known_clients("IP:127.0.0.1")).await;
    scene.authority.sign("client", "DNS:runner.example", 1);
    let read = |extension| fs::read_to_string(scene.authority.file("client", extension)).unwrap();
    let shown = ClientCertificate { certificate: read("pem").into_bytes(), key: Secret::from(read("key")) };
    let hosts = [scene.host(), other.address.to_string()];
    let http = Http::new(HttpSettings {
        ca_files: hosts.iter().map(|host| (host.clone(), scene.authority.certificate())).collect(),
        client_certificates: BTreeMap::from([(scene.host(), shown)]),
        ..HttpSettings::default()
    })
    .unwrap();
    let get = |host: &str| http.send(Request::get(Request::url(&format!("https://{host}/")).unwrap()));

    get(&hosts[0]).await.unwrap();
    let error = get(&hosts[1]).await.unwrap_err();

    assert!(matches!(error, HttpError::ClientRefused { shown: false, .. }), "{error:?}");
}

#[tokio::test]
async fn files_that_are_no_client_certificate_are_told_by_their_fault_and_not_shown() {
    let authority = Authority::new();
    for file in ["one", "two"] {
        authority.sign(file, "DNS:runner.example", 1);
    }
    authority.openssl("pkcs8 -topk8 -in one.key -out locked.key -passout pass:canary");
    authority.openssl("ec -in one.key -out sec1.key");
    authority.openssl("ecparam -name prime256v1 -out parameters.key");
    let read = |name, extension| fs::read_to_string(authority.file(name, extension)).unwrap();
    let broken = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_owned();
    let new = |certificate: String, key: String| {
        let shown = ClientCertificate { certificate: certificate.into_bytes(), key: Secret::from(key) };
        let client_certificates = BTreeMap::from([("r.example".to_owned(), shown)]);
        Http::new(HttpSettings { client_certificates, ..HttpSettings::default() })
    };
    for (certificate, key) in [
        (read("one", "pem"), read("one", "key")),
        (read("one", "pem"), read("sec1", "key")),
        (read("one", "pem") + &read("ca", "pem"), read("parameters", "key") + &read("sec1", "key")),
        (read("one", "key") + &read("one", "pem"), read("one", "pem") + &read("one", "key")),
    ] {
        assert!(new(certificate, key).is_ok());
    }
    for (certificate, key, fault) in [
        (String::new(), read("one", "key"), "the certificate's file holds none in PEM"),
        (read("one", "key"), read("one", "key"), "the certificate's file holds none in PEM"),
        (
            read("one", "pem"),
            read("one", "pem"),
            "the key's file holds none in PEM, or it is behind a passphrase",
        ),
        (
            read("one", "pem"),
            read("locked", "key"),
            "the key's file holds none in PEM, or it is behind a passphrase",
        ),
        (read("one", "pem"), read("two", "key"), "the key is that of another certificate"),
        (
            read("ca", "pem") + &read("one", "pem"),
            read("one", "key"),
            "the key is that of another certificate",
        ),
        (read("one", "pem"), broken, "the certificate or its key is broken or of an unknown kind"),
    ] {
        let lines: Vec<String> = key.lines().map(str::to_owned).collect();

        let error = new(certificate, key).unwrap_err();

        let shown = format!("{error:?}");
        assert!(!lines.iter().any(|line| shown.contains(line)), "{shown}");
        let told = Failure::from(error).to_string();
        let expected =
            format!("error: the client certificate for `r.example` cannot be used: {fault}\n  fix:   ");
        assert!(told.starts_with(&expected), "{told}");
        assert!(!lines.iter().any(|line| told.contains(line)), "{told}");
    }

    let shown = ClientCertificate { certificate: Vec::new(), key: Secret::from("canary") };
    assert!(!format!("{shown:?}").contains("canary"));
}
