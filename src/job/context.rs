//! The job: who it is, what it builds, and where it may push.
//!
//! 1. Number, project, commit and clone URL come from the job response's own fields.
//! 2. The registry is the one among `credentials` that GitLab calls `CI_REGISTRY`. GitLab lists its
//!    dependency proxy there as well, so `CI_REGISTRY` chooses; but it chooses among passwords that
//!    GitLab itself has bound to a host, and cannot add a host. Where it is missing, the registry is
//!    switched off, and no other entry is taken for it.
//! 3. If the job asks for an image, the variables that seem to decide the same are compared with
//!    the facts. A job with `CI_REGISTRY: evil.example` would otherwise believe it pushed there.

use std::collections::BTreeMap;
use std::path::Path;

use super::clone_url::{self, CloneUrl};
use super::payload::{Credential, Payload};
use super::public_variables::public_variables;
use super::variables::Variables;
use super::{Environment, JobError};
use crate::oci::{Repository, Tag};
use crate::secret::Secret;

/// A job, as GitLab vouches for it.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its number on its GitLab.
    pub id: u64,
    /// The project's number.
    pub project_id: u64,
    /// The project's path, with the capitals that GitLab shows.
    pub project_path: String,
    /// The project's page.
    pub project_url: String,
    /// Host and, if it is an unusual one, port of the GitLab; it gives out the registry's tokens.
    pub gitlab_host: String,
    /// The branch or tag.
    pub ref_name: String,
    /// Whether the branch or tag is protected.
    pub protected: bool,
    /// The commit.
    pub sha: String,
    /// When the commit was made, in RFC 3339.
    pub commit_timestamp: Option<String>,
    /// The job's page.
    pub job_url: Option<String>,
    /// The pipeline's number.
    pub pipeline_id: Option<String>,
    /// The pipeline's page.
    pub pipeline_url: Option<String>,
    /// The runner's working folder for the project, below its builds folder.
    pub project_slug: String,
    /// The certificates behind which the runner has found GitLab, in PEM. They are the runner's word.
    pub server_ca: Option<String>,
    registry: Result<Registry, JobError>,
    public_variables: BTreeMap<String, String>,
    variables: Variables,
}

/// The container registry of the job's GitLab, and the job's own way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Host and optional port.
    pub host: String,
    /// The user name.
    pub user: String,
    /// The password, good until the job ends.
    pub password: Secret,
}

/// What a job's variables ask for, if it is to build an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// `NIXLAYER_SPEC`: the image spec, as a path in the project.
    pub spec: String,
    /// `NIXLAYER_TAGS`: tags instead of the spec's; empty if the spec's hold.
    pub tags: Vec<Tag>,
    /// `NIXLAYER_REPOSITORY`: a repository instead of the spec's.
    pub repository: Option<String>,
    /// `NIXLAYER_VERIFY_LAYERS: "on"`: whether every layer is made and compared with its record.
    pub verify_layers: bool,
    /// Whether the lock beside the spec counts, if there is one; `NIXLAYER_LOCK: "off"` says no.
    pub lock: bool,
}

impl Job {
    /// Reads a job from the two places where the runner puts it.
    pub fn parse(payload: &Payload, environment: &Environment) -> Result<Self, JobError> {
        let variables = Variables::new(&payload.variables, &environment.job_variables);
        let trusted = |key| variables.trusted(key).filter(|value| !value.is_empty()).map(str::to_owned);
        let info = &payload.job_info;
        let git = &payload.git_info;

        if payload.id == 0 {
            return Err(JobError::Missing { field: "id" });
        }
        if info.project_id == 0 {
            return Err(JobError::Missing { field: "job_info.project_id" });
        }
        let sha = present(&git.sha).ok_or(JobError::Missing { field: "git_info.sha" })?;
        let clone_url = CloneUrl::parse(git.repo_url.expose()).ok_or(JobError::CloneUrl)?;
        let project_path = present(&info.project_full_path)
            .or_else(|| trusted("CI_PROJECT_PATH"))
            .ok_or(JobError::Missing { field: "job_info.project_full_path" })?;
        if !clone_url.is_of(&project_path) {
            return Err(JobError::TwoProjects { project: project_path, cloned: clone_url.path });
        }

        let server_url = trusted("CI_SERVER_URL").unwrap_or_else(|| clone_url.origin.clone());
        let protected = || variables.trusted("CI_COMMIT_REF_PROTECTED") == Some("true");
        Ok(Self {
            id: payload.id,
            project_id: info.project_id,
            project_url: trusted("CI_PROJECT_URL")
                .unwrap_or_else(|| format!("{}/{}", clone_url.origin, clone_url.path)),
            project_path,
            gitlab_host: clone_url::authority(&server_url)
                .or_else(|| clone_url::authority(&clone_url.origin))
                .ok_or(JobError::CloneUrl)?,
            ref_name: git.ref_name.clone(),
            protected: git.protected.unwrap_or_else(protected),
            sha,
            commit_timestamp: trusted("CI_COMMIT_TIMESTAMP"),
            job_url: trusted("CI_JOB_URL"),
            pipeline_id: trusted("CI_PIPELINE_ID"),
            pipeline_url: trusted("CI_PIPELINE_URL"),
            project_slug: clone_url.path,
            server_ca: server_ca(payload, environment),
            registry: registry(&variables, &payload.credentials),
            public_variables: public_variables(payload, &variables),
            variables,
        })
    }

