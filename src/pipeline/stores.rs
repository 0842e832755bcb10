//! Where store paths are to be had for a build by a lock: the host's store, and binary caches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::event::Quota;
use super::{Build, Size};
use crate::nix::{Closure, PathInfo, StorePath};
use crate::source::StorePaths;
use crate::source::nix::NixError;

/// Where `paths` of the closure `all` are to be had: on the host, as far as it has the same, else in binary caches.
pub(super) async fn find(
    build: &Build<'_>,
    all: &Closure,
    paths: &BTreeSet<StorePath>,
    quota: &Quota<'_>,
) -> StorePaths {
    let on_disk = on_host(build, all, paths, quota).await;
    let missing = paths.iter().filter(|path| !on_disk.contains_key(*path));
    let sizes: Vec<u64> = missing.filter_map(|path| Some(all.get(path)?.nar_size)).collect();
    if !sizes.is_empty() {
        let (count, of, size) = (sizes.len(), paths.len(), Size(sizes.iter().sum()));
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
        Ok::<_, NixError>(known)
    };
    match found.await {
        Ok(known) => known.into_iter().map(|path| (path.clone(), path.to_path_buf())).collect(),
        Err(error) => {
            quota.say(&format!("the store of this host is not used: {error}"));
            BTreeMap::new()
        }
    }
}
