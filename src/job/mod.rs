//! What GitLab says about a job, and what of it can be believed.
//!
//! GitLab Runner tells its driver about a job twice. `JOB_RESPONSE_FILE` holds GitLab's own words;
//! the environment holds every job variable as `CUSTOM_ENV_<KEY>`, and there the author of a job,
//! of its project or of its pipeline can replace any of them. So a [`Job`] is read from both:
//!
//! 1. who the job is, which registry it may push to and with which password, and which commit it
//!    builds come from the file's own fields ([`payload`]);
//! 2. what the author asks for comes from the environment ([`Environment`]);
//! 3. `$CI_…` in an image spec means GitLab's value where GitLab always gives one (`variables`);
//! 4. where the author replaced what would decide where an image goes, the job is refused.
//!
//! Back to GitLab go annotations on the image, report files and log sections ([`annotations`],
//! [`outputs`], [`log`]). Nothing here touches the machine: files come as bytes, the environment as
//! a map.

pub mod annotations;
mod clone_url;
mod context;
mod environment;
mod error;
pub mod log;
pub mod outputs;
pub mod payload;
mod public_variables;
mod repository;
mod variables;

pub use context::{ImageRequest, Job, Registry};
pub use environment::{Environment, EnvironmentError};
pub use error::JobError;
pub use payload::Payload;
