//! A registry behind TLS whose handshakes fail for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use nixlayer::http::{Http, HttpSettings};
use nixlayer::oci::Repository;
use nixlayer::publish::{Credentials, Destination, Registry};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::push::put_one_blob;
use crate::support::{BUDGET, RUNTIME, bytes, hurried};

/// How many handshakes fail.
const RESETS: usize = 4;

/// A server's side of TLS for 127.0.0.1, and the certificate of its authority.
fn certified() -> (ServerConfig, Vec<u8>) {
    let folder = TempDir::new().unwrap();
    let openssl = |arguments: &str| {
        let made =
            Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc";
    openssl(&format!(
        "req -x509 {new_key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2 \
         -addext basicConstraints=critical,CA:TRUE"
    ));
    openssl(&format!(
        "req -new {new_key} -keyout host.key -out host.csr -subj /CN=host -addext subjectAltName=IP:127.0.0.1"
    ));
    openssl("x509 -req -in host.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -days 1 -out host.pem");
    let certificate = CertificateDer::from_pem_file(folder.path().join("host.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.path().join("host.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (config, std::fs::read(folder.path().join("ca.pem")).unwrap())
}

/// A registry that has nothing and takes everything.
async fn taking(request: Request) -> (StatusCode, [(header::HeaderName, &'static str); 1]) {
    let status = match *request.method() {
        Method::GET => StatusCode::OK,
        Method::HEAD => StatusCode::NOT_FOUND,
        Method::POST | Method::PATCH => StatusCode::ACCEPTED,
        _ => StatusCode::CREATED,
    };
    (status, [(header::LOCATION, "/upload")])
}

#[test]
fn a_handshake_that_is_reset_is_begun_again() {
    let (config, authority) = certified();
    let handshakes = Arc::new(AtomicUsize::new(0));
    let (host, tasks) = RUNTIME.block_on(async {
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = behind.local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = front.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let count = Arc::clone(&handshakes);
        let serving = tokio::spawn(async move { axum::serve(behind, Router::new().fallback(taking)).await });
        let speaking = tokio::spawn(async move {
            while let Ok((stream, _)) = front.accept().await {
                if count.fetch_add(1, Ordering::SeqCst) < RESETS {
                    // The client's first words have come; closing resets.
                    stream.readable().await.unwrap();
                    stream.set_zero_linger().unwrap();
                    continue;
                }
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.unwrap();
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                });
            }
        });
        (host, (serving, speaking))
    });
    let ca_files = BTreeMap::from([(host.clone(), authority)]);
    let http = Arc::new(Http::new(HttpSettings { ca_files, ..hurried(BUDGET) }).unwrap());
    let registry = Arc::new(Registry::new(http, &host, Credentials::Anonymous, BTreeSet::new()));
    let repository = Repository::new(&host, "team/app").unwrap();
    let destination = Destination::Registry { registry, repository };

    let stored = put_one_blob(&destination, &bytes(100, 1));

    tasks.0.abort();
    tasks.1.abort();
    assert_eq!(stored.unwrap().size, 100);
    assert!(handshakes.load(Ordering::SeqCst) > RESETS);
}
