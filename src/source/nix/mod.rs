//! The host's Nix, driven by its classic commands.
//!
//! `nix-instantiate`, `nix-store --realise` and `nix-store --query` work alike in every Nix since
//! 2.3 and in Lix, and need no experimental feature. They run in the sandbox, since evaluation may
//! read any file it can see and puts what it reads into a store that everybody can read.
//!
//! What a spec names is evaluated in one go: the expression is a derivation that is never built,
//! whose environment lists the store paths. So one garbage collector root on it keeps every
//! derivation from evaluation on; the realised outputs get roots of their own.

mod command;
mod error;
mod expression;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::Deserialize;

use self::command::PATHS_PER_CALL;
pub use self::error::{NixError, Said};
pub use self::expression::Wanted;
use self::expression::{near_names, packages_expression, roots_expression};
pub use self::roots::forget_roots;
use crate::nix::{Closure, StorePath, dump_db};
use crate::sandbox::{Sandbox, View};
use crate::spec::{AttrPath, Nixpkgs};

/// What an attribute set is that calls itself a derivation and is none.
const FORGED: &str = "set that looks like a derivation without being one";

/// For commands that are over at once.
const SILENT: Progress<'static> = &|_| {};

const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// Which process writes to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreAccess {
    /// The daemon where its socket answers, else the commands themselves.
    #[default]
    Auto,
    /// The Nix daemon, through its socket.
    Daemon,
    /// The commands themselves (single-user Nix): whoever runs them owns `/nix`.
    Local,
}

/// How the host's Nix is used.
#[derive(Clone, Debug, Default)]
pub struct NixSettings {
    /// The folder of the Nix commands; `PATH` of the sandbox if none is given.
    pub programs: Option<PathBuf>,
    /// Which process writes to the store.
    pub store: StoreAccess,
    /// What `<NAME>` means, as in `NIX_PATH`; Nix's own default if it is empty.
    pub search_path: String,
    /// The environment of the commands: `PATH`, locale, certificates, proxies.
    pub environment: BTreeMap<OsString, OsString>,
    /// Settings of `nix.conf` for these commands alone.
    pub options: BTreeMap<String, String>,
    /// Where downloads of expressions are kept; what evaluates can read them, so it is one project's.
    pub fetched: PathBuf,
    /// A folder for what is of no use afterwards, such as the builds of single-user Nix.
    pub scratch: PathBuf,
}

/// The Nix of this host.
pub struct Nix {
    settings: NixSettings,
    sandbox: Sandbox,
    daemon: bool,
    log: Mutex<Vec<u8>>,
}

/// Is told what Nix is doing, a line at a time.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// What evaluation says of one wanted thing; see `roots.nix` in `expression.rs`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Described {
    Derivation {
        path: String,
        drv: String,
        output: String,
    },
    Path {
        path: String,
    },
    Missing {
        #[serde(rename = "missing")]
        _missing: bool,
    },
    Other {
        other: String,
    },
}

impl Nix {
    /// The host's Nix with these settings; nothing is run yet.
    pub fn new(settings: NixSettings, sandbox: Sandbox) -> Self {
        let daemon = match settings.store {
            StoreAccess::Auto => UnixStream::connect(DAEMON_SOCKET).is_ok(),
            StoreAccess::Daemon => true,
            StoreAccess::Local => false,
        };
        Self { settings, sandbox, daemon, log: Mutex::default() }
    }

    /// Whether a daemon writes to the store, so that others may use it through its socket.
    pub fn has_daemon(&self) -> bool {
        self.daemon
    }

    /// Everything that the commands have said so far, for the report of the job.
    pub fn log(&self) -> Vec<u8> {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }

    /// The version, when the commands are there and the store answers.
    pub async fn version(&self) -> Result<String, NixError> {
        let view = self.view(&[], &[]);
        let version = self
            .run("nix-instantiate", &["--eval", "--json", "--expr", "builtins.nixVersion"], &view, SILENT)
            .await?;
        Ok(version.trim().trim_matches('"').to_owned())
    }

