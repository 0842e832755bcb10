//! The file tree of one store path, as a sequence of entries.
//!
//! A NAR, the local store and our layer tars all hold the same things in the same order: a folder
//! before what it holds, and the members of a folder sorted by the bytes of their names. Whoever
//! reads a tree calls a function once per entry in that order, so that neither a tree nor a file
//! ever has to be in memory.

use std::io::Read;

/// One file, folder or link of a tree.
pub struct Entry<'a> {
    /// The names from the tree's root down, joined by `/`; empty for the root itself.
    pub path: &'a [u8],
    /// What it is.
    pub node: Node<'a>,
}

/// What an [`Entry`] is. The store knows no other kinds, owners, times or modes.
pub enum Node<'a> {
    /// A folder; its members follow.
    Directory,
    /// A file.
    Regular {
        /// Whether it may be executed.
        executable: bool,
        /// Its length in bytes; `contents` gives exactly that many.
        size: u64,
        /// Its bytes.
        contents: &'a mut dyn Read,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link, which need not lead anywhere.
        target: &'a [u8],
    },
}
