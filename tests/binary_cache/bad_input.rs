//! What a cache must not say or hold. Each is an error with a type of its own, which names cache and path.

use std::fs;
use std::os::unix::fs::symlink;

use nixlayer::http::{HttpError, StatusCode};
use nixlayer::nix::nar::{NarError, NarFault};
use nixlayer::nix::{CacheInfoError, NarInfoError};
use nixlayer::source::binary_cache::CacheFault;
use rustix::fs::{CWD, FileType, Mode};

use crate::cache::{COMPRESSIONS, FolderCache, Item, files, store_path};
use crate::reading::{assert_right, caches, fault, read, right};
use crate::server::{Fault, Server};
use crate::trees::{Kind, folder, vector};

/// A tree with a NAR that is short enough to be broken at every byte.
fn small(compression: &'static str) -> Item {
    Item::new(
        1,
        folder([("a", Kind::Program(b"text".to_vec())), ("b", Kind::Link(b"a".to_vec()))]),
        compression,
    )
}

/// A cache of `item` in a folder, of which `change` changes the narinfo.
fn said(item: &Item, change: impl Fn(String) -> String) -> FolderCache {
    let mut files = files([item]);
    files.insert(item.narinfo_file(), change(item.narinfo()).into_bytes());
    FolderCache::new(&files)
}

/// What is wrong with reading `item` from `cache`.
#[track_caller]
fn fault_from(item: &Item, cache: &FolderCache) -> CacheFault {
    fault(read(item, &caches(vec![cache.settings("broken")])), item, "broken")
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for (compression, step) in
        [("none", 1), ("xz", 1), ("zstd", 1), ("zstd-frames", 7), ("bzip2", 7), ("gzip", 7), ("br", 7)]
    {
        let item = small(compression).unannounced();
        let cache = FolderCache::new(&files([&item]));
        // A cache that gave wrong bytes for a path is not asked for it again, so each try is a run of its own.
        let run = || caches(vec![cache.settings("broken")]);
        for length in (0..item.file.len()).step_by(step) {
            fs::write(cache.path().join(&item.url), &item.file[..length]).unwrap();

            let fault = fault(read(&item, &run()), &item, "broken");

            let typed = matches!(
                fault,
                CacheFault::Compressed { .. }
                    | CacheFault::Nar { source: NarError::Malformed { fault: NarFault::End, .. }, .. }
            );
            assert!(typed, "{compression} cut after {length}: {fault:?}");
        }
        fs::write(cache.path().join(&item.url), &item.file).unwrap();
        assert_right(read(&item, &run()), &item, compression);
    }
}

/// Without what the narinfo says of the file; so it is the format or the hash of the NAR that tells.
#[test]
fn a_flipped_bit_makes_an_error_or_nothing_at_all() {
    // Every bit of NAR and xz is checked. In a zstd frame without a checksum some bits do not matter, such as the
    // unused one of its header (RFC 8878, section 3.1.1.1.1).
    for (compression, ignored) in [("none", false), ("xz", false), ("zstd", true)] {
        let item = small(compression).unannounced();
        let cache = FolderCache::new(&files([&item]));
        let run = || caches(vec![cache.settings("broken")]);
        let mut passed = Vec::new();
        for (at, bit) in (0..item.file.len()).map(|at| (at, at % 8)) {
            let mut file = item.file.clone();
            file[at] ^= 1 << bit;
            fs::write(cache.path().join(&item.url), file).unwrap();

            match read(&item, &run()) {
                Ok(tar) => {
                    assert!(tar == right(&item), "{compression}: wrong with bit {bit} of byte {at} flipped");
                    passed.push((at, bit));
                }
                error => drop(fault(error, &item, "broken")),
            }
        }
        assert_eq!(passed.contains(&(4, 4)), ignored, "{compression}: {passed:?}");
        assert_eq!(passed.is_empty(), !ignored, "{compression}: {passed:?}");
    }
}

#[test]
fn a_flipped_bit_is_an_error_where_the_file_hash_is_known() {
    for compression in COMPRESSIONS {
        let item = small(compression);
        let cache = FolderCache::new(&files([&item]));
        let run = || caches(vec![cache.settings("broken")]);
        for at in 0..item.file.len() {
            let mut file = item.file.clone();
            file[at] ^= 1 << (at % 8);
            fs::write(cache.path().join(&item.url), file).unwrap();

            drop(fault(read(&item, &run()), &item, "broken"));
        }
    }
}

