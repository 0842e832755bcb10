//! One try of `config` and `prepare`, and all that follows from it: its folder, and what each call of
//! the driver in it gets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use tempfile::TempDir;

use super::job::SimulatedJob;
use super::outcome::RunnerError;
use super::runner::Runner;
use super::scripts::temp_project_dir;
use super::trace::Trace;
use super::variable_list::Surroundings;
use super::variables::{Resolved, resolve};

/// What the runner puts between the builds folder and the project's where the former is shared.
const SHARED_BUILDS: &str = "simulate/0";

/// One try of a job.
pub(super) struct Attempt<'a> {
    runner: &'a Runner,
    job: &'a SimulatedJob,
    /// `TMPDIR`
    dir: TempDir,
    /// What `config` adds to the environment of later calls.
    job_env: BTreeMap<String, String>,
    /// Where the project is, once `config` has said it.
    folders: Option<Folders>,
    /// `CI_JOB_STATUS`
    pub(super) status: &'static str,
}

/// Where the project is.
pub(super) struct Folders {
    /// The builds folder.
    builds: PathBuf,
    /// The project's folder in it.
    pub(super) project: PathBuf,
}

/// What `config` prints; other keys are for later runners.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DriverConfig {
    driver: Option<DriverName>,
    builds_dir: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    builds_dir_is_shared: bool,
    job_env: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DriverName {
    name: String,
    version: String,
}

impl<'a> Attempt<'a> {
    /// A new attempt, with the job response in its folder.
    pub(super) fn new(runner: &'a Runner, job: &'a SimulatedJob) -> Result<Self, RunnerError> {
        let dir = tempfile::Builder::new()
            .prefix("custom-executor")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&runner.temp_dir)
            .map_err(RunnerError::new("make a folder in", &runner.temp_dir))?;
        let attempt = Self { runner, job, dir, job_env: BTreeMap::new(), folders: None, status: "running" };
        let file = attempt.response_file();
        job.write_response(runner.version, &file).map_err(RunnerError::new("write", &file))?;
        Ok(attempt)
    }

    /// Learns from what `config` printed where the project is, and tells who the driver is.
    pub(super) fn configure(&mut self, stdout: &[u8], trace: &mut Trace<'_>) -> Result<(), String> {
        let config: DriverConfig = if stdout.trim_ascii().is_empty() {
            DriverConfig::default()
        } else {
            serde_json::from_slice(stdout)
                .map_err(|error| format!("parsing the output of config: {error}"))?
        };
        let driver = config.driver.unwrap_or_default();
        trace.line(&format!("Using Custom executor with driver {} {}...", driver.name, driver.version));
        let builds = config.builds_dir.or_else(|| self.runner.builds_dir.clone());
        let builds = builds.ok_or("the builds_dir is not configured")?;
        config
            .cache_dir
            .or_else(|| self.runner.cache_dir.clone())
            .ok_or("the cache_dir is not configured")?;
        let above = if config.builds_dir_is_shared { builds.join(SHARED_BUILDS) } else { builds.clone() };
        let project = above.join(self.job.project_slug());
        self.folders = Some(Folders { builds, project });
        self.job_env = config.job_env;
        Ok(())
    }

    /// Where the project is, once `config` has said it.
    pub(super) fn folders(&self) -> Option<&Folders> {
        self.folders.as_ref()
    }

    /// The driver with everything that one call gets: the later of two entries with one name is the
    /// one that it sees.
    pub(super) fn command(&self, args: &[OsString]) -> Command {
        let runner = self.runner;
        let dir = self.dir.path();
        let mut command = Command::new(&runner.driver.program);
        command.args(args).current_dir(dir).env_clear().envs(&runner.environment);
        command
            .env("TMPDIR", dir)
            .env("BUILD_FAILURE_EXIT_CODE", runner.exit_codes.build_failure.to_string())
            .env("SYSTEM_FAILURE_EXIT_CODE", runner.exit_codes.system_failure.to_string())
            .env("JOB_RESPONSE_FILE", self.response_file());
        if runner.version.has_exit_code_file() {
            command.env("BUILD_EXIT_CODE_FILE", self.exit_code_file());
        }
        command.envs(&self.job_env);
        for (key, variable) in self.variables() {
            command.env(format!("CUSTOM_ENV_{key}"), variable.value);
        }
        command.env("CUSTOM_ENV_CI_JOB_SERVICES", "");
        command
    }

    /// The job variables as scripts get them.
    pub(super) fn variables(&self) -> BTreeMap<String, Resolved> {
        let folders = self.folders();
        let surroundings = Surroundings {
            folders: folders.map(|folders| (folders.builds.as_path(), folders.project.as_path())),
            status: self.status,
        };
        let temp = folders.map(|folders| temp_project_dir(&folders.project));
        let version = self.runner.version;
        resolve(&self.job.all_variables(version, surroundings), version, temp.as_deref())
    }

    /// What the driver wrote to `BUILD_EXIT_CODE_FILE`, if it did.
    pub(super) fn stated_exit_code(&self) -> Option<String> {
        if !self.runner.version.has_exit_code_file() {
            return None;
        }
        fs::read_to_string(self.exit_code_file()).ok()
    }

    /// Writes a stage's script into a folder of its own, for its owner only; it stays until the attempt
    /// ends.
    pub(super) fn write_script(&self, text: &str) -> Result<PathBuf, RunnerError> {
        self.try_write_script(text).map_err(RunnerError::new("write a script to", self.dir.path()))
    }

    fn try_write_script(&self, text: &str) -> io::Result<PathBuf> {
        let folder = tempfile::Builder::new()
            .prefix("script")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(&self.dir)?
            .keep();
        let path = folder.join(self.runner.version.script_name());
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    /// Removes its folder.
    pub(super) fn remove(self) -> Result<(), RunnerError> {
        let path = self.dir.path().to_owned();
        self.dir.close().map_err(RunnerError::new("remove", &path))
    }

    fn response_file(&self) -> PathBuf {
        self.dir.path().join("response.json")
    }

    fn exit_code_file(&self) -> PathBuf {
        self.dir.path().join("build_exit_code")
    }
}

impl Folders {
    /// Where the job finds the project's repository, in the place of GitLab's.
    pub(super) fn origin(&self) -> PathBuf {
        temp_project_dir(&self.project).join("origin.git")
    }

    /// Where the job leaves its artifacts, in the place of GitLab.
    pub(super) fn outbox(&self) -> PathBuf {
        temp_project_dir(&self.project).join("artifacts")
    }
}