    /// Where the job may push, and how.
    pub fn registry(&self) -> Result<&Registry, JobError> {
        self.registry.as_ref().map_err(Clone::clone)
    }

    /// The repository of the project itself, the one that GitLab calls `CI_REGISTRY_IMAGE`.
    pub fn own_repository(&self) -> Result<Repository, JobError> {
        let name = self.project_path.to_lowercase();
        Repository::new(&self.registry()?.host, &name)
            .map_err(|source| JobError::Repository { requested: name, source })
    }

    /// What `$key` means in an image spec.
    pub fn lookup(&self, key: &str) -> Option<&str> {
        self.variables.lookup(key)
    }

    /// The variables that GitLab calls public.
    pub fn public_variables(&self) -> &BTreeMap<String, String> {
        &self.public_variables
    }

    /// The image that the job asks for; `None` if it is an ordinary job.
    ///
    /// Refuses a job whose variables name another registry, project or job than GitLab does.
    pub fn image_request(&self) -> Result<Option<ImageRequest>, JobError> {
        let asked = |key| self.variables.authored(key).map(str::trim).filter(|value| !value.is_empty());
        let Some(spec) = asked("NIXLAYER_SPEC") else { return Ok(None) };
        self.check_variables()?;
        let switch = |key, default| match asked(key) {
            None => Ok(default),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(JobError::Switch { key, value: other.to_owned() }),
        };
        let mut tags = Vec::<Tag>::new();
        for tag in asked("NIXLAYER_TAGS").unwrap_or_default().split_whitespace() {
            let tag = tag.parse().map_err(JobError::Tags)?;
            // `latest $CI_COMMIT_REF_SLUG` names one twice on a branch called `latest`.
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Ok(Some(ImageRequest {
            spec: spec.to_owned(),
            tags,
            repository: asked("NIXLAYER_REPOSITORY").map(str::to_owned),
            verify_layers: switch("NIXLAYER_VERIFY_LAYERS", false)?,
            lock: switch("NIXLAYER_LOCK", true)?,
        }))
    }

    /// Compares `CI_PROJECT_DIR` with the folder that the project really is in.
    ///
    /// The job response does not hold the folder, so [`Job::image_request`] cannot compare it.
    pub fn check_project_dir(&self, project_dir: &Path) -> Result<(), JobError> {
        match self.variables.authored("CI_PROJECT_DIR") {
            Some(stated) if Path::new(stated) != project_dir => {
                Err(JobError::Contradiction { key: "CI_PROJECT_DIR" })
            }
            _ => Ok(()),
        }
    }

    fn check_variables(&self) -> Result<(), JobError> {
        let registry = self.registry()?;
        let own = |key| self.variables.first(key).map(str::to_owned);
        // For the passwords it is enough that nobody replaced GitLab's entry: what is used is the
        // response's own field, and GitLab may give each of its copies another text.
        for (key, expected) in [
            ("CI_REGISTRY", Some(registry.host.clone())),
            ("CI_REGISTRY_USER", own("CI_REGISTRY_USER")),
            ("CI_REGISTRY_PASSWORD", own("CI_REGISTRY_PASSWORD")),
            ("CI_REGISTRY_IMAGE", Some(self.own_repository()?.to_string())),
            ("CI_PROJECT_PATH", Some(self.project_path.clone())),
            ("CI_PROJECT_ID", Some(self.project_id.to_string())),
            ("CI_JOB_ID", Some(self.id.to_string())),
            ("CI_JOB_TOKEN", own("CI_JOB_TOKEN")),
        ] {
            if let (Some(stated), Some(expected)) = (self.variables.authored(key), expected)
                && stated != expected
            {
                return Err(JobError::Contradiction { key });
            }
        }
        Ok(())
    }
}

fn registry(variables: &Variables, credentials: &[Credential]) -> Result<Registry, JobError> {
    let host = variables.first("CI_REGISTRY").filter(|host| !host.is_empty());
    let host = host.ok_or(JobError::RegistryNotEnabled)?;
    let found = credentials.iter().find(|entry| entry.kind == "registry" && entry.url == host);
    let entry = found.ok_or_else(|| JobError::NoCredentials { registry: host.to_owned() })?;
    Ok(Registry { host: entry.url.clone(), user: entry.username.clone(), password: entry.password.clone() })
}

/// `CI_SERVER_TLS_CA_FILE`, which the runner sets, and which anything that the author sets replaces.
///
/// The runner does not list its own value in the response. So where the author's variables and secrets do
/// not have the key, the value is the runner's. A key may hold a `=`, where the environment ends its name.
fn server_ca(payload: &Payload, environment: &Environment) -> Option<String> {
    const KEY: &str = "CI_SERVER_TLS_CA_FILE";
    let variables = payload.variables.iter().map(|variable| &variable.key);
    let replaced = variables.chain(&payload.secrets).any(|key| key.split('=').next() == Some(KEY));
    let value = environment.job_variables.get(KEY).filter(|_| !replaced)?;
    present(value.expose())
}

fn present(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
pub(super) mod tests;
