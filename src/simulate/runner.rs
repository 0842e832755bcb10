//! A GitLab Runner with the custom executor, as its administrator set it up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::version::RunnerVersion;

/// A runner with the custom executor.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Which release it plays.
    pub version: RunnerVersion,
    /// The driver that it calls.
    pub driver: Driver,
    /// The runner's own environment, which the driver inherits.
    pub environment: BTreeMap<OsString, OsString>,
    /// Where the temporary folders of the attempts are made.
    pub temp_dir: PathBuf,
    /// `builds_dir` of `config.toml`.
    pub builds_dir: Option<PathBuf>,
    /// `cache_dir` of `config.toml`.
    pub cache_dir: Option<PathBuf>,
    /// Where artifacts arrive.
    pub artifacts_dir: PathBuf,
    /// What the driver's exit codes mean; a real runner has 1 and 2.
    pub exit_codes: ExitCodes,
    /// The pause before another attempt; a real runner has three seconds.
    pub retry_pause: Duration,
    /// `graceful_kill_timeout`: from SIGTERM to SIGKILL.
    pub graceful_kill: Duration,
    /// `force_kill_timeout`: how long a killed driver is waited for.
    pub force_kill: Duration,
}

/// The driver, as `[runners.custom]` of `config.toml` names it.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The program, with an absolute path.
    pub program: PathBuf,
    /// `config_args`
    pub config_args: Vec<OsString>,
    /// `prepare_args`
    pub prepare_args: Vec<OsString>,
    /// `run_args`, which precede script and stage.
    pub run_args: Vec<OsString>,
    /// `cleanup_args`
    pub cleanup_args: Vec<OsString>,
}

/// The exit codes that a driver is told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCodes {
    /// `BUILD_FAILURE_EXIT_CODE`
    pub build_failure: i32,
    /// `SYSTEM_FAILURE_EXIT_CODE`
    pub system_failure: i32,
}
