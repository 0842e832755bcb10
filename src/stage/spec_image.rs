//! An image job whose image is defined by a spec.

use std::sync::Arc;

use jiff::Timestamp;

use super::image::{ImageJob, Pushed};
use super::log::Log;
use crate::failure::Failure;
use crate::folder::{Folder, FolderError};
use crate::job::annotations;
use crate::lock::Lock;
use crate::oci::{Repository, Tag};
use crate::pipeline::{self, Build, BuildError, Event, read_lock};
use crate::publish::Destination;
use crate::sandbox::Sandbox;
use crate::spec::ImageSpec;
use crate::yaml::KeyPath;

impl ImageJob<'_> {
    /// What can be known of a spec before the job's script has run.
    pub(super) async fn check_spec(&self, file: &str) -> Result<(), Failure> {
        let project = self.project()?;
        let mut repository =
            self.request.repository.as_deref().map(|name| self.job.repository(name)).transpose()?;
        let mut needs_nix = true;
        if project.has_file(file) {
            let spec = self.spec(file, &project)?;
            repository = Some(self.repository(&spec)?);
            self.tags(&spec, &|_| {})?;
            self.reuse_from(&spec, &self.repository(&spec)?)?;
            pipeline::check_variables(&spec, &|name| self.job.lookup(name).map(str::to_owned))?;
            if let Some(lock) = self.lock(file, &project)? {
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

    /// The spec becomes an image in the registry.
    pub(super) async fn build_spec(
        &self,
        file: &str,
        project: &Folder,
        log: &Log,
    ) -> Result<Pushed, Failure> {
        let spec = self.spec(file, project)?;
        let repository = self.repository(&spec)?;
        let tags = self.tags(&spec, &|line| log.line(line))?;
        let variable = |name: &str| self.job.lookup(name).map(str::to_owned);
        let created = self.created(&spec);
        let lock = self.lock(file, project)?;
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
            if matches!(error, BuildError::Nix(error) if error.has_log()) {
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
        Ok(Pushed { repository, tags, published })
    }

    fn spec(&self, file: &str, project: &Folder) -> Result<ImageSpec, Failure> {
        let bytes = project.read(file, ImageSpec::MAX_FILE);
        let bytes = bytes.map_err(|error| match error {
            FolderError::Missing { .. } => {
                Failure::build(error, "commit the spec, or name another one in `NIXLAYER_SPEC`")
            }
            _ => error.into(),
        })?;
        Ok(ImageSpec::parse(file, &bytes)?)
    }

    /// The lock beside the spec, unless there is none or the job wants none.
    fn lock(&self, file: &str, project: &Folder) -> Result<Option<Lock>, Failure> {
        if self.request.lock { Ok(read_lock(project, file)?) } else { Ok(None) }
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
}
