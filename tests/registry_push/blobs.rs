//! Blobs on their way to a registry.

use std::io::Write;
use std::time::Duration;

use nixlayer::oci::Digest;
use nixlayer::publish::{Blob, Stored};

use crate::support::{CHUNK, blob, bytes, chain, count, failing_blob, settings, start};

#[tokio::test]
async fn blobs_of_every_size_arrive_whole() {
    let (registry, destination) = start(settings()).await;
    for (size, patches) in [(0, 0), (1, 0), (CHUNK, 0), (CHUNK + 1, 2), (5 * CHUNK + 3, 6)] {
        let content = bytes(size, size);
        let digest = Digest::of(&content);
        let before = count(&registry.log(), "PATCH", "/blobs/uploads/");

        let stored = destination.put_blob(&|| blob(content.clone())).await.unwrap();

        let size = size as u64;
        assert_eq!(stored, Stored { digest, size, reused: false, sent: size });
        assert_eq!(registry.blob("team/app", &digest), Some(content));
        assert_eq!(count(&registry.log(), "PATCH", "/blobs/uploads/") - before, patches, "{size} bytes");
    }
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn a_blob_that_is_there_costs_one_question() {
    let (registry, destination) = start(settings()).await;
    destination.put_blob(&|| blob(bytes(1000, 0))).await.unwrap();
    let before = registry.log().len();

    let stored = destination.put_blob(&|| blob(bytes(1000, 0))).await.unwrap();

    assert_eq!((stored.reused, stored.sent), (true, 0));
    let after = registry.log()[before..].to_vec();
    assert_eq!(after.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["HEAD"]);
}

#[tokio::test]
async fn a_large_blob_that_is_there_gives_its_session_up() {
    let (registry, destination) = start(settings()).await;
    destination.put_blob(&|| blob(bytes(3 * CHUNK, 0))).await.unwrap();

    let stored = destination.put_blob(&|| blob(bytes(3 * CHUNK, 0))).await.unwrap();

    assert!(stored.reused);
    assert_eq!(registry.log().last().unwrap().method, "DELETE");
    assert_eq!(registry.open_uploads(), 0);
}

#[tokio::test]
async fn chunks_are_as_long_as_the_registry_wants() {
    let (registry, destination) = start(settings().chunk_min_length(3 * CHUNK)).await;

    destination.put_blob(&|| blob(bytes(7 * CHUNK + 5, 0))).await.unwrap();

    let log = registry.log();
    let patches = log.iter().filter(|request| request.method == "PATCH").map(|request| request.body);
    assert_eq!(patches.collect::<Vec<_>>(), [3 * CHUNK, 3 * CHUNK, CHUNK + 5]);
}

#[tokio::test]
async fn a_producer_that_fails_leaves_neither_session_nor_blob() {
    let (registry, destination) = start(settings()).await;
    for size in [10, 4 * CHUNK] {
        let error = destination.put_blob(&|| failing_blob(bytes(size, 0))).await.unwrap_err();

        assert_eq!(chain(&error), "the producer of a blob stopped before its end");
    }
    assert_eq!(registry.open_uploads(), 0);
    assert_eq!(count(&registry.log(), "PUT", ""), 0);
}

#[tokio::test]
async fn a_dropped_push_leaves_an_open_session_and_nothing_else() {
    let (registry, destination) = start(settings()).await;
    let endless = || {
        let (mut writer, blob) = Blob::channel(CHUNK);
        std::thread::spawn(move || while writer.write_all(&[7; 1000]).is_ok() {});
        blob
    };
    let under_way = async {
        while count(&registry.log(), "PATCH", "/blobs/uploads/") < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    tokio::select! {
        stored = destination.put_blob(&endless) => panic!("an endless blob ended: {stored:?}"),
        () = under_way => {}
    }

    assert_eq!(registry.open_uploads(), 1);
    assert_eq!(count(&registry.log(), "PUT", ""), 0);
}
