//! Writes locks: evaluates a spec, and finds out what its closure is made of.
//!
//! 1. What the earlier lock holds and nobody wants anew is kept, if its package set may have moved on
//!    since: a lock that is extended shall not update everything else. A package set that cannot move is
//!    evaluated whole.
//! 2. What is left is evaluated, for each system; nothing is built for that.
//! 3. Each path of the closure is described: by the binary caches, since others will download it from there,
//!    else by the host's store, so that a hand that altered the lock is noticed; else by the earlier lock.
//!    What none of these has, Nix must build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use futures_util::future::join_all;

use super::BuildError;
use super::event::{Event, Quota};
use super::locked::folder_hashes;
use super::packages::{check_folders, located};
use crate::folder::Folder;
use crate::lock::{Lock, LockedPackage, LockedSystem, PackageSet, digest_of};
use crate::nix::{Closure, NarHash, PathInfo, StorePath, System};
use crate::source::binary_cache::{BinaryCacheError, BinaryCaches};
use crate::source::nix::{Evaluated, Nix, Scope};
use crate::spec::{Content, Demand, GitHubCommit, ImageSpec, Nixpkgs};

/// Narinfos that are asked for at a time.
const AT_A_TIME: usize = 16;

/// What a lock is written from.
pub struct Locking<'a> {
    /// What the author asks for.
    pub spec: &'a ImageSpec,
    /// The project, for what the spec evaluates of it.
    pub project: &'a Folder,
    /// Evaluates, and builds what is nowhere.
    pub nix: &'a Nix,
    /// Knows what can be downloaded.
    pub caches: &'a BinaryCaches,
    /// A folder for garbage collector roots, to be kept until the lock is written.
    pub roots: &'a Path,
    /// The lock that is there.
    pub earlier: Option<&'a Lock>,
    /// What is not taken from it.
    pub update: Update,
    /// The systems that the lock shall hold; at least one.
    pub systems: BTreeSet<System>,
}

/// What is looked up anew, though the lock has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing that the spec has not changed.
    Nothing,
    /// These names of the spec.
    Names(BTreeSet<String>),
    /// All.
    Everything,
}

