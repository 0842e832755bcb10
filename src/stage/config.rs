//! The `config` stage: tells the runner where the job's folders are.
//!
//! Standard output is JSON for the runner and nothing else.

use std::io::Write;

use serde::Serialize;

use super::Driver;
use crate::failure::Failure;

/// What the runner reads (GitLab Runner, custom executor, "Config").
#[derive(Debug, Serialize)]
struct Settings {
    driver: DriverInfo,
    builds_dir: String,
    cache_dir: String,
    builds_dir_is_shared: bool,
    shell: String,
}

#[derive(Debug, Serialize)]
struct DriverInfo {
    name: &'static str,
    version: &'static str,
}

/// Makes the job's folders and prints where they are.
pub fn config(driver: &Driver<'_>, stdout: &mut dyn Write) -> Result<(), Failure> {
    let job = driver.job()?;
    let folders = driver.folders(&job);
    folders.create().map_err(|error| {
        Failure::system(error).fix(format!(
            "let the runner's user write to `{}` and `{}`",
            driver.config.builds_dir.display(),
            driver.config.state_dir.display()
        ))
    })?;
    let settings = Settings {
        driver: DriverInfo { name: "nixlayer", version: env!("CARGO_PKG_VERSION") },
        builds_dir: folders.builds().to_string_lossy().into_owned(),
        cache_dir: folders.cache().to_string_lossy().into_owned(),
        builds_dir_is_shared: false,
        shell: driver.config.scripts.shell.clone(),
    };
    let settings = serde_json::to_vec(&settings).map_err(Failure::cannot("answer the runner"))?;
    stdout.write_all(&settings).map_err(Failure::cannot("answer the runner"))
}
