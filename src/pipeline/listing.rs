//! What the trees of `contents` hold by name, for the links at the top of the image.
//!
//! Links need names only. Of a path on disk these are read at once; one that comes from a binary cache is
//! listed while its layer is made, so that it is downloaded once.

use std::collections::BTreeMap;
use std::io;

use crate::layer::{RootTree, TreeError};
use crate::nix::StorePath;
use crate::nix::tree::{Entry, Node};
use crate::source::{ReadError, StorePaths};

/// The entries of one tree, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    entries: Vec<(Vec<u8>, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Folder,
    Other,
}

/// Listings by store path.
pub(super) type Listings = BTreeMap<StorePath, Listing>;

impl Listing {
    /// Adds an entry, of which it remembers little.
    pub(super) fn note(&mut self, entry: &Entry<'_>) {
        let kind = if matches!(entry.node, Node::Directory) { Kind::Folder } else { Kind::Other };
        self.entries.push((entry.path.to_vec(), kind));
    }

    /// Links the entries into `tree`; the first error is that of the whole.
    pub(super) fn link(&self, path: &StorePath, tree: &mut RootTree) -> Result<(), TreeError> {
        for (entry, kind) in &self.entries {
            let node = match kind {
                Kind::Folder => Node::Directory,
                Kind::Other => Node::Symlink { target: b"" },
            };
            tree.link(path, &Entry { path: entry, node })?;
        }
        Ok(())
    }
}

/// The listings of `paths`.
pub(super) fn read(store: &StorePaths, paths: &[StorePath]) -> Result<Listings, ReadError> {
    let mut listings = Listings::new();
    for tree in store.upcoming(paths) {
        let path = tree.path();
        let mut listing = Listing::default();
        tree.list(|entry| -> io::Result<()> {
            listing.note(&entry);
            Ok(())
        })?;
        listings.insert(path.clone(), listing);
    }
    Ok(listings)
}
