//! The calls of the driver, and what their ends mean.
//!
//! A call ends well with 0; two codes that the driver is told in its environment say whose fault a
//! failure is, and every other code counts as the system's.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::attempt::Attempt;
use super::outcome::{Call, Outcome, Status};
use super::process::{self, KillTimes, Stdout};
use super::runner::Runner;
use super::trace::Trace;

/// The calls of the driver for one job, and the logs that they fill.
pub(super) struct DriverCalls<'a> {
    runner: &'a Runner,
    cancel: &'a AtomicBool,
    pub(super) trace: Trace<'a>,
    cleanup_log: Vec<u8>,
    made: Vec<Call>,
}

/// Which calls hear that a job is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancellable {
    Yes,
    No,
}

impl<'a> DriverCalls<'a> {
    /// No calls yet; those to come end when `cancel` becomes true.
    pub(super) fn new(runner: &'a Runner, cancel: &'a AtomicBool, trace: Trace<'a>) -> Self {
        Self { runner, cancel, trace, cleanup_log: Vec::new(), made: Vec::new() }
    }

    /// Whether somebody cancelled the job.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// One call of the driver for the job log, what its end means, and its standard output if that is
    /// wanted apart.
    pub(super) fn call(
        &mut self,
        attempt: &Attempt<'_>,
        stage: &str,
        args: &[OsString],
        stdout: Stdout,
        cancellable: Cancellable,
    ) -> (Status, Vec<u8>) {
        let command = attempt.command(args);
        let never = AtomicBool::new(false);
        let cancel = if cancellable == Cancellable::Yes { self.cancel } else { &never };
        let times = self.kill_times();
        let trace = &mut self.trace;
        let ended = process::call(command, stdout, cancel, times, |bytes| trace.write(bytes));
        self.trace.end_line();
        let exit_code = ended.as_ref().ok().and_then(|ended| ended.exit_code);
        self.made.push(Call { stage: stage.to_owned(), exit_code });
        match ended {
            Ok(ended) if ended.cancelled => (Status::Cancelled, ended.stdout),
            Ok(ended) => (self.meaning(attempt, ended.exit_code), ended.stdout),
            Err(error) => {
                self.trace.line(&format!("ERROR: the driver did not start: {error}"));
                (Status::SystemFailure, Vec::new())
            }
        }
    }

    /// The call that ends an attempt. Neither the job's end nor its cancellation ends it, and its
    /// failure changes nothing.
    pub(super) fn cleanup(&mut self, attempt: &Attempt<'_>) {
        let command = attempt.command(&self.runner.driver.cleanup_args);
        let never = AtomicBool::new(false);
        let times = self.kill_times();
        let log = &mut self.cleanup_log;
        let ended =
            process::call(command, Stdout::WithStderr, &never, times, |bytes| log.extend_from_slice(bytes));
        let exit_code = ended.ok().and_then(|ended| ended.exit_code);
        self.made.push(Call { stage: "cleanup".to_owned(), exit_code });
        if exit_code != Some(0) {
            self.trace.line("WARNING: Cleanup script failed");
        }
    }

    /// What has become of the job, now that the last call is made.
    pub(super) fn into_outcome(self, status: Status, project_dir: Option<PathBuf>) -> Outcome {
        Outcome {
            status,
            trace: self.trace.into_text(),
            cleanup_log: String::from_utf8_lossy(&self.cleanup_log).into_owned(),
            calls: self.made,
            project_dir,
        }
    }

    fn meaning(&mut self, attempt: &Attempt<'_>, exit_code: Option<i32>) -> Status {
        let codes = self.runner.exit_codes;
        match exit_code {
            Some(0) => Status::Success,
            Some(code) if code == codes.build_failure => self.script_failure(attempt),
            Some(code) if code == codes.system_failure => Status::SystemFailure,
            _ => {
                let code = exit_code.map_or("-1".to_owned(), |code| code.to_string());
                self.trace.line(&format!("ERROR: unknown Custom executor executable exit code {code}"));
                Status::SystemFailure
            }
        }
    }

    /// The first line of the exit code file counts; a text that is no number is nobody's exit code.
    fn script_failure(&mut self, attempt: &Attempt<'_>) -> Status {
        let Some(stated) = attempt.stated_exit_code() else {
            return Status::ScriptFailure { exit_code: 1 };
        };
        match stated.lines().next().unwrap_or_default().trim().parse() {
            Ok(exit_code) => Status::ScriptFailure { exit_code },
            Err(_) => {
                self.trace.line("ERROR: the build exit code file holds no number");
                Status::SystemFailure
            }
        }
    }

    fn kill_times(&self) -> KillTimes {
        KillTimes { graceful: self.runner.graceful_kill, force: self.runner.force_kill }
    }
}