    /// The store paths of `wanted`, in its order, built or substituted.
    ///
    /// `roots` is a folder for garbage collector roots: while it exists, nothing that was evaluated
    /// or realised is collected. `project` is what evaluation sees of the job.
    pub async fn realise(
        &self,
        wanted: &[Wanted<'_>],
        nixpkgs: &Nixpkgs,
        project: &Path,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<StorePath>, NixError> {
        let described = self.evaluate(wanted, nixpkgs, project, roots, progress).await?;
        let mut paths = Vec::new();
        let mut installables = BTreeSet::new();
        for (index, (described, wanted)) in described.into_iter().zip(wanted).enumerate() {
            let no_package =
                |kind: &str| NixError::NoPackage { index, name: wanted.to_string(), kind: kind.to_owned() };
            let path = match described {
                Described::Derivation { path, drv, output } => {
                    installables.insert(installable(&drv, &output).ok_or_else(|| no_package(FORGED))?);
                    path
                }
                Described::Path { path } => {
                    let path: StorePath =
                        path.parse().map_err(|_| no_package("path outside of the store"))?;
                    installables.insert(path.to_string());
                    path.to_string()
                }
                Described::Missing { .. } => {
                    let near = self.near(wanted, nixpkgs, project).await;
                    return Err(NixError::Unknown { index, name: wanted.to_string(), near });
                }
                Described::Other { other } => return Err(no_package(&other)),
            };
            paths.push(path.parse::<StorePath>().map_err(|_| no_package(FORGED))?);
        }
        let installables: Vec<String> = installables.into_iter().collect();
        let realised = self.realise_installables(&installables, roots, progress).await?;
        match paths.iter().position(|path| !realised.contains(path)) {
            Some(index) => Err(NixError::NoPackage {
                index,
                name: wanted.get(index).map(Wanted::to_string).unwrap_or_default(),
                kind: FORGED.to_owned(),
            }),
            None => Ok(paths),
        }
    }

    /// The paths that `roots` need at run time, with what the store knows of each.
    pub async fn closure(&self, roots: &[StorePath]) -> Result<Closure, NixError> {
        let view = self.view(&[], &[]);
        let roots: Vec<String> = roots.iter().map(StorePath::to_string).collect();
        let requisites =
            self.run_on("nix-store", &["--query", "--requisites"], &roots, &view, SILENT).await?;
        let mut requisites: Vec<String> = requisites.lines().map(str::to_owned).collect();
        requisites.sort();
        requisites.dedup();
        let dump = self.run_on("nix-store", &["--dump-db"], &requisites, &view, SILENT).await?;
        let infos = dump_db::parse(&dump).map_err(|source| NixError::Answer { source: Box::new(source) })?;
        Closure::new(infos).map_err(|source| NixError::Answer { source: Box::new(source) })
    }

    async fn evaluate(
        &self,
        wanted: &[Wanted<'_>],
        nixpkgs: &Nixpkgs,
        project: &Path,
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<Vec<Described>, NixError> {
        let view = self.view(&[project], &[roots]);
        let expression = roots_expression(wanted, nixpkgs, project);
        let root = roots.join("evaluated");
        let root = root.to_string_lossy();
        // As a file, since one argument holds 128 KiB at most.
        let file = roots.join("evaluated.nix");
        std::fs::write(&file, expression)
            .map_err(|source| NixError::Folder { folder: roots.to_owned(), source })?;
        let file = file.to_string_lossy();
        let mut arguments = vec!["--add-root", &root, "--indirect", &file];
        if wanted.iter().any(Wanted::is_flake_output) {
            arguments.extend(["--extra-experimental-features", "flakes nix-command"]);
        }
        self.run("nix-instantiate", &arguments, &view, progress).await?;
        let described =
            self.run("nix-store", &["--query", "--binding", "roots", &root], &view, progress).await?;
        serde_json::from_str(&described).map_err(|source| NixError::Answer { source: Box::new(source) })
    }

    /// Builds or downloads; gives what there is now, all of it held by a root of its own.
    async fn realise_installables(
        &self,
        installables: &[String],
        roots: &Path,
        progress: Progress<'_>,
    ) -> Result<BTreeSet<StorePath>, NixError> {
        let view = self.view(&[], &[roots]);
        let mut realised = BTreeSet::new();
        for (number, installables) in installables.chunks(PATHS_PER_CALL).enumerate() {
            let root = roots.join(format!("realised-{number}"));
            let root = root.to_string_lossy();
            let mut arguments = vec!["--realise", "--add-root", &root, "--indirect"];
            arguments.extend(installables.iter().map(String::as_str));
            let links = self.run("nix-store", &arguments, &view, progress).await?;
            for link in links.lines() {
                let path = std::fs::read_link(link).unwrap_or_else(|_| link.into());
                realised.extend(path.to_string_lossy().parse::<StorePath>());
            }
        }
        Ok(realised)
    }

    /// Names like the unknown one, for the error; none where Nix cannot tell.
    async fn near(&self, wanted: &Wanted<'_>, nixpkgs: &Nixpkgs, project: &Path) -> Vec<String> {
        let Some(attr_path) = wanted.attr_path() else { return Vec::new() };
        match self.names_beside(attr_path, nixpkgs, project).await {
            Ok(names) => near_names(attr_path, &names),
            Err(_) => Vec::new(),
        }
    }

    async fn names_beside(
        &self,
        attr_path: &AttrPath,
        nixpkgs: &Nixpkgs,
        project: &Path,
    ) -> Result<Vec<String>, NixError> {
        let view = self.view(&[project], &[]);
        let expression = packages_expression(attr_path, nixpkgs, project);
        let names = self
            .run("nix-instantiate", &["--eval", "--strict", "--json", "--expr", &expression], &view, SILENT)
            .await?;
        serde_json::from_str(&names).map_err(|source| NixError::Answer { source: Box::new(source) })
    }

    fn view(&self, read_only: &[&Path], writable: &[&Path]) -> View {
        let mut environment = self.settings.environment.clone();
        let mut set = |name: &str, value: OsString| environment.insert(name.into(), value);
        if !self.settings.search_path.is_empty() {
            set("NIX_PATH", self.settings.search_path.clone().into());
        }
        set("HOME", "/homeless-shelter".into());
        set("XDG_CACHE_HOME", self.settings.fetched.clone().into());
        set("NIX_USER_CONF_FILES", "".into());
        set("NIX_REMOTE", if self.daemon { "daemon".into() } else { "local".into() });
        // What a flake wants to configure is the admin's to decide. In the sandbox there is one
        // user, so without a daemon no other user could build.
        let mut options = String::from("accept-flake-config = false\n");
        if !self.daemon {
            options.push_str("build-users-group =\n");
        }
        for (name, value) in &self.settings.options {
            options.push_str(&format!("{name} = {value}\n"));
        }
        set("NIX_CONFIG", options.into());
        let mut view = View {
            script: None,
            read_only: read_only.iter().map(|path| (*path).to_owned()).collect(),
            writable: writable.iter().map(|path| (*path).to_owned()).collect(),
            host: true,
            network: true,
            tmp: None,
            environment,
            working_directory: PathBuf::from("/"),
        };
        // Folders of the search path; what else may stand between the colons is not there to be shown.
        let places =
            self.settings.search_path.split(':').map(|entry| entry.rsplit('=').next().unwrap_or(entry));
        view.read_only.extend(places.filter(|place| place.starts_with('/')).map(PathBuf::from));
        view.writable.push(self.settings.fetched.clone());
        if !self.daemon {
            view.writable.push("/nix".into());
        }
        view
    }
}

/// `DRV!OUTPUT`, as `nix-store --realise` takes it. An expression says what `drv` and `output` are, so
/// neither becomes an argument before it is known to be what it claims.
fn installable(drv: &str, output: &str) -> Option<String> {
    let drv: StorePath = drv.parse().ok()?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let good = drv.name().ends_with(".drv") && !output.is_empty() && output.chars().all(plain);
    good.then(|| format!("{drv}!{output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_output_of_a_derivation_becomes_an_argument() {
        let drv = "/nix/store/00000000000000000000000000000000-a.drv";

        assert_eq!(installable(drv, "out"), Some(format!("{drv}!out")));
        for (drv, output) in [
            ("--option", "out"),
            ("/etc/passwd", "out"),
            (drv, ""),
            (drv, "out --add-root /x"),
            (&drv[..40], "out"),
        ] {
            assert_eq!(installable(drv, output), None, "{drv} {output}");
        }
    }
}