#[test]
fn a_narinfo_that_differs_from_the_lock_is_refused_before_the_nar_is_opened() {
    let item = small("none");
    let other = Item { nar: b"other".to_vec(), ..item.clone() };
    let more = Item { references: [item.path.clone(), store_path(2, "more")].into(), ..item.clone() };
    let (size, hash) = (item.nar.len(), item.info().nar_hash);
    for (narinfo, expected, found, pinned) in [
        (
            item.narinfo().replace(&hash.to_string(), &other.info().nar_hash.to_string()),
            "NAR hash",
            other.info().nar_hash.to_string(),
            hash.to_string(),
        ),
        (
            item.narinfo().replace(&format!("NarSize: {size}"), &format!("NarSize: {}", size + 1)),
            "NAR size",
            (size + 1).to_string(),
            size.to_string(),
        ),
        (
            more.narinfo(),
            "list of references",
            format!("{} {}", item.path.base_name(), store_path(2, "more").base_name()),
            item.path.base_name().to_owned(),
        ),
        (
            Item { references: [].into(), ..item.clone() }.narinfo(),
            "list of references",
            String::new(),
            item.path.base_name().to_owned(),
        ),
    ] {
        let cache = said(&item, |_| narinfo.clone());
        fs::remove_file(cache.path().join(&item.url)).unwrap();

        let fault = fault_from(&item, &cache);

        let CacheFault::Differs { what, said, pinned: lock } = &fault else { panic!("{fault:?}") };
        assert_eq!((*what, said, lock), (expected, &found, &pinned));
    }
}

#[test]
fn a_file_of_another_hash_is_refused_in_every_compression() {
    for compression in COMPRESSIONS {
        let item = small(compression);
        let announced = item.narinfo().lines().find(|line| line.starts_with("FileHash")).unwrap().to_owned();
        let another = format!("FileHash: {}", Item::new(1, vector(), "none").info().nar_hash);
        let cache = said(&item, |narinfo| narinfo.replace(&announced, &another));

        let fault = fault_from(&item, &cache);

        assert!(matches!(fault, CacheFault::FileHash { .. }), "{compression}: {fault:?}");
    }
}

#[test]
fn a_file_of_another_size_is_refused_in_every_compression() {
    for compression in COMPRESSIONS {
        let item = small(compression);
        let size = item.file.len();
        for wrong in [1, size - 1, size + 1, size + 1_000_000] {
            let (real, other) = (format!("FileSize: {size}\n"), format!("FileSize: {wrong}\n"));
            let cache = said(&item, |narinfo| narinfo.replace(&real, &other));

            let fault = fault_from(&item, &cache);

            let CacheFault::FileSize { announced, found, .. } = fault else {
                panic!("{compression}: {fault:?}")
            };
            assert_eq!(announced, wrong as u64);
            assert!(found == size as u64 || found > announced, "{found} of {announced} bytes");
        }
    }
}

#[test]
fn what_follows_the_end_is_refused_in_every_compression() {
    for compression in COMPRESSIONS {
        let item = small(compression);
        for surplus in [&b"!"[..], b"surplus!", &[0], &[0xff; 100_000], &item.file] {
            let item = item.clone().with_file([&item.file, surplus].concat());
            for item in [item.clone(), item.unannounced()] {
                let fault = fault_from(&item, &FolderCache::new(&files([&item])));

                let typed = matches!(
                    fault,
                    CacheFault::Compressed { .. } | CacheFault::Surplus { .. } | CacheFault::TooLarge { .. }
                );
                assert!(typed, "{compression}, {} bytes more: {fault:?}", surplus.len());
            }
        }
    }
}

#[test]
fn another_nar_is_refused_by_its_size_or_its_hash() {
    let item = small("none");
    let text = |text: &str| folder([("a", Kind::Program(text.into())), ("b", Kind::Link(b"a".to_vec()))]);
    for compression in COMPRESSIONS {
        let swapped = |tree| item.clone().with_file(Item::new(1, tree, compression).file);
        let with = |tree| {
            let item = Item { compression: small(compression).compression, ..swapped(tree) };
            fault_from(&item, &FolderCache::new(&files([&item])))
        };

        let same_size = with(text("TEXT"));
        let shorter = with(folder([("a", Kind::Program(b"text".to_vec()))]));
        let longer = with(text("a text that is longer"));

        assert!(matches!(same_size, CacheFault::NarHash { .. }), "{compression}: {same_size:?}");
        assert!(matches!(shorter, CacheFault::NarSize { .. }), "{compression}: {shorter:?}");
        assert!(matches!(longer, CacheFault::TooLarge { .. }), "{compression}: {longer:?}");
    }
}

