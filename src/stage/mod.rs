//! The runner's stages: one process each, in this order, and `cleanup` always.
//!
//! | stage | does |
//! |---|---|
//! | `config` | makes the job's folders and tells the runner where they are |
//! | `prepare` | checks what can be known before the checkout: payload, sandbox, a token for the registry |
//! | `run SCRIPT STAGE` | runs a script of the job in the sandbox; an image job's build follows its own script |
//! | `cleanup` | removes what the job left |
//!
//! GitLab Runner, "The Custom executor", is the contract. No state goes from stage to stage: see
//! `folders.rs`.

mod caches;
mod certificates;
mod cleanup;
mod config;
mod folders;
mod image;
mod log;
mod nix_images;
mod prepare;
mod records;
mod run;
mod script;
mod services;
mod spec_image;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use jiff::Timestamp;

pub use self::cleanup::cleanup;
pub use self::config::config;
use self::folders::JobFolders;
pub use self::log::Log;
pub use self::prepare::prepare;
pub use self::run::{Outcome, run};
use crate::admin::AdminConfig;
use crate::failure::Failure;
use crate::http::Notice;
use crate::job::{Environment, Job, Payload};

/// A payload holds the variables of a job, of which GitLab allows some hundred kilobytes.
const MAX_PAYLOAD: u64 = 16 << 20;

/// What every stage needs.
pub struct Driver<'a> {
    /// What the admin decided.
    pub config: &'a AdminConfig,
    /// What the runner says in the environment.
    pub environment: &'a Environment,
    /// The whole environment of the process, for the admin's proxies and certificates.
    pub host: &'a BTreeMap<OsString, OsString>,
    /// When the process started.
    pub now: Timestamp,
    /// Who is told of requests that are made again.
    pub notice: Notice,
}

impl Driver<'_> {
    /// The job, from the runner's payload and environment.
    fn job(&self) -> Result<Job, Failure> {
        let Some(file) = &self.environment.job_response_file else {
            return Err(Failure::system("the runner gave no `JOB_RESPONSE_FILE`").fix(
                "use GitLab Runner 14.1 or later, and call `nixlayer stage` from its `config.toml` only",
            ));
        };
        let size = fs::metadata(file).map_err(Failure::cannot("read the payload of the job"))?.len();
        if size > MAX_PAYLOAD {
            return Err(Failure::system(format!("the payload of the job has {size} bytes")));
        }
        let payload =
            Payload::parse(&fs::read(file).map_err(Failure::cannot("read the payload of the job"))?)
                .map_err(Failure::system)?;
        Ok(Job::parse(&payload, self.environment)?)
    }

    fn folders(&self, job: &Job) -> JobFolders {
        JobFolders::new(self.config, job)
    }
}
