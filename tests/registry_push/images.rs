//! Manifests and tags, after their blobs.

use nixlayer::oci::Digest;
use nixlayer::publish::{Credentials, PublishError, Refusal, Standing};

use crate::support::{
    CHUNK, Scripted, blob, bytes, chain, credentials, destination, image, reply, settings, start, tag,
};

#[tokio::test]
async fn the_tag_moves_last() {
    let (registry, destination) = start(settings()).await;
    let layers = [bytes(100, 0), bytes(2 * CHUNK, 1)];
    for layer in &layers {
        destination.put_blob(&|| blob(layer.clone())).await.unwrap();
    }
    let image = image(&layers);

    let published =
        destination.put_image(&image, &[tag("1.2"), tag("latest")], &Standing::new()).await.unwrap();

    assert_eq!(published.digest, image.digest());
    assert_eq!(published.moved, [tag("1.2"), tag("latest")]);
    let log = registry.log();
    let puts: Vec<_> = log.iter().filter(|request| request.method == "PUT").map(|it| &it.path).collect();
    let last = &puts[puts.len() - 3..];
    assert_eq!(
        last,
        [
            &format!("/v2/team/app/manifests/{}", image.digest()),
            "/v2/team/app/manifests/1.2",
            "/v2/team/app/manifests/latest"
        ]
    );
    assert!(puts[..puts.len() - 3].iter().all(|path| path.contains("/blobs/uploads/")));
    assert_eq!(registry.manifest_digest("team/app", "latest"), Some(image.digest()));
}

#[tokio::test]
async fn an_equal_image_under_the_same_tag_is_three_requests() {
    let (registry, first) = start(settings()).await;
    let image = image(&[]);
    first.put_image(&image, &[tag("latest")], &Standing::new()).await.unwrap();
    let before = registry.log().len();

    let again = destination(registry.address(), "team/app", credentials());
    let published = again.put_image(&image, &[tag("latest")], &Standing::new()).await.unwrap();

    assert_eq!(published.unchanged, [tag("latest")]);
    let after = registry.log()[before..].to_vec();
    let asked: Vec<_> = after.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
    assert_eq!(asked, ["GET /v2/", "GET /jwt/auth", "HEAD /v2/team/app/manifests/latest"]);
}

#[tokio::test]
async fn an_image_without_its_layers_is_refused_and_the_tag_stays() {
    let (registry, destination) = start(settings()).await;

    let error =
        destination.put_image(&image(&[bytes(10, 0)]), &[tag("latest")], &Standing::new()).await.unwrap_err();

    let PublishError::Refused { answer, .. } = &error else { panic!("{error:?}") };
    assert_eq!(answer.refusal(), Refusal::BlobMissing);
    assert_eq!(registry.manifest_digest("team/app", "latest"), None);
}

#[tokio::test]
async fn a_tag_that_may_not_move_is_named() {
    let server = Scripted::start(|_, request, _| match request.method().as_str() {
        "PUT" if request.uri().path().ends_with("/latest") => {
            reply(403, &[], r#"{"errors":[{"code":"DENIED","message":"protected tag"}]}"#)
        }
        "HEAD" if request.uri().path().contains("/blobs/") => reply(200, &[], ""),
        "HEAD" => reply(404, &[], ""),
        "PUT" => reply(201, &[], ""),
        _ => reply(200, &[], ""),
    })
    .await;
    let destination = destination(server.address, "team/app", Credentials::Anonymous);

    let error = destination.put_image(&image(&[]), &[tag("latest")], &Standing::new()).await.unwrap_err();

    let host = server.address;
    assert_eq!(
        chain(&error),
        format!(
            "the tag `latest` of `{host}/team/app` is protected or immutable; \
             `{host}` answered 403 DENIED: protected tag"
        )
    );
}

#[tokio::test]
async fn a_registry_that_stores_something_else_is_caught() {
    let other = Digest::of(b"other").to_string();
    let server = Scripted::start(move |_, request, _| match request.method().as_str() {
        "PUT" => reply(201, &[("docker-content-digest", &other)], ""),
        _ => reply(200, &[], ""),
    })
    .await;
    let destination = destination(server.address, "team/app", Credentials::Anonymous);

    let error = destination.put_image(&image(&[]), &[], &Standing::new()).await.unwrap_err();

    assert!(matches!(error, PublishError::WrongDigest { .. }), "{error:?}");
}
