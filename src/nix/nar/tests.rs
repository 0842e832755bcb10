use std::io;

use proptest::prelude::*;

use super::*;
use crate::nix::tree::{Entry, Node};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    File(Vec<u8>, bool),
    Link(Vec<u8>),
}

type Tree = Vec<(Vec<u8>, Kind)>;

fn write(tree: &Tree) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new()).unwrap();
    for (path, kind) in tree {
        let mut contents: &[u8] = if let Kind::File(contents, _) = kind { contents } else { b"" };
        let node = match kind {
            Kind::Folder => Node::Directory,
            Kind::Link(target) => Node::Symlink { target },
            Kind::File(bytes, executable) => {
                Node::Regular { executable: *executable, size: bytes.len() as u64, contents: &mut contents }
            }
        };
        writer.append(Entry { path, node }).unwrap();
    }
    writer.finish().unwrap()
}

fn tree_of(nar: &[u8]) -> Result<Tree, NarError> {
    let mut tree = Tree::new();
    read(nar, |entry| {
        let kind = match entry.node {
            Node::Directory => Kind::Folder,
            Node::Symlink { target } => Kind::Link(target.to_vec()),
            Node::Regular { executable, contents, .. } => {
                let mut bytes = Vec::new();
                contents.read_to_end(&mut bytes)?;
                Kind::File(bytes, executable)
            }
        };
        tree.push((entry.path.to_vec(), kind));
        Ok(())
    })?;
    Ok(tree)
}

fn file(text: &str) -> Kind {
    Kind::File(text.into(), false)
}

/// A tree of every kind of entry, with the names that sort unlike their paths.
fn vector() -> Tree {
    let deep = format!("share/doc/{}", "n".repeat(80));
    let readme = format!("{deep}/README");
    let tree = [
        ("", Kind::Folder),
        ("bin", Kind::Folder),
        ("bin/hello", Kind::File(b"#!/bin/sh\necho hi\n".to_vec(), true)),
        ("bin/hi", Kind::Link(b"hello".to_vec())),
        ("lib", Kind::Folder),
        ("share", Kind::Folder),
        ("share/a", Kind::Folder),
        ("share/a/f", file("1\n")),
        ("share/a-b", file("2\n")),
        ("share/a.c", file("3\n")),
        ("share/doc", Kind::Folder),
        (deep.as_str(), Kind::Folder),
        (readme.as_str(), file("x\n")),
        ("share/é.txt", file("e\n")),
    ];
    tree.map(|(path, kind)| (path.into(), kind)).into()
}

