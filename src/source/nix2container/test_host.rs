//! A folder that looks like the root of a host with a store.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

pub(super) const PATH: &str = "/nix/store/00000000000000000000000000000000-vec-1.0";

pub(super) struct TestHost {
    folder: TempDir,
}

impl TestHost {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("host/nix/store")).unwrap();
        Self { folder }
    }

    /// The root. What is not to be seen on the host can lie beside it.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    pub(super) fn file(&self, path: &str, mode: u32, contents: impl AsRef<[u8]>) {
        let place = self.place(path);
        fs::write(&place, contents).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        symlink(target, self.place(path)).unwrap();
    }

    pub(super) fn folder(&self, path: &str) {
        fs::create_dir_all(self.place(path)).unwrap();
    }

    /// Gives all folders at and below `path` a mode.
    pub(super) fn folders_have(&self, path: &str, mode: u32) {
        set_modes(&self.place(path), mode);
    }

    fn place(&self, path: &str) -> PathBuf {
        let place = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        place
    }
}

impl Drop for TestHost {
    /// Nobody but root can remove what lies in a folder that nobody can write to.
    fn drop(&mut self) {
        set_modes(self.folder.path(), 0o755);
    }
}

fn set_modes(folder: &Path, mode: u32) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            set_modes(&entry.path(), mode);
        }
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
}
