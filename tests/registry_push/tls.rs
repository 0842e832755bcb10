//! Registries behind TLS, whose certificates come from an authority of one's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use axum::http::header::HOST;
use nixlayer::failure::Failure;
use nixlayer::http::{Http, HttpSettings};
use nixlayer::oci::Repository;
use nixlayer::publish::{Destination, Registry};
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::support::{CHUNK, Scripted, blob, bytes, count, credentials, image, reply, tag};

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";

/// An authority that no system knows, and the certificates that it signs.
pub(crate) struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        authority.openssl(&format!(
            "req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -subj /CN=authority -days 2 \
             -addext basicConstraints=critical,CA:TRUE"
        ));
        authority
    }

    /// A server's side of TLS: `name` as in `IP:127.0.0.1`, for so many days from now.
    pub(crate) fn certify(&self, name: &str, days: i32) -> ServerConfig {
        self.sign("host", name, days);
        self.server("host", None)
    }

    /// The same, and the server wants a certificate of this authority from its clients.
    pub(crate) fn certify_for_known_clients(&self, name: &str) -> ServerConfig {
        self.sign("host", name, 1);
        let mut known = RootCertStore::empty();
        known.add(CertificateDer::from_pem_file(self.file("ca", "pem")).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(known), provider);
        self.server("host", Some(verifier.build().unwrap()))
    }

    /// A server that shows the authority's own certificate.
    fn itself(&self) -> ServerConfig {
        self.server("ca", None)
    }

    /// Makes `file.pem` and `file.key` for `name`.
    pub(crate) fn sign(&self, file: &str, name: &str, days: i32) {
        self.openssl(&format!(
            "req -new {NEW_KEY} -keyout {file}.key -out {file}.csr -subj /CN=host -addext subjectAltName={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {file}.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days {days} -out {file}.pem"
        ));
    }

    fn server(&self, name: &str, clients: Option<Arc<dyn ClientCertVerifier>>) -> ServerConfig {
        let certificate = CertificateDer::from_pem_file(self.file(name, "pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.file(name, "key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            Some(clients) => config.with_client_cert_verifier(clients),
            None => config.with_no_client_auth(),
        };
        config.with_single_cert(vec![certificate], key).unwrap()
    }

    pub(crate) fn certificate(&self) -> Vec<u8> {
        std::fs::read(self.file("ca", "pem")).unwrap()
    }

    pub(crate) fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(name).with_extension(extension)
    }

    pub(crate) fn openssl(&self, arguments: &str) {
        let arguments = arguments.split(' ');
        let made = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// Speaks TLS in front of a server that does not.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(behind: SocketAddr, config: ServerConfig) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        // One of the two does not like the other's certificate. A connection closed with
                        // something unread in it would take the reason away from the client.
                        Err((_, mut stream)) => {
                            let _ = copy(&mut stream, &mut sink()).await;
                            return;
                        }
                    };
                    let mut server = TcpStream::connect(behind).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry that has nothing, takes everything, and gives out its tokens itself.
pub(crate) async fn registry() -> Scripted {
    Scripted::start(|_, request, _| {
        let host = request.headers()[HOST].to_str().unwrap();
        let challenge = format!("Bearer realm=\"https://{host}/token\",service=\"r\"");
        let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap());
        match (request.uri().path(), request.method().as_str(), authorization) {
            ("/token", _, Some(basic)) if basic.starts_with("Basic ") => reply(200, &[], r#"{"token":"t"}"#),
            (_, method, Some("Bearer t")) => match method {
                "HEAD" => reply(404, &[], ""),
                "POST" | "PATCH" => reply(202, &[("location", &format!("https://{host}/upload"))], ""),
                _ => reply(201, &[], ""),
            },
            _ => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await
}

/// `team/app` on the registry at `host`, to a client that trusts `ca_file` there.
fn destination(host: &str, ca_file: Option<Vec<u8>>) -> Destination {
    let ca_files: BTreeMap<_, _> = ca_file.into_iter().map(|pem| (host.to_owned(), pem)).collect();
    let http = Arc::new(Http::new(HttpSettings { ca_files, ..HttpSettings::default() }).unwrap());
    let registry = Registry::new(http, host, credentials(), BTreeSet::new());
    Destination::Registry {
        registry: Arc::new(registry),
        repository: Repository::new(host, "team/app").unwrap(),
    }
}

#[tokio::test]
async fn a_push_goes_through_tls_to_a_host_with_a_ca_file() {
    let authority = Authority::new();
    let registry = registry().await;
    let front = Front::start(registry.address, authority.certify("IP:127.0.0.1", 1)).await;
    let layers = [bytes(10, 0), bytes(3 * CHUNK, 1)];
    let destination = destination(&front.address.to_string(), Some(authority.certificate()));

    for layer in &layers {
        destination.put_blob(&|| blob(layer.clone())).await.unwrap();
    }
    destination.put_image(&image(&layers), &[tag("latest")], &Default::default()).await.unwrap();

    let log = registry.log();
    assert_eq!(count(&log, "PATCH", "/upload"), 3);
    assert_eq!(count(&log, "PUT", "/upload"), 3, "two layers and the configuration");
    assert_eq!(log.last().unwrap().path, "/v2/team/app/manifests/latest");
}

#[tokio::test]
async fn a_certificate_that_does_not_do_is_told_by_its_reason_and_sees_no_request() {
    let authority = Authority::new();
    let registry = registry().await;
    let known = || Some(authority.certificate());
    for (server, ca_file, reason, library, fix) in [
        (
            authority.certify("IP:127.0.0.1", 1),
            None,
            "is signed by nobody whom this machine trusts",
            "UnknownIssuer",
            "give `registries.\"HOST\".ca_file` the certificate of the authority that signed it, in the admin's \
             configuration",
        ),
        (
            authority.certify("DNS:other.example", 1),
            known(),
            "is for another host name",
            "only valid for DnsName(\"other.example\")",
            "use the name that it is for, or let it be made for this one as well",
        ),
        (
            authority.certify("IP:127.0.0.1", -1),
            known(),
            "has expired",
            "Expired",
            "renew it, or set the clock of the runner's host",
        ),
        (
            authority.itself(),
            known(),
            "is that of an authority, which no server may use as its own",
            "CaUsedAsEndEntity",
            "let the server use a certificate that the authority signs, and give `registries.\"HOST\".ca_file` the \
             authority's",
        ),
    ] {
        let front = Front::start(registry.address, server).await;
        let host = front.address.to_string();

        let push = destination(&host, ca_file).put_blob(&|| blob(bytes(10, 0))).await;

        let told = Failure::from(push.unwrap_err()).to_string();
        assert!(
            told.starts_with(&format!("error: the certificate of `{host}` {reason}\n  cause: ")),
            "{told}"
        );
        assert!(told.contains(library), "{told}");
        assert!(told.ends_with(&format!("\n  fix:   {}", fix.replace("HOST", &host))), "{told}");
    }
    assert_eq!(registry.log(), []);
}
