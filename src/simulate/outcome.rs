//! What has become of a job, and of the calls that were made for it.

use std::io;
use std::path::{Path, PathBuf};

/// What has become of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What GitLab would show.
    pub status: Status,
    /// The job log.
    pub trace: String,
    /// What `cleanup` printed, which a real runner puts into its own log.
    pub cleanup_log: String,
    /// The calls of the driver, in order.
    pub calls: Vec<Call>,
    /// The project's folder, if `config` got that far.
    pub project_dir: Option<PathBuf>,
}

/// One call of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `config`, `prepare`, the stage of a `run`, or `cleanup`.
    pub stage: String,
    /// The exit code; `None` if a signal ended the driver, or it could not be started.
    pub exit_code: Option<i32>,
}

/// A job's state in GitLab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The job succeeded.
    Success,
    /// The job's own fault, `script_failure`.
    ScriptFailure {
        /// What `allow_failure:exit_codes` sees.
        exit_code: i32,
    },
    /// The runner's fault, `runner_system_failure`.
    SystemFailure,
    /// Somebody cancelled it.
    Cancelled,
}

/// Why the runner itself cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("the simulated runner cannot {doing} `{path}`")]
pub struct RunnerError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl RunnerError {
    /// Makes the error of what could not be done to `path`.
    pub(super) fn new(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { doing, path, source }
    }
}
