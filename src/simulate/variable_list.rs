//! The variables of a job, in the order in which GitLab and the runner list them.
//!
//! GitLab lists its own variables first and the author's after them, so that an author who names a
//! variable `CI_REGISTRY` makes two entries of that key. The runner puts its own defaults before
//! that list, and a few facts after it, where no job variable can replace them.

use std::path::Path;

use super::RunnerVersion;
use super::job::{JOB_USER, SimulatedJob};
use crate::job::payload::Variable;
use crate::secret::Secret;

/// What the runner knows of a job's surroundings; it grows from stage to stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The builds folder and the project's folder in it, once `config` has run.
    pub(super) folders: Option<(&'a Path, &'a Path)>,
    /// `running`, and before `after_script` what has become of the job.
    pub(super) status: &'a str,
}

impl SimulatedJob {
    /// All variables in the runner's order: a later entry of a key beats an earlier one.
    pub(super) fn all_variables(
        &self,
        version: RunnerVersion,
        surroundings: Surroundings<'_>,
    ) -> Vec<Variable> {
        let folder = |pick: fn((&Path, &Path)) -> String| surroundings.folders.map(pick).unwrap_or_default();
        let project_dir = folder(|(_, project)| project.to_string_lossy().into_owned());
        let mut list = vec![
            public("FF_SKIP_NOOP_BUILD_STAGES", "true"),
            public("CI_JOB_IMAGE", ""),
            public("CI_BUILDS_DIR", &folder(|(builds, _)| builds.to_string_lossy().into_owned())),
            public("CI_PROJECT_DIR", &project_dir),
            public("CI_CONCURRENT_ID", "0"),
            public("CI_CONCURRENT_PROJECT_ID", "0"),
            public("CI_SERVER", "yes"),
            public("CI_JOB_STATUS", surroundings.status),
            public("CI_JOB_TIMEOUT", &self.timeout.to_string()),
        ];
        list.extend(self.gitlab_variables());
        list.extend(self.variables.iter().cloned());
        list.push(public("CI_RUNNER_VERSION", &format!("{version}.0")));
        list.push(public("CI_RUNNER_EXECUTABLE_ARCH", "linux/amd64"));
        if version.has_temp_project_dir() && surroundings.folders.is_some() {
            list.push(public("RUNNER_TEMP_PROJECT_DIR", &format!("{project_dir}.tmp")));
        }
        list
    }

    /// The values that the job log must not show.
    pub(super) fn masked_values(&self) -> Vec<String> {
        let masked = |variable: &Variable| variable.masked.then(|| variable.value.expose().to_owned());
        self.gitlab_variables().iter().chain(&self.variables).filter_map(masked).collect()
    }

    /// GitLab's own variables, which precede the author's.
    pub(super) fn gitlab_variables(&self) -> Vec<Variable> {
        let project_url = format!("{}/{}", self.server_url, self.project_path);
        let host = self.server_url.split_once("://").map_or("", |(_, authority)| authority);
        let host = host.split([':', '/']).next().unwrap_or_default();
        let namespace = self.project_path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let sources = &self.sources;
        let mut list = vec![
            public("CI_PIPELINE_ID", "1"),
            public("CI_PIPELINE_URL", &format!("{project_url}/-/pipelines/1")),
            public("CI_JOB_ID", &self.id.to_string()),
            public("CI_JOB_URL", &format!("{project_url}/-/jobs/{}", self.id)),
            masked("CI_JOB_TOKEN", self.password.expose()),
            public("CI_REGISTRY_USER", JOB_USER),
            masked("CI_REGISTRY_PASSWORD", self.password.expose()),
            Variable { public: false, ..public("CI_REPOSITORY_URL", &self.clone_url()) },
            public("CI_JOB_NAME", &self.name),
            public("CI_JOB_STAGE", "build"),
            public("CI", "true"),
            public("GITLAB_CI", "true"),
            public("CI_SERVER_URL", &self.server_url),
            public("CI_SERVER_HOST", host),
            public("CI_PROJECT_ID", &self.project_id().to_string()),
            public("CI_PROJECT_NAME", self.project_name()),
            public("CI_PROJECT_PATH", &self.project_path),
            public("CI_PROJECT_PATH_SLUG", &slug(&self.project_path)),
            public("CI_PROJECT_NAMESPACE", namespace),
            public("CI_PROJECT_URL", &project_url),
            public("CI_DEFAULT_BRANCH", "main"),
        ];
        if let Some(registry) = &self.registry {
            let image = format!("{registry}/{}", self.project_path.to_lowercase());
            list.extend([public("CI_REGISTRY", registry), public("CI_REGISTRY_IMAGE", &image)]);
        }
        list.extend([
            public("CI_PIPELINE_IID", "1"),
            public("CI_PIPELINE_SOURCE", "push"),
            public("CI_COMMIT_SHA", &sources.sha),
            public("CI_COMMIT_SHORT_SHA", sources.sha.get(..8).unwrap_or_default()),
            public("CI_COMMIT_REF_NAME", &sources.ref_name),
            public("CI_COMMIT_REF_SLUG", &slug(&sources.ref_name)),
            public("CI_COMMIT_REF_PROTECTED", if self.protected { "true" } else { "false" }),
            public("CI_COMMIT_TIMESTAMP", &sources.timestamp),
            public("CI_COMMIT_TITLE", &sources.title),
            public("CI_COMMIT_BRANCH", &sources.ref_name),
        ]);
        list
    }
}

fn public(key: &str, value: &str) -> Variable {
    Variable {
        key: key.to_owned(),
        value: Secret::from(value.to_owned()),
        public: true,
        ..Variable::default()
    }
}

fn masked(key: &str, value: &str) -> Variable {
    Variable { public: false, masked: true, ..public(key, value) }
}

/// GitLab's slug: lower case, 63 bytes, everything but letters and digits a dash, none at the ends.
fn slug(text: &str) -> String {
    let dashed = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let slug: String = text.to_lowercase().chars().map(dashed).take(63).collect();
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::job::tests::job;
    use crate::simulate::variables::resolve;

    #[test]
    fn only_facts_of_the_runner_beat_the_author() {
        let author = ["CI_PROJECT_DIR", "CI_JOB_STATUS", "CI_RUNNER_VERSION", "RUNNER_TEMP_PROJECT_DIR"];
        let forged = job(author.iter().map(|key| public(key, "forged")).collect());
        let folders = Some((Path::new("/b"), Path::new("/b/team/app")));
        let surroundings = Surroundings { folders, status: "running" };
        let version = RunnerVersion::NEWEST;

        let resolved = resolve(&forged.all_variables(version, surroundings), version, None);

        assert_eq!(resolved["CI_PROJECT_DIR"].value, "forged");
        assert_eq!(resolved["CI_JOB_STATUS"].value, "forged");
        assert_eq!(resolved["CI_RUNNER_VERSION"].value, "19.3.0");
        assert_eq!(resolved["RUNNER_TEMP_PROJECT_DIR"].value, "/b/team/app.tmp");
    }
}
