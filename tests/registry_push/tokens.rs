//! How a push gets its tokens, and keeps them.

use std::io::Write;
use std::time::{Duration, Instant};

use nixlayer::oci::Hasher;
use nixlayer::publish::{AuthError, Blob, Credentials, Destination, PublishError, Refusal};
use nixlayer::secret::Secret;
use nixlayer::simulate::registry as simulated;

use crate::support::{
    CHUNK, Scripted, blob, bytes, chain, count, credentials, cut, destination, reply, settings, start,
};

#[tokio::test]
async fn eight_blobs_at_a_time_share_one_token() {
    let (registry, destination) = start(settings()).await;

    let pushes = (0..8).map(|seed| {
        let destination = destination.clone();
        tokio::spawn(async move { destination.put_blob(&|| blob(bytes(2 * CHUNK + seed, seed))).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap().unwrap();
    }

    assert_eq!(count(&registry.log(), "GET", "/jwt/auth"), 1);
    assert_eq!(registry.log().iter().filter(|request| request.status == 401).count(), 1, "the challenge");
}

#[tokio::test]
async fn a_push_outlives_its_tokens() {
    let (registry, destination) = start(settings().token_lifetime(Duration::from_secs(2))).await;
    let started = Instant::now();
    let slow = || {
        let (mut writer, blob) = Blob::channel(CHUNK);
        std::thread::spawn(move || {
            let mut hasher = Hasher::default();
            for _ in 0..9 {
                let chunk = vec![1; CHUNK];
                hasher.write_all(&chunk)?;
                writer.write_all(&chunk)?;
                std::thread::sleep(Duration::from_millis(500));
            }
            writer.finish(hasher.digest())
        });
        blob
    };

    destination.put_blob(&slow).await.unwrap();

    // A token is used for nine tenths of its life. That none is used up before it is replaced is for a longer push to
    // show: a busy machine delivers some too late.
    let tokens = count(&registry.log(), "GET", "/jwt/auth");
    let most = (started.elapsed().as_secs_f32() / 1.8) as usize + 2;
    assert!((2..=most).contains(&tokens), "{tokens} tokens, at most {most} expected");
}

/// A registry whose tokens die early, as when a clock is wrong or a session is revoked.
async fn impatient(good_for: usize) -> Scripted {
    Scripted::start(move |address, request, number| {
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"r\"");
        let authorized = request.headers().get("authorization").map(|value| value.to_str().unwrap());
        match (request.uri().path(), authorized) {
            ("/token", _) => reply(200, &[], &format!(r#"{{"token":"t{number}"}}"#)),
            (_, Some(token)) if token.starts_with("Bearer t") && number > good_for => reply(200, &[], ""),
            _ => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    // 0: challenge, 1: token, 2: refused, 3: fresh token, 4: accepted.
    let server = impatient(3).await;
    let destination = destination(server.address, "team/app", credentials());

    let stored = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap();

    assert!(stored.reused);
    assert_eq!(
        server.log().iter().map(|request| request.status).collect::<Vec<_>>(),
        [401, 200, 401, 200, 200]
    );
}

#[tokio::test]
async fn a_second_refusal_is_final() {
    let server = impatient(usize::MAX).await;
    let destination = destination(server.address, "team/app", credentials());

    let error = destination.put_blob(&|| blob(bytes(2 * CHUNK, 0))).await.unwrap_err();

    let PublishError::Refused { answer, .. } = &error else { panic!("{error:?}") };
    assert_eq!(answer.refusal(), Refusal::Unauthorized);
    assert_eq!(count(&server.log(), "GET", "/token"), 2);
    assert_eq!(count(&server.log(), "POST", ""), 2);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once() {
    let registry = simulated::Registry::start(settings()).await.unwrap();
    let wrong = Credentials::Password { user: "ci".to_owned(), password: Secret::from("wrong-canary") };
    let destination = destination(registry.address(), "team/app", wrong);

    let pushes = (0..8).map(|seed| {
        let destination = destination.clone();
        tokio::spawn(async move { destination.put_blob(&|| blob(bytes(10, seed))).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        let error = push.await.unwrap().unwrap_err();
        let host = registry.address();
        assert_eq!(
            chain(&error),
            format!(
                "the credentials for `{host}` were refused; \
                 `{host}` answered 401 UNAUTHORIZED: HTTP Basic: Access denied"
            )
        );
        assert!(!format!("{error:?}").contains("canary"));
    }

    assert_eq!(count(&registry.log(), "GET", "/jwt/auth"), 1);
}

#[tokio::test]
async fn a_token_without_push_is_an_error_before_any_upload() {
    let (registry, _) = start(settings()).await;
    let destination = destination(registry.address(), "team/other", credentials());

    let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

    let PublishError::Auth(AuthError::NotGranted { action, granted, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((*action, granted.as_slice()), ("push", &["pull".to_owned()][..]));
    let log = registry.log();
    assert_eq!(log.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["/v2/", "/jwt/auth"]);
}

#[tokio::test]
async fn checking_changes_nothing() {
    let (registry, destination) = start(settings()).await;
    let Destination::Registry { registry: client, repository } = destination else { panic!() };

    client.check_pull(&repository).await.unwrap();
    client.check_push(&repository).await.unwrap();

    let log = registry.log();
    assert_eq!(log.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["/v2/", "/jwt/auth", "/jwt/auth"]);
}

/// A registry whose token endpoint answers everybody the same.
async fn with_token_endpoint(status: u16, body: &'static str) -> Scripted {
    Scripted::start(move |address, request, _| match request.uri().path() {
        "/jwt/auth" => reply(status, &[], body),
        _ => {
            let challenge = format!("Bearer realm=\"http://{address}/jwt/auth\",service=\"r\"");
            reply(401, &[("www-authenticate", &challenge)], "")
        }
    })
    .await
}

/// Bodies of GitLab's token endpoint, and what they mean.
#[tokio::test]
async fn refusals_of_the_token_endpoint_are_told_apart() {
    type Expected = fn(&AuthError) -> bool;
    let cases: [(u16, &str, Expected); 5] = [
        (
            403,
            r#"{"errors":[{"code":"DENIED","message":"Pushing to protected repository path forbidden"}]}"#,
            |error| matches!(error, AuthError::Denied { .. }),
        ),
        (404, r#"{"errors":[{"code":"UNAVAILABLE","message":"registry not enabled"}]}"#, |error| {
            matches!(error, AuthError::NotEnabled { .. })
        }),
        (401, "", |error| matches!(error, AuthError::CredentialsRefused { .. })),
        (429, "Retry later\n", |error| matches!(error, AuthError::NoToken { .. })),
        (200, "<html>", |error| matches!(error, AuthError::TokenUnreadable { .. })),
    ];
    for (status, body, expected) in cases {
        let server = with_token_endpoint(status, body).await;
        let destination = destination(server.address, "team/app", credentials());

        let error = destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

        let PublishError::Auth(error) = &error else { panic!("{error:?}") };
        assert!(expected(error), "{status} {body}: {error:?}");
    }
}

/// GitLab refuses to give nobody a token to push with; Docker's registry gives one that allows nothing.
#[tokio::test]
async fn nobody_is_asked_to_log_in_however_the_token_endpoint_refuses() {
    let denied = r#"{"errors":[{"code":"DENIED","message":"access forbidden"}]}"#;
    // The payload says `"access":[]`.
    let nothing = r#"{"token":"e30.eyJhY2Nlc3MiOltdfQ.c2ln"}"#;
    for (status, body) in [(401, ""), (403, denied), (200, nothing)] {
        let server = with_token_endpoint(status, body).await;
        let nobody = destination(server.address, "team/app", Credentials::Anonymous);

        let error = nobody.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();

        assert!(
            matches!(error, PublishError::Auth(AuthError::CredentialsMissing { .. })),
            "{status}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_token_endpoint_that_was_too_busy_is_asked_again() {
    // 0: challenge, 1: too busy, 2: the token.
    let server = Scripted::start(|address, request, number| {
        let challenge = format!("Bearer realm=\"http://{address}/token\"");
        match request.uri().path() {
            "/token" if number == 1 => reply(429, &[], "Retry later\n"),
            "/token" => reply(200, &[], r#"{"token":"t"}"#),
            _ if request.headers().contains_key("authorization") => reply(200, &[], ""),
            _ => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let destination = destination(server.address, "team/app", credentials());

    assert!(destination.put_blob(&|| blob(bytes(10, 0))).await.unwrap().reused);
}

#[tokio::test]
async fn a_token_that_is_cut_on_its_way_is_asked_for_again() {
    // 0: challenge, 1: half a token, 2: the token.
    let server = Scripted::start(|address, request, number| {
        let challenge = format!("Bearer realm=\"http://{address}/token\"");
        match request.uri().path() {
            "/token" if number == 1 => cut(r#"{"tok"#),
            "/token" => reply(200, &[], r#"{"token":"t"}"#),
            _ => reply(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let Destination::Registry { registry, repository } =
        destination(server.address, "team/app", credentials())
    else {
        panic!()
    };

    registry.check_push(&repository).await.unwrap();

    assert_eq!(count(&server.log(), "GET", "/token"), 2);
}

#[tokio::test]
async fn user_and_password_serve_where_a_registry_wants_them_with_every_request() {
    let server = Scripted::start(|_, request, _| {
        // RFC 7617: base64 of `ci:canary-password`.
        let good = request
            .headers()
            .get("authorization")
            .is_some_and(|value| value == "Basic Y2k6Y2FuYXJ5LXBhc3N3b3Jk");
        if good { reply(200, &[], "") } else { reply(401, &[("www-authenticate", "Basic realm=\"r\"")], "") }
    })
    .await;

    let right = destination(server.address, "team/app", credentials());
    assert!(right.put_blob(&|| blob(bytes(10, 0))).await.unwrap().reused);

    let wrong = Credentials::Password { user: "ci".to_owned(), password: Secret::from("wrong") };
    let error =
        destination(server.address, "team/app", wrong).put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();
    assert!(matches!(error, PublishError::Auth(AuthError::CredentialsRefused { .. })), "{error:?}");

    let nobody = destination(server.address, "team/app", Credentials::Anonymous);
    let error = nobody.put_blob(&|| blob(bytes(10, 0))).await.unwrap_err();
    assert!(matches!(error, PublishError::Auth(AuthError::CredentialsMissing { .. })), "{error:?}");
}
