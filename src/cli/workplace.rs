//! What a command needs that works on a spec outside GitLab: the project, its lock, Nix, and a place to work in.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;

use super::Scratch;
use crate::failure::Failure;
use crate::folder::Folder;
use crate::lock::Lock;
use crate::pipeline::{Build, read_lock};
use crate::sandbox::Sandbox;
use crate::source::binary_cache::BinaryCaches;
use crate::source::nix::Nix;
use crate::spec::ImageSpec;
use crate::stage::Driver;

/// How a spec is read.
#[derive(Debug, clap::Args)]
pub(super) struct SpecOptions {
    /// The folder that the spec's own paths start from
    #[arg(long, default_value = ".", value_name = "FOLDER")]
    project: PathBuf,
    /// Asks Nix what the spec means, also if there is a lock
    #[arg(long)]
    no_lock: bool,
}

/// Gives the value of a variable of the environment.
type Lookup<'a> = Box<dyn Fn(&str) -> Option<String> + Sync + 'a>;

/// A spec with everything at hand to build it.
pub(super) struct Workplace<'a> {
    pub(super) spec: ImageSpec,
    driver: &'a Driver<'a>,
    project: Folder,
    lock: Option<Lock>,
    caches: Arc<BinaryCaches>,
    sandbox: Option<Sandbox>,
    nix: Option<Nix>,
    roots: PathBuf,
    work: PathBuf,
    annotations: BTreeMap<String, String>,
    created: Timestamp,
    variable: Lookup<'a>,
    /// Removed at the end.
    _scratch: Scratch,
}

impl<'a> Workplace<'a> {
    /// Reads the spec in `file`, beneath the project's folder, and makes a place to build it in.
    pub(super) fn open(file: &str, options: &SpecOptions, driver: &'a Driver<'a>) -> Result<Self, Failure> {
        let project_dir = options.project.canonicalize().map_err(|error| {
            let name = options.project.display();
            Failure::build(error, format!("`{name}` is to be the project's folder: name one that exists"))
        })?;
        let project = Folder::open(&project_dir)?;
        let bytes = project.read(file, ImageSpec::MAX_FILE)?;
        let spec = ImageSpec::parse(file, &bytes)?;
        let scratch = Scratch::new()?;
        let [roots, fetched, work] = ["roots", "fetched", "work"].map(|name| scratch.0.join(name));
        for folder in [&roots, &fetched, &work] {
            std::fs::create_dir(folder).map_err(Failure::cannot("make a scratch folder"))?;
        }
        let variable =
            move |name: &str| Some(driver.host.get(OsStr::new(name))?.to_string_lossy().into_owned());
        let commit = Commit::of(&project_dir);
        let created = spec.created.resolve(driver.now, commit.as_ref().map(|commit| commit.time));
        let mut annotations =
            BTreeMap::from([("title", spec.name.clone()), ("created", created.to_string())]);
        annotations.extend(commit.map(|commit| ("revision", commit.revision)));
        let standard = |(key, value)| (format!("org.opencontainers.image.{key}"), value);
        let off = options.no_lock
            || variable("NIXLAYER_LOCK").is_some_and(|value| value.eq_ignore_ascii_case("off"));
        let lock = if off { None } else { read_lock(&project, file)? };
        let sandbox = match driver.sandbox() {
            Ok(sandbox) => Some(sandbox),
            // With a lock, only commands need one.
            Err(_) if lock.is_some() => None,
            Err(failure) => return Err(failure),
        };
        let nix = sandbox.as_ref().map(|sandbox| driver.nix(sandbox, &fetched, &work));
        let caches = driver.binary_caches(&spec, &project, lock.is_some())?;
        Ok(Self {
            spec,
            driver,
            project,
            lock,
            caches,
            sandbox,
            nix,
            roots,
            work,
            annotations: annotations.into_iter().map(standard).collect(),
            created,
            variable: Box::new(variable),
            _scratch: scratch,
        })
    }

    /// The build of the spec.
    pub(super) fn build(&self) -> Build<'_> {
        Build {
            spec: &self.spec,
            project: &self.project,
            lock: self.lock.as_ref(),
            caches: &self.caches,
            nix: self.nix.as_ref(),
            sandbox: self.sandbox.as_ref(),
            roots: &self.roots,
            scratch: &self.work,
            variable: self.variable(),
            annotations: self.annotations.clone(),
            created: self.created,
        }
    }

    /// The value of a variable of the environment.
    pub(super) fn variable(&self) -> &(dyn Fn(&str) -> Option<String> + Sync) {
        &*self.variable
    }

    pub(super) fn driver(&self) -> &'a Driver<'a> {
        self.driver
    }
}

/// The commit that a project's folder is at.
struct Commit {
    time: Timestamp,
    revision: String,
}

impl Commit {
    /// Nothing where there is no Git repository.
    fn of(project: &Path) -> Option<Self> {
        // Settings of a repository may name programs to check signatures with.
        let output = Command::new("git")
            .args(["-c", "log.showSignature=false", "-C"])
            .arg(project)
            .args(["log", "-1", "--no-show-signature", "--format=%cI %H"])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (time, revision) = text.trim().split_once(' ')?;
        Some(Self { time: time.parse().ok()?, revision: revision.to_owned() })
    }
}
