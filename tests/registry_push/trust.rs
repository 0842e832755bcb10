//! Whose certificates a stage takes: the admin's, the runner's, and never a job's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::symlink;

use nixlayer::admin::{AdminConfig, Host};
use nixlayer::failure::Failure;
use nixlayer::http::Notice;
use nixlayer::job::Environment;
use nixlayer::oci::Repository;
use nixlayer::stage::{Driver, Log, prepare};
use serde_json::{Value, json};

use crate::support::{Scripted, credentials, reply};
use crate::tls::{Authority, Front, registry};

/// What the admin decides, on a host whose runner keeps its certificates in `certs` of `folder`.
pub(crate) fn config(folder: &tempfile::TempDir, yaml: &str) -> AdminConfig {
    let host = Host {
        state_dir: folder.path().join("state"),
        runner_certs: folder.path().join("certs"),
        threads: NonZeroUsize::MIN,
    };
    AdminConfig::parse("config.yaml", yaml.as_bytes(), &host).unwrap()
}

pub(crate) async fn check_push(config: &AdminConfig, host: &str) -> Result<(), Failure> {
    let environment = Environment::parse([]).unwrap();
    let variables = BTreeMap::new();
    let driver = Driver {
        config,
        environment: &environment,
        host: &variables,
        now: jiff::Timestamp::UNIX_EPOCH,
        notice: Notice::default(),
    };
    let registry = driver.registry(host, credentials(), None)?;
    Ok(registry.check_push(&Repository::new(host, "team/app").unwrap()).await?)
}

#[tokio::test]
async fn what_the_runner_trusts_for_a_host_name_is_trusted_on_each_of_its_ports() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let registry = registry().await;
    let front = Front::start(registry.address, authority.certify("IP:127.0.0.1", 1)).await;
    let host = front.address.to_string();
    let config_here = config(&folder, "sandbox: none");
    let unknown = async |config: &AdminConfig| {
        let told = check_push(config, &host).await.unwrap_err().to_string();
        assert!(told.contains("is signed by nobody whom this machine trusts"), "{told}");
    };
    unknown(&config_here).await;
    let certs = folder.path().join("certs");
    fs::create_dir(&certs).unwrap();
    fs::copy(authority.file("ca", "pem"), certs.join("other.example.crt")).unwrap();
    fs::write(certs.join("broken.example.crt"), "no certificate").unwrap();
    fs::create_dir(certs.join("folder.example.crt")).unwrap();
    symlink("/nonexistent", certs.join("dangling.example.crt")).unwrap();
    unknown(&config_here).await;
    fs::create_dir(certs.join("127.0.0.1.crt")).unwrap();
    unknown(&config_here).await;
    fs::remove_dir(certs.join("127.0.0.1.crt")).unwrap();

    // Some mount the folder, and its files are links.
    symlink(authority.file("ca", "pem"), certs.join("127.0.0.1.crt")).unwrap();
    check_push(&config_here, &host).await.unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    unknown(&config(&folder, &format!("runner_certs: {}", elsewhere.path().display()))).await;
    let there = tempfile::tempdir().unwrap();
    check_push(&config(&there, &format!("runner_certs: {}", certs.display())), &host).await.unwrap();
}

/// A registry that the admin's `ca_file` vouches for, and a GitLab that has its tokens, of another authority.
struct Scene {
    folder: tempfile::TempDir,
    gitlab: Authority,
    gitlab_front: Front,
    registry_front: Front,
    config: AdminConfig,
    _servers: [Scripted; 2],
}

