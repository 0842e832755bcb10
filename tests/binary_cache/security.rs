//! Credentials stay with the cache that they are for, and nobody leads us where we do not want to go.

use std::collections::BTreeSet;
use std::sync::Arc;

use nixlayer::http::{HttpError, Place, RedirectRule, Request};
use nixlayer::secret::Secret;
use nixlayer::source::ReadError;
use nixlayer::source::binary_cache::{
    BinaryCaches, CacheFault, CachePlace, CacheSettings, RequireSignatures,
};

use crate::cache::{Item, files, settings};
use crate::reading::{HASTY, LONG, assert_right, caches, chain, fault, http_to, read};
use crate::server::{Asked, Fault, Server};
use crate::trees::vector;

const CREDENTIALS: &str = "Basic canary-credentials";

fn item() -> Item {
    Item::new(1, vector(), "xz")
}

fn with_credentials(settings: CacheSettings) -> CacheSettings {
    CacheSettings { authorization: Some(Arc::new(Secret::from(CREDENTIALS))), ..settings }
}

/// Reads from `caches`, with plain HTTP to `plain` allowed.
fn read_with(plain: &[String], caches: Vec<CacheSettings>) -> Result<Vec<u8>, ReadError> {
    let http = http_to(plain.iter().cloned().collect::<BTreeSet<_>>(), HASTY, LONG);
    read(&item(), &Arc::new(BinaryCaches::new(http, caches, RequireSignatures::Unpinned)))
}

fn authorizations(log: &[Asked]) -> Vec<Option<&str>> {
    log.iter().map(|asked| asked.authorization.as_deref()).collect()
}

#[test]
fn each_cache_gets_its_own_credentials_and_no_others() {
    let item = item();
    let (first, second) = (Server::start(files([])), Server::start(files([&item])));
    let settings = vec![with_credentials(first.settings("first")), second.settings("second")];

    assert_right(read(&item, &caches(settings)), &item, "from the second");

    assert_eq!(authorizations(&first.log()), [Some(CREDENTIALS); 2]);
    assert_eq!(authorizations(&second.log()), [None; 3]);
}

#[test]
fn a_redirect_to_another_origin_leaves_the_credentials_behind() {
    let item = item();
    for file in ["nix-cache-info", ".narinfo", ".nar"] {
        let (cache, storage) = (Server::start(files([&item])), Server::start(files([&item])));
        let path = match file {
            "nix-cache-info" => file.to_owned(),
            ".narinfo" => item.narinfo_file(),
            _ => item.url.clone(),
        };
        cache.fault(file, Fault::Redirect(format!("{}{path}", storage.url())), usize::MAX);
        let plain = [cache.address.to_string(), storage.address.to_string()];

        let read = read_with(&plain, vec![with_credentials(cache.settings("cache"))]);

        assert_right(read, &item, file);
        assert!(authorizations(&cache.log()).iter().all(|sent| *sent == Some(CREDENTIALS)), "{file}");
        assert_eq!(authorizations(&storage.log()), [None], "{file}");
    }
}

#[test]
fn a_redirect_within_the_origin_keeps_the_credentials() {
    let item = item();
    let mut files = files([&item]);
    files.insert("moved".to_owned(), item.file.clone());
    let server = Server::start(files);
    server.fault(".nar", Fault::Redirect("/moved".to_owned()), 1);

    let read = read(&item, &caches(vec![with_credentials(server.settings("server"))]));

    assert_right(read, &item, "moved");
    assert_eq!(authorizations(&server.asked("/moved")), [Some(CREDENTIALS)]);
}

#[test]
fn no_message_and_no_debug_output_shows_credentials() {
    let item = item();
    let address = "http://user:canary@127.0.0.1:9/?token=canary#canary";
    let place = CachePlace::Http(Request::url(address).unwrap());
    let dead = with_credentials(settings("dead", place));
    let server = Server::start(files([&item]));
    let refusing = with_credentials(server.settings("refusing"));
    server.fault("", Fault::Status(403, ""), usize::MAX);
    let plain = [server.address.to_string(), "127.0.0.1:9".to_owned()];

    let errors = [
        read_with(&plain, vec![dead.clone()]).unwrap_err(),
        read_with(&[], vec![dead.clone()]).unwrap_err(),
        read_with(&plain, vec![refusing.clone()]).unwrap_err(),
        read_with(&[], vec![refusing.clone()]).unwrap_err(),
    ];

    for error in errors {
        let shown = format!("{} {error:?}", chain(&error));
        assert!(!shown.contains("canary"), "{shown}");
    }
    for settings in [dead, refusing] {
        let shown = format!("{:?}", settings.authorization);
        assert!(!shown.contains("canary"), "{shown}");
        let shown = format!("{:?} {:?}", settings.clone(), caches(vec![settings]));
        assert!(!shown.contains("canary-credentials"), "{shown}");
    }
}

#[test]
fn a_redirect_into_the_network_is_refused() {
    let item = item();
    let inside = Server::start(files([&item]));
    let port = inside.address.port();
    // A cache in this machine may lead to others in it; `registry_push` has those that are far away.
    for (target, expected) in [
        (format!("http://127.0.0.1:{port}/"), RedirectRule::NotEncrypted),
        (format!("http://[::1]:{port}/"), RedirectRule::NotEncrypted),
        ("https://169.254.169.254/".to_owned(), RedirectRule::Beyond(Place::LinkLocal)),
        ("https://[fd00:ec2::254]/".to_owned(), RedirectRule::Beyond(Place::LinkLocal)),
    ] {
        for file in [".narinfo", ".nar"] {
            let cache = Server::start(files([&item]));
            cache.fault(file, Fault::Redirect(target.clone()), usize::MAX);
            let host = format!("localhost:{}", cache.address.port());
            let place = CachePlace::Http(Request::url(&format!("http://{host}/")).unwrap());

            let fault = fault(read_with(&[host], vec![settings("cache", place)]), &item, "cache");

            let CacheFault::Http(HttpError::Redirect { to, rule, .. }) = &fault else { panic!("{fault:?}") };
            assert_eq!((to, *rule), (&target, expected));
        }
    }
    assert_eq!(inside.log(), []);
}

#[test]
fn redirects_in_a_circle_end() {
    let item = item();
    let server = Server::start(files([&item]));
    server.fault(".narinfo", Fault::Redirect(format!("/{}", item.narinfo_file())), usize::MAX);

    let fault = fault(read(&item, &caches(vec![server.settings("server")])), &item, "server");

    assert!(matches!(fault, CacheFault::Http(HttpError::Redirect { .. })), "{fault:?}");
}
