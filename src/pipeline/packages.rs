//! From the names in a spec to store paths, and to the closure that an image needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::event::Quota;
use super::scratch_store::{self, FillError};
use super::{Build, BuildError, blocking, stores};
use crate::folder::Folder;
use crate::nix::{Closure, StorePath, System};
use crate::sandbox::Sandbox;
use crate::source::StorePaths;
use crate::source::nix::{NixError, Scope};
use crate::spec::{AttrPath, Content, Demand, Flake, ImageSpec, Nixpkgs, ProjectPath, Purpose};
use crate::yaml::{self, KeyPath};

/// Where everything that a spec names lies in the store.
#[derive(Debug)]
pub(super) struct Packages {
    /// The entries of `contents`, in the spec's order.
    pub(super) contents: Vec<StorePath>,
    /// What the image holds.
    pub(super) closure: Closure,
    /// What `extraCommands` sees: the image's closure, a shell and the core utilities.
    pub(super) tools: Closure,
    /// Where all of these are to be had, if Nix has brought them to the host.
    store: Option<StorePaths>,
    /// What the spec names for the image, by the key that does.
    pub(super) roots: Vec<(KeyPath, StorePath)>,
    named: BTreeMap<AttrPath, StorePath>,
}

impl Packages {
    /// Has Nix find, build or download everything that the spec names.
    pub(super) async fn realise(build: &Build<'_>, quota: &Quota<'_>) -> Result<Self, BuildError> {
        let spec = build.spec;
        let nix = build.nix.filter(|nix| nix.is_installed()).ok_or(BuildError::NoNix)?;
        check_folders(spec, build.project).map_err(BuildError::Spec)?;
        let demands = spec.demands();
        let wanted: Vec<Content> = demands.iter().map(|demand| demand.content.clone()).collect();
        let scope = Scope {
            nixpkgs: &spec.nixpkgs,
            system: spec.system.unwrap_or(System::HOST),
            project: build.project,
        };
        let evaluated = nix.evaluate(&wanted, &scope, build.roots, &|line| quota.say(line)).await;
        let evaluated = evaluated.map_err(|error| located(spec, &demands, error))?;
        let realised = nix.realise(&evaluated, build.roots, &|line| quota.say(line)).await;
        realised.map_err(|error| located(spec, &demands, error))?;
        let image = demands.iter().zip(&evaluated.paths);
        let image = image.filter(|(demand, _)| demand.purpose != Purpose::Tool);
        let image: Vec<StorePath> = image.map(|(_, path)| path.clone()).collect();
        let closure = nix.closure(&image).await?;
        let tools = if spec.has_commands() { nix.closure(&evaluated.paths).await? } else { closure.clone() };
        let store = Some(StorePaths::of_host(&tools));
        Ok(Self::new(&demands, &evaluated.paths, closure, tools, store))
    }

    pub(super) fn new(
        demands: &[Demand],
        paths: &[StorePath],
        closure: Closure,
        tools: Closure,
        store: Option<StorePaths>,
    ) -> Self {
        let found = || demands.iter().zip(paths);
        let contents = found().filter(|(demand, _)| demand.purpose == Purpose::Contents);
        let named = found().filter_map(|(demand, path)| match &demand.content {
            Content::Package(package) => Some((package.clone(), path.clone())),
            Content::StorePath(_) | Content::FlakeOutput { .. } => None,
        });
        let roots = found().filter(|(demand, _)| demand.purpose != Purpose::Tool);
        Self {
            roots: roots.map(|(demand, path)| (demand.key.clone(), path.clone())).collect(),
            contents: contents.map(|(_, path)| path.clone()).collect(),
            named: named.collect(),
            closure,
            tools,
            store,
        }
    }

    /// Where `paths` are to be had.
    pub(super) async fn store(
        &self,
        build: &Build<'_>,
        paths: &BTreeSet<StorePath>,
        quota: &Quota<'_>,
    ) -> StorePaths {
        match &self.store {
            Some(store) => store.clone(),
            None => stores::find(build, &self.tools, paths, quota).await,
        }
    }

