//! One job on its way through the stages.
//!
//! 1. `config`, `prepare`: one attempt. Any failure but a build failure means `cleanup`, a pause and
//!    another attempt with a new temporary folder; three in all.
//! 2. `run SCRIPT STAGE`, for each stage of the job that has something to do.
//! 3. `cleanup`, whatever came before. Its output is not part of the job log.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;

use super::attempt::{Attempt, Folders};
use super::copy::copy_tree;
use super::driver_call::{Cancellable, DriverCalls};
use super::job::SimulatedJob;
use super::outcome::{Outcome, RunnerError, Status};
use super::process::Stdout;
use super::runner::Runner;
use super::scripts::Scripts;
use super::trace::Trace;

/// How often `config` and `prepare` are tried.
const ATTEMPTS: usize = 3;

/// A job that is running.
struct JobRun<'a> {
    runner: &'a Runner,
    job: &'a SimulatedJob,
    calls: DriverCalls<'a>,
    project_dir: Option<PathBuf>,
}

impl Runner {
    /// Runs `job` to its end. `show` gets the job log as it grows; once `cancel` is true, the job
    /// ends as if somebody had cancelled it in GitLab.
    pub fn run(
        &self,
        job: &SimulatedJob,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(&str),
    ) -> Result<Outcome, RunnerError> {
        let calls = DriverCalls::new(self, cancel, Trace::new(job.masked_values(), show));
        JobRun { runner: self, job, calls, project_dir: None }.run()
    }
}

