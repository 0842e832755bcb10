//! Downloads ahead of the reader: some, but not all.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nixlayer::nix::StorePath;
use nixlayer::nix::tree::Node;
use nixlayer::source::StorePaths;
use nixlayer::source::binary_cache::{BinaryCaches, RequireSignatures};

use crate::cache::{COMPRESSIONS, Item, closure, files};
use crate::reading::{PATIENT, RUNTIME, SHORT, eventually, http, layer, patient_caches, store};
use crate::server::{Fault, Server};
use crate::trees::{file, noise, tar, vector, write};

/// For how long nothing may happen, where that is what is claimed.
const A_WHILE: Duration = Duration::from_millis(150);

fn paths(items: &[Item]) -> Vec<StorePath> {
    items.iter().map(|item| item.path.clone()).collect()
}

#[test]
fn the_next_downloads_begin_before_one_is_read_and_four_at_most_at_once() {
    let items: Vec<Item> = (1..=12).map(|number| Item::new(number, file("text\n"), "none")).collect();
    let paths = paths(&items);
    let server = Server::start(files(&items));
    let store = store(&items, &patient_caches(vec![server.settings("server")]));
    let _in_runtime = RUNTIME.enter();

    for (read, tree) in store.upcoming(&paths).enumerate() {
        let begun = 12.min(read + 4);
        eventually("four at once", || server.asked(".nar").len() == begun);
        if read == 0 {
            std::thread::sleep(A_WHILE);
        }
        assert_eq!(server.asked(".nar").len(), begun);
        tree.read(|_| Ok(())).unwrap();
        assert_eq!(server.asked(".nar").len(), begun);
    }
}

#[test]
fn a_reader_that_stops_stops_the_download() {
    const LENGTH: usize = 50_000_000;
    // What may be on its way: a megabyte of ours, and what both ends of a socket hold.
    const MOST: usize = 25_000_000;
    let item = Item::new(1, file(vec![7; LENGTH]), "none");
    let server = Server::start(files([&item]));
    let store = store([&item], &patient_caches(vec![server.settings("server")]));
    let sent = || server.asked(".nar").first().map_or(0, |asked| asked.sent);
    let _in_runtime = RUNTIME.enter();

    let tree = store.upcoming(std::slice::from_ref(&item.path)).next().unwrap();
    tree.read(|entry| {
        let Node::Regular { contents, .. } = entry.node else { panic!("no file") };
        contents.read_exact(&mut [0; 100_000])?;
        eventually("the download has begun", || sent() > 100_000);
        let mut before = 0;
        while before < sent() {
            before = sent();
            assert!(before < MOST, "{before} bytes were sent for 100000 that were read");
            std::thread::sleep(A_WHILE);
        }
        Ok(())
    })
    .unwrap();

    eventually("the rest comes once it is read", || sent() > LENGTH);
}

#[test]
fn a_reader_that_is_gone_ends_the_download() {
    let item = Item::new(1, file(vec![7; 50_000_000]), "none");
    let server = Server::start(files([&item]));
    let store = store([&item], &patient_caches(vec![server.settings("server")]));
    let _in_runtime = RUNTIME.enter();

    let tree = store.upcoming(std::slice::from_ref(&item.path)).next().unwrap();
    let read = tree.read(|_| Err(io::ErrorKind::StorageFull.into()));

    assert!(matches!(read, Err(nixlayer::source::ReadError::Visit(_))), "{read:?}");
    eventually("the server is rid of it", || server.asked(".nar").iter().all(|asked| asked.over));
    let asked = server.asked(".nar");
    assert!(asked.len() == 1 && asked[0].sent < item.file.len(), "{asked:?}");
}

/// Without a reader nobody would notice that it goes on for as long as patience lasts.
#[test]
fn a_reader_that_is_gone_ends_the_tries_as_well() {
    let item = Item::new(1, file(noise(300_000, 1)), "none");
    for (file, trouble) in [
        (".nar", Fault::HangAfter(100_000)),
        (".nar", Fault::Status(503, "")),
        (".narinfo", Fault::Status(503, "")),
        (".narinfo", Fault::Hang),
    ] {
        let server = Server::start(files([&item]));
        server.fault(file, trouble.clone(), usize::MAX);
        let settings = vec![server.settings("server")];
        let caches =
            BinaryCaches::new(http(&settings, PATIENT, SHORT), settings, RequireSignatures::Unpinned);
        let store = store([&item], &std::sync::Arc::new(caches));
        let _in_runtime = RUNTIME.enter();

        let tree = store.upcoming(std::slice::from_ref(&item.path)).next().unwrap();
        eventually("it has begun", || !server.asked(file).is_empty());
        drop(tree);

        eventually("the server is rid of it", || server.log().iter().all(|asked| asked.over));
        // A try that was under way may still reach a busy server, but patience would last for many more.
        let ends = (0..10).any(|_| {
            let asked = server.log().len();
            std::thread::sleep(2 * SHORT);
            server.log().len() == asked
        });
        assert!(ends, "{file}, {trouble:?}");
    }
}

#[test]
fn two_hundred_paths_come_in_their_order() {
    let items: Vec<Item> = (1..=200)
        .map(|number| {
            let tree = if number % 3 == 0 { vector() } else { file(noise(number * 37, number as u64)) };
            Item::new(number, tree, COMPRESSIONS[number % COMPRESSIONS.len()])
        })
        .collect();
    let server = Server::start(files(&items));
    let store = store(&items, &patient_caches(vec![server.settings("server")]));
    let reversed: Vec<Item> = items.iter().rev().cloned().collect();
    for items in [items, reversed] {
        let read = layer(&store, &paths(&items)).unwrap();

        assert!(read == tar(items.iter().map(|item| (&item.path, &item.tree))), "the layer is another one");
    }
}

#[test]
fn paths_on_disk_and_in_caches_make_one_layer() {
    let items: Vec<Item> = (1..=9).map(|number| Item::new(number, vector(), "zstd")).collect();
    let temporary = tempfile::tempdir().unwrap();
    let mut on_disk = BTreeMap::new();
    let mut cached = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if index % 2 == 0 {
            cached.push(item);
            continue;
        }
        let place = temporary.path().join(index.to_string());
        write(&item.tree, &place);
        on_disk.insert(item.path.clone(), place);
    }
    let server = Server::start(files(cached.iter().copied()));
    let caches = patient_caches(vec![server.settings("server")]);
    let store = StorePaths::new(&closure(&items), on_disk.clone(), Some(caches));

    let read = layer(&store, &paths(&items));
    for place in on_disk.values() {
        crate::trees::unlock(&vector(), place);
    }

    assert!(read.unwrap() == tar(items.iter().map(|item| (&item.path, &item.tree))));
    assert_eq!(server.asked(".nar").len(), cached.len());
}