    /// The store paths that `extraCommands` see, all of them on disk: what the host lacks is fetched.
    pub(super) async fn store_for_commands(
        &self,
        build: &Build<'_>,
        quota: &Quota<'_>,
    ) -> Result<StorePaths, BuildError> {
        let store = self.store(build, &self.tools.paths().cloned().collect(), quota).await;
        let on_disk = |path: &StorePath| Some((path.clone(), store.on_disk(path)?.clone()));
        let mut found: BTreeMap<_, _> = self.tools.paths().filter_map(on_disk).collect();
        let missing: Vec<StorePath> =
            self.tools.paths().filter(|path| !found.contains_key(*path)).cloned().collect();
        if missing.is_empty() {
            return Ok(store);
        }
        // Before anything is fetched: commands must be shown a store that is not the host's.
        match build.sandbox {
            Some(sandbox @ Sandbox::Bubblewrap(_)) => {
                sandbox.try_out().await.map_err(BuildError::NoNamespaces)?;
            }
            Some(Sandbox::None) | None => return Err(BuildError::NoSandbox),
        }
        let folder = build.scratch.join(scratch_store::FOLDER);
        let (place, from) = (folder.clone(), store);
        let filled = blocking(move || scratch_store::fill(&place, &from, &missing)).await?;
        found.extend(filled.map_err(|error| match error {
            FillError::Read(error) => BuildError::Read(error),
            FillError::Write(source) => BuildError::Scratch { folder, source },
        })?);
        Ok(StorePaths::new(&self.tools, found, None))
    }

    /// Where `${pkgs.NAME}` lies.
    pub(super) fn store_path(&self, package: &AttrPath) -> Option<String> {
        self.named.get(package).map(StorePath::to_string)
    }

    /// Where the package of this name lies, if it was among the wanted.
    pub(super) fn named(&self, name: &str) -> Option<&StorePath> {
        self.named.get(&name.parse().ok()?)
    }
}

/// Checks that the project has what the spec has evaluated of it: Nix would name the store or the host.
pub(super) fn check_folders(spec: &ImageSpec, project: &Folder) -> Result<(), yaml::Error> {
    let check = |folder: &ProjectPath, name: &str, key: KeyPath| {
        let file = Path::new(folder.as_str()).join(name);
        let file = file.strip_prefix(".").unwrap_or(&file).display().to_string();
        // A package set may be one file, too.
        if project.has_file(&file) || name == "default.nix" && project.has_file(folder.as_str()) {
            return Ok(());
        }
        let reason = format!("there is no `{file}` in the project");
        Err(spec.error_at(&key, reason, "name a folder of the project that has one"))
    };
    if let Nixpkgs::Folder(folder) = &spec.nixpkgs {
        check(folder, "default.nix", KeyPath::root().key("nixpkgs"))?;
    }
    for (index, content) in spec.contents.iter().enumerate() {
        if let Content::FlakeOutput { flake: Flake::Folder(folder), .. } = content {
            check(folder, "flake.nix", KeyPath::root().key("contents").index(index))?;
        }
    }
    Ok(())
}

/// An error about one of the wanted things names its line in the spec.
pub(super) fn located(spec: &ImageSpec, demands: &[Demand], error: NixError) -> BuildError {
    let (index, fix) = match &error {
        NixError::Unknown { index, near, .. } if near.is_empty() => {
            (*index, "check the spelling, and that `nixpkgs:` is the package set that has it".to_owned())
        }
        NixError::Unknown { index, near, .. } => {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            (*index, format!("write {}", near.join(" or ")))
        }
        NixError::NoPackage { index, .. } => (*index, "name a package".to_owned()),
        NixError::NoAttribute { .. }
        | NixError::Arguments { .. }
        | NixError::NoImage { .. }
        | NixError::PassedOver { .. }
        | NixError::Expression { .. }
        | NixError::Evaluation { .. }
        | NixError::Folder { .. }
        | NixError::BrokenOff { .. }
        | NixError::Refused { .. }
        | NixError::Untracked { .. }
        | NixError::Git { .. }
        | NixError::NoGit { .. }
        | NixError::Host { .. }
        | NixError::Start { .. }
        | NixError::Answer { .. } => {
            return BuildError::Nix(error);
        }
    };
    match demands.get(index) {
        Some(demand) => BuildError::Spec(spec.error_at(&demand.key, error.to_string(), fix)),
        None => BuildError::Nix(error),
    }
}