impl Scene {
    async fn new() -> Self {
        let (folder, gitlab, authority) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
        let tokens = Scripted::start(|_, _, _| reply(200, &[], r#"{"token":"t"}"#)).await;
        let gitlab_front = Front::start(tokens.address, gitlab.certify("IP:127.0.0.1", 1)).await;
        let challenge = format!("Bearer realm=\"https://{}/jwt/auth\",service=\"r\"", gitlab_front.address);
        let registry = Scripted::start(move |_, request, _| {
            let known = request.headers().contains_key("authorization");
            if known { reply(200, &[], "") } else { reply(401, &[("www-authenticate", &challenge)], "") }
        })
        .await;
        let registry_front = Front::start(registry.address, authority.certify("IP:127.0.0.1", 1)).await;
        fs::copy(authority.file("ca", "pem"), folder.path().join("ca.pem")).unwrap();
        let config = config(
            &folder,
            &format!(
                "sandbox: none\nregistries: {{ '{}': {{ ca_file: {} }} }}",
                registry_front.address,
                folder.path().join("ca.pem").display()
            ),
        );
        Self { folder, gitlab, gitlab_front, registry_front, config, _servers: [tokens, registry] }
    }

    /// The stage `prepare` of an image job with `more` in its response, where the runner's environment says
    /// `server_ca`.
    async fn prepare(&self, more: impl FnOnce(&mut Value), server_ca: &str) -> Result<(), Failure> {
        let (gitlab, registry) = (self.gitlab_front.address, self.registry_front.address.to_string());
        let mut response = json!({
            "id": 1,
            "job_info": { "project_id": 2, "project_full_path": "team/app" },
            "git_info": { "repo_url": format!("https://{gitlab}/team/app.git"), "ref": "main", "sha": "0".repeat(40) },
            "variables": [{ "key": "CI_REGISTRY", "value": registry }],
            "credentials": [{ "type": "registry", "url": registry, "username": "ci", "password": "p" }],
        });
        more(&mut response);
        let file = self.folder.path().join("response.json");
        fs::write(&file, response.to_string()).unwrap();
        let variables: BTreeMap<OsString, OsString> = BTreeMap::from([
            ("JOB_RESPONSE_FILE".into(), file.into()),
            ("CUSTOM_ENV_NIXLAYER_SPEC".into(), "image.yaml".into()),
            ("CUSTOM_ENV_CI_SERVER_TLS_CA_FILE".into(), server_ca.into()),
        ]);
        let environment = Environment::parse(variables.clone()).unwrap();
        let driver = Driver {
            config: &self.config,
            environment: &environment,
            host: &variables,
            now: jiff::Timestamp::UNIX_EPOCH,
            notice: Notice::default(),
        };
        prepare(&driver, &Log::new(Box::new(std::io::sink()), || 0)).await
    }
}

fn list(key: &str) -> impl FnOnce(&mut Value) {
    let variable = json!({ "key": key, "value": "", "file": true });
    move |response| response["variables"].as_array_mut().unwrap().push(variable)
}

#[tokio::test]
async fn gitlab_is_trusted_behind_the_certificates_that_the_runner_found_there() {
    let scene = Scene::new().await;
    let pem = String::from_utf8(scene.gitlab.certificate()).unwrap();

    scene.prepare(|_| (), &pem).await.unwrap();
    scene.prepare(list("CI_SERVER_TLS_CA_FILE_OF_MINE"), &pem).await.unwrap();
    scene.prepare(|_| (), scene.gitlab.file("ca", "pem").to_str().unwrap()).await.unwrap();

    let unfit =
        [String::new(), "no certificate".to_owned(), "/nonexistent".to_owned(), "/dev/zero".to_owned()];
    for unfit in unfit {
        let told = scene.prepare(|_| (), &unfit).await.unwrap_err().to_string();

        let gitlab = scene.gitlab_front.address;
        let expected =
            format!("error: the certificate of `{gitlab}` is signed by nobody whom this machine trusts");
        assert!(told.starts_with(&expected), "{unfit:?}: {told}");
    }
}

#[tokio::test]
async fn certificates_that_a_job_sets_are_not_trusted() {
    let scene = Scene::new().await;
    let pem = String::from_utf8(scene.gitlab.certificate()).unwrap();
    let by_secret = |response: &mut Value| response["secrets"] = json!({ "CI_SERVER_TLS_CA_FILE": {} });

    for told in [
        scene.prepare(list("CI_SERVER_TLS_CA_FILE"), &pem).await,
        scene.prepare(list("CI_SERVER_TLS_CA_FILE="), &pem).await,
        scene.prepare(by_secret, &pem).await,
    ] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("is signed by nobody whom this machine trusts"), "{told}");
    }
}

/// What is found at GitLab vouches for nobody else, not even on the same machine.
#[tokio::test]
async fn the_certificates_found_at_gitlab_are_for_gitlab_only() {
    let scene = Scene::new().await;
    let tokens = Scripted::start(|_, _, _| reply(200, &[], "")).await;
    let front = Front::start(tokens.address, scene.gitlab.certify("IP:127.0.0.1", 1)).await;
    let other = front.address.to_string();
    let pem = String::from_utf8(scene.gitlab.certificate()).unwrap();
    let on_other_port = |response: &mut Value| {
        response["variables"][0]["value"] = json!(other);
        response["credentials"][0]["url"] = json!(other);
    };

    let told = scene.prepare(on_other_port, &pem).await.unwrap_err().to_string();

    let expected =
        format!("error: the certificate of `{other}` is signed by nobody whom this machine trusts");
    assert!(told.starts_with(&expected), "{told}");
}
