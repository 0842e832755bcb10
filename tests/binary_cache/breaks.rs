//! Downloads that break, and go on.

use std::sync::Arc;

use nixlayer::http::{HttpError, StatusCode};
use nixlayer::source::ReadError;
use nixlayer::source::binary_cache::{BinaryCaches, CacheFault, CacheSettings, RequireSignatures};

use crate::cache::{FolderCache, Item, files};
use crate::reading::{
    HASTY, PATIENT, SHORT, assert_right, caches, eventually, fault, http, patient_caches, read,
};
use crate::server::{Asked, Fault, Server, Versions, version};
use crate::trees::{Kind, folder, noise};

/// A NAR of some hundred kilobytes, and a file that is about as long in every compression.
fn item(compression: &'static str) -> Item {
    let tree = folder([
        ("a", Kind::Program(noise(100_000, 1))),
        ("b", Kind::Folder),
        ("b/c", Kind::File(noise(150_000, 2))),
        ("b/d", Kind::Link(b"c".to_vec())),
        ("e", Kind::File(b"end\n".to_vec())),
    ]);
    Item::new(1, tree, compression)
}

fn read_patiently(item: &Item, server: &Server) -> Result<Vec<u8>, ReadError> {
    read(item, &patient_caches(vec![server.settings("server")]))
}

/// The requests for NARs, once the server has noted how far their answers came.
fn answered(server: &Server) -> Vec<Asked> {
    eventually("the answers are over", || server.asked(".nar").iter().all(|asked| asked.over));
    server.asked(".nar")
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    for compression in ["none", "zstd", "xz"] {
        let item = item(compression);
        let length = item.file.len();
        for cut in [0, 1, 7, 8, 100, 16_384, 65_535, 65_536, 65_537, 150_001, length - 1] {
            let server = Server::start(files([&item]));
            server.fault(".nar", Fault::Cut(cut), 1);

            assert_right(read_patiently(&item, &server), &item, &format!("{compression} cut after {cut}"));

            let asked = answered(&server);
            let [first, second] = asked.as_slice() else { panic!("{asked:?}") };
            assert_eq!((&first.range, &first.if_range), (&None, &None));
            if cut > 0 {
                assert_eq!(second.range, Some(format!("bytes={cut}-")));
                assert_eq!(second.if_range, Some(version(&item.file)));
            }
            assert_eq!((second.first, second.sent), (cut, length - cut), "{compression} cut after {cut}");
        }
    }
}

#[test]
fn a_download_that_moves_on_may_be_cut_any_number_of_times() {
    let item = item("none");
    let server = Server::start(files([&item]));
    server.fault(".nar", Fault::Cut(10_000), 20);

    assert_right(read_patiently(&item, &server), &item, "cut twenty times");

    let asked = answered(&server);
    let firsts: Vec<usize> = asked.iter().map(|asked| asked.first).collect();
    assert_eq!(firsts, (0..=20).map(|cut| cut * 10_000).collect::<Vec<_>>());
    assert_eq!(asked.iter().map(|asked| asked.sent).sum::<usize>(), item.file.len());
}

