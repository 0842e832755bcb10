//! A job that GitLab might have sent.

use super::Sources;
use crate::job::payload::Variable;
use crate::oci::Digest;
use crate::secret::Secret;

/// What GitLab calls the user whose password is a job token.
pub(super) const JOB_USER: &str = "gitlab-ci-token";

/// A job that exists on this machine only.
#[derive(Clone, Debug)]
pub struct SimulatedJob {
    /// The job's number.
    pub id: u64,
    /// The job's name.
    pub name: String,
    /// The project's path, `group/project`.
    pub project_path: String,
    /// The URL of the GitLab, without a slash at its end.
    pub server_url: String,
    /// Host and port of the registry; `None` for a GitLab without one.
    pub registry: Option<String>,
    /// The job token, which is the registry's password as well.
    pub password: Secret,
    /// Whether the ref is protected.
    pub protected: bool,
    /// What the job builds.
    pub sources: Sources,
    /// The author's variables.
    pub variables: Vec<Variable>,
    /// The job's lines: `before_script` and `script`.
    pub script: Vec<String>,
    /// The lines after them, which run also when they failed.
    pub after_script: Vec<String>,
    /// The paths of `artifacts:paths`, kept `when: always`.
    pub artifacts: Vec<String>,
    /// Seconds the job may take, as the response states it.
    pub timeout: u64,
}

impl SimulatedJob {
    /// The project's folder below the builds folder: the path of its clone URL.
    pub(super) fn project_slug(&self) -> String {
        let below_host = self.server_url.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        match below_host {
            Some((_, above)) => format!("{above}/{}", self.project_path),
            None => self.project_path.clone(),
        }
    }

    /// A number that no other project has, which is all that GitLab's numbers tell.
    pub(super) fn project_id(&self) -> u64 {
        let digest = Digest::of(self.project_path.to_lowercase().as_bytes()).hex();
        u64::from_str_radix(&digest[..8], 16).unwrap_or_default() + 1
    }

    /// The last part of the project's path.
    pub(super) fn project_name(&self) -> &str {
        self.project_path.rsplit('/').next().unwrap_or_default()
    }

    /// Where the job clones from, with the job token in it.
    pub(super) fn clone_url(&self) -> String {
        let with_token = format!("://{JOB_USER}:{}@", self.password.expose());
        format!("{}/{}.git", self.server_url.replacen("://", &with_token, 1), self.project_path)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job of a project with capitals in its path, for a branch whose name is no slug.
    pub(in crate::simulate) fn job(variables: Vec<Variable>) -> SimulatedJob {
        SimulatedJob {
            id: 12,
            name: "image".to_owned(),
            project_path: "team/Sub.Group/App".to_owned(),
            server_url: "http://127.0.0.1:3000".to_owned(),
            registry: Some("127.0.0.1:5000".to_owned()),
            password: Secret::from("canary".to_owned()),
            protected: true,
            sources: Sources {
                repository: "/nonexistent".into(),
                sha: "4f1c2b3a5d6e7f8091a2b3c4d5e6f708192a3b4c".to_owned(),
                timestamp: "2026-03-04T05:06:07+00:00".to_owned(),
                title: "Title".to_owned(),
                ref_name: "feature/X".to_owned(),
                uncommitted: false,
            },
            variables,
            script: vec!["true".to_owned()],
            after_script: Vec::new(),
            artifacts: Vec::new(),
            timeout: 60,
        }
    }
}
