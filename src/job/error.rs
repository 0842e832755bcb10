//! Why a job is refused, and what its author can do about it.

use crate::oci::reference::ReferenceError;

/// Why a job, or what it asks for, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The job response lacks a field that all releases have.
    #[error("the job response has no `{field}`")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// The clone URL is no `http(s)` URL of a repository.
    #[error("`git_info.repo_url` of the job response is not the http(s) URL of a project")]
    CloneUrl,
    /// The job response says two things about the project.
    #[error("the job response is of project `{project}`, but its clone URL leads to `{cloned}`")]
    TwoProjects {
        /// The path that it states.
        project: String,
        /// The path in the clone URL.
        cloned: String,
    },
    /// GitLab names no registry.
    #[error("the container registry of this GitLab is not enabled: the job has no `CI_REGISTRY`")]
    RegistryNotEnabled,
    /// GitLab names a registry, but gave no password for it.
    #[error("the job response has no credentials for the registry `{registry}`")]
    NoCredentials {
        /// Host and port of the registry.
        registry: String,
    },
    /// A variable says otherwise than GitLab.
    #[error("the variable `{key}` does not have the value that GitLab gave it")]
    Contradiction {
        /// The variable.
        key: &'static str,
    },
    /// `NIXLAYER_TAGS` holds something else.
    #[error("`NIXLAYER_TAGS` is not a list of tags")]
    Tags(#[source] ReferenceError),
    /// A variable is neither `on` nor `off`.
    #[error("`{key}` is `{value}`")]
    Switch {
        /// The variable.
        key: &'static str,
        /// What it holds.
        value: String,
    },
    /// The repository's name breaks the rules of registries.
    #[error("the project has no repository `{requested}`")]
    Repository {
        /// What was asked for.
        requested: String,
        /// Which rule.
        #[source]
        source: ReferenceError,
    },
    /// The repository is on another registry.
    #[error("`{requested}` is not on the project's registry `{registry}`")]
    OtherRegistry {
        /// What was asked for.
        requested: String,
        /// Host and port of the project's registry.
        registry: String,
    },
    /// The repository belongs to another project.
    #[error("`{requested}` is outside the project's repositories, `{own}` and below")]
    OtherProject {
        /// What was asked for.
        requested: String,
        /// The project's repository.
        own: String,
    },
    /// The repository is further down than GitLab allows.
    #[error("`{requested}` is more than two names below `{own}`")]
    TooDeep {
        /// What was asked for.
        requested: String,
        /// The project's repository.
        own: String,
    },
}

impl JobError {
    /// What the job's author can do about it; `None` if only GitLab's or the runner's
    /// administrator can do something.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Missing { .. } | Self::CloneUrl | Self::TwoProjects { .. } | Self::NoCredentials { .. } => {
                None
            }
            Self::RegistryNotEnabled => Some(
                "ask the GitLab administrator to enable the container registry, or switch it on under \
                 Settings > General > Visibility"
                    .to_owned(),
            ),
            Self::Contradiction { key: "CI_PROJECT_DIR" } => Some(
                "remove the variables `GIT_CLONE_PATH` and `CI_PROJECT_DIR` from the job, project or pipeline: an \
                 image job is built where the runner puts it"
                    .to_owned(),
            ),
            Self::Contradiction { key } => {
                Some(format!("remove the variable `{key}` from the job, project or pipeline"))
            }
            Self::Tags(_) => {
                Some("separate tags by spaces, such as `latest $CI_COMMIT_SHORT_SHA`".to_owned())
            }
            Self::Switch { .. } => Some("write `on` or `off`, or remove the variable".to_owned()),
            Self::Repository { .. } => {
                Some("use lower-case letters and digits, with single `.`, `_` or `-` between them".to_owned())
            }
            Self::OtherRegistry { .. } | Self::OtherProject { .. } => Some(
                "use `$CI_REGISTRY_IMAGE`, or a name below it such as `$CI_REGISTRY_IMAGE/web`".to_owned(),
            ),
            Self::TooDeep { own, .. } => Some(format!("use at most `{own}/NAME/NAME`")),
        }
    }
}
