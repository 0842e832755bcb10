//! The lock file: which store paths a spec means, and what they are made of.
//!
//! `image.lock.json` stands beside `image.yaml` and is committed with it. It names a store path for
//! everything the spec demands, and for the whole closure of these the NAR hash, the NAR size and the
//! references. So a build can plan an image without a request, needs nobody's word for what it then
//! downloads, and gets the same image tomorrow. `docs/lock.md` describes the format.
//!
//! The lock belongs to a spec as long as the spec demands the same of the same package set: what else
//! changes in it, from tags to `config`, does not matter here. [`Lock::resolve`] checks that.

mod error;
mod format;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

pub use self::error::{LockError, Outdated};
use crate::nix::{Closure, NarHash, StorePath, System};
use crate::oci::{Digest, image};
use crate::spec::{ImageSpec, Purpose};

/// The content of a lock file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Of what the spec demanded when the lock was written.
    pub spec: Digest,
    /// The package set that packages come from.
    pub package_set: PackageSet,
    /// The hashes of the project's folders that packages come from, by how the spec writes them.
    pub folders: BTreeMap<String, NarHash>,
    /// What was locked, for each system.
    pub systems: BTreeMap<System, LockedSystem>,
}

/// A package set as it was when packages were looked up in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageSet {
    /// As the spec writes it.
    pub source: String,
    /// The revision that it says it has.
    pub revision: Option<String>,
    /// The hash of its files, where they lie in the store or in the project.
    pub nar_hash: Option<NarHash>,
}

/// What was locked for one system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockedSystem {
    /// The store path of everything that was demanded, by the name that the spec gives it.
    pub packages: BTreeMap<String, LockedPackage>,
    /// All that these paths need at run time.
    pub closure: Closure,
}

/// Where one demanded thing lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedPackage {
    /// Its store path.
    pub path: StorePath,
    /// The package set it comes from, if not that of the whole lock: it was updated alone, or kept when
    /// others were.
    pub package_set: Option<PackageSet>,
}

/// The store paths that a spec means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For each of the spec's demands, in order.
    pub paths: Vec<StorePath>,
    /// What the image holds.
    pub image: Closure,
    /// What its commands see: the image, and their tools.
    pub tools: Closure,
}

/// The lock's place beside the spec `file`: `image.lock.json` for `image.yaml`.
pub fn file_name(spec: &str) -> String {
    let stem = spec.strip_suffix(".yaml").or_else(|| spec.strip_suffix(".yml")).unwrap_or(spec);
    format!("{stem}.lock.json")
}

/// The digest of what a lock depends on: the package set and the names that are looked up in it.
pub fn digest_of(spec: &ImageSpec) -> Digest {
    let names: BTreeSet<String> = spec.demands().iter().map(|demand| demand.content.to_string()).collect();
    let value = json!({ "nixpkgs": spec.nixpkgs.to_string(), "names": names });
    Digest::of(&image::canonical_json(&value))
}

impl Lock {
    /// The most bytes of a file that a caller need read: some ten thousand store paths take less.
    pub const MAX_FILE: u64 = 64 << 20;

    /// What the lock says of `spec`, for `system`.
    ///
    /// `folders` are the hashes of the project's folders as they are now.
    pub fn resolve(
        &self,
        spec: &ImageSpec,
        system: System,
        folders: &BTreeMap<String, NarHash>,
    ) -> Result<Resolved, Outdated> {
        if self.spec != digest_of(spec) {
            return Err(self.outdated(spec, system));
        }
        if let Some(folder) = folders.keys().find(|folder| self.folders.get(*folder) != folders.get(*folder))
        {
            return Err(Outdated::Folder(folder.clone()));
        }
        let locked = self.systems.get(&system).ok_or_else(|| Outdated::System {
            system,
            known: self.systems.keys().map(|known| known.as_str()).collect(),
        })?;
        let demands = spec.demands();
        let mut paths = Vec::with_capacity(demands.len());
        for demand in &demands {
            let name = demand.content.to_string();
            let package = locked.packages.get(&name);
            paths.push(package.ok_or(Outdated::Missing { name })?.path.clone());
        }
        let image: Vec<&StorePath> = demands
            .iter()
            .zip(&paths)
            .filter(|(demand, _)| demand.purpose != Purpose::Tool)
            .map(|(_, path)| path)
            .collect();
        let image = locked.closure.reachable_from(image);
        let tools = locked.closure.reachable_from(&paths);
        Ok(Resolved { image, tools, paths })
    }

    /// Why the lock is not that of `spec`, as exactly as can be told.
    fn outdated(&self, spec: &ImageSpec, system: System) -> Outdated {
        let source = spec.nixpkgs.to_string();
        if source != self.package_set.source {
            return Outdated::PackageSet { locked: self.package_set.source.clone(), spec: source };
        }
        let names: BTreeSet<String> =
            spec.demands().iter().map(|demand| demand.content.to_string()).collect();
        let Some(locked) = self.systems.get(&system).or_else(|| self.systems.values().next()) else {
            return Outdated::Spec;
        };
        if let Some(name) = names.iter().find(|name| !locked.packages.contains_key(*name)) {
            return Outdated::Missing { name: name.clone() };
        }
        match locked.packages.keys().find(|name| !names.contains(*name)) {
            Some(name) => Outdated::Surplus { name: name.clone() },
            None => Outdated::Spec,
        }
    }
}

#[cfg(test)]
mod tests;
