//! What a command needs that works on a project outside GitLab: the project's folder, a place to work in, and Nix.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;

use super::{Scratch, variable};
use crate::failure::Failure;
use crate::folder::Folder;
use crate::sandbox::Sandbox;
use crate::source::nix::{Checkouts, Nix};
use crate::stage::Driver;

/// A project and a place to work on it.
pub(super) struct Workplace<'a> {
    pub(super) driver: &'a Driver<'a>,
    pub(super) project: Folder,
    /// For garbage collector roots.
    pub(super) roots: PathBuf,
    /// For what is of no use afterwards.
    pub(super) work: PathBuf,
    fetched: PathBuf,
    /// Removed at the end.
    _scratch: Scratch,
}

impl<'a> Workplace<'a> {
    /// Opens the project in `folder`, and makes a place to work in.
    pub(super) fn open(folder: &Path, driver: &'a Driver<'a>) -> Result<Self, Failure> {
        let project_dir = folder.canonicalize().map_err(|error| {
            let name = folder.display();
            Failure::build(error, format!("`{name}` is to be the project's folder: name one that exists"))
        })?;
        let project = Folder::open(&project_dir)?;
        let scratch = Scratch::new()?;
        let [roots, fetched, work] = ["roots", "fetched", "work"].map(|name| scratch.0.join(name));
        for folder in [&roots, &fetched, &work] {
            std::fs::create_dir(folder).map_err(Failure::cannot("make a scratch folder"))?;
        }
        Ok(Self { driver, project, roots, work, fetched, _scratch: scratch })
    }

    /// The machine's Nix, run in `sandbox`.
    pub(super) fn nix(&self, sandbox: &Sandbox) -> Nix {
        let ceilings = self.variable("GIT_CEILING_DIRECTORIES").unwrap_or_default();
        let ceilings = std::env::split_paths(&ceilings).filter_map(|folder| folder.canonicalize().ok());
        self.driver.nix(sandbox, &self.fetched, &self.work, Checkouts::Below(ceilings.collect()))
    }

    /// The commit that the project is at.
    pub(super) fn commit(&self) -> Option<Commit> {
        Commit::of(self.project.path())
    }

    /// The value of a variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        variable(self.driver, name)
    }
}

/// The commit that a project's folder is at.
pub(super) struct Commit {
    pub(super) time: Timestamp,
    pub(super) revision: String,
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