impl JobRun<'_> {
    fn run(mut self) -> Result<Outcome, RunnerError> {
        self.calls.trace.line(&format!("Running with gitlab-runner {} (simulated)", self.runner.version));
        let status = self.attempts()?;
        self.calls.trace.line(match status {
            Status::Success => "Job succeeded",
            Status::ScriptFailure { .. } => "ERROR: Job failed",
            Status::SystemFailure => "ERROR: Job failed (system failure)",
            Status::Cancelled => "ERROR: Job failed: canceled",
        });
        Ok(self.calls.into_outcome(status, self.project_dir))
    }

    fn attempts(&mut self) -> Result<Status, RunnerError> {
        for number in 1..=ATTEMPTS {
            if number > 1 {
                self.calls.trace.line("Retrying...");
                thread::sleep(self.runner.retry_pause);
                if self.calls.is_cancelled() {
                    return Ok(Status::Cancelled);
                }
            }
            let mut attempt = Attempt::new(self.runner, self.job)?;
            let reached = self.attempt(&mut attempt);
            self.calls.cleanup(&attempt);
            attempt.remove()?;
            if let ControlFlow::Break(status) = reached? {
                return Ok(status);
            }
        }
        Ok(Status::SystemFailure)
    }

    /// Goes on if another attempt may do better.
    fn attempt(&mut self, attempt: &mut Attempt<'_>) -> Result<ControlFlow<Status>, RunnerError> {
        match self.prepare(attempt)? {
            Status::Success => Ok(ControlFlow::Break(self.stages(attempt)?)),
            Status::SystemFailure => Ok(ControlFlow::Continue(())),
            final_status => Ok(ControlFlow::Break(final_status)),
        }
    }

    fn prepare(&mut self, attempt: &mut Attempt<'_>) -> Result<Status, RunnerError> {
        let args = &self.runner.driver.config_args;
        let (status, stdout) = self.calls.call(attempt, "config", args, Stdout::Apart, Cancellable::Yes);
        if status != Status::Success {
            return Ok(status);
        }
        if let Err(reason) = attempt.configure(&stdout, &mut self.calls.trace) {
            self.calls.trace.line(&format!("ERROR: {reason}"));
            return Ok(Status::SystemFailure);
        }
        self.project_dir = attempt.folders().map(|folders| folders.project.clone());
        let args = &self.runner.driver.prepare_args;
        let (status, _) = self.calls.call(attempt, "prepare", args, Stdout::WithStderr, Cancellable::Yes);
        if let (Status::Success, Some(folders)) = (status, attempt.folders()) {
            self.offer_sources(folders)?;
        }
        Ok(status)
    }

    /// Puts the project's repository where the job can read it. GitLab would be asked for it.
    fn offer_sources(&self, folders: &Folders) -> Result<(), RunnerError> {
        let origin = folders.origin();
        let error = RunnerError::new("copy the sources to", &origin);
        match fs::remove_dir_all(&origin) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(error(cause)),
            _ => copy_tree(&self.job.sources.repository, &origin).map_err(error),
        }
    }

    fn stages(&mut self, attempt: &mut Attempt<'_>) -> Result<Status, RunnerError> {
        let Some(folders) = attempt.folders() else { return Ok(Status::SystemFailure) };
        let (origin, outbox) = (folders.origin(), folders.outbox());
        let sources = &self.job.sources;
        let graceful = self.runner.version.cancels_gracefully();
        // A graceful cancel interrupts the job's own lines alone; what comes before them ends first.
        let early = if graceful { Cancellable::No } else { Cancellable::Yes };

        let status = self.stage(attempt, "prepare_script", early, |scripts| scripts.prepare())?;
        if status != Status::Success {
            return Ok(status);
        }
        let fetched = self.stage(attempt, "get_sources", early, |scripts| {
            scripts.get_sources(&origin, &sources.sha, &sources.ref_name)
        })?;
        let mut status = fetched;
        if fetched == Status::Success {
            let lines = &self.job.script;
            let stage = self.runner.version.user_stage();
            status = self.stage(attempt, stage, Cancellable::Yes, |scripts| scripts.user(lines))?;
        }
        if status == Status::Cancelled && !graceful {
            return Ok(status);
        }
        attempt.status = match status {
            Status::Success => "success",
            Status::Cancelled => "canceled",
            Status::ScriptFailure { .. } | Status::SystemFailure => "failed",
        };
        let late = Cancellable::No;
        if fetched == Status::Success && !self.job.after_script.is_empty() {
            let lines = &self.job.after_script;
            self.stage(attempt, "after_script", late, |scripts| scripts.user(lines))?;
        }
        if !self.job.artifacts.is_empty() {
            let success = status == Status::Success;
            let stage = if success { "upload_artifacts_on_success" } else { "upload_artifacts_on_failure" };
            let paths = &self.job.artifacts;
            let uploaded = self.stage(attempt, stage, late, |scripts| scripts.upload(paths, &outbox))?;
            if success {
                status = uploaded;
            }
            self.receive_artifacts(&outbox)?;
        }
        if self.job.variables.iter().any(|variable| variable.file) {
            self.stage(attempt, "cleanup_file_variables", late, |scripts| scripts.cleanup_files())?;
        }
        Ok(status)
    }

    fn stage(
        &mut self,
        attempt: &Attempt<'_>,
        stage: &str,
        cancellable: Cancellable,
        script: impl FnOnce(&Scripts<'_>) -> String,
    ) -> Result<Status, RunnerError> {
        let Some(folders) = attempt.folders() else { return Ok(Status::SystemFailure) };
        if cancellable == Cancellable::Yes && self.calls.is_cancelled() {
            return Ok(Status::Cancelled);
        }
        let variables = attempt.variables();
        let text = script(&Scripts { variables: &variables, project_dir: &folders.project });
        let path = attempt.write_script(&text)?;
        let mut args = self.runner.driver.run_args.clone();
        args.extend([path.into_os_string(), stage.into()]);
        self.calls.trace.line(&format!("Executing \"{stage}\" stage of the job script"));
        Ok(self.calls.call(attempt, stage, &args, Stdout::WithStderr, cancellable).0)
    }

    fn receive_artifacts(&self, outbox: &Path) -> Result<(), RunnerError> {
        let artifacts_dir = &self.runner.artifacts_dir;
        match outbox.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                copy_tree(outbox, artifacts_dir).map_err(RunnerError::new("copy artifacts to", artifacts_dir))
            }
            _ => Ok(()),
        }
    }
}
