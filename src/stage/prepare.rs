//! The `prepare` stage: fails early on what can be known before the checkout.
//!
//! The runner repeats it after a system failure, so a mistake of the job's author must be a build
//! failure here, or it would be tried three times.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use super::log::Log;
use super::{Driver, JobFolders};
use crate::admin::Isolation;
use crate::failure::Failure;
use crate::job::Job;
use crate::sandbox::Sandbox;

/// For how long the registry is asked again: the runner repeats the stage itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// Checks the payload, the sandbox and, for an image job, the key of layer records and that a token for the registry
/// can be had.
pub async fn prepare(driver: &Driver<'_>, log: &Log) -> Result<(), Failure> {
    let job = driver.job()?;
    let request = job.image_request()?;
    let folders = driver.folders(&job);
    folders.create().map_err(Failure::cannot("make the folders of the job"))?;
    check_sandbox(driver, &folders).await?;
    let sandbox = match driver.config.sandbox {
        Isolation::Bubblewrap => "sandboxed",
        Isolation::None => "not sandboxed",
    };
    let Some(request) = request else {
        log.line(format!("nixlayer {}: an ordinary job, {sandbox}", env!("CARGO_PKG_VERSION")));
        return Ok(());
    };
    // The key of layer records, and the folder of this host's own.
    driver.reuse(Vec::new(), false, &|_| {})?;
    check_registry(driver, &job).await?;
    log.line(format!(
        "nixlayer {}: an image job, {sandbox}; `{}` becomes an image in `{}`",
        env!("CARGO_PKG_VERSION"),
        request.spec,
        job.own_repository()?
    ));
    Ok(())
}

/// Asks for reading only: GitLab creates a repository's record when it grants pushing to it.
async fn check_registry(driver: &Driver<'_>, job: &Job) -> Result<(), Failure> {
    let registry = driver.job_registry(job, driver.config.limits.patience.min(PATIENCE))?;
    Ok(registry.check_pull(&job.own_repository()?).await?)
}

async fn check_sandbox(driver: &Driver<'_>, folders: &JobFolders) -> Result<(), Failure> {
    let sandbox = driver.sandbox()?;
    if sandbox == Sandbox::None {
        return Ok(());
    }
    let view = driver.script_view(None, folders, false);
    folders.make_way(&view.writable).map_err(Failure::cannot("make mount points in the job's `/tmp`"))?;
    let mut command = sandbox.command(&view, OsStr::new(&driver.config.scripts.shell));
    let output = command.args(["-c", ":"]).stdout(Stdio::null()).stderr(Stdio::piped()).output().await;
    let output = output.map_err(Failure::cannot("start bubblewrap"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let failure = Failure::system(format!("the sandbox does not start on this host: {said}"));
    if !said.contains("namespace") && !said.contains("uid map") && !said.contains("Operation not permitted") {
        return Err(
            failure.fix("mend what it names: the shell, the folders or `scripts` of the configuration")
        );
    }
    Err(failure.fix(
        "allow unprivileged user namespaces: `sysctl kernel.unprivileged_userns_clone=1` on older Debian, \
         `kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile for bwrap on Ubuntu, \
         `user.max_user_namespaces` above 0 elsewhere",
    ))
}