#[test]
fn a_narinfo_of_another_path_is_refused() {
    let item = small("none");
    let other = Item { path: store_path(2, "other"), ..item.clone() };
    let cache = said(&item, |_| other.narinfo());

    let fault = fault_from(&item, &cache);

    let CacheFault::OtherPath(path) = &fault else { panic!("{fault:?}") };
    assert_eq!(*path, other.path);
    // Neither does the hash part alone make it the same path.
    let renamed = Item { path: store_path(1, "other-name"), ..item.clone() };
    let fault = fault_from(&item, &said(&item, |_| renamed.narinfo()));
    assert!(matches!(fault, CacheFault::OtherPath(_)), "{fault:?}");
}

#[test]
fn a_cache_of_another_store_is_refused() {
    let item = small("none");
    let mut files = files([&item]);
    files.insert("nix-cache-info".to_owned(), b"StoreDir: /gnu/store\n".to_vec());

    let fault = fault_from(&item, &FolderCache::new(&files));

    let CacheFault::CacheInfo(CacheInfoError::OtherStore(store)) = &fault else { panic!("{fault:?}") };
    assert_eq!(store, "/gnu/store");
}

#[test]
fn a_cache_that_says_nothing_of_itself_is_one_of_our_store() {
    let item = small("none");
    let mut files = files([&item]);
    files.remove("nix-cache-info");
    let (cache, server) = (FolderCache::new(&files), Server::start(files.clone()));

    assert_right(read(&item, &caches(vec![cache.settings("folder")])), &item, "folder");
    assert_right(read(&item, &caches(vec![server.settings("server")])), &item, "server");
}

#[test]
fn a_narinfo_without_end_is_not_read_to_its_end() {
    let item = small("none");
    let long = |narinfo: String| narinfo + &"Unknown: key\n".repeat(100_000);
    let cache = said(&item, long);

    let from_folder = fault_from(&item, &cache);
    let CacheFault::NarInfo(NarInfoError::TooLong(read)) = from_folder else { panic!("{from_folder:?}") };
    assert_eq!(read, (1 << 20) + 1);

    for file in ["nix-cache-info", ".narinfo"] {
        let server = Server::start(files([&item]));
        server.fault(file, Fault::Endless(b"Unknown: key\n".repeat(1000)), usize::MAX);

        let fault = fault(read_from(&item, &server), &item, "server");

        assert!(matches!(fault, CacheFault::Http(HttpError::TooLong { .. })), "{file}: {fault:?}");
        assert_eq!(server.asked(".nar"), []);
    }
}

fn read_from(item: &Item, server: &Server) -> Result<Vec<u8>, nixlayer::source::ReadError> {
    read(item, &caches(vec![server.settings("server")]))
}

#[test]
fn a_compression_that_is_not_known_is_refused() {
    let item = small("none");
    let cache = said(&item, |narinfo| narinfo.replace("Compression: none", "Compression: lz4"));

    let fault = fault_from(&item, &cache);

    assert!(matches!(fault, CacheFault::NarInfo(NarInfoError::Compression(_))), "{fault:?}");
}

#[test]
fn a_compression_other_than_the_one_named_is_refused() {
    for file in COMPRESSIONS {
        for named in COMPRESSIONS.into_iter().filter(|named| named[..2] != file[..2]) {
            let item = small(named).with_file(small(file).file).unannounced();

            let fault = fault_from(&item, &FolderCache::new(&files([&item])));

            let typed = matches!(
                fault,
                CacheFault::Compressed { .. } | CacheFault::Nar { .. } | CacheFault::TooLarge { .. }
            );
            assert!(typed, "{file} as {named}: {fault:?}");
        }
    }
}

