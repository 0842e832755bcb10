//! A GitLab and a GitLab Runner of paper: jobs run through the executor's stages on one machine.
//!
//! [`SimulatedJob`] plays GitLab: it makes up a job for a project folder and writes its job response.
//! [`registry`] plays GitLab's container registry, inside this process.
//! [`Runner`] plays GitLab Runner's custom executor: it calls a driver with the environment,
//! arguments, scripts, signals and retries of a real runner of a chosen release. The driver cannot
//! tell the difference, so this serves users who try the program without a GitLab, and tests.
//!
//! Not played: cache, services, Git submodules, job timeouts, and everything that needs a network.

mod attempt;
mod copy;
mod driver_call;
mod job;
mod job_run;
mod outcome;
mod payload;
mod process;
pub mod registry;
pub mod runner;
mod scripts;
mod sources;
mod trace;
mod variable_list;
mod variables;
mod version;

pub use job::SimulatedJob;
pub use outcome::{Call, Outcome, RunnerError, Status};
pub use runner::{Driver, Runner};
pub use sources::{Sources, SourcesError};
pub use version::RunnerVersion;