/// Put together from strings: `&[u8]` as they are, each with its length and padding.
fn strings(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for string in strings {
        bytes.extend((string.len() as u64).to_le_bytes());
        bytes.extend(*string);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

fn fault(nar: &[u8]) -> NarFault {
    match tree_of(nar) {
        Err(NarError::Malformed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// Size and hash that `nix-hash` and `nix-store --dump` give for the same tree on disk.
#[test]
fn the_archive_of_a_tree_is_the_one_that_nix_makes() {
    let nar = write(&vector());

    let mut hasher = NarHasher::default();
    io::copy(&mut &nar[..], &mut hasher).unwrap();

    assert_eq!(hasher.size(), 2568);
    assert_eq!(hasher.hash().to_string(), "sha256:0pzw0r9c75a3v5yclm0gdk03vslfbw4w9n7qfzbml85alcq7iabj");
    assert_eq!(tree_of(&nar).unwrap(), vector());
}

#[test]
fn a_tree_may_be_one_file_or_one_link() {
    for kind in [file("alone\n"), file(""), Kind::File(vec![7; 100_000], true), Kind::Link(b"x".to_vec())] {
        let tree = vec![(Vec::new(), kind)];
        assert_eq!(tree_of(&write(&tree)).unwrap(), tree);
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_says_that_it_ends() {
    let nar = write(&vector());
    for length in 0..nar.len() {
        assert_eq!(fault(&nar[..length]), NarFault::End, "{length} bytes");
    }
}

/// A flipped bit is noticed, or it is in a name, a target or contents, and then the tree is another one.
#[test]
fn an_archive_with_a_flipped_bit_is_refused_or_is_that_of_another_tree() {
    let nar = write(&vector());
    for place in 0..nar.len() {
        for bit in 0..8 {
            let mut flipped = nar.clone();
            flipped[place] ^= 1 << bit;
            if let Ok(tree) = tree_of(&flipped) {
                assert_ne!(tree, vector(), "bit {bit} of byte {place}");
                assert_eq!(write(&tree), flipped, "bit {bit} of byte {place}");
            }
        }
    }
}

#[test]
fn what_no_nix_writes_is_refused() {
    let start: &[&[u8]] = &[b"nix-archive-1", b"(", b"type"];
    let with = |rest: &[&[u8]]| strings(&[start, rest].concat());
    let entry = |name: &[u8]| {
        with(&[
            b"directory",
            b"entry",
            b"(",
            b"name",
            name,
            b"node",
            b"(",
            b"type",
            b"symlink",
            b"target",
            b"x",
        ])
    };
    let word = |found: &str, expected| NarFault::Word { found: found.to_owned(), expected };
    let name = |name: &str| NarFault::Name(name.to_owned());
    let length = |kind, length, most| NarFault::Length { kind, length, most };
    for (nar, expected) in [
        (strings(&[b"nix-archive-2"]), word("nix-archive-2", "`nix-archive-1`")),
        (strings(&[&[b'x'; 1000]]), word("xxxxxxxxxxxxxx", "`nix-archive-1`")),
        (with(&[b"socket"]), word("socket", "`regular`, `symlink` or `directory`")),
        (with(&[b"regular", b"executable", b"yes"]), word("yes", "an empty string")),
        (with(&[b"regular", b")"]), word(")", "`executable` or `contents`")),
        (with(&[b"directory", b"entries"]), word("entries", "`entry` or `)`")),
        (with(&[b"symlink", b"target", b""]), length("target of a link", 0, 4095)),
        (with(&[b"symlink", b"target", &[b'x'; 4096]]), length("target of a link", 4096, 4095)),
        (with(&[b"symlink", b"target", b"a\0b"]), NarFault::Target("a\\0b".to_owned())),
        (with(&[b"symlink", b"target", b"x", b")", b")"]), NarFault::Trailing),
        (entry(b""), length("name", 0, 255)),
        (entry(&[b'n'; 300]), length("name", 300, 255)),
        (entry(b"."), name(".")),
        (entry(b".."), name("..")),
        (entry(b"a/b"), name("a/b")),
        (entry(b"a\0"), name("a\\0")),
    ] {
        assert_eq!(fault(&nar), expected);
    }
}

#[test]
fn names_of_a_folder_come_in_order_and_once() {
    let link: &[&[u8]] = &[b"node", b"(", b"type", b"symlink", b"target", b"x", b")", b")"];
    let entry = |name: &'static [u8]| [&[b"entry" as &[u8], b"(", b"name", name], link].concat();
    let start: &[&[u8]] = &[b"nix-archive-1", b"(", b"type", b"directory"];
    for (first, second) in [(b"b" as &[u8], b"a" as &[u8]), (b"a", b"a"), (b"a.", b"a-"), (b"\xc3", b"z")] {
        let nar = strings(&[start, &entry(first), &entry(second), &[b")"]].concat());
        assert!(matches!(fault(&nar), NarFault::Order { .. }), "{first:?} {second:?}");
    }
}

#[test]
fn lengths_near_the_largest_number_are_refused_without_room_for_them() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40] {
        let file = [
            strings(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents"]),
            length.to_le_bytes().into(),
        ];
        assert_eq!(fault(&file.concat()), NarFault::End, "{length}");
        let link =
            [strings(&[b"nix-archive-1", b"(", b"type", b"symlink", b"target"]), length.to_le_bytes().into()];
        assert!(matches!(fault(&link.concat()), NarFault::Length { .. }), "{length}");
    }
}

#[test]
fn folders_nested_ten_thousand_deep_are_refused() {
    let mut parts: Vec<&[u8]> = vec![b"nix-archive-1", b"(", b"type", b"directory"];
    for _ in 0..10_000 {
        parts.extend([b"entry" as &[u8], b"(", b"name", b"d", b"node", b"(", b"type", b"directory"]);
    }

    assert_eq!(fault(&strings(&parts)), NarFault::Depth(4097));
}

#[test]
fn padding_must_be_zero() {
    let mut nar = write(&vec![(Vec::new(), Kind::Link(b"x".to_vec()))]);
    let target = nar.windows(8).rposition(|bytes| bytes == b"x\0\0\0\0\0\0\0").unwrap();
    nar[target + 7] = 1;

    assert_eq!(fault(&nar), NarFault::Padding);
}

#[test]
fn what_is_left_of_contents_is_skipped() {
    let mut seen = Vec::new();
    read(&write(&vector())[..], |entry| {
        if let Node::Regular { contents, .. } = entry.node {
            contents.read_exact(&mut [0])?;
        }
        seen.push(entry.path.to_vec());
        Ok(())
    })
    .unwrap();

    assert_eq!(seen, vector().into_iter().map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn an_error_is_of_the_archive_or_of_its_visitor_and_not_mistaken() {
    let nar = write(&vector());
    let visitor = read(&nar[..], |_| Err(io::Error::other("no")));
    assert!(matches!(visitor, Err(NarError::Visit(_))));

    // Cut within the first file's contents, which the visitor is the first to notice.
    let start = nar.windows(9).position(|bytes| bytes == b"#!/bin/sh").unwrap();
    assert_eq!(fault(&nar[..start + 3]), NarFault::End);
}

#[test]
fn the_writer_wants_a_folder_before_what_it_holds() {
    let mut writer = NarWriter::new(Vec::new()).unwrap();
    let error = writer.append(Entry { path: b"a", node: Node::Directory }).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

prop_compose! {
    fn any_kind()(choice in 0..4, bytes: Vec<u8>, target in "[a-z/.]{1,20}") -> Kind {
        match choice {
            0 => Kind::Folder,
            1 => Kind::Link(target.into()),
            choice => Kind::File(bytes, choice == 2),
        }
    }
}

/// A tree whose folders are those that its files need.
fn any_tree() -> impl Strategy<Value = Tree> {
    let path = prop::collection::vec(
        "[a-c.é -]{1,3}".prop_filter("a name", |name| name != "." && name != ".."),
        1..4,
    );
    prop::collection::vec((path, any_kind()), 0..12).prop_map(|files| {
        let mut tree = std::collections::BTreeMap::from([(Vec::<Vec<u8>>::new(), Kind::Folder)]);
        for (path, kind) in files {
            let path: Vec<Vec<u8>> = path.into_iter().map(String::into_bytes).collect();
            let blocked = |length| tree.get(&path[..length]).is_some_and(|kind| *kind != Kind::Folder);
            if (1..path.len()).any(blocked) || tree.contains_key(&path) {
                continue;
            }
            for length in 1..path.len() {
                tree.entry(path[..length].to_vec()).or_insert(Kind::Folder);
            }
            tree.insert(path, kind);
        }
        // A map over lists of names is in the order of an archive.
        tree.into_iter().map(|(path, kind)| (path.join(&b'/'), kind)).collect()
    })
}

proptest! {
    #[test]
    fn reading_undoes_writing(tree in any_tree()) {
        prop_assert_eq!(tree_of(&write(&tree)).unwrap(), tree);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = tree_of(&bytes);
        let _ = tree_of(&[strings(&[b"nix-archive-1", b"(", b"type", b"directory"]), bytes].concat());
    }
}
