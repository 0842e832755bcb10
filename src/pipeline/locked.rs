//! Building by the lock: no evaluation, and no more of the host's Nix than what lies in its store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::event::Quota;
use super::packages::Packages;
use super::{Build, BuildError, files};
use crate::folder::{Folder, FolderError};
use crate::lock::{Lock, LockError, Outdated, Resolved};
use crate::nix::{Closure, NarHash, PathInfo, StorePath, System};
use crate::source::StorePaths;
use crate::spec::{Content, Flake, ImageSpec, Nixpkgs};

/// Why the lock beside a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockFileError {
    /// It cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It is no lock.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why a lock does not lead to an image.
#[derive(Debug, thiserror::Error)]
#[error("`{file}` is not up to date")]
pub struct OutdatedLock {
    /// The lock.
    pub file: String,
    /// The spec.
    pub spec: String,
    /// What has changed.
    #[source]
    pub outdated: Outdated,
}

/// The lock beside the spec `file`, if there is one.
pub fn read_lock(project: &Folder, file: &str) -> Result<Option<Lock>, LockFileError> {
    let file = crate::lock::file_name(file);
    match project.read(&file, Lock::MAX_FILE) {
        Ok(bytes) => Ok(Some(Lock::parse(&file, &bytes)?)),
        Err(FolderError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What `lock` says of a spec, if it still is that spec's.
pub fn resolve(spec: &ImageSpec, project: &Folder, lock: &Lock) -> Result<Resolved, BuildError> {
    let folders = folder_hashes(spec, project)?;
    let file = crate::lock::file_name(spec.file());
    lock.resolve(spec, spec.system.unwrap_or(System::HOST), &folders)
        .map_err(|outdated| BuildError::Lock(OutdatedLock { file, spec: spec.file().to_owned(), outdated }))
}

/// The hashes of the project's folders that packages come from: the package set, and flakes.
pub(super) fn folder_hashes(
    spec: &ImageSpec,
    project: &Folder,
) -> Result<BTreeMap<String, NarHash>, BuildError> {
    super::packages::check_folders(spec, project).map_err(BuildError::Spec)?;
    let flakes = spec.contents.iter().filter_map(|content| match content {
        Content::FlakeOutput { flake: Flake::Folder(folder), .. } => Some(folder),
        Content::FlakeOutput { flake: Flake::GitHub(_), .. }
        | Content::Package(_)
        | Content::StorePath(_) => None,
    });
    let set = match &spec.nixpkgs {
        Nixpkgs::Folder(folder) => Some(folder),
        Nixpkgs::SearchPath(_) | Nixpkgs::GitHub(_) | Nixpkgs::Channel(_) | Nixpkgs::Tarball { .. } => None,
    };
    let mut hashes = BTreeMap::new();
    for folder in flakes.chain(set) {
        let hash = files::nar_hash(project, folder, spec.file()).map_err(BuildError::Project)?;
        hashes.insert(Nixpkgs::Folder(folder.clone()).to_string(), hash);
    }
    Ok(hashes)
}

/// Finds what the lock names. Neither the host's store nor a cache is asked yet.
pub(super) fn find(build: &Build<'_>, lock: &Lock) -> Result<Packages, BuildError> {
    let Resolved { paths, image, tools } = resolve(build.spec, build.project, lock)?;
    Ok(Packages::new(&build.spec.demands(), &paths, image, tools, None))
}

/// Where `paths` of the closure `all` are to be had: on the host, as far as it has the same, else in binary caches.
pub(super) async fn store(
    build: &Build<'_>,
    all: &Closure,
    paths: &BTreeSet<StorePath>,
    quota: &Quota<'_>,
) -> StorePaths {
    let on_disk = on_host(build, all, paths, quota).await;
    let missing = paths.iter().filter(|path| !on_disk.contains_key(*path));
    let sizes: Vec<u64> = missing.filter_map(|path| Some(all.get(path)?.nar_size)).collect();
    if !sizes.is_empty() {
        let (count, of, size) = (sizes.len(), paths.len(), super::Size(sizes.iter().sum()));
        quota.say(&format!("{count} of {of} store paths come from binary caches, {size} unpacked"));
    }
    StorePaths::new(all, on_disk, Some(Arc::clone(build.caches)))
}

/// Those paths that the host's store has just as the lock describes them; they are kept there until the
/// image is published. A host whose Nix does not work has none.
async fn on_host(
    build: &Build<'_>,
    all: &Closure,
    paths: &BTreeSet<StorePath>,
    quota: &Quota<'_>,
) -> BTreeMap<StorePath, PathBuf> {
    let Some(nix) = build.nix.filter(|nix| nix.is_installed()) else { return BTreeMap::new() };
    let paths: Vec<StorePath> = paths.iter().cloned().collect();
    let same = |info: &PathInfo| all.get(&info.path) == Some(info);
    let found = async {
        let known = nix.known(&paths).await?;
        let known: Vec<StorePath> = known.into_iter().filter(same).map(|info| info.path).collect();
        nix.hold(&known, build.roots).await?;
        Ok::<_, crate::source::nix::NixError>(known)
    };
    match found.await {
        Ok(known) => known.into_iter().map(|path| (path.clone(), path.to_path_buf())).collect(),
        Err(error) => {
            quota.say(&format!("the store of this host is not used: {error}"));
            BTreeMap::new()
        }
    }
}
