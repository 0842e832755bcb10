//! Blobs that another repository of the registry has already.

use nixlayer::oci::Digest;
use nixlayer::publish::Mount;
use nixlayer::simulate::registry::{Registry, RegistrySettings, User};

use crate::support::{CHUNK, PASSWORD, blob, bytes, credentials, destination, image, settings, start, tag};

fn from(registry: &Registry, name: &str) -> nixlayer::oci::Repository {
    nixlayer::oci::Repository::new(&registry.address().to_string(), name).unwrap()
}

#[tokio::test]
async fn a_blob_of_another_repository_is_there_without_being_sent() {
    let (registry, other) = start(settings()).await;
    let content = bytes(3 * CHUNK, 0);
    other.put_blob(&|| blob(content.clone())).await.unwrap();
    let destination = destination(registry.address(), "team/app/sub", credentials());
    let before = registry.log().len();

    let mount = destination.mount(&Digest::of(&content), &from(&registry, "team/app")).await.unwrap();

    assert!(matches!(mount, Mount::Done), "{mount:?}");
    assert_eq!(registry.blob("team/app/sub", &Digest::of(&content)), Some(content.clone()));
    assert_eq!(registry.log()[before..].iter().map(|request| request.body).sum::<usize>(), 0);
    assert!(destination.has_blob(&Digest::of(&content), content.len() as u64).await.unwrap());
}

#[tokio::test]
async fn the_session_that_a_mount_opens_takes_the_blob() {
    for size in [10, 3 * CHUNK] {
        let (registry, destination) = start(settings()).await;
        let content = bytes(size, 0);

        let mount = destination.mount(&Digest::of(&content), &from(&registry, "team/base")).await.unwrap();
        let Mount::Open(open) = mount else { panic!("{mount:?}") };
        let stored = destination.put_blob_into(Some(open), &|| blob(content.clone())).await.unwrap();

        assert_eq!(stored.digest, Digest::of(&content));
        assert_eq!(registry.blob("team/app", &stored.digest), Some(content));
        let opened = registry.log().iter().filter(|request| request.method == "POST").count();
        assert_eq!((opened, registry.open_uploads()), (1, 0));
    }
}

#[tokio::test]
async fn a_session_that_is_not_needed_after_all_is_given_up() {
    let (registry, destination) = start(settings()).await;
    let content = bytes(10, 0);
    let mount = destination.mount(&Digest::of(&content), &from(&registry, "team/base")).await.unwrap();
    let Mount::Open(open) = mount else { panic!("{mount:?}") };
    destination.put_blob(&|| blob(content.clone())).await.unwrap();

    let stored = destination.put_blob_into(Some(open), &|| blob(content.clone())).await.unwrap();

    assert!(stored.reused);
    assert_eq!(registry.open_uploads(), 0);
}

/// A token that does not cover the other repository is asked for once, and no mount is tried.
#[tokio::test]
async fn what_the_token_does_not_cover_is_not_tried() {
    let user = User::new(PASSWORD).may_push("team/app").may_not_pull("team/private");
    let (registry, destination) = start(RegistrySettings::default().user("ci", user)).await;

    for number in 0..3 {
        let digest = Digest::of(&[number]);
        let mount = destination.mount(&digest, &from(&registry, "team/private")).await.unwrap();
        assert!(matches!(mount, Mount::Refused), "{mount:?}");
    }

    let asked: Vec<_> = registry.log().iter().map(|request| request.path.clone()).collect();
    assert_eq!(asked, ["/v2/", "/jwt/auth"]);
}

#[tokio::test]
async fn a_blob_of_another_length_is_not_there() {
    let (_registry, destination) = start(settings()).await;
    let content = bytes(10, 0);
    destination.put_blob(&|| blob(content.clone())).await.unwrap();

    assert!(destination.has_blob(&Digest::of(&content), 10).await.unwrap());
    assert!(!destination.has_blob(&Digest::of(&content), 11).await.unwrap());
}

/// With what the first tag names at hand, nobody is asked again, and the others are just moved.
#[tokio::test]
async fn a_new_image_over_a_known_one_takes_five_requests() {
    let (registry, destination) = start(settings()).await;
    let image = image(&[]);
    assert!(!destination.has_blob(&image.digest(), 0).await.unwrap());
    let before = registry.log().len();

    let standing = [(tag("latest"), Some(Digest::of(b"old")))].into();
    let published = destination.put_image(&image, &[tag("latest"), tag("1")], &standing).await.unwrap();

    assert_eq!(published.moved, [tag("latest"), tag("1")]);
    let asked: Vec<_> = registry.log()[before..].iter().map(|request| request.method.clone()).collect();
    assert_eq!(asked, ["POST", "PUT", "PUT", "PUT", "PUT"]);
}
