//! Files in the host's store that somebody else named.
//!
//! A builder may leave any link in its output, and the driver can read more of the host than the builder: the key
//! of layer records, the credentials of the job. So links are followed within the store only.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use crate::nix::STORE_DIR;

/// Opens a file of the store.
pub fn open(path: &Path) -> io::Result<File> {
    open_below(Path::new(STORE_DIR), path)
}

/// Where a file or folder of the store is, once all links are followed.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    resolve_below(Path::new(STORE_DIR), path)
}

/// Opens a file of the store in `store`.
pub(super) fn open_below(store: &Path, path: &Path) -> io::Result<File> {
    let place = resolve_below(store, path)?;
    let store = store.canonicalize()?;
    let below = place.strip_prefix(&store).map_err(io::Error::other)?;
    // Should somebody put a link on the way now, it is not followed out of the store, and no pipe is waited for.
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = Dir::open_ambient_dir(&store, ambient_authority())?.open_with(below, &options)?.into_std();
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    Ok(file)
}

fn resolve_below(store: &Path, path: &Path) -> io::Result<PathBuf> {
    let (store, place) = (store.canonicalize()?, path.canonicalize()?);
    if place == store || !place.starts_with(&store) {
        return Err(io::Error::other("it leads out of the store"));
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_within_the_store_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        fs::create_dir_all(store.join("object")).unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::write(store.join("object/file"), "text").unwrap();
        for (link, target) in [
            ("inner", "object/file"),
            ("out", "../secret"),
            ("object/out", "../../secret"),
            ("up", "."),
            ("folder", "object"),
            ("broken", "nothing"),
        ] {
            symlink(target, store.join(link)).unwrap();
        }

        let read = |name: &str| open_below(&store, &store.join(name)).and_then(io::read_to_string);

        for name in ["object/file", "inner", "folder/file"] {
            assert_eq!(read(name).unwrap(), "text", "{name}");
        }
        for name in ["out", "object/out", "up", "folder", "broken", "object/../../secret"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
