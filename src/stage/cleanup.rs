//! The `cleanup` stage: removes what the job left on the host.
//!
//! It runs after every attempt, also when nothing before it finished, and says nothing but what
//! went wrong: its output ends in the runner's own log, where nothing is masked.

use super::Driver;
use crate::failure::Failure;
use crate::source::nix::forget_roots;

/// Removes the job's folders and garbage collector roots.
pub fn cleanup(driver: &Driver<'_>) -> Result<(), Failure> {
    let job = driver.job()?;
    let folders = driver.folders(&job);
    let removed = folders.remove();
    forget_roots(&folders.roots());
    removed.map_err(Failure::cannot("remove all that the job left"))
}
