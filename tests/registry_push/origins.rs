//! Where credentials do not go.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nixlayer::http::{Http, HttpError, HttpSettings, Request};
use nixlayer::oci::Repository;
use nixlayer::publish::{AuthError, PublishError, Registry};
use nixlayer::secret::Secret;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::nobody::nobody;
use crate::support::{Scripted, blob, bytes, credentials, destination, http, reply};

/// Only the name and the port decide, not the machine behind them.
#[tokio::test]
async fn credentials_do_not_go_to_a_realm_on_a_foreign_host_or_port() {
    for name in ["localhost", "127.0.0.1"] {
        let foreign = Scripted::start(|_, _, _| reply(200, &[], r#"{"token":"t"}"#)).await;
        let foreign_host = format!("{name}:{}", foreign.address.port());
        let realm = format!("Bearer realm=\"http://{foreign_host}/jwt/auth\",service=\"r\"");
        let registry = Scripted::start(move |_, _, _| reply(401, &[("www-authenticate", &realm)], "")).await;
        let host = registry.address.to_string();
        let http = http(&[host.clone(), foreign_host.clone()]);
        let repository = Repository::new(&host, "team/app").unwrap();

        let client = Registry::new(Arc::clone(&http), &host, credentials(), BTreeSet::new());
        let error = client.check_push(&repository).await.unwrap_err();

        assert!(matches!(error, PublishError::Auth(AuthError::ForeignRealm { .. })), "{error:?}");
        assert_eq!(foreign.log(), []);

        let client = Registry::new(http, &host, credentials(), BTreeSet::from([foreign_host]));
        client.check_push(&repository).await.unwrap();

        assert_eq!(foreign.log().len(), 1, "allowed, it is asked");
    }
}

#[tokio::test]
async fn credentials_do_not_go_to_a_realm_without_encryption() {
    let foreign = Scripted::start(|_, _, _| reply(200, &[], r#"{"token":"t"}"#)).await;
    let realm = format!("Bearer realm=\"http://{}/jwt/auth\"", foreign.address);
    let registry = Scripted::start(move |_, _, _| reply(401, &[("www-authenticate", &realm)], "")).await;
    let destination = destination(registry.address, "team/app", credentials());

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    assert!(matches!(error, PublishError::Auth(AuthError::PlainRealm { .. })), "{error:?}");
    assert_eq!(foreign.log(), []);
}

#[tokio::test]
async fn authorization_stays_with_its_origin() {
    let storage = Scripted::start(|_, _, _| reply(200, &[], "blob")).await;
    let target = format!("http://{}/blob?signature=x", storage.address);
    let registry = Scripted::start(move |_, request, _| match request.uri().path() {
        "/away" => reply(307, &[("location", &target)], ""),
        "/near" => reply(307, &[("location", "/here")], ""),
        _ => reply(200, &[], "here"),
    })
    .await;
    let hosts = [registry.address.to_string(), storage.address.to_string()];
    let client = http(&hosts);
    let get = |path: &str| {
        let url = Request::url(&format!("http://{}{path}", registry.address)).unwrap();
        client.send(Request::get(url).authorization(Some(Arc::new(Secret::from("Bearer canary")))))
    };

    assert_eq!(get("/away").await.unwrap().body(10).await.unwrap(), "blob");
    assert_eq!(get("/near").await.unwrap().body(10).await.unwrap(), "here");

    assert_eq!(storage.log().iter().map(|it| it.authorized).collect::<Vec<_>>(), [false]);
    assert_eq!(registry.log().iter().map(|it| it.authorized).collect::<Vec<_>>(), [true, true, true]);

    // Without the administrator's word, the storage is not spoken to in the clear.
    let client = http(&hosts[..1]);
    let url = Request::url(&format!("http://{}/away", registry.address)).unwrap();
    let error = client.send(Request::get(url)).await.unwrap_err();
    assert!(matches!(error, HttpError::Redirect { .. }), "{error:?}");
    assert!(!error.to_string().contains("signature"), "{error}");
    assert_eq!(storage.log().len(), 1);
}

/// The proxy sees a host and its own password, and nothing of what is said to the host.
#[tokio::test]
async fn the_proxy_of_the_settings_is_used_but_for_the_hosts_excepted() {
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let https_proxy = format!("http://user:proxy-canary@{}", proxy.local_addr().unwrap());
    let client = Http::new(HttpSettings {
        https_proxy: Some(Secret::from(https_proxy)),
        no_proxy: Some("127.0.0.1".to_owned()),
        ..HttpSettings::default()
    })
    .unwrap();
    let first_line = async {
        let (mut stream, _) = proxy.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    };

    let url = Request::url("https://registry.invalid:5050/v2/").unwrap();
    let request = Request::get(url).authorization(Some(Arc::new(Secret::from("Bearer canary"))));
    let (error, seen) = tokio::join!(client.send(request), first_line);

    assert!(seen.starts_with("CONNECT registry.invalid:5050 HTTP/1.1\r\n"), "{seen}");
    // RFC 7617: base64 of `user:proxy-canary`.
    assert!(seen.to_lowercase().contains("proxy-authorization: basic"), "{seen}");
    assert!(seen.contains("dXNlcjpwcm94eS1jYW5hcnk="), "{seen}");
    assert!(!seen.contains("Bearer"), "{seen}");
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");

    let (_port, unused) = nobody();
    let url = Request::url(&format!("https://{unused}/")).unwrap();
    assert!(matches!(client.send(Request::get(url)).await, Err(HttpError::Connect { .. })));
    let asked = tokio::time::timeout(Duration::from_millis(100), proxy.accept()).await;
    assert!(asked.is_err(), "the proxy was asked for a host that is excepted");
}

#[tokio::test]
async fn redirects_end() {
    let server = Scripted::start(|_, _, _| reply(302, &[("location", "/again")], "")).await;
    let client = http(&[server.address.to_string()]);
    let url = Request::url(&format!("http://{}/", server.address)).unwrap();

    let error = client.send(Request::get(url)).await.unwrap_err();

    assert!(matches!(error, HttpError::Redirect { .. }), "{error:?}");
    assert_eq!(server.log().len(), 6);
}
