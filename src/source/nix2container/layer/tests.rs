use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::nix2container::ImageJsonError;
use crate::source::nix2container::image::parse_layers;
use crate::source::nix2container::test_host::{PATH, TestHost};

const DIGEST: &str = "sha256:220ead8c05588559690ad9c8bff2547558cb5047ee5b52a03d0d77a47208f980";

fn layer(keys: &Value) -> Result<Layer, ImageJsonError> {
    let mut layer = json!({
        "digest": DIGEST, "diff_ids": DIGEST, "size": 13824,
        "mediatype": "application/vnd.oci.image.layer.v1.tar", "History": {},
    });
    for (key, value) in keys.as_object().unwrap() {
        layer[key] = value.clone();
    }
    let json = serde_json::to_vec(&json!([layer])).unwrap();
    parse_layers("layers.json", &json).map(|mut layers| layers.remove(0))
}

/// Written by `archive/tar` of Go with the header fields that nix2container gives it.
#[test]
fn a_layer_of_a_store_path_equals_nix2containers() {
    let host = TestHost::new();
    host.file(&format!("{PATH}/bin/hello"), 0o555, "#!/bin/sh\necho hi\n");
    host.link(&format!("{PATH}/bin/hi"), "hello");
    host.folder(&format!("{PATH}/lib"));
    let readme = format!("doc/{}/README", "n".repeat(80));
    for (name, contents) in
        [("a/f", "1\n"), ("a-b", "2\n"), ("a.c", "3\n"), (readme.as_str(), "x\n"), ("é.txt", "e\n")]
    {
        host.file(&format!("{PATH}/share/{name}"), 0o444, contents);
    }
    host.folders_have(PATH, 0o555);

    let layer = layer(&json!({ "paths": [{ "path": PATH }] })).unwrap();
    let tar = layer.write(&host.root(), Vec::new()).unwrap();

    assert_eq!(layer.size, Some(tar.len() as u64));
    assert_eq!(Digest::of(&tar).to_string(), layer.diff_id.to_string());
    assert_eq!(layer.store_paths().map(ToString::to_string).collect::<Vec<_>>(), [PATH]);
}

