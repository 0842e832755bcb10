//! What an image has outside the store: the tree of its last layer.
//!
//! [`RootTree::link`] makes `/bin`, `/etc`, `/share` and so on of the packages that the image is to
//! offer, as nixpkgs' `symlinkJoin` does: real folders, and in them links into the store. The other
//! operations add what the image's author asks for beside packages.
//!
//! With `bin/` and `bin/jq` in the package `…-jq`, linking makes
//!
//! ```text
//! /bin/
//! /bin/jq -> /nix/store/…-jq/bin/jq
//! ```
//!
//! Where two packages clash, the one that came first wins:
//!
//! | first has | later has      | result                                       |
//! |-----------|----------------|----------------------------------------------|
//! | folder    | folder         | one folder with the members of both          |
//! | folder    | file or link   | the folder                                   |
//! | other     | file or link   | the first's                                  |
//! | other     | folder         | the first's; all below the folder is hidden  |
//!
//! A link inside a package counts as a link, even if it leads to a folder. (`symlinkJoin` follows
//! such links or not, depending on the order in which the file system lists the names.) Whoever
//! wants it merged hands over what it leads to as if it were a folder of the package.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::tar::{Member, Metadata, TarWriter};
use crate::nix::StorePath;
use crate::nix::tree::{Entry, Node};

const FOLDER_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;

/// Files, folders and links by path, in the order of their tar; every parent is there.
///
/// Paths are relative to the image's `/`, for example `etc/passwd`.
#[derive(Clone, Debug, Default)]
pub struct RootTree {
    nodes: BTreeMap<RootPath, RootNode>,
}

/// One file, folder or link of a [`RootTree`].
#[derive(Clone, Debug)]
pub struct RootNode {
    /// The permission bits, 07777; other bits are dropped.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// What it is.
    pub kind: RootKind,
}

/// What a [`RootNode`] is.
#[derive(Clone, Debug)]
pub enum RootKind {
    /// A folder.
    Directory,
    /// A file.
    Regular(Contents),
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
}

/// The contents of a file.
#[derive(Clone)]
pub enum Contents {
    /// In memory.
    Bytes(Vec<u8>),
    /// Read when the tree is written.
    Reader {
        /// The length in bytes.
        size: u64,
        /// Starts to read from the beginning.
        open: Open,
    },
}

/// Opens a file that lies elsewhere.
pub type Open = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// What became of an entry that was to be linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is in the tree.
    Visible,
    /// Something else was at its place, or above it, and stays there.
    Hidden,
}

/// Why a tree cannot be changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The text is no path below `/`.
    #[error("`{0}` is no path below `/`: it needs names joined by `/`, without `.`, `..` and empty ones")]
    Path(String),
    /// A package is one file or link, so nothing of it can be at `/`.
    #[error("`{0}` is not a folder, so its members cannot be linked into `/`")]
    NotAFolder(StorePath),
    /// A parent of the path is a file or link.
    #[error("`{path}` cannot be in `{parent}`, which is not a folder")]
    Below {
        /// What was to be added.
        path: String,
        /// The parent in the way.
        parent: String,
    },
    /// A folder was to take the place of something else, or something else that of a folder.
    #[error("`{0}` is there already, and only one of the two is a folder")]
    Occupied(String),
    /// Nothing is at the path.
    #[error("there is no `{0}`")]
    Missing(String),
    /// Links have no permissions of their own.
    #[error("`{0}` is a link, and permissions would apply to what it leads to")]
    Link(String),
}

impl RootTree {
    /// The tree with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Links one entry of a package's tree; entries come in the order of [`crate::nix::tree`].
    ///
    /// The contents of files are not read.
    pub fn link(&mut self, package: &StorePath, entry: &Entry<'_>) -> Result<Linked, TreeError> {
        let folder = matches!(entry.node, Node::Directory);
        if entry.path.is_empty() {
            let error = || TreeError::NotAFolder(package.clone());
            return if folder { Ok(Linked::Visible) } else { Err(error()) };
        }
        let path = RootPath::parse(entry.path)?;
        if self.blocking_parent(&path).is_some() {
            return Ok(Linked::Hidden);
        }
        self.add_parents(&path);
        let node = if folder {
            RootNode::directory(FOLDER_MODE)
        } else {
            let mut target = package.to_string().into_bytes();
            target.push(b'/');
            target.extend_from_slice(entry.path);
            RootNode::symlink(target)
        };
        match self.nodes.entry(path) {
            Place::Vacant(place) => {
                place.insert(node);
                Ok(Linked::Visible)
            }
            Place::Occupied(there) if folder && there.get().is_folder() => Ok(Linked::Visible),
            Place::Occupied(_) => Ok(Linked::Hidden),
        }
    }