#[test]
fn a_nar_on_another_host_is_not_asked_for() {
    let elsewhere = Server::start(files([&small("none")]));
    let nar = format!("{}{}", elsewhere.url(), small("none").url);
    let (_, without_scheme) = nar.split_once(':').unwrap();
    for url in [nar.as_str(), without_scheme, &nar.replace("http:", "https:"), "file:///etc/passwd"] {
        let mut item = small("none");
        let mut files = files([&item]);
        item.url = url.to_owned();
        files.insert(item.narinfo_file(), item.narinfo().into_bytes());
        let (server, cache) = (Server::start(files.clone()), FolderCache::new(&files));

        for fault in [fault(read_from(&item, &server), &item, "server"), fault_from(&item, &cache)] {
            let CacheFault::Elsewhere { url } = &fault else { panic!("{fault:?}") };
            assert_eq!(*url, item.url);
        }
    }
    assert_eq!(elsewhere.log(), []);
}

#[test]
fn a_nar_with_a_whole_address_in_the_cache_is_read() {
    let mut item = small("xz");
    let server = Server::start(files([&item]));
    item.url = format!("{}{}", server.url(), item.url);
    let server_of = |files| {
        // The address has to be known before what is served there.
        server.replace(files);
        read_from(&item, &server)
    };
    let mut files = files([&item]);
    files.insert(small("xz").url, item.file.clone());

    assert_right(server_of(files), &item, "server");
}

#[test]
fn no_address_leads_out_of_a_folder() {
    let item = small("none");
    let files = files([&item]);
    for (url, link) in [
        ("../outside", None),
        ("nar/../../outside", None),
        ("link", Some("../outside")),
        ("link", Some("ABSOLUTE")),
        ("link/outside", Some("..")),
        ("nar/link", Some("../../outside")),
    ] {
        let mut item = item.clone();
        item.url = url.to_owned();
        let cache = FolderCache::new(&files);
        let outside = cache.outside().join("outside");
        fs::write(&outside, &item.file).unwrap();
        fs::write(cache.path().join(item.narinfo_file()), item.narinfo()).unwrap();
        if let Some(target) = link {
            let target = target.replace("ABSOLUTE", outside.to_str().unwrap());
            symlink(target, cache.path().join(url.trim_end_matches("/outside"))).unwrap();
        }

        let fault = fault_from(&item, &cache);

        let CacheFault::File { file, .. } = &fault else { panic!("{url}, {link:?}: {fault:?}") };
        assert_eq!(file, url);
    }
    let cache = FolderCache::new(&files);
    let narinfo = cache.path().join(item.narinfo_file());
    fs::rename(&narinfo, cache.outside().join("outside")).unwrap();
    symlink("../outside", &narinfo).unwrap();
    let fault = fault_from(&item, &cache);
    assert!(matches!(fault, CacheFault::File { .. }), "{fault:?}");
}

#[test]
fn a_link_that_stays_in_a_folder_is_followed() {
    let item = small("none");
    let cache = FolderCache::new(&files([&item]));
    fs::rename(cache.path().join(&item.url), cache.path().join("nar/real")).unwrap();
    symlink("real", cache.path().join(&item.url)).unwrap();

    assert_right(read(&item, &caches(vec![cache.settings("folder")])), &item, "folder");
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let item = small("none");
    for name in [&item.url, &item.narinfo_file(), "nix-cache-info"] {
        let cache = FolderCache::new(&files([&item]));
        let place = cache.path().join(name);
        fs::remove_file(&place).unwrap();
        rustix::fs::mknodat(CWD, &place, FileType::Fifo, Mode::RWXU, 0).unwrap();

        let pipe = fault_from(&item, &cache);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        let folder = fault_from(&item, &cache);

        for fault in [pipe, folder] {
            let CacheFault::File { file, .. } = &fault else { panic!("{fault:?}") };
            assert_eq!(file, name);
        }
    }
}

#[test]
fn a_server_that_refuses_is_quoted_with_its_status() {
    let item = small("none");
    for (file, status) in [("nix-cache-info", 401), (".narinfo", 403), (".nar", 400), (".nar", 404)] {
        let server = Server::start(files([&item]));
        server.fault(file, Fault::Status(status, ""), usize::MAX);

        let fault = fault(read_from(&item, &server), &item, "server");

        let CacheFault::Refused { file: refused, status: found, .. } = &fault else { panic!("{fault:?}") };
        assert_eq!(*found, StatusCode::from_u16(status).unwrap());
        assert!(refused.starts_with(&server.url()) && refused.ends_with(file), "{refused}");
    }
}