#[test]
fn an_archive_in_the_store_is_decompressed() {
    let host = TestHost::new();
    let tar = b"any bytes ".repeat(100_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let blobs = [tar.clone(), gzip.finish().unwrap(), zstd::encode_all(tar.as_slice(), 1).unwrap()];

    for (name, blob, media_type) in [
        ("", &blobs[0], "application/vnd.oci.image.layer.v1.tar"),
        ("", &blobs[1], "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("/a/layer.tar", &blobs[1], "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        ("/b.tar", &blobs[2], "application/vnd.oci.image.layer.v1.tar+zstd"),
    ] {
        let path = format!(
            "/nix/store/00000000000000000000000000000000-{}{name}",
            if name.is_empty() { "l" } else { "ls" }
        );
        host.file(&path, 0o444, blob);
        let layer = layer(&json!({ "layer-path": path, "mediatype": media_type, "size": 0 })).unwrap();

        assert!(layer.write(&host.root(), Vec::new()).unwrap() == tar, "{path}");
        assert_eq!(layer.size, None);
    }
}

#[test]
fn an_archive_that_is_cut_off_is_an_error() {
    let host = TestHost::new();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&[7; 1000]).unwrap();
    let blob = gzip.finish().unwrap();
    host.file(PATH, 0o444, &blob[..blob.len() - 5]);
    let keys = json!({ "layer-path": PATH, "mediatype": "application/vnd.oci.image.layer.v1.tar+gzip" });

    let error = layer(&keys).unwrap().write(&host.root(), Vec::new()).unwrap_err();

    assert!(matches!(error, LayerError::Archive { .. }), "{error}");
}

#[test]
fn an_archive_becomes_no_more_than_it_may() {
    let host = TestHost::new();
    let zeros = vec![0; 100_000];
    host.file(PATH, 0o444, zstd::encode_all(zeros.as_slice(), 1).unwrap());
    let keys = json!({ "layer-path": PATH, "mediatype": "application/vnd.oci.image.layer.v1.tar+zstd" });
    let Source::Archive(archive) = layer(&keys).unwrap().source else { panic!("{keys}") };

    assert!(archive.write(&host.root(), 100_000, Vec::new()).unwrap() == zeros);
    let error = archive.write(&host.root(), 99_999, Vec::new()).unwrap_err();
    assert!(matches!(error, LayerError::TooLarge { most: 99_999, .. }), "{error}");
}

#[test]
fn an_archive_lies_in_the_store_whatever_links_say() {
    let host = TestHost::new();
    host.file("../secret", 0o444, "outside");
    host.file("/etc/shadow", 0o444, "on the host");
    host.file("/nix/store/11111111111111111111111111111111-good/f", 0o444, "good");
    host.link(&format!("{PATH}/out"), "../../../../secret");
    host.link(&format!("{PATH}/host"), "../../../etc/shadow");
    host.link(&format!("{PATH}/folder"), "../../../etc");
    host.link(&format!("{PATH}/store"), "..");
    host.link(&format!("{PATH}/good"), "../11111111111111111111111111111111-good");
    let written = |name: &str| {
        let layer = layer(&json!({ "layer-path": format!("{PATH}/{name}") })).unwrap();
        layer.write(&host.root(), Vec::new()).map_err(|error| match error {
            LayerError::Archive { source, .. } => source.to_string(),
            error => panic!("{name}: {error}"),
        })
    };

    assert_eq!(written("good/f"), Ok(b"good".to_vec()));
    for name in ["out", "host", "folder/shadow", "store"] {
        assert_eq!(written(name), Err("it leads out of the store".to_owned()));
    }
    assert_eq!(written("good"), Err("it is no file".to_owned()));
}

#[test]
fn a_sink_that_takes_no_more_is_its_own_kind_of_error() {
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let host = TestHost::new();
    host.file(PATH, 0o444, "tar");

    for keys in [json!({ "paths": [{ "path": PATH }] }), json!({ "layer-path": PATH })] {
        let Err(error) = layer(&keys).unwrap().write(&host.root(), Full) else { panic!("{keys}") };
        assert!(matches!(&error, LayerError::Write(source) if source.kind() == io::ErrorKind::StorageFull));
    }
}

/// A tree by its paths; nothing is a folder, and a text the contents of a file or the target of a link.
fn any_tree() -> impl Strategy<Value = BTreeMap<Vec<String>, Option<(bool, String)>>> {
    let name = prop_oneof![4 => "[a-c]", 2 => "[a-z.é -]{1,8}", 1 => "[a-zü]{90,110}"]
        .prop_filter("no name", |name: &String| name != "." && name != "..");
    let node = prop::option::of((any::<bool>(), "[a-zß/]{1,150}"));
    prop::collection::vec((prop::collection::vec(name, 1..5), node), 0..20).prop_map(|nodes| {
        let mut tree = BTreeMap::new();
        for (path, node) in nodes {
            let parents = (1..path.len()).map(|length| path[..length].to_vec());
            if parents.clone().all(|parent| tree.get(&parent).is_none_or(Option::is_none)) {
                parents.for_each(|parent| _ = tree.insert(parent, None));
                tree.entry(path).or_insert(node);
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Another reader of tars finds the very files of the host, parents first and siblings by their bytes.
    #[test]
    fn a_layer_holds_the_tree_of_its_path(tree in any_tree()) {
        let host = TestHost::new();
        host.folder(PATH);
        for (path, node) in &tree {
            let place = format!("{PATH}/{}", path.join("/"));
            match node {
                None => host.folder(&place),
                Some((true, contents)) => host.file(&place, 0o444, contents),
                Some((false, target)) => host.link(&place, target),
            }
        }

        let layer = layer(&json!({ "paths": [{ "path": PATH }] })).unwrap();
        let tar = layer.write(&host.root(), Vec::new()).unwrap();

        let mut found = Vec::new();
        for member in tar::Archive::new(tar.as_slice()).entries().unwrap() {
            let mut member = member.unwrap();
            let name = String::from_utf8(member.path_bytes().into_owned()).unwrap();
            let names: Vec<String> = name.split('/').map(str::to_owned).collect();
            let node = match member.header().entry_type() {
                tar::EntryType::Directory => None,
                tar::EntryType::Regular => Some((true, io::read_to_string(&mut member).unwrap())),
                tar::EntryType::Symlink => {
                    Some((false, String::from_utf8(member.link_name_bytes().unwrap().into_owned()).unwrap()))
                }
                other => panic!("{other:?}"),
            };
            found.push((names, node));
        }
        let root = ["", "nix", "store", "00000000000000000000000000000000-vec-1.0"].map(str::to_owned);
        let mut expected = vec![(vec![String::new(); 2], None)];
        expected.extend((2..=4).map(|length| (root[..length].to_vec(), None)));
        // A map of lists of names iterates in that order.
        expected.extend(tree.into_iter().map(|(path, node)| ([root.to_vec(), path].concat(), node)));
        prop_assert_eq!(found, expected);
    }
}
