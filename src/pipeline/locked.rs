//! Building by the lock: no evaluation, and no Nix.

use std::collections::BTreeMap;

use super::packages::Packages;
use super::{Build, BuildError, files};
use crate::folder::{Folder, FolderError};
use crate::lock::{Lock, LockError, Outdated, Resolved};
use crate::nix::{NarHash, System};
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
