//! Several caches that are asked as one.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nixlayer::http::Request;
use nixlayer::source::binary_cache::{
    BinaryCacheError, BinaryCaches, CacheFault, CachePlace, CacheSettings, RequireSignatures,
};
use nixlayer::source::{ReadError, StorePaths};
use tokio::net::TcpSocket;

use crate::cache::{Files, FolderCache, Item, closure, files, settings};
use crate::nobody::nobody;
use crate::reading::{
    HASTY, RUNTIME, SHORT, assert_right, caches, chain, eventually, fault, http, layer, patient_caches, read,
    store,
};
use crate::server::{Fault, Server};
use crate::trees::{file, tar, vector};

fn item() -> Item {
    Item::new(1, vector(), "xz")
}

fn empty() -> Files {
    files([])
}

/// A cache of `items` that asks for the priority `priority`.
fn with_priority(items: &[&Item], priority: u32) -> Files {
    let mut files = files(items.iter().copied());
    let info = format!("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: {priority}\n");
    files.insert("nix-cache-info".to_owned(), info.into_bytes());
    files
}

/// A cache at an address where nobody listens, nor anybody else can while the socket lives.
fn dead() -> (TcpSocket, CacheSettings) {
    let (socket, address) = nobody();
    let url = format!("http://{address}/");
    (socket, settings("dead", CachePlace::Http(Request::url(&url).unwrap())))
}

#[test]
fn the_cache_with_the_lowest_priority_is_asked_first() {
    let item = item();
    // What the caches ask for, what the settings say, and which of them is to be asked.
    for (first, second, asked) in [
        ((40, None), (30, None), 1),
        ((30, None), (40, None), 0),
        ((40, None), (40, None), 0),
        ((40, Some(10)), (30, None), 0),
        ((30, None), (40, Some(10)), 1),
        ((1, Some(60)), (2, Some(50)), 1),
    ] {
        let servers = [first, second].map(|(says, _)| Server::start(with_priority(&[&item], says)));
        let settings = |at: usize, priority| CacheSettings { priority, ..servers[at].settings("cache") };
        let caches = caches(vec![settings(0, first.1), settings(1, second.1)]);

        assert_right(read(&item, &caches), &item, "by priority");

        assert_eq!(servers[asked].asked(".nar").len(), 1, "{first:?}, {second:?}");
        assert_eq!(servers[1 - asked].asked(".narinfo"), [], "{first:?}, {second:?}");
    }
}

#[test]
fn a_cache_without_a_priority_counts_as_fifty() {
    let item = item();
    for (other, asked) in [(49, 1), (50, 0), (51, 0)] {
        let servers = [Server::start(files([&item])), Server::start(with_priority(&[&item], other))];
        let caches = caches(servers.iter().map(|server| server.settings("cache")).collect());

        assert_right(read(&item, &caches), &item, "by priority");

        assert_eq!(servers[asked].asked(".nar").len(), 1, "beside {other}");
    }
}

#[test]
fn a_path_that_the_first_cache_does_not_have_comes_from_the_second() {
    let item = item();
    let (first, second) = (Server::start(empty()), Server::start(files([&item])));

    let read = read(&item, &caches(vec![first.settings("first"), second.settings("second")]));

    assert_right(read, &item, "from the second");
    assert_eq!((first.asked(".narinfo").len(), second.asked(".nar").len()), (1, 1));
}

#[test]
fn a_dead_cache_does_not_keep_another_one_from_answering() {
    let item = item();
    let (_port, dead) = dead();
    let second = FolderCache::new(&files([&item]));

    let read = read(&item, &patient_caches(vec![dead, second.settings("second")]));

    assert_right(read, &item, "from the second");
}

