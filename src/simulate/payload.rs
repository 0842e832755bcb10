//! Plays GitLab: writes the job response of a job, in the form of the runner's release.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::RunnerVersion;
use super::job::{JOB_USER, SimulatedJob};
use crate::job::payload::Variable;

impl SimulatedJob {
    /// Writes the response to a new file at `path` that nobody else can read.
    pub(super) fn write_response(&self, version: RunnerVersion, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.response(version).to_string().as_bytes())
    }

    /// What GitLab Runner writes to `JOB_RESPONSE_FILE`.
    fn response(&self, version: RunnerVersion) -> Value {
        let mut job_info = json!({
            "name": self.name,
            "stage": "build",
            "project_id": self.project_id(),
            "project_name": self.project_name(),
        });
        if version.knows_project_path() {
            job_info["project_full_path"] = json!(self.project_path);
        }
        let mut git_info = json!({
            "repo_url": self.clone_url(),
            "ref": self.sources.ref_name,
            "sha": self.sources.sha,
            "before_sha": "0".repeat(40),
            "ref_type": "branch",
            "refspecs": ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"],
            "depth": 0,
        });
        if version.knows_protection() {
            git_info["protected"] = json!(self.protected);
        }
        let variables: Vec<Value> =
            self.gitlab_variables().iter().chain(&self.variables).map(entry).collect();
        json!({
            "id": self.id,
            "token": self.password.expose(),
            "allow_git_fetch": true,
            "job_info": job_info,
            "git_info": git_info,
            "runner_info": { "timeout": self.timeout },
            "variables": variables,
            "steps": [
                { "name": "script", "script": self.script, "timeout": self.timeout, "when": "on_success" },
                { "name": "after_script", "script": self.after_script, "timeout": 300, "when": "always" },
            ],
            "image": { "name": "" },
            "services": null,
            "artifacts": [{ "paths": self.artifacts, "when": "always" }],
            "cache": null,
            "credentials": self.credentials(),
            "dependencies": null,
            "features": { "trace_sections": true, "failure_reasons": ["script_failure"] },
            "secrets": null,
        })
    }

    /// GitLab lists the registry, and with the same password its dependency proxy.
    fn credentials(&self) -> Vec<Value> {
        let authority = self.server_url.split_once("://").map_or("", |(_, authority)| authority);
        let dependency_proxy = authority.split('/').next();
        let entry = |url: &str| json!({ "type": "registry", "url": url, "username": JOB_USER, "password": self.password.expose() });
        self.registry.as_deref().into_iter().chain(dependency_proxy).map(entry).collect()
    }
}

fn entry(variable: &Variable) -> Value {
    json!({
        "key": variable.key,
        "value": variable.value.expose(),
        "public": variable.public,
        "file": variable.file,
        "masked": variable.masked,
        "raw": variable.raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Environment, Job, JobError, Payload};
    use crate::secret::Secret;
    use crate::simulate::job::tests::job;
    use crate::simulate::variable_list::Surroundings;
    use crate::simulate::variables::resolve;

    fn public(key: &str, value: &str) -> Variable {
        Variable {
            key: key.to_owned(),
            value: Secret::from(value.to_owned()),
            public: true,
            ..Variable::default()
        }
    }

    /// What a driver of the given runner makes of the job.
    fn read(job: &SimulatedJob, version: RunnerVersion) -> Job {
        let surroundings = Surroundings { folders: None, status: "running" };
        let resolved = resolve(&job.all_variables(version, surroundings), version, None);
        let environment =
            resolved.into_iter().map(|(key, it)| (format!("CUSTOM_ENV_{key}").into(), it.value.into()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("response.json");
        job.write_response(version, &file).unwrap();
        let payload = Payload::parse(&std::fs::read(file).unwrap()).unwrap();
        Job::parse(&payload, &Environment::parse(environment).unwrap()).unwrap()
    }

    #[test]
    fn a_driver_finds_the_job_that_was_made_up_under_every_runner() {
        for (major, minor) in [(14, 1), (15, 7), (16, 11), (17, 9), (18, 0), (18, 3), (19, 3), (20, 0)] {
            let found =
                read(&job(vec![public("NIXLAYER_SPEC", "image.yaml")]), RunnerVersion::new(major, minor));

            assert_eq!((found.id, found.project_path.as_str()), (12, "team/Sub.Group/App"));
            assert_eq!(found.own_repository().unwrap().to_string(), "127.0.0.1:5000/team/sub.group/app");
            assert_eq!(found.gitlab_host, "127.0.0.1:3000");
            assert_eq!(found.registry().unwrap().password.expose(), "canary");
            assert!(found.protected);
            assert_eq!(found.lookup("CI_COMMIT_REF_SLUG"), Some("feature-x"));
            assert_eq!(found.image_request().unwrap().unwrap().spec, "image.yaml");
        }
    }

    #[test]
    fn runner_and_driver_agree_on_the_projects_folder() {
        for server_url in ["http://127.0.0.1:3000", "https://host.example/gitlab"] {
            let job = SimulatedJob { server_url: server_url.to_owned(), ..job(Vec::new()) };

            assert_eq!(read(&job, RunnerVersion::NEWEST).project_slug, job.project_slug());
        }
    }

    #[test]
    fn a_variable_of_the_author_replaces_gitlabs_in_the_environment_only() {
        let forged = job(vec![public("NIXLAYER_SPEC", "x"), public("CI_REGISTRY", "evil.example")]);

        let found = read(&forged, RunnerVersion::NEWEST);

        assert_eq!(found.registry().unwrap().host, "127.0.0.1:5000");
        assert_eq!(found.image_request(), Err(JobError::Contradiction { key: "CI_REGISTRY" }));
    }

    #[test]
    fn a_gitlab_without_a_registry_gives_no_credentials_for_one() {
        let found = read(&SimulatedJob { registry: None, ..job(Vec::new()) }, RunnerVersion::NEWEST);

        assert_eq!(found.registry(), Err(JobError::RegistryNotEnabled));
    }

    #[test]
    fn the_response_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("response.json");

        job(Vec::new()).write_response(RunnerVersion::NEWEST, &file).unwrap();

        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
