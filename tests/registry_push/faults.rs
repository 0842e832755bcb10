//! Servers that misbehave.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use nixlayer::http::{Http, HttpError, HttpSettings, Request};
use nixlayer::oci::Digest;
use nixlayer::publish::{Credentials, Destination, PublishError};
use tokio::net::TcpListener;

use crate::nobody::nobody;
use crate::support::{
    CHUNK, PASSWORD, Scripted, blob, bytes, chain, credentials, cut, destination, http, reply, tag,
};

#[tokio::test]
async fn a_web_page_in_place_of_an_answer_becomes_one_line() {
    let page = "<html><head><title>413 Request Entity Too Large</title></head></html>";
    let server = Scripted::start(move |_, request, _| match request.method().as_str() {
        "PUT" => reply(413, &[("content-type", "text/html")], page),
        "POST" => reply(202, &[("location", "/upload?_state=1")], ""),
        "HEAD" => reply(404, &[], ""),
        _ => reply(200, &[], ""),
    })
    .await;
    let destination = destination(server.address, "team/app", Credentials::Anonymous);

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    let host = server.address;
    assert_eq!(
        chain(&error),
        format!(
            "the registry refused a blob in `{host}/team/app`; \
             `{host}` answered 413 Payload Too Large: a web page, `413 Request Entity Too Large`"
        )
    );
}

#[tokio::test]
async fn an_answer_that_repeats_the_password_does_not_spread_it() {
    let server = Scripted::start(|address, request, _| match request.uri().path() {
        "/jwt/auth" => reply(
            403,
            &[],
            &format!(r#"{{"errors":[{{"code":"{PASSWORD}","message":"no, {PASSWORD}, and more"}}]}}"#),
        ),
        _ => {
            let challenge = format!("Bearer realm=\"http://{address}/jwt/auth\"");
            reply(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await;
    let destination = destination(server.address, "team/app", credentials());

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    let shown = format!("{} {error:?}", chain(&error));
    assert!(shown.contains("no, [redacted], and"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn an_upload_that_leads_elsewhere_is_not_followed() {
    let elsewhere = Scripted::start(|_, _, _| reply(201, &[], "")).await;
    let location = format!("http://{}/upload", elsewhere.address);
    let server = Scripted::start(move |_, request, _| match request.method().as_str() {
        "POST" => reply(202, &[("location", &location)], ""),
        "HEAD" => reply(404, &[], ""),
        _ => reply(200, &[], ""),
    })
    .await;
    let destination = destination(server.address, "team/app", Credentials::Anonymous);

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    assert!(matches!(error, PublishError::Location { .. }), "{error:?}");
    assert_eq!(elsewhere.log(), []);
}

/// A registry that takes no `method` request, as the proxy before it might when a disk is full.
async fn refusing(method: &'static str) -> Scripted {
    Scripted::start(move |_, request, number| {
        let next = format!("/upload/{number}");
        match request.method().as_str() {
            refused if refused == method && number > 2 => reply(507, &[], ""),
            "POST" | "PATCH" => reply(202, &[("location", &next)], ""),
            "HEAD" => reply(404, &[], ""),
            "PUT" => reply(201, &[], ""),
            _ => reply(200, &[], ""),
        }
    })
    .await
}

#[tokio::test]
async fn an_upload_that_is_refused_on_its_way_is_given_up() {
    // 0: challenge, 1: POST, 2: PATCH, 3: PATCH, 4: PATCH, 5: HEAD, 6: PUT; a small blob: 1: HEAD, 2: POST, 3: PUT.
    for (method, size, place) in [
        ("PATCH", 3 * CHUNK, "/upload/2"),
        ("HEAD", 3 * CHUNK, "/upload/4"),
        ("PUT", 3 * CHUNK, "/upload/4"),
        ("PUT", 10, "/upload/2"),
    ] {
        let server = refusing(method).await;
        let destination = destination(server.address, "team/app", Credentials::Anonymous);

        let error = destination.put_blob(&|| blob(bytes(size, 0))).await.unwrap_err();

        let PublishError::Refused { answer, .. } = &error else { panic!("{error:?}") };
        assert_eq!(answer.status, 507);
        let log = server.log();
        let last = log.last().unwrap();
        assert_eq!((last.method.as_str(), last.path.as_str()), ("DELETE", place), "{method} of {size} bytes");
    }
}

#[tokio::test]
async fn an_endless_answer_ends() {
    let server = Scripted::start(|_, _, _| reply(200, &[], &"x".repeat(100_000))).await;
    let client = http(&[server.address.to_string()]);
    let url = Request::url(&format!("http://{}/", server.address)).unwrap();

    let error = client.send(Request::get(url)).await.unwrap().body(65_536).await.unwrap_err();

    assert!(matches!(error, HttpError::TooLong { limit: 65_536, .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_cut_on_its_way_from_the_registry_is_asked_for_again() {
    let server = Scripted::start(|_, request, number| match request.uri().path() {
        "/v2/" => reply(200, &[], ""),
        _ if number % 2 == 1 => cut("wh"),
        _ => reply(200, &[], "whole"),
    })
    .await;
    let Destination::Registry { registry, repository } =
        destination(server.address, "team/app", Credentials::Anonymous)
    else {
        panic!()
    };

    // Two answers each, after that of `/v2/`.
    let manifest = registry.manifest(&repository, &tag("1"), true).await.unwrap();
    let blob = registry.blob(&repository, &Digest::of(b"whole"), true).await.unwrap();

    assert_eq!((manifest, blob), (Some("whole".into()), Some("whole".into())));
    assert_eq!(server.log().len(), 5);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let plain_http = BTreeSet::from([host.clone()]);
    let idle_timeout = Duration::from_millis(200);
    let client = Http::new(HttpSettings { plain_http, idle_timeout, ..HttpSettings::default() }).unwrap();

    let error = client.send(Request::get(client.url(&host, "/").unwrap())).await.unwrap_err();

    assert!(matches!(error, HttpError::Silent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_where_nobody_listens_is_named() {
    let (_port, address) = nobody();
    let destination = destination(address, "team/app", credentials());

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    assert_eq!(error.to_string(), format!("no connection to `{address}`"));
}

#[tokio::test]
async fn plain_http_is_refused_before_a_connection() {
    let server = Scripted::start(|_, _, _| reply(200, &[], "")).await;
    let client = http(&[]);
    let url = Request::url(&format!("http://{}/", server.address)).unwrap();

    let error = client.send(Request::get(url)).await.unwrap_err();

    assert!(matches!(error, HttpError::NotEncrypted { .. }), "{error:?}");
    assert_eq!(server.log(), []);
}