/// Each entry once: the layer is compared, byte for byte.
#[test]
fn a_download_without_ranges_starts_again_and_the_entries_go_on() {
    for versions in [Versions::Weak, Versions::None] {
        for (compression, cut) in [("none", 1), ("none", 120_000), ("xz", 120_000), ("zstd", 200_000)] {
            let item = item(compression);
            let server = Server::with_versions(files([&item]), versions);
            server.fault(".nar", Fault::Cut(cut), 2);

            assert_right(read_patiently(&item, &server), &item, &format!("{versions:?}, cut after {cut}"));

            let asked = server.asked(".nar");
            let whole = |asked: &Asked| asked.range.is_none() && asked.first == 0;
            assert!(asked.len() == 3 && asked.iter().all(whole), "{asked:?}");
        }
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    for file in ["nix-cache-info", ".narinfo", ".nar"] {
        for (status, lines) in [
            (503, ""),
            (503, "Retry-After: 0\r\n"),
            // Longer than anybody would wait; so it is cut to the longest pause.
            (503, "Retry-After: 86400\r\n"),
            (429, ""),
            (429, "Retry-After: 0\r\n"),
            (500, ""),
            (502, ""),
            (504, ""),
        ] {
            let item = item("none");
            let server = Server::start(files([&item]));
            server.fault(file, Fault::Status(status, lines), 3);

            assert_right(read_patiently(&item, &server), &item, &format!("{status} for {file}"));
        }
    }
}

/// The parts belong to two files, and what counts is the hash of the whole.
#[test]
fn a_file_that_changes_between_two_parts_gives_the_right_bytes_or_an_error() {
    for versions in [Versions::Strong, Versions::Weak, Versions::None] {
        for compression in ["none", "xz", "zstd"] {
            let item = item(compression);
            let changed = |at: usize| {
                let mut file = item.file.clone();
                file[at] ^= 1;
                file
            };
            let cut = 120_000;
            let read_changed = |to: Vec<u8>| {
                let server = Server::with_versions(files([&item]), versions);
                server.fault(".nar", Fault::CutAndChange(cut, to), 1);
                let read = read(&item, &caches(vec![server.settings("server")]));
                // The new version is not taken for the rest of the old one.
                assert_eq!(server.asked(".nar")[1].first, 0);
                read
            };

            let early = read_changed(changed(cut - 50_000));
            let late = read_changed(changed(cut + 50_000));
            let short = read_changed(item.file[..cut - 1].to_vec());

            assert_right(early, &item, "what is known already did not change");
            drop(fault(late, &item, "server"));
            drop(fault(short, &item, "server"));
        }
    }
}

#[test]
fn a_cache_that_stays_away_gives_way_to_one_with_another_compression() {
    for (from, to) in
        [("none", "xz"), ("xz", "zstd-frames"), ("zstd", "none"), ("gzip", "br"), ("br", "bzip2")]
    {
        for cut in [1, 90_000, 170_000] {
            let (item, other) = (item(from), item(to));
            let (first, second) = (Server::start(files([&item])), Server::start(files([&other])));
            first.fault(".nar", Fault::Cut(cut), 1);
            first.fault(".nar", Fault::Status(503, ""), usize::MAX);

            let read = read(&item, &caches(vec![first.settings("first"), second.settings("second")]));

            assert_right(read, &item, &format!("{from} cut after {cut}, then {to}"));
            assert!(first.asked(".nar").len() > 1, "it was asked once only");
            assert_eq!(second.asked(".nar").len(), 1);
        }
    }
}

#[test]
fn a_second_cache_that_fails_as_well_gives_way_to_a_third() {
    let items = ["none", "xz", "zstd"].map(item);
    let servers = items.each_ref().map(|item| Server::start(files([item])));
    for (server, cut) in servers.iter().zip([120_000, 60_000]) {
        server.fault(".nar", Fault::Cut(cut), 1);
        server.fault(".nar", Fault::Status(404, ""), usize::MAX);
    }
    let settings = |at: usize| servers[at].settings(&format!("cache {at}"));

    let whole = read(&items[0], &caches((0..3).map(settings).collect()));

    assert_right(whole, &items[0], "from the third");
    assert_eq!(servers[2].asked(".nar").len(), 1);
}

#[test]
fn a_cache_that_stays_away_is_named_where_there_is_no_other() {
    let item = item("xz");
    let empty = FolderCache::new(&files([]));
    for (trouble, status) in [
        (Fault::Status(503, ""), StatusCode::SERVICE_UNAVAILABLE),
        (Fault::Status(404, ""), StatusCode::NOT_FOUND),
    ] {
        for others in [Vec::new(), vec![empty.settings("empty")]] {
            let server = Server::start(files([&item]));
            server.fault(".nar", Fault::Cut(100_000), 1);
            server.fault(".nar", trouble.clone(), usize::MAX);
            let settings = [vec![server.settings("server")], others].concat();

            let fault = fault(read(&item, &caches(settings)), &item, "server");

            let CacheFault::Refused { status: found, file, .. } = &fault else { panic!("{fault:?}") };
            assert_eq!((*found, file), (status, &format!("{}{}", server.url(), item.url)));
        }
    }
    let server = Server::start(files([&item]));
    server.fault(".nar", Fault::Cut(0), usize::MAX);
    let fault = fault(read(&item, &caches(vec![server.settings("server")])), &item, "server");
    assert!(matches!(fault, CacheFault::Http(HttpError::Broken { .. })), "{fault:?}");
}

/// Caches behind a client with little patience for silence.
fn impatient(settings: Vec<CacheSettings>) -> Arc<BinaryCaches> {
    let http = http(&settings, HASTY, SHORT);
    Arc::new(BinaryCaches::new(http, settings, RequireSignatures::Unpinned))
}

#[test]
fn a_hang_ends() {
    let item = item("none");
    for (file, trouble) in [
        ("", Fault::Hang),
        (".narinfo", Fault::Hang),
        (".narinfo", Fault::HangAfter(20)),
        (".nar", Fault::Hang),
        (".nar", Fault::HangAfter(0)),
        (".nar", Fault::HangAfter(200_000)),
    ] {
        let server = Server::start(files([&item]));
        server.fault(file, trouble.clone(), 1);
        server.fault(file, Fault::Hang, usize::MAX);

        let fault = fault(read(&item, &impatient(vec![server.settings("server")])), &item, "server");

        assert!(matches!(fault, CacheFault::Http(HttpError::Silent { .. })), "{file} {trouble:?}: {fault:?}");
    }
}

#[test]
fn a_download_goes_on_after_a_hang() {
    let item = item("none");
    let goes_on = || {
        let server = Server::start(files([&item]));
        server.fault(".nar", Fault::HangAfter(120_000), 1);
        let settings = vec![server.settings("server")];
        let http = http(&settings, PATIENT, SHORT);
        let caches = Arc::new(BinaryCaches::new(http, settings, RequireSignatures::Unpinned));

        assert_right(read(&item, &caches), &item, "after a hang");
        server.asked(".nar")[1].first == 120_000
    };

    // On a machine that pauses, the server may look silent before it is.
    assert!((0..5).any(|_| goes_on()));
}
