//! The `run` stage: one script of the job, and after an image job's own script, its image.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::Driver;
use super::image::ImageJob;
use super::log::Log;
use super::script::{Ended, received};
use crate::failure::Failure;
use crate::source::nix::Checkouts;

/// How a script stage ended, if not with a failure of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the job wanted.
    Success,
    /// The job's script failed; the runner finds its exit code where it asked for it.
    ScriptFailed,
}

/// Runs `script`, the job's part of `stage`.
pub async fn run(driver: &Driver<'_>, script: &Path, stage: &str, log: &Log) -> Result<Outcome, Failure> {
    // From here on a signal is not lost, whoever looks for it next.
    let mut asked_to_end = signal(SignalKind::terminate()).map_err(Failure::cannot("listen to signals"))?;
    // A code of an earlier stage would be taken for this one's.
    driver.write_exit_code(None)?;
    let job = driver.job()?;
    let folders = driver.folders(&job);
    folders.create().map_err(Failure::cannot("make the folders of the job"))?;
    let sandbox = driver.sandbox()?;
    let nix = driver.nix(&sandbox, folders.fetched(), &folders.scratch(), Checkouts::OfProject);
    let request = if builds_image(stage) { job.image_request()? } else { None };
    let image = match request {
        Some(request) => {
            let registry = Arc::new(driver.job_registry(&job, driver.config.limits.patience)?);
            Some(ImageJob {
                driver,
                job: &job,
                folders: &folders,
                sandbox: &sandbox,
                nix: &nix,
                registry,
                request,
            })
        }
        None => None,
    };

    if let Some(image) = &image {
        tokio::select! {
            checked = image.check() => checked?,
            () = received(&mut asked_to_end) => return Err(cancelled()),
        }
    }
    let ended = driver.script(script, &folders, &sandbox, nix.has_daemon(), &mut asked_to_end).await;
    match ended.map_err(|error| cannot_start(driver, error))? {
        Ended::With(0) => {}
        Ended::With(code) => {
            driver.write_exit_code(Some(code))?;
            return Ok(Outcome::ScriptFailed);
        }
        Ended::Cancelled => return Err(cancelled()),
    }
    if let Some(image) = &image {
        tokio::select! {
            built = image.build(log) => built?,
            () = received(&mut asked_to_end) => return Err(cancelled()),
        }
    }
    Ok(Outcome::Success)
}

/// Whether the job's own script runs in this stage. Runners have announced the second name since
/// 13.1, and still send the first.
fn builds_image(stage: &str) -> bool {
    matches!(stage, "build_script" | "step_script")
}

fn cancelled() -> Failure {
    Failure::system("the job was cancelled, or its time is over")
}

fn cannot_start(driver: &Driver<'_>, error: std::io::Error) -> Failure {
    Failure::system(error).fix(format!(
        "install bubblewrap and `{}` where `scripts.path` of {} finds them",
        driver.config.scripts.shell,
        crate::admin::DEFAULT_FILE
    ))
}

impl Driver<'_> {
    /// Tells the runner the exit code of a script; `None` removes what an earlier stage told.
    fn write_exit_code(&self, code: Option<i32>) -> Result<(), Failure> {
        let Some(file) = &self.environment.build_exit_code_file else { return Ok(()) };
        let written = match code {
            Some(code) => fs::write(file, code.to_string()),
            None => fs::remove_file(file).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
        };
        written.map_err(Failure::cannot("tell the runner the exit code of the script"))
    }
}
