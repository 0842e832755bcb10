//! What an image job does around its own script: checks before it, builds and pushes after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::log::Log;
use super::{Driver, JobFolders};
use crate::failure::Failure;
use crate::folder::{Folder, FolderError};
use crate::job::outputs::{self, PushedImage};
use crate::job::{ImageRequest, Job};
use crate::oci::{Repository, Tag};
use crate::pipeline::{Published, Totals};
use crate::publish::Registry;
use crate::sandbox::Sandbox;
use crate::source::nix::Nix;
use crate::spec::Definition;

/// Where the report of a job is, in its project.
const REPORT: &str = "nixlayer-report";

/// An image job with everything it needs.
pub(super) struct ImageJob<'a> {
    pub(super) driver: &'a Driver<'a>,
    pub(super) job: &'a Job,
    pub(super) folders: &'a JobFolders,
    pub(super) sandbox: &'a Sandbox,
    pub(super) nix: &'a Nix,
    pub(super) registry: Arc<Registry>,
    pub(super) request: ImageRequest,
}

/// An image that was pushed, as the report tells of it.
pub(super) struct Pushed {
    pub(super) repository: Repository,
    pub(super) tags: Vec<Tag>,
    pub(super) published: Published,
}

impl ImageJob<'_> {
    /// Before the job's own script, which may take long: everything that can be known by then. What the script
    /// is yet to make is not there, and is no mistake.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        self.job.check_project_dir(&self.folders.builds().join(self.project_below()))?;
        match self.definition()? {
            Definition::Spec(file) => self.check_spec(&file).await,
            Definition::Nix(_) => self.check_nix().await,
        }
    }

    /// After the job's own script: what is defined becomes an image in the registry, or several.
    pub(super) async fn build(&self, log: &Log) -> Result<(), Failure> {
        let project = &self.project()?;
        let mut pushed = Vec::new();
        let built = match self.definition()? {
            Definition::Spec(file) => {
                self.build_spec(&file, project, log).await.map(|image| pushed.push(image))
            }
            Definition::Nix(wanted) => self.build_nix(&wanted, project, log, &mut pushed).await,
        };
        // Tags that have moved are told of, also if others then did not. Why they did not matters more than the report.
        let reported = if pushed.is_empty() { Ok(()) } else { self.report(project, &pushed) };
        for image in &pushed {
            image.summarise(log);
        }
        built.and(reported)
    }

    fn definition(&self) -> Result<Definition, Failure> {
        Ok(self.request.spec.parse()?)
    }

    /// Puts into the report what Nix has said, of which an error shows the end.
    pub(super) fn keep_nix_log(&self, project: &Folder, log: &Log) {
        let file = format!("{REPORT}/nix.log");
        // The failure itself matters more than its log.
        if project.write(&file, &self.nix.log()).is_ok() {
            log.line(format!("the whole log of Nix is in `{file}`"));
        }
    }

    /// The checkout. The job can replace every folder on the way to it by a link.
    pub(super) fn project(&self) -> Result<Folder, FolderError> {
        Folder::open_beneath(&self.folders.builds(), &self.project_below())
    }

    /// Where the checkout is below the builds folder. Since 15.7 the runner says so, in a variable
    /// that no job can replace; for `GIT_STRATEGY: empty` it differs from the usual place.
    fn project_below(&self) -> PathBuf {
        let usual = &self.job.project_slug;
        let empty = format!("{usual}-empty");
        let temporary = self.folders.builds().join(format!("{empty}.tmp"));
        match self.driver.environment.job_variables.get("RUNNER_TEMP_PROJECT_DIR") {
            Some(said) if Path::new(said.expose()) == temporary => empty.into(),
            Some(_) | None => usual.into(),
        }
    }

    fn report(&self, project: &Folder, pushed: &[Pushed]) -> Result<(), Failure> {
        let images: Vec<PushedImage<'_>> = pushed.iter().map(Pushed::to_report).collect();
        for (file, text) in [
            ("image.env", outputs::image_env(&images)),
            ("image.json", outputs::image_json(&images, self.job)),
            ("annotations.json", outputs::annotations_json(&images, self.job)),
        ] {
            project.write(&format!("{REPORT}/{file}"), text.as_bytes())?;
        }
        Ok(())
    }
}

impl Pushed {
    fn to_report(&self) -> PushedImage<'_> {
        PushedImage { repository: &self.repository, digest: self.published.digest, tags: &self.tags }
    }

    fn summarise(&self, log: &Log) {
        let Self { repository, tags, published } = self;
        log.line(Totals::of(&published.layers).to_string());
        for tag in &published.unchanged {
            log.line(format!("`{tag}` named this image already"));
        }
        log.line(format!("digest: {}", published.digest));
        for tag in tags {
            log.line(format!("pull:   docker pull {}", repository.with_tag(tag)));
        }
    }
}
