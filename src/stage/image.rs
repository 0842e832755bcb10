//! What an image job does around its own script: checks before it, builds and pushes after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::log::Log;
use super::{Driver, JobFolders};
use crate::failure::Failure;
use crate::folder::{Folder, FolderError};
use crate::job::annotations;
use crate::job::outputs::PushedImage;
use crate::job::{ImageRequest, Job};
use crate::lock::Lock;
use crate::oci::{Repository, Tag};
use crate::pipeline::{self, Build, BuildError, Event, Published, Totals, read_lock};
use crate::publish::{Destination, Registry};
use crate::sandbox::Sandbox;
use crate::source::nix::Nix;
use crate::spec::ImageSpec;
use crate::yaml::KeyPath;

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

impl ImageJob<'_> {
    /// Before the job's own script, which may take long: everything that can be known by then. A
    /// spec that the script is yet to make is not there, and is no mistake.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        self.job.check_project_dir(&self.folders.builds().join(self.project_below()))?;
        self.check_spec_name()?;
        let project = self.project()?;
        let mut repository =
            self.request.repository.as_deref().map(|name| self.job.repository(name)).transpose()?;
        let mut needs_nix = true;
        if project.has_file(&self.request.spec) {
            let spec = self.spec(&project)?;
            repository = Some(self.repository(&spec)?);
            self.tags(&spec, &|_| {})?;
            self.reuse_from(&spec, &self.repository(&spec)?)?;
            pipeline::check_variables(&spec, &|name| self.job.lookup(name).map(str::to_owned))?;
            if let Some(lock) = self.lock(&project)? {
                pipeline::resolve(&spec, &project, &lock)?;
                // The folders of the project may be for the script to make.
                self.driver.check_caches(&spec)?;
                if spec.has_commands() && !self.nix.is_installed() && *self.sandbox == Sandbox::None {
                    return Err(BuildError::NoSandbox.into());
                }
                needs_nix = false;
            }
        }
        if needs_nix {
            if !self.nix.is_installed() {
                return Err(BuildError::NoNix.into());
            }
            self.nix.version().await?;
        }
        // GitLab makes a repository of what a token may push to, so only the right one is asked for.
        match repository {
            Some(repository) => Ok(self.registry.check_push(&repository).await?),
            None => Ok(()),
        }
    }

    /// After the job's own script: the spec becomes an image in the registry.
    pub(super) async fn build(&self, log: &Log) -> Result<(), Failure> {
        let project = &self.project()?;
        let spec = self.spec(project)?;
        let repository = self.repository(&spec)?;
        let tags = self.tags(&spec, &|line| log.line(line))?;
        let variable = |name: &str| self.job.lookup(name).map(str::to_owned);
        let created = self.created(&spec);
        let lock = self.lock(project)?;
        let build = Build {
            spec: &spec,
            project,
            lock: lock.as_ref(),
            caches: &self.driver.binary_caches(&spec, project, lock.is_some())?,
            nix: Some(self.nix),
            sandbox: Some(self.sandbox),
            roots: &self.folders.roots(),
            scratch: &self.folders.scratch(),
            variable: &variable,
            annotations: annotations::of_commit(self.job, Some(&spec.name), Some(&created.to_string())),
            created,
        };
        let watch = |event: Event| log.line(event.to_string());
        let from = self.reuse_from(&spec, &repository)?;
        let reuse = self.driver.reuse(from, self.request.verify_layers, &|line| log.line(line))?;
        let prepared = {
            let _section = log.section("nixlayer_packages", "Packages");
            build.prepare(&watch).await
        };
        let prepared = prepared.inspect_err(|error| {
            if matches!(error, BuildError::Nix(_)) {
                self.keep_nix_log(project, log);
            }
        })?;
        let destination =
            Destination::Registry { registry: Arc::clone(&self.registry), repository: repository.clone() };
        let published = {
            let _section = log.section("nixlayer_layers", "Layers");
            let effort = self.driver.effort(Some(repository.registry()));
            prepared.publish(&destination, &tags, effort, &reuse, &watch).await?
        };
        self.report(project, &repository, &tags, &published)?;
        summarise(log, &repository, &tags, &published);
        Ok(())
    }

    /// Puts into the report what Nix has said, of which an error shows the end.
    fn keep_nix_log(&self, project: &Folder, log: &Log) {
        let file = format!("{REPORT}/nix.log");
        // The failure itself matters more than its log.
        if project.write(&file, &self.nix.log()).is_ok() {
            log.line(format!("the whole log of Nix is in `{file}`"));
        }
    }

    fn spec(&self, project: &Folder) -> Result<ImageSpec, Failure> {
        let bytes = project.read(&self.request.spec, ImageSpec::MAX_FILE);
        let bytes = bytes.map_err(|error| match error {
            FolderError::Missing { .. } => {
                Failure::build(error, "commit the spec, or name another one in `NIXLAYER_SPEC`")
            }
            _ => error.into(),
        })?;
        Ok(ImageSpec::parse(&self.request.spec, &bytes)?)
    }

    /// The lock beside the spec, unless there is none or the job wants none.
    fn lock(&self, project: &Folder) -> Result<Option<Lock>, Failure> {
        if self.request.lock { Ok(read_lock(project, &self.request.spec)?) } else { Ok(None) }
    }

    fn check_spec_name(&self) -> Result<(), Failure> {
        let spec = Path::new(&self.request.spec);
        if spec.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            return Ok(());
        }
        Err(Failure::build(
            format!("`NIXLAYER_SPEC` is `{}`, which is no YAML file", self.request.spec),
            "name a spec that ends in `.yaml`",
        ))
    }

    /// `NIXLAYER_REPOSITORY`, else the spec's, else the project's own.
    fn repository(&self, spec: &ImageSpec) -> Result<Repository, Failure> {
        let (None, Some(text)) = (&self.request.repository, &spec.repository) else {
            return Ok(self.job.repository(self.request.repository.as_deref().unwrap_or_default())?);
        };
        let key = KeyPath::root().key("repository");
        let requested = text
            .expand(|name| self.lookup_repository(name))
            .map_err(|unset| spec.error_at(&key, unset.to_string(), "name a variable that every job has"))?;
        self.job.repository(&requested).map_err(|error| match error.fix() {
            Some(fix) => spec.error_at(&key, error.to_string(), fix).into(),
            None => error.into(),
        })
    }

    /// In a spec, `$CI_REGISTRY_IMAGE` and `$CI_REGISTRY` mean the project's own, whatever a job says.
    fn lookup_repository(&self, name: &str) -> Option<String> {
        let own = self.job.own_repository().ok()?;
        match name {
            "CI_REGISTRY_IMAGE" => Some(own.to_string()),
            "CI_REGISTRY" => Some(own.registry().to_owned()),
            _ => self.job.lookup(name).map(str::to_owned),
        }
    }

    /// `NIXLAYER_TAGS`, else the spec's, else `latest`.
    fn tags(&self, spec: &ImageSpec, left_out: &dyn Fn(&str)) -> Result<Vec<Tag>, Failure> {
        if !self.request.tags.is_empty() {
            return Ok(self.request.tags.clone());
        }
        let variable = |name: &str| self.job.lookup(name).map(str::to_owned);
        Ok(pipeline::tags(spec, &variable, left_out)?)
    }

    /// The images whose layers may serve again.
    fn reuse_from(
        &self,
        spec: &ImageSpec,
        repository: &Repository,
    ) -> Result<Vec<(Repository, Tag)>, Failure> {
        Ok(pipeline::reuse_from(spec, repository, &|name| self.lookup_repository(name))?)
    }

    fn created(&self, spec: &ImageSpec) -> Timestamp {
        let commit = self.job.commit_timestamp.as_deref().and_then(|time| time.parse().ok());
        spec.created.resolve(self.driver.now, commit)
    }

    /// The checkout. The job can replace every folder on the way to it by a link.
    fn project(&self) -> Result<Folder, FolderError> {
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

    fn report(
        &self,
        project: &Folder,
        repository: &Repository,
        tags: &[Tag],
        published: &Published,
    ) -> Result<(), Failure> {
        let image = PushedImage { repository, digest: published.digest, tags };
        for (file, text) in [
            ("image.env", image.image_env()),
            ("image.json", image.image_json(self.job)),
            ("annotations.json", image.annotations_json(self.job)),
        ] {
            project.write(&format!("{REPORT}/{file}"), text.as_bytes())?;
        }
        Ok(())
    }
}

fn summarise(log: &Log, repository: &Repository, tags: &[Tag], published: &Published) {
    log.line(Totals::of(&published.layers).to_string());
    for tag in &published.unchanged {
        log.line(format!("`{tag}` named this image already"));
    }
    log.line(format!("digest: {}", published.digest));
    for tag in tags {
        log.line(format!("pull:   docker pull {}", repository.with_tag(tag)));
    }
}
