//! Trees in memory, and what becomes of them: NARs, tars, folders on disk.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nixlayer::layer::{StoreLayer, StoreMetadata};
use nixlayer::nix::StorePath;
use nixlayer::nix::nar::NarWriter;
use nixlayer::nix::tree::{Entry, Node};

/// The entries of a tree in their order, each with its path.
pub(crate) type Tree = Vec<(Vec<u8>, Kind)>;

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Folder,
    Program(Vec<u8>),
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// A tree that is a file.
pub(crate) fn file(contents: impl Into<Vec<u8>>) -> Tree {
    vec![(Vec::new(), Kind::File(contents.into()))]
}

/// A tree from the paths in it, in their order; the root is a folder.
pub(crate) fn folder<P: AsRef<[u8]>>(entries: impl IntoIterator<Item = (P, Kind)>) -> Tree {
    let entries = entries.into_iter().map(|(path, kind)| (path.as_ref().to_vec(), kind));
    [(Vec::new(), Kind::Folder)].into_iter().chain(entries).collect()
}

/// One entry of every kind, with names that sort unlike their paths.
pub(crate) fn vector() -> Tree {
    let deep = format!("share/doc/{}", "n".repeat(80));
    let text = |text: &str| Kind::File(text.into());
    folder([
        ("bin", Kind::Folder),
        ("bin/hello", Kind::Program(b"#!/bin/sh\necho hi\n".to_vec())),
        ("bin/hi", Kind::Link(b"hello".to_vec())),
        ("lib", Kind::Folder),
        ("share", Kind::Folder),
        ("share/a", Kind::Folder),
        ("share/a/f", text("1\n")),
        ("share/a-b", text("2\n")),
        ("share/a.c", text("3\n")),
        ("share/doc", Kind::Folder),
        (&deep, Kind::Folder),
        (&format!("{deep}/README"), text("x\n")),
        ("share/é.txt", text("e\n")),
    ])
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

pub(crate) fn nar(tree: &Tree) -> Vec<u8> {
    let mut writer = NarWriter::new(Vec::new()).unwrap();
    for_each(tree, |entry| writer.append(entry)).unwrap();
    writer.finish().unwrap()
}

/// The tar of a layer of these paths, with nothing but memory in between.
pub(crate) fn tar<'a>(trees: impl IntoIterator<Item = (&'a StorePath, &'a Tree)>) -> Vec<u8> {
    let mut layer = StoreLayer::new(Vec::new(), StoreMetadata::default()).unwrap();
    for (path, tree) in trees {
        for_each(tree, |entry| layer.append(path, entry)).unwrap();
    }
    layer.finish().unwrap()
}

/// Writes the tree to `root`, with the modes of a store.
pub(crate) fn write(tree: &Tree, root: &Path) {
    let on_disk = |path: &Vec<u8>| match path.as_slice() {
        b"" => root.to_owned(),
        path => root.join(OsStr::from_bytes(path)),
    };
    for (path, kind) in tree {
        let place = on_disk(path);
        match kind {
            Kind::Folder => fs::create_dir(place).unwrap(),
            Kind::Link(target) => symlink(OsStr::from_bytes(target), place).unwrap(),
            Kind::File(contents) | Kind::Program(contents) => fs::write(place, contents).unwrap(),
        }
    }
    for (path, kind) in tree.iter().rev() {
        let mode = match kind {
            Kind::Folder | Kind::Program(_) => 0o555,
            Kind::File(_) => 0o444,
            Kind::Link(_) => continue,
        };
        fs::set_permissions(on_disk(path), Permissions::from_mode(mode)).unwrap();
    }
}

/// Makes the folders of what [`write`] wrote writable, so that whoever is not root can remove them.
pub(crate) fn unlock(tree: &Tree, root: &Path) {
    for (path, kind) in tree {
        if let Kind::Folder = kind {
            fs::set_permissions(root.join(OsStr::from_bytes(path)), Permissions::from_mode(0o755)).unwrap();
        }
    }
}

fn for_each(tree: &Tree, mut show: impl FnMut(Entry<'_>) -> io::Result<()>) -> io::Result<()> {
    tree.iter().try_for_each(|(path, kind)| {
        let mut contents: &[u8] = match kind {
            Kind::File(contents) | Kind::Program(contents) => contents,
            Kind::Folder | Kind::Link(_) => b"",
        };
        let executable = matches!(kind, Kind::Program(_));
        let size = contents.len() as u64;
        let node = match kind {
            Kind::Folder => Node::Directory,
            Kind::Link(target) => Node::Symlink { target },
            Kind::File(_) | Kind::Program(_) => Node::Regular { executable, size, contents: &mut contents },
        };
        show(Entry { path, node })
    })
}
