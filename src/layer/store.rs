//! The tar of a layer of store paths, from the trees of the paths.
//!
//! It holds `/nix/` and `/nix/store/`, then path by path what the tree's reader hands over, in that
//! order. Names are absolute, and the modes are those that the store knows: 0555 for folders and programs,
//! 0444 for other files. What the store does not know, owner and time, [`StoreMetadata`] says.

use std::io::{self, Write};

use super::tar::{Member, Metadata, TarWriter};
use crate::nix::tree::{Entry, Node};
use crate::nix::{STORE_DIR, StorePath};

/// What a layer says of its store paths that the store does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreMetadata {
    /// The mode of `/nix` and `/nix/store`.
    pub store_mode: u32,
    /// Last change of every member, in seconds since 1970.
    pub mtime: u64,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name of the owner.
    pub uname: String,
    /// Name of the group.
    pub gname: String,
}

impl Default for StoreMetadata {
    /// Everything belongs to root, and has the mtime 1 that Nix gives every file.
    fn default() -> Self {
        let root = || "root".to_owned();
        Self { store_mode: 0o755, mtime: 1, uid: 0, gid: 0, uname: root(), gname: root() }
    }
}

impl StoreMetadata {
    fn with_mode(&self, mode: u32) -> Metadata<'_> {
        let Self { mtime, uid, gid, ref uname, ref gname, .. } = *self;
        Metadata { mode, uid, gid, mtime, uname, gname }
    }
}

/// Writes the tar of a layer of store paths.
pub struct StoreLayer<W> {
    tar: TarWriter<W>,
    metadata: StoreMetadata,
}

impl<W: Write> StoreLayer<W> {
    /// A layer that holds the store's folder only.
    pub fn new(sink: W, metadata: StoreMetadata) -> io::Result<Self> {
        let mut tar = TarWriter::new(sink);
        for folder in ["/nix", STORE_DIR] {
            tar.append(folder.as_bytes(), &metadata.with_mode(metadata.store_mode), Member::Directory)?;
        }
        Ok(Self { tar, metadata })
    }

    /// Adds one entry of the tree of `path`.
    ///
    /// Entries come in the order of [`crate::nix::tree`]. Fails as [`TarWriter::append`] does.
    pub fn append(&mut self, path: &StorePath, entry: Entry<'_>) -> io::Result<()> {
        let mut name = path.to_string().into_bytes();
        if !entry.path.is_empty() {
            name.push(b'/');
            name.extend_from_slice(entry.path);
        }
        let (mode, member) = match entry.node {
            Node::Directory => (0o555, Member::Directory),
            Node::Regular { executable, size, contents } => {
                (if executable { 0o555 } else { 0o444 }, Member::Regular { size, contents })
            }
            Node::Symlink { target } => (0o777, Member::Symlink { target }),
        };
        self.tar.append(&name, &self.metadata.with_mode(mode), member)
    }

    /// Ends the tar and gives the sink back.
    pub fn finish(self) -> io::Result<W> {
        self.tar.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    enum Kind {
        Folder,
        Program(&'static str),
        File(&'static str),
        Link(&'static str),
    }

    /// The tar that dockerTools' script makes of this store path.
    #[test]
    fn a_layer_equals_dockertools_layer() {
        use Kind::{File, Folder, Link, Program};
        let path = "/nix/store/00000000000000000000000000000000-vec-1.0".parse().unwrap();
        let deep = format!("share/doc/{}", "n".repeat(80));
        let readme = format!("{deep}/README");
        let tree = [
            ("", Folder),
            ("bin", Folder),
            ("bin/hello", Program("#!/bin/sh\necho hi\n")),
            ("bin/hi", Link("hello")),
            ("lib", Folder),
            ("share", Folder),
            ("share/a", Folder),
            ("share/a/f", File("1\n")),
            ("share/a-b", File("2\n")),
            ("share/a.c", File("3\n")),
            ("share/doc", Folder),
            (deep.as_str(), Folder),
            (readme.as_str(), File("x\n")),
            ("share/é.txt", File("e\n")),
        ];

        let mut layer = StoreLayer::new(Vec::new(), StoreMetadata::default()).unwrap();
        for (name, kind) in tree {
            let mut contents: &[u8] = match kind {
                Program(text) | File(text) => text.as_bytes(),
                Folder | Link(_) => b"",
            };
            let size = contents.len() as u64;
            let node = match kind {
                Folder => Node::Directory,
                Link(target) => Node::Symlink { target: target.as_bytes() },
                Program(_) => Node::Regular { executable: true, size, contents: &mut contents },
                File(_) => Node::Regular { executable: false, size, contents: &mut contents },
            };
            layer.append(&path, Entry { path: name.as_bytes(), node }).unwrap();
        }
        let tar = layer.finish().unwrap();

        assert_eq!(tar.len(), 20480);
        assert_eq!(
            Digest::of(&tar).hex(),
            "9af53b063c177058570614aae198d039aaed5b6c9ac7f3e030884b518a15ffee"
        );
    }
}