#[test]
fn a_cache_whose_host_does_not_exist_is_told_soon() {
    let item = item();
    let gone = || settings("gone", CachePlace::Http(Request::url("http://cache.invalid/").unwrap()));
    let second = FolderCache::new(&files([&item]));
    let started = Instant::now();

    let alone = read(&item, &patient_caches(vec![gone()])).unwrap_err();
    let beside = read(&item, &patient_caches(vec![gone(), second.settings("second")]));

    assert!(chain(&alone).contains("there is no host `cache.invalid`"), "{}", chain(&alone));
    assert_right(beside, &item, "from the second");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_cache_in_trouble_is_asked_last_from_then_on() {
    let items = [1, 2, 3].map(|number| Item::new(number, file(format!("{number}\n")), "zstd"));
    let paths = items.each_ref().map(|item| item.path.clone());
    for trouble in [Fault::Hang, Fault::Status(503, "")] {
        // The second is a folder, which no pause makes look silent.
        let (first, second) = (Server::start(files(&items)), FolderCache::new(&files(&items)));
        first.fault("", trouble.clone(), usize::MAX);
        let settings = vec![first.settings("first"), second.settings("second")];
        let caches = BinaryCaches::new(http(&settings, HASTY, SHORT), settings, RequireSignatures::Unpinned);
        let store = store(&items, &Arc::new(caches));

        let read = layer(&store, &paths[..1]).unwrap();
        let asked = first.log().len();
        let read_later = layer(&store, &paths[1..]).unwrap();

        assert!(read == tar([(&paths[0], &items[0].tree)]), "{trouble:?}");
        assert!(read_later == tar(items[1..].iter().map(|item| (&item.path, &item.tree))), "{trouble:?}");
        assert!(asked > 0, "{trouble:?}");
        assert_eq!(first.log().len(), asked, "{trouble:?}");
    }
}

/// Of a layer with many broken paths in one cache, the first is enough to have all from the others.
#[test]
fn a_cache_that_gave_wrong_bytes_is_asked_last_from_then_on() {
    let items = [1, 2, 3].map(|number| Item::new(number, file(format!("{number} as it was\n")), "none"));
    let paths = items.each_ref().map(|item| item.path.clone());
    let broken = items.each_ref().map(|item| {
        let mut nar = item.file.clone();
        let place = nar.windows(2).position(|bytes| bytes == b"as").unwrap();
        nar[place] = b'i';
        item.clone().with_file(nar).unannounced()
    });
    let (first, second) = (FolderCache::new(&files(&broken)), FolderCache::new(&files(&items)));
    let store = store(&items, &caches(vec![first.settings("first"), second.settings("second")]));

    let ReadError::BinaryCache(error) = layer(&store, &paths).unwrap_err() else { panic!() };
    let again = layer(&store, &paths);

    assert!(error.is_of_wrong_bytes(), "{}", chain(&error));
    let again = again.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(again == tar(items.iter().map(|item| (&item.path, &item.tree))));
}

/// The priority of that one is asked for by one path, for all that wait for it.
#[test]
fn a_hanging_cache_is_waited_for_once_and_not_once_for_each_path() {
    let items: Vec<Item> = (1..=4).map(|number| Item::new(number, file("text\n"), "none")).collect();
    let paths: Vec<_> = items.iter().map(|item| item.path.clone()).collect();
    // The second is a folder, which no pause makes look silent.
    let (first, second) = (Server::start(files(&items)), FolderCache::new(&files(&items)));
    first.fault("", Fault::Hang, usize::MAX);
    let settings = vec![first.settings("first"), second.settings("second")];
    let caches = BinaryCaches::new(http(&settings, HASTY, SHORT), settings, RequireSignatures::Unpinned);

    let read = layer(&store(&items, &Arc::new(caches)), &paths).unwrap();

    assert!(read == tar(items.iter().map(|item| (&item.path, &item.tree))));
    assert_eq!(first.log().len(), 1);
}

/// Its priority is known; so nobody asks for it on behalf of the others.
#[test]
fn a_hanging_cache_is_waited_for_by_all_paths_at_once() {
    let items: Vec<Item> = (1..=4).map(|number| Item::new(number, file("text\n"), "none")).collect();
    let paths: Vec<_> = items.iter().map(|item| item.path.clone()).collect();
    let server = Server::start(files(&items));
    server.fault("", Fault::Hang, usize::MAX);
    let caches = patient_caches(vec![CacheSettings { priority: Some(1), ..server.settings("server") }]);
    let store = store(&items, &caches);
    let _in_runtime = RUNTIME.enter();

    let mut upcoming = store.upcoming(&paths);
    let waiting = upcoming.next();

    eventually("all are waiting", || server.log().len() == 4);
    assert!(waiting.is_some() && server.log().iter().all(|asked| !asked.over));
}

#[test]
fn a_path_that_no_cache_has_is_missing_from_all_of_them() {
    let item = item();
    let (server, folder) = (Server::start(empty()), FolderCache::new(&empty()));

    let error = read(&item, &caches(vec![server.settings("server"), folder.settings("folder")])).unwrap_err();

    let ReadError::BinaryCache(BinaryCacheError::Missing { path, caches }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((path, caches), (&item.path, &vec!["server".to_owned(), "folder".to_owned()]));
    assert_eq!(chain(&error), format!("`{path}` is in none of the binary caches: server, folder"));
}

#[test]
fn a_cache_that_could_not_be_asked_is_no_cache_without_the_path() {
    let item = item();
    let (_port, dead) = dead();
    let folder = FolderCache::new(&empty());

    let fault = fault(read(&item, &caches(vec![folder.settings("folder"), dead])), &item, "dead");

    assert!(matches!(fault, CacheFault::Http(_)), "{fault:?}");
}

#[test]
fn a_cache_that_says_something_else_gives_way_to_one_that_is_right() {
    let item = item();
    let other = Item::new(1, file("other\n"), "xz");
    let mut broken = files([&item]);
    broken.insert(item.narinfo_file(), b"no narinfo\n".to_vec());
    for first in [files([&other]), broken] {
        let (first, second) = (Server::start(first), FolderCache::new(&files([&item])));

        let read = read(&item, &caches(vec![first.settings("first"), second.settings("second")]));

        assert_right(read, &item, "from the second");
        assert_eq!((first.asked(".narinfo").len(), first.asked(".nar").len()), (1, 0));
    }
}

#[test]
fn without_caches_there_is_nobody_to_ask() {
    let item = item();
    let paths = std::slice::from_ref(&item.path);
    for store in
        [store([&item], &caches(Vec::new())), StorePaths::new(&closure([&item]), BTreeMap::new(), None)]
    {
        let error = layer(&store, paths).unwrap_err();

        let ReadError::BinaryCache(BinaryCacheError::NoCache { path }) = &error else { panic!("{error:?}") };
        assert_eq!(*path, item.path);
        assert!(error.to_string().starts_with(&format!("`{path}` ")), "{error}");
    }
}

#[test]
fn a_nar_that_is_gone_comes_from_the_next_cache() {
    let item = item();
    let mut without_nar = files([&item]);
    without_nar.remove(&item.url);
    let (server, folder) = (Server::start(without_nar.clone()), FolderCache::new(&without_nar));
    let whole = Server::start(files([&item]));
    let settings = vec![server.settings("server"), folder.settings("folder"), whole.settings("whole")];

    assert_right(read(&item, &caches(settings.clone())), &item, "from the third");
    assert_eq!((server.asked(".nar").len(), whole.asked(".nar").len()), (1, 1));

    // Without that one, the first one is named.
    let fault = fault(read(&item, &caches(settings[..2].to_vec())), &item, "server");
    assert!(matches!(fault, CacheFault::Refused { .. }), "{fault:?}");
}

#[test]
fn a_file_that_is_broken_on_the_way_gives_way_to_the_next_cache() {
    let item = item();
    let other = Item::new(1, vector(), "gzip");
    let (first, second) = (FolderCache::new(&files([&item])), FolderCache::new(&files([&other])));
    let caches = caches(vec![first.settings("first"), second.settings("second")]);
    for at in (0..item.file.len()).step_by(7) {
        let mut file = item.file.clone();
        file[at] ^= 0x10;
        fs::write(first.path().join(&item.url), file).unwrap();

        // The format notices each of these before a wrong byte is given.
        let Ok(tar) = read(&item, &caches) else { continue };
        assert_right(Ok(tar), &item, "from the second");
    }
    fs::write(first.path().join(&item.url), &item.file[..item.file.len() / 2]).unwrap();
    assert_right(read(&item, &caches), &item, "from the second");
}