impl Locking<'_> {
    /// The lock of the spec as it is now.
    pub async fn lock(&self, on_event: &(dyn Fn(Event) + Sync)) -> Result<Lock, BuildError> {
        check_folders(self.spec, self.project).map_err(BuildError::Spec)?;
        self.check_names()?;
        let quota = Quota::new(on_event);
        let mut systems = BTreeMap::new();
        let mut package_set = None;
        for system in &self.systems {
            let (locked, set) = self.lock_for(*system, &quota).await?;
            package_set = package_set.or(set);
            systems.insert(*system, locked);
        }
        let source = self.spec.nixpkgs.to_string();
        let earlier = self.earlier.filter(|earlier| earlier.package_set.source == source);
        // What was kept comes from the earlier set, so that one stays the lock's own.
        let kept = earlier.filter(|_| self.keeps_some(&systems)).map(|earlier| earlier.package_set.clone());
        let package_set =
            kept.or(package_set).unwrap_or(PackageSet { source, revision: None, nar_hash: None });
        let folders = folder_hashes(self.spec, self.project)?;
        for locked in systems.values_mut() {
            for package in locked.packages.values_mut() {
                package.package_set.take_if(|set| *set == package_set);
            }
        }
        Ok(Lock { spec: digest_of(self.spec), package_set, folders, systems })
    }

    /// The names to be updated are names of the spec.
    fn check_names(&self) -> Result<(), BuildError> {
        let Update::Names(names) = &self.update else { return Ok(()) };
        let known: BTreeSet<String> =
            self.spec.demands().iter().map(|demand| demand.content.to_string()).collect();
        match names.iter().find(|name| !known.contains(*name)) {
            Some(name) => Err(BuildError::NotOfSpec(name.clone())),
            None => Ok(()),
        }
    }

    async fn lock_for(
        &self,
        system: System,
        quota: &Quota<'_>,
    ) -> Result<(LockedSystem, Option<PackageSet>), BuildError> {
        let mut packages = BTreeMap::new();
        let mut wanted: Vec<Demand> = Vec::new();
        for demand in self.spec.demands() {
            let name = demand.content.to_string();
            match self.kept(system, &demand.content) {
                Some(package) => drop(packages.insert(name, package.clone())),
                None if wanted.iter().any(|other| other.content == demand.content) => {}
                None => wanted.push(demand),
            }
        }
        let mut evaluated = None;
        let mut package_set = None;
        if !wanted.is_empty() {
            let found = self.evaluate(system, &wanted, quota).await?;
            let set = self.package_set(&found).await?;
            for (demand, path) in wanted.iter().zip(&found.paths) {
                let package_set = Some(set.clone());
                packages
                    .insert(demand.content.to_string(), LockedPackage { path: path.clone(), package_set });
            }
            package_set = Some(set);
            evaluated = Some(found);
        }
        let roots = packages.values().map(|package| package.path.clone()).collect();
        let closure = self.closure(system, roots, evaluated.as_ref(), quota).await?;
        Ok((LockedSystem { packages, closure }, package_set))
    }

    /// What the earlier lock says of `content`, if that is to be kept.
    fn kept(&self, system: System, content: &Content) -> Option<LockedPackage> {
        let earlier =
            self.earlier.filter(|earlier| earlier.package_set.source == self.spec.nixpkgs.to_string())?;
        let name = content.to_string();
        let wanted_anew = match &self.update {
            Update::Nothing => false,
            Update::Names(names) => names.contains(&name),
            Update::Everything => true,
        };
        let of_moving_set = matches!(content, Content::Package(_)) && may_move(&self.spec.nixpkgs);
        if wanted_anew || !of_moving_set {
            return None;
        }
        let package = earlier.systems.get(&system)?.packages.get(&name)?.clone();
        let package_set = package.package_set.unwrap_or_else(|| earlier.package_set.clone());
        Some(LockedPackage { path: package.path, package_set: Some(package_set) })
    }

    fn keeps_some(&self, systems: &BTreeMap<System, LockedSystem>) -> bool {
        let Some(earlier) = self.earlier else { return false };
        let of_earlier = |package: &LockedPackage| package.package_set.as_ref() == Some(&earlier.package_set);
        systems.values().flat_map(|locked| locked.packages.values()).any(of_earlier)
    }

    async fn evaluate(
        &self,
        system: System,
        wanted: &[Demand],
        quota: &Quota<'_>,
    ) -> Result<Evaluated, BuildError> {
        let contents: Vec<Content> = wanted.iter().map(|demand| demand.content.clone()).collect();
        let pinned = self.pinned();
        let nixpkgs = pinned.as_ref().unwrap_or(&self.spec.nixpkgs);
        let scope = Scope { nixpkgs, system, project: self.project };
        let evaluated = self.nix.evaluate(&contents, &scope, self.roots, &|line| quota.say(line)).await;
        evaluated.map_err(|error| located(self.spec, wanted, error))
    }

    /// The package set of the earlier lock, where the spec's may have moved on and that one can still be had.
    fn pinned(&self) -> Option<Nixpkgs> {
        let earlier = self.earlier.filter(|_| self.update == Update::Nothing)?;
        let set = Some(&earlier.package_set).filter(|set| set.source == self.spec.nixpkgs.to_string())?;
        match &self.spec.nixpkgs {
            Nixpkgs::Channel(_) => {
                let commit = format!("github:NixOS/nixpkgs/{}", set.revision.as_ref()?);
                Some(Nixpkgs::GitHub(commit.parse::<GitHubCommit>().ok()?))
            }
            Nixpkgs::Tarball { url, sha256: None } => {
                Some(Nixpkgs::Tarball { url: url.clone(), sha256: Some(set.nar_hash?) })
            }
            Nixpkgs::Tarball { sha256: Some(_), .. }
            | Nixpkgs::GitHub(_)
            | Nixpkgs::Folder(_)
            | Nixpkgs::SearchPath(_) => None,
        }
    }

    /// The package set that was evaluated, as far as it can be told.
    async fn package_set(&self, evaluated: &Evaluated) -> Result<PackageSet, BuildError> {
        let source = self.spec.nixpkgs.to_string();
        if let Nixpkgs::GitHub(commit) = &self.spec.nixpkgs {
            return Ok(PackageSet { source, revision: Some(commit.commit.clone()), nar_hash: None });
        }
        let nar_hash = match &self.spec.nixpkgs {
            // Among the folders of the project it has one already.
            Nixpkgs::Folder(_) => None,
            _ => self.hash_in_store(&evaluated.set).await?,
        };
        Ok(PackageSet { source, revision: evaluated.revision.clone(), nar_hash })
    }

    /// The hash of the store path that `file` lies in, if it does.
    async fn hash_in_store(&self, file: &str) -> Result<Option<NarHash>, BuildError> {
        let top = file.strip_prefix("/nix/store/").and_then(|rest| rest.split('/').next());
        let Some(path) = top.and_then(|name| StorePath::from_base_name(name).ok()) else { return Ok(None) };
        Ok(self.nix.known(&[path]).await?.first().map(|info| info.nar_hash))
    }

    /// The closure of `roots`, as the binary caches and the host's store describe it.
    async fn closure(
        &self,
        system: System,
        roots: Vec<StorePath>,
        evaluated: Option<&Evaluated>,
        quota: &Quota<'_>,
    ) -> Result<Closure, BuildError> {
        let earlier = self.earlier.filter(|_| self.update != Update::Everything);
        let earlier = earlier.and_then(|earlier| earlier.systems.get(&system)).map(|locked| &locked.closure);
        let mut infos: BTreeMap<StorePath, PathInfo> = BTreeMap::new();
        let mut waiting: BTreeSet<StorePath> = roots.into_iter().collect();
        let mut realised = false;
        while !waiting.is_empty() {
            let mut described = Vec::new();
            let mut unknown = Vec::new();
            let paths: Vec<StorePath> = std::mem::take(&mut waiting).into_iter().collect();
            for paths in paths.chunks(AT_A_TIME) {
                let asked = paths.iter().map(|path| self.caches.describe(path));
                for (path, answer) in paths.iter().zip(join_all(asked).await) {
                    match answer {
                        Ok(Some(info)) => described.push(info),
                        Ok(None) => unknown.push((path.clone(), None)),
                        Err(error) => unknown.push((path.clone(), Some(error))),
                    }
                }
            }
            let mut known = self.known(&unknown, earlier).await?;
            if known.len() < unknown.len()
                && !realised
                && system == System::HOST
                && let Some(evaluated) = evaluated
            {
                self.nix.realise(evaluated, self.roots, &|line| quota.say(line)).await?;
                realised = true;
                known = self.known(&unknown, earlier).await?;
            }
            let paths: BTreeSet<&StorePath> = known.iter().map(|info| &info.path).collect();
            if let Some((path, error)) = unknown.into_iter().find(|(path, _)| !paths.contains(path)) {
                return Err(match error {
                    Some(error) => BuildError::Read(error.into()),
                    None => BuildError::Nowhere { path, system },
                });
            }
            described.extend(known);
            for info in described {
                waiting.extend(info.references.iter().filter(|path| !infos.contains_key(*path)).cloned());
                infos.insert(info.path.clone(), info);
            }
            waiting.retain(|path| !infos.contains_key(path));
        }
        Closure::new(infos.into_values()).map_err(BuildError::Closure)
    }

    /// What the host's store, or else the earlier lock, says of paths that no cache knows.
    async fn known(
        &self,
        unknown: &[(StorePath, Option<BinaryCacheError>)],
        earlier: Option<&Closure>,
    ) -> Result<Vec<PathInfo>, BuildError> {
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<StorePath> = unknown.iter().map(|(path, _)| path.clone()).collect();
        let mut known = self.nix.known(&paths).await?;
        let here: BTreeSet<StorePath> = known.iter().map(|info| info.path.clone()).collect();
        let elsewhere = paths.iter().filter(|path| !here.contains(*path));
        known.extend(elsewhere.filter_map(|path| earlier?.get(path).cloned()));
        Ok(known)
    }
}

/// Whether a package set may be another one tomorrow.
fn may_move(nixpkgs: &Nixpkgs) -> bool {
    match nixpkgs {
        Nixpkgs::SearchPath(_) | Nixpkgs::Channel(_) | Nixpkgs::Tarball { sha256: None, .. } => true,
        Nixpkgs::Folder(_) | Nixpkgs::GitHub(_) | Nixpkgs::Tarball { sha256: Some(_), .. } => false,
    }
}