    /// Puts a node at a path, and folders of root with mode 0755 where parents are missing.
    ///
    /// A file or link takes the place of a file or link; a folder gives a folder its permissions.
    pub fn insert(&mut self, path: &[u8], node: RootNode) -> Result<(), TreeError> {
        let path = RootPath::parse(path)?;
        if let Some(parent) = self.blocking_parent(&path) {
            return Err(TreeError::Below { path: path.text(), parent: parent.text() });
        }
        if self.nodes.get(&path).is_some_and(|there| there.is_folder() != node.is_folder()) {
            return Err(TreeError::Occupied(path.text()));
        }
        self.add_parents(&path);
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Gives a file or folder other permissions and another owner.
    pub fn set_permissions(&mut self, path: &[u8], mode: u32, uid: u32, gid: u32) -> Result<(), TreeError> {
        let path = RootPath::parse(path)?;
        match self.nodes.get_mut(&path) {
            None => Err(TreeError::Missing(path.text())),
            Some(RootNode { kind: RootKind::Symlink(_), .. }) => Err(TreeError::Link(path.text())),
            Some(node) => {
                (node.mode, node.uid, node.gid) = (mode, uid, gid);
                Ok(())
            }
        }
    }

    /// What is at a path. Links are not followed.
    pub fn get(&self, path: &[u8]) -> Option<&RootNode> {
        self.nodes.get(&RootPath::parse(path).ok()?)
    }

    /// All paths and nodes, parents before children, siblings by the bytes of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &RootNode)> {
        self.nodes.iter().map(|(path, node)| (path.0.as_slice(), node))
    }

    /// Writes the tree as a tar, and gives the sink back.
    ///
    /// Names are absolute and the mtime is 1, as in the layers of store paths. Root has its name,
    /// other owners only their numbers: the image's own `/etc/passwd` may name them.
    pub fn write<W: Write>(&self, sink: W) -> io::Result<W> {
        let mut tar = TarWriter::new(sink);
        for (path, node) in self.iter() {
            let name = [b"/", path].concat();
            match &node.kind {
                RootKind::Directory => tar.append(&name, &node.metadata(), Member::Directory)?,
                RootKind::Symlink(target) => {
                    tar.append(&name, &node.metadata(), Member::Symlink { target })?;
                }
                RootKind::Regular(contents) => {
                    let (size, mut reader) = contents.open()?;
                    let member = Member::Regular { size, contents: &mut reader };
                    tar.append(&name, &node.metadata(), member)?;
                }
            }
        }
        tar.finish()
    }

    /// The topmost parent that is no folder.
    fn blocking_parent(&self, path: &RootPath) -> Option<RootPath> {
        path.parents().find(|parent| self.nodes.get(parent).is_some_and(|node| !node.is_folder()))
    }

    fn add_parents(&mut self, path: &RootPath) {
        for parent in path.parents() {
            self.nodes.entry(parent).or_insert_with(|| RootNode::directory(FOLDER_MODE));
        }
    }
}

impl RootNode {
    /// A folder of root.
    pub fn directory(mode: u32) -> Self {
        Self::of_root(mode, RootKind::Directory)
    }

    /// A file of root.
    pub fn file(mode: u32, contents: Contents) -> Self {
        Self::of_root(mode, RootKind::Regular(contents))
    }

    /// A link of root.
    pub fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::of_root(LINK_MODE, RootKind::Symlink(target.into()))
    }

    fn of_root(mode: u32, kind: RootKind) -> Self {
        Self { mode, uid: 0, gid: 0, kind }
    }

    fn is_folder(&self) -> bool {
        matches!(self.kind, RootKind::Directory)
    }

    fn metadata(&self) -> Metadata<'static> {
        let name = |id| if id == 0 { "root" } else { "" };
        Metadata {
            uid: self.uid,
            gid: self.gid,
            uname: name(self.uid),
            gname: name(self.gid),
            ..Metadata::of_root(self.mode)
        }
    }
}

impl Contents {
    /// The length in bytes, and the bytes.
    pub fn open(&self) -> io::Result<(u64, Box<dyn Read + '_>)> {
        match self {
            Self::Bytes(bytes) => Ok((bytes.len() as u64, Box::new(bytes.as_slice()))),
            Self::Reader { size, open } => Ok((*size, open()?)),
        }
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(formatter, "Bytes({} bytes)", bytes.len()),
            Self::Reader { size, .. } => write!(formatter, "Reader({size} bytes)"),
        }
    }
}

/// Names joined by `/`, ordered as lists of names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RootPath(Vec<u8>);

impl RootPath {
    fn parse(path: &[u8]) -> Result<Self, TreeError> {
        let good = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        if path.split(|&byte| byte == b'/').all(good) {
            Ok(Self(path.to_owned()))
        } else {
            Err(TreeError::Path(String::from_utf8_lossy(path).into_owned()))
        }
    }

    /// The folders it lies in, from the top down.
    fn parents(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(place, _)| Self(self.0[..place].to_owned()))
    }

    fn text(&self) -> String {
        format!("/{}", String::from_utf8_lossy(&self.0))
    }
}

impl Ord for RootPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.split(|&byte| byte == b'/').cmp(other.0.split(|&byte| byte == b'/'))
    }
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
