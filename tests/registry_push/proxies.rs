//! Registries behind the proxy of the runner's environment, and where they may lead from there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use nixlayer::admin::{AdminConfig, Host};
use nixlayer::http::{Http, HttpError, HttpSettings, Notice, Place, RedirectRule, Request};
use nixlayer::job::Environment;
use nixlayer::oci::Repository;
use nixlayer::secret::Secret;
use nixlayer::stage::Driver;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Scripted, credentials, reply};
use crate::tls::{Authority, Front, registry};

/// A proxy for `CONNECT`, from which all names lead to the same server.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                heads.lock().unwrap().push(String::from_utf8(head).unwrap());
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        Self { address, asked, task }
    }

    /// What it was asked, each from its first line to its last.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks the registry at `host` whether the job may push, as a stage in that environment does.
async fn check_push(host: &str, authority: &Authority, environment: &[(&str, String)]) {
    let yaml =
        format!("registries: {{ '{host}': {{ ca_file: {} }} }}", authority.file("ca", "pem").display());
    let nowhere = || "/nonexistent".into();
    let defaults = Host { state_dir: nowhere(), runner_certs: nowhere(), threads: NonZeroUsize::MIN };
    let config = AdminConfig::parse("config.yaml", yaml.as_bytes(), &defaults).unwrap();
    let variables: BTreeMap<OsString, OsString> =
        environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let driver = Driver {
        config: &config,
        environment: &Environment::parse(variables.clone()).unwrap(),
        host: &variables,
        now: jiff::Timestamp::UNIX_EPOCH,
        notice: Notice::default(),
    };

    let registry = driver.registry(host, credentials(), None).unwrap();
    registry.check_push(&Repository::new(host, "team/app").unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_registry_is_reached_through_the_proxy_which_alone_sees_its_password() {
    let authority = Authority::new();
    let registry = registry().await;
    let front = Front::start(registry.address, authority.certify("DNS:registry.example", 1)).await;
    let proxy = Proxy::start(front.address).await;
    let url = format!("http://user:proxy-canary@{}", proxy.address);

    check_push("registry.example:5050", &authority, &[("HTTPS_PROXY", url)]).await;

    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in asked {
        assert!(head.starts_with("CONNECT registry.example:5050 HTTP/1.1\r\n"), "{head}");
        // RFC 7617: base64 of `user:proxy-canary`.
        assert!(head.contains("dXNlcjpwcm94eS1jYW5hcnk="), "{head}");
        // RFC 7617: base64 of `ci:canary-password`; and the token.
        assert!(!head.contains("Y2k6Y2FuYXJ5LXBhc3N3b3Jk") && !head.contains("Bearer"), "{head}");
    }
    let headers = registry.headers();
    assert!(headers.iter().any(|headers| headers.contains_key("authorization")));
    for headers in headers {
        assert!(!format!("{headers:?}").contains("dXNlcjpwcm94eS1jYW5hcnk="), "{headers:?}");
        assert!(!headers.contains_key("proxy-authorization"), "{headers:?}");
    }
}

#[tokio::test]
async fn hosts_excepted_and_proxies_of_jobs_are_not_for_the_proxy() {
    let authority = Authority::new();
    let registry = registry().await;
    let front = Front::start(registry.address, authority.certify("IP:127.0.0.1", 1)).await;
    let proxy = Proxy::start(front.address).await;
    let url = || format!("http://{}", proxy.address);
    for environment in [
        vec![("HTTPS_PROXY", url()), ("NO_PROXY", "10.0.0.0/8,127.0.0.0/8".to_owned())],
        vec![("https_proxy", url()), ("no_proxy", "other.example, 127.0.0.1".to_owned())],
        // What a job sets.
        vec![
            ("CUSTOM_ENV_HTTPS_PROXY", url()),
            ("CUSTOM_ENV_https_proxy", url()),
            ("CUSTOM_ENV_ALL_PROXY", url()),
            ("CUSTOM_ENV_HTTP_PROXY", url()),
        ],
    ] {
        let before = registry.log().len();

        check_push(&front.address.to_string(), &authority, &environment).await;

        assert!(registry.log().len() > before, "{environment:?}");
        assert_eq!(proxy.asked(), <[String; 0]>::default(), "{environment:?}");
    }

    // Nor does a job's exception from the runner's proxy count.
    let environment = [("HTTPS_PROXY", url()), ("CUSTOM_ENV_NO_PROXY", "*".to_owned())];
    check_push(&front.address.to_string(), &authority, &environment).await;

    assert!(!proxy.asked().is_empty());
}

/// A registry far away must not make us ask what only this machine can reach.
#[tokio::test]
async fn a_redirect_into_the_network_is_for_hosts_that_the_administrator_lists() {
    let authority = Authority::new();
    let inside = Scripted::start(|_, _, _| reply(200, &[], "inside")).await;
    let inside_front = Front::start(inside.address, authority.certify("DNS:localhost,IP:127.0.0.1", 1)).await;
    let registry = Scripted::start(|_, request, _| {
        let target = request.uri().path().trim_start_matches('/');
        reply(307, &[("location", &format!("https://{target}/"))], "")
    })
    .await;
    let front = Front::start(registry.address, authority.certify("DNS:registry.example", 1)).await;
    let proxy = Proxy::start(front.address).await;
    let port = inside_front.address.port();
    let client = |trusted_hosts: BTreeSet<String>| {
        let ca_files =
            ["registry.example".to_owned(), format!("localhost:{port}"), format!("127.0.0.1:{port}")];
        Http::new(HttpSettings {
            ca_files: ca_files.into_iter().map(|host| (host, authority.certificate())).collect(),
            https_proxy: Some(Secret::from(format!("http://{}", proxy.address))),
            no_proxy: Some("localhost,127.0.0.1".to_owned()),
            trusted_hosts,
            ..HttpSettings::default()
        })
        .unwrap()
    };
    for (seen, name) in ["localhost", "127.0.0.1"].into_iter().enumerate() {
        let from = Request::url(&format!("https://registry.example/{name}:{port}")).unwrap();

        let error = client(BTreeSet::new()).send(Request::get(from.clone())).await.unwrap_err();

        let rule = RedirectRule::Beyond(Place::Loopback);
        assert!(matches!(&error, HttpError::Redirect { rule: it, .. } if *it == rule), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "the redirect from `{from}` to `https://{name}:{port}/` is refused: it leads to an address of this \
                 machine itself"
            )
        );
        assert_eq!(inside.log().len(), seen);

        let client = client(BTreeSet::from([format!("{name}:{port}")]));
        let response = client.send(Request::get(from)).await.unwrap();

        assert_eq!(response.body(10).await.unwrap(), "inside");
    }
}
