//! Why a lock file cannot be used.

use crate::nix::closure::ClosureError;
use crate::nix::{StorePath, System};

/// Why a file is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is not JSON of the right shape.
    #[error("`{file}` is not a lock file")]
    Json {
        /// The file.
        file: String,
        /// Line, column and reason.
        #[source]
        source: serde_json::Error,
    },
    /// A later version of this program wrote it.
    #[error("`{file}` has format version {found}, and this program knows version 1")]
    Version {
        /// The file.
        file: String,
        /// The version it has.
        found: u64,
    },
    /// It describes more store paths than an image can be made of.
    #[error("`{file}` describes more than {most} store paths for {system}")]
    TooMany {
        /// The file.
        file: String,
        /// The system.
        system: String,
        /// The most that it may.
        most: usize,
    },
    /// A reference leads to a path that it does not describe.
    #[error("`{file}` does not describe all store paths of {system}")]
    Closure {
        /// The file.
        file: String,
        /// The system.
        system: System,
        /// Which one.
        #[source]
        source: ClosureError,
    },
    /// A package lies at a path that it does not describe.
    #[error("`{file}` says that `{name}` is `{path}`, which it does not describe")]
    Undescribed {
        /// The file.
        file: String,
        /// The package.
        name: String,
        /// Its path.
        path: StorePath,
    },
}

/// Why a lock is not that of a spec: the spec moved on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outdated {
    /// The spec demands something else, and nobody can tell what.
    #[error("the lock was written for another spec")]
    Spec,
    /// The spec has another package set.
    #[error("the lock is of the package set `{locked}`, and the spec's is `{spec}`")]
    PackageSet {
        /// The lock's.
        locked: String,
        /// The spec's.
        spec: String,
    },
    /// The spec demands more.
    #[error("`{name}` is not in the lock")]
    Missing {
        /// What it calls it.
        name: String,
    },
    /// The spec demands less.
    #[error("`{name}` is in the lock, and the spec has no use for it")]
    Surplus {
        /// What the lock calls it.
        name: String,
    },
    /// The files of a folder of the project have changed that packages come from.
    #[error("the files in `{0}` have changed since the lock was written")]
    Folder(String),
    /// The image shall be of another system.
    #[error("the lock has nothing for {system}{}", only(known))]
    System {
        /// The system that the image is of.
        system: System,
        /// Those that were locked.
        known: Vec<&'static str>,
    },
}

fn only(known: &[&str]) -> String {
    if known.is_empty() { String::new() } else { format!(", only for {}", known.join(", ")) }
}

impl Outdated {
    /// What a person types to mend it, for the spec in `file`.
    pub fn fix(&self, file: &str) -> String {
        let command = match self {
            Self::System { system, known } => {
                let systems: Vec<String> = known
                    .iter()
                    .copied()
                    .chain([system.as_str()])
                    .map(|name| format!(" --system {name}"))
                    .collect();
                format!("nixlayer lock{} {file}", systems.concat())
            }
            Self::Spec
            | Self::PackageSet { .. }
            | Self::Missing { .. }
            | Self::Surplus { .. }
            | Self::Folder(_) => format!("nixlayer lock {file}"),
        };
        format!("run `{command}` where Nix is, and commit the file that it writes")
    }
}
