//! A store for `extraCommands` where the host has none: store paths from binary caches, on disk.
//!
//! It lies in the scratch folder, which only this process and its sandbox can enter, and holds what Nix
//! would have made: folders and programs with mode 0555, other files with 0444, all with the mtime 1, so
//! that commands see the same on every host.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::folder;
use crate::nix::StorePath;
use crate::nix::tree::{Entry, Node};
use crate::source::{ReadError, StorePaths};

/// Its name in the scratch folder.
pub(super) const FOLDER: &str = "store";

/// Why the store could not be filled.
pub(super) enum FillError {
    Read(ReadError),
    Write(io::Error),
}

impl From<io::Error> for FillError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Fetches `paths` into a new store at `folder`. Where each is then.
pub(super) fn fill(
    folder: &Path,
    store: &StorePaths,
    paths: &[StorePath],
) -> Result<BTreeMap<StorePath, PathBuf>, FillError> {
    // What an earlier try left may not be whole.
    folder::remove(folder)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut places = BTreeMap::new();
    for tree in store.upcoming(paths) {
        let path = tree.path();
        let place = folder.join(path.base_name());
        let mut folders = Vec::new();
        let read = tree.read(|entry| write(&place, entry, &mut folders));
        read.map_err(|error| match error {
            ReadError::Visit(error) => FillError::Write(error),
            error => FillError::Read(error),
        })?;
        // The innermost first: what is in a folder changes its time.
        for folder in folders.iter().rev() {
            fs::set_permissions(folder, Permissions::from_mode(0o555))?;
            set_time(folder)?;
        }
        places.insert(path.clone(), place);
    }
    Ok(places)
}

fn write(root: &Path, entry: Entry<'_>, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    let place = match entry.path {
        b"" => root.to_owned(),
        path => root.join(OsStr::from_bytes(path)),
    };
    match entry.node {
        Node::Directory => {
            fs::create_dir(&place)?;
            folders.push(place);
            return Ok(());
        }
        Node::Symlink { target } => symlink(OsStr::from_bytes(target), &place)?,
        Node::Regular { executable, contents, .. } => {
            let mut file = File::create_new(&place)?;
            io::copy(contents, &mut file)?;
            file.set_permissions(Permissions::from_mode(if executable { 0o555 } else { 0o444 }))?;
        }
    }
    set_time(&place)
}

/// Gives a file, folder or link itself the time that Nix gives it.
fn set_time(place: &Path) -> io::Result<()> {
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Timestamps { last_access: second, last_modification: second };
    Ok(rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
