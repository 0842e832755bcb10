//! What differs between the releases of GitLab Runner.

use std::fmt;

/// A release of GitLab Runner, from 14.1 on: the first with `JOB_RESPONSE_FILE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunnerVersion {
    /// The number before the dot.
    pub major: u16,
    /// The number after it.
    pub minor: u16,
}

impl RunnerVersion {
    /// The newest release that is played.
    pub const NEWEST: Self = Self::new(19, 3);

    /// Release `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The stage of the job's own lines.
    ///
    /// Releases from 14 on warn that it will be `step_script`, and all up to 19.3 still say
    /// `build_script`. Release 20, which does not exist yet, plays the day on which they do it.
    pub(super) fn user_stage(self) -> &'static str {
        if self >= Self::new(20, 0) { "step_script" } else { "build_script" }
    }

    /// The file name of a stage's script.
    pub(super) fn script_name(self) -> &'static str {
        if self >= Self::new(17, 4) { "script" } else { "script." }
    }

    /// Whether the driver may state a script's exit code in `BUILD_EXIT_CODE_FILE`.
    pub(super) fn has_exit_code_file(self) -> bool {
        self >= Self::new(17, 9)
    }

    /// Whether there is `RUNNER_TEMP_PROJECT_DIR`, and a reference to a file variable is its path.
    pub(super) fn has_temp_project_dir(self) -> bool {
        self >= Self::new(15, 7)
    }

    /// Whether a cancelled job goes on with `after_script`.
    pub fn cancels_gracefully(self) -> bool {
        self >= Self::new(16, 11)
    }

    /// Whether the job response names the project by its path.
    pub(super) fn knows_project_path(self) -> bool {
        self >= Self::new(18, 0)
    }

    /// Whether the job response says if the ref is protected.
    pub(super) fn knows_protection(self) -> bool {
        self >= Self::new(18, 3)
    }
}

impl fmt::Display for RunnerVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}
