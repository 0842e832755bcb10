//! Binary caches, made by the real Nix.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use nixlayer::nix::StorePath;
use tempfile::TempDir;

use super::environment::environment;
use super::packages::nix;
use super::process::succeed;

/// A folder with a binary cache, as a web server may serve it.
pub(crate) struct BinaryCache {
    folder: TempDir,
}

impl BinaryCache {
    /// The closure of `paths`, signed with the key of the tests. `compression` is one of `none`, `zstd`, `gzip`, `bzip2`,
    /// `xz` and `br`, of which the last takes two seconds for each megabyte.
    pub(crate) fn of(paths: impl IntoIterator<Item = impl Display>, compression: &str) -> Self {
        Self::signed_by(paths, compression, &environment().cache_secret_key_file)
    }

    /// The same, signed with another key.
    pub(crate) fn signed_by(
        paths: impl IntoIterator<Item = impl Display>,
        compression: &str,
        secret_key_file: &Path,
    ) -> Self {
        Self::make(paths, &format!("compression={compression}&secret-key={}", secret_key_file.display()))
    }

    /// The same without signatures.
    pub(crate) fn unsigned(paths: impl IntoIterator<Item = impl Display>, compression: &str) -> Self {
        Self::make(paths, &format!("compression={compression}"))
    }

    fn make(paths: impl IntoIterator<Item = impl Display>, settings: &str) -> Self {
        let cache = Self { folder: TempDir::new().unwrap() };
        let copy = nix("nix")
            .args(["--extra-experimental-features", "nix-command", "copy", "--to"])
            .arg(format!("{}?{settings}", cache.file_url()))
            .args(paths.into_iter().map(|path| path.to_string()))
            .output()
            .unwrap();
        succeed(copy);
        cache
    }

    /// Where it lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it lies, as Nix writes it.
    pub(crate) fn file_url(&self) -> String {
        format!("file://{}", self.folder().display())
    }

    /// The file that describes `path`.
    pub(crate) fn narinfo(&self, path: &StorePath) -> PathBuf {
        self.folder().join(format!("{}.narinfo", path.hash_part()))
    }

    /// The file that holds `path`.
    pub(crate) fn nar(&self, path: &StorePath) -> PathBuf {
        let narinfo = fs::read_to_string(self.narinfo(path)).unwrap();
        self.folder().join(narinfo.lines().find_map(|line| line.strip_prefix("URL: ")).unwrap())
    }

    /// Rewrites the description of `path`.
    pub(crate) fn edit_narinfo(&self, path: &StorePath, edit: impl FnOnce(String) -> String) {
        let file = self.narinfo(path);
        fs::write(&file, edit(fs::read_to_string(&file).unwrap())).unwrap();
    }
}
