//! From the names in a spec to store paths, and to the closure that an image needs.

use std::collections::BTreeMap;
use std::path::Path;

use super::event::Quota;
use super::{Build, BuildError};
use crate::nix::{Closure, StorePath};
use crate::source::nix::{NixError, Wanted};
use crate::spec::{AttrPath, Content, Flake, ImageSpec, Nixpkgs, Preset, ProjectPath};
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
    named: BTreeMap<AttrPath, StorePath>,
}

/// One thing to be found, and the key of the spec that asks for it.
struct Asked<'a> {
    wanted: Wanted<'a>,
    key: KeyPath,
}

impl Packages {
    /// Has Nix find, build or download everything that the spec names.
    pub(super) async fn realise(build: &Build<'_>, quota: &Quota<'_>) -> Result<Self, BuildError> {
        let spec = build.spec;
        check_folders(build).map_err(BuildError::Spec)?;
        let presets: Vec<(KeyPath, AttrPath)> =
            spec.presets.iter().filter_map(|preset| package_of(*preset)).collect();
        let tools: Vec<AttrPath> = if spec.extra_commands.parts().is_empty() {
            Vec::new()
        } else {
            [BASH, COREUTILS].into_iter().filter_map(|name| name.parse().ok()).collect()
        };
        let mut asked = Vec::new();
        for (index, content) in spec.contents.iter().enumerate() {
            asked.push(Asked {
                wanted: Wanted::Content(content),
                key: KeyPath::root().key("contents").index(index),
            });
        }
        for (key, package) in spec.packages() {
            asked.push(Asked { wanted: Wanted::Package(package), key });
        }
        for (key, package) in &presets {
            asked.push(Asked { wanted: Wanted::Package(package), key: key.clone() });
        }
        let image = asked.len();
        for package in &tools {
            asked.push(Asked { wanted: Wanted::Package(package), key: KeyPath::root().key("extraCommands") });
        }

        let wanted: Vec<Wanted<'_>> = asked.iter().map(|asked| asked.wanted).collect();
        let found = build
            .nix
            .realise(&wanted, &spec.nixpkgs, build.project.path(), build.roots, &|line| quota.say(line))
            .await;
        let paths = found.map_err(|error| located(spec, &asked, error))?;
        let named = asked.iter().zip(&paths).filter_map(|(asked, path)| match asked.wanted {
            Wanted::Package(package) => Some((package.clone(), path.clone())),
            Wanted::Content(_) => None,
        });
        let closure = build.nix.closure(&paths[..image]).await?;
        Ok(Self {
            tools: if tools.is_empty() { Closure::default() } else { build.nix.closure(&paths).await? },
            named: named.collect(),
            contents: paths[..spec.contents.len()].to_vec(),
            closure,
        })
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

/// The shell of `extraCommands` and of the preset `bin-sh`.
pub(super) const BASH: &str = "bash";
/// The programs of `extraCommands` and of the preset `usr-bin-env`.
pub(super) const COREUTILS: &str = "coreutils";
/// The certificates of the preset `ca-certificates`.
pub(super) const CACERT: &str = "cacert";

fn package_of(preset: Preset) -> Option<(KeyPath, AttrPath)> {
    let name = match preset {
        Preset::UsrBinEnv => COREUTILS,
        Preset::BinSh => BASH,
        Preset::CaCertificates => CACERT,
        Preset::Tmp | Preset::Nss => return None,
    };
    Some((KeyPath::root().key("presets"), name.parse().ok()?))
}

/// Checks that the project has what the spec has evaluated of it: Nix would name the store or the host.
fn check_folders(build: &Build<'_>) -> Result<(), yaml::Error> {
    let check = |folder: &ProjectPath, name: &str, key: KeyPath| {
        let file = Path::new(folder.as_str()).join(name);
        let file = file.strip_prefix(".").unwrap_or(&file).display().to_string();
        // A package set may be one file, too.
        if build.project.has_file(&file) || name == "default.nix" && build.project.has_file(folder.as_str()) {
            return Ok(());
        }
        let reason = format!("there is no `{file}` in the project");
        Err(build.spec.error_at(&key, reason, "name a folder of the project that has one"))
    };
    if let Nixpkgs::Folder(folder) = &build.spec.nixpkgs {
        check(folder, "default.nix", KeyPath::root().key("nixpkgs"))?;
    }
    for (index, content) in build.spec.contents.iter().enumerate() {
        if let Content::FlakeOutput { flake: Flake::Folder(folder), .. } = content {
            check(folder, "flake.nix", KeyPath::root().key("contents").index(index))?;
        }
    }
    Ok(())
}

/// An error about one of the wanted things names its line in the spec.
fn located(spec: &ImageSpec, asked: &[Asked<'_>], error: NixError) -> BuildError {
    let (index, fix) = match &error {
        NixError::Unknown { index, near, .. } if near.is_empty() => {
            (*index, "check the spelling, and that `nixpkgs:` is the package set that has it".to_owned())
        }
        NixError::Unknown { index, near, .. } => {
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            (*index, format!("write {}", near.join(" or ")))
        }
        NixError::NoPackage { index, .. } => (*index, "name a package".to_owned()),
        NixError::Folder { .. }
        | NixError::BrokenOff { .. }
        | NixError::Refused { .. }
        | NixError::Host { .. }
        | NixError::Start { .. }
        | NixError::Answer { .. } => {
            return BuildError::Nix(error);
        }
    };
    match asked.get(index) {
        Some(asked) => BuildError::Spec(spec.error_at(&asked.key, error.to_string(), fix)),
        None => BuildError::Nix(error),
    }
}
