//! A path gives the same entries wherever it comes from.

use std::collections::BTreeMap;

use nixlayer::oci::Digest;
use nixlayer::source::StorePaths;
use proptest::prelude::*;

use crate::cache::{COMPRESSIONS, FolderCache, Item, closure, files};
use crate::reading::{assert_right, caches, layer, read};
use crate::trees::{Kind, Tree, file, folder, noise, unlock, vector, write};

/// Reads `tree` from disk and from a cache of each compression. It must be what went in, byte for byte.
#[track_caller]
fn comes_whole_from_everywhere(tree: &Tree) {
    let items: Vec<Item> = COMPRESSIONS.iter().map(|how| Item::new(0, tree.clone(), how)).collect();
    let item = &items[0];
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("root");
    write(tree, &root);
    let on_disk = BTreeMap::from([(item.path.clone(), root.clone())]);
    let store = StorePaths::new(&closure([item]), on_disk, None);

    let from_disk = layer(&store, std::slice::from_ref(&item.path));
    unlock(tree, &root);

    assert_right(from_disk, item, "from disk");
    for item in &items {
        let cache = FolderCache::new(&files([item]));
        assert_right(read(item, &caches(vec![cache.settings("folder")])), item, &item.url);
    }
}

/// The vector is the tar that dockerTools' script makes of this store path.
#[test]
fn the_vector_comes_from_everywhere_as_dockertools_has_it() {
    comes_whole_from_everywhere(&vector());

    let item = Item::new(0, vector(), "xz");
    let cache = FolderCache::new(&files([&item]));
    let tar = read(&item, &caches(vec![cache.settings("folder")])).unwrap();
    assert_eq!(item.path.to_string(), "/nix/store/00000000000000000000000000000000-vec-1.0");
    assert_eq!(tar.len(), 20480);
    assert_eq!(
        Digest::of(&tar).to_string(),
        "sha256:9af53b063c177058570614aae198d039aaed5b6c9ac7f3e030884b518a15ffee"
    );
    assert_eq!(
        item.info().nar_hash.to_string(),
        "sha256:0pzw0r9c75a3v5yclm0gdk03vslfbw4w9n7qfzbml85alcq7iabj"
    );
}

#[test]
fn a_root_of_any_kind_comes_from_everywhere() {
    let root = |kind| vec![(Vec::new(), kind)];
    comes_whole_from_everywhere(&file("text\n"));
    comes_whole_from_everywhere(&file(""));
    comes_whole_from_everywhere(&root(Kind::Program(b"#!/bin/sh\n".to_vec())));
    comes_whole_from_everywhere(&root(Kind::Link(b"/nix/store/elsewhere".to_vec())));
    comes_whole_from_everywhere(&root(Kind::Folder));
}

#[test]
fn names_of_every_sort_come_from_everywhere() {
    let text = || Kind::File(b"text".to_vec());
    let long = "l".repeat(255);
    let deep: Vec<String> =
        (1..=10).map(|depth| vec!["thirty-one-bytes-in-each-folder"; depth].join("/")).collect();
    let mut entries = vec![
        (b" space ".to_vec(), text()),
        (b"\n".to_vec(), text()),
        (b"\x80\xff".to_vec(), Kind::Link(b"\xfe/\x01".to_vec())),
        ("link".into(), Kind::Link(vec![b't'; 4095])),
        (long.clone().into_bytes(), Kind::Folder),
        (format!("{long}/{long}").into_bytes(), Kind::Program(Vec::new())),
        ("é/ü".replace('/', "-").into_bytes(), text()),
    ];
    entries.extend(deep.iter().map(|path| (path.clone().into_bytes(), Kind::Folder)));
    entries.push((format!("{}/f", deep[9]).into_bytes(), text()));
    entries.sort_by(|(one, _), (other, _)| one.split(|b| *b == b'/').cmp(other.split(|b| *b == b'/')));

    comes_whole_from_everywhere(&folder(entries));
}

#[test]
fn a_large_file_that_does_not_compress_comes_from_everywhere() {
    comes_whole_from_everywhere(&folder([
        ("large", Kind::File(noise(3_000_001, 1))),
        ("program", Kind::Program(noise(100_000, 2))),
    ]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_tree_comes_from_everywhere(tree in any_tree()) {
        comes_whole_from_everywhere(&tree);
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000).prop_map(Nested::File),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Nested::Program),
        prop::collection::vec(1..=255u8, 1..200).prop_map(Nested::Link),
    ];
    let name = prop::collection::vec(any::<u8>(), 1..12)
        .prop_filter("a name", |name| !name.contains(&0) && !name.contains(&b'/') && !name.starts_with(b"."));
    let nested = leaf.prop_recursive(4, 24, 6, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..6).prop_map(Nested::Folder)
    });
    nested.prop_map(|nested| {
        let mut tree = Tree::new();
        nested.flatten(&[], &mut tree);
        tree
    })
}

#[derive(Clone, Debug)]
enum Nested {
    File(Vec<u8>),
    Program(Vec<u8>),
    Link(Vec<u8>),
    Folder(BTreeMap<Vec<u8>, Nested>),
}

impl Nested {
    fn flatten(self, path: &[u8], tree: &mut Tree) {
        let kind = match self {
            Self::File(contents) => Kind::File(contents),
            Self::Program(contents) => Kind::Program(contents),
            Self::Link(target) => Kind::Link(target),
            Self::Folder(members) => {
                tree.push((path.to_vec(), Kind::Folder));
                for (name, member) in members {
                    let below = if path.is_empty() { name } else { [path, b"/", &name].concat() };
                    member.flatten(&below, tree);
                }
                return;
            }
        };
        tree.push((path.to_vec(), kind));
    }
}
