//! Who can fix which error: one exhaustive match per type, so that a new error asks for a decision.

use std::io;

use super::Failure;
use super::packages::OUTSIDE;
use crate::folder::FolderError;
use crate::job::JobError;
use crate::lock::LockError;
use crate::pipeline::{BuildError, LockFileError, is_changed_file};
use crate::spec::DefinitionError;
use crate::yaml;

impl From<yaml::Error> for Failure {
    fn from(error: yaml::Error) -> Self {
        let fix = error.fix().to_owned();
        Self::build(error, fix)
    }
}

impl From<DefinitionError> for Failure {
    fn from(error: DefinitionError) -> Self {
        Self::build(
            error,
            "name a spec that ends in `.yaml`, or in Nix `FILE.nix`, `FILE.nix#ATTRIBUTE`, a folder, or a flake output \
             such as `.#image`",
        )
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        match error.fix() {
            Some(fix) => Self::build(error, fix),
            None => Self::system(error),
        }
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match &error {
            FolderError::Missing { .. } | FolderError::NoFile { .. } => {
                Self::build(error, "commit the file, or correct its name")
            }
            FolderError::NoFolder(_) => Self::build(
                error,
                "leave the checkout where the runner puts it: no `GIT_STRATEGY: none`, no `GIT_CLONE_PATH`",
            ),
            FolderError::TooLarge { .. } => Self::build(error, "name the right file"),
            FolderError::Io { source, .. } if is_of_host(source) => Self::system(error),
            FolderError::Io { .. } => {
                Self::build(error, "use a regular file of the project; links must not lead out of it")
            }
        }
    }
}

/// Whether the system, and not what a job did, is why a file cannot be used.
pub(super) fn is_of_host(error: &io::Error) -> bool {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut};
    // EIO, EMFILE and ENFILE have no kind of their own.
    matches!(error.kind(), OutOfMemory | QuotaExceeded | ReadOnlyFilesystem | StorageFull | TimedOut)
        || matches!(error.raw_os_error(), Some(5 | 23 | 24))
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Spec(error) => error.into(),
            BuildError::Nix(error) => error.into(),
            BuildError::Publish(error) => error.into(),
            BuildError::Archive(error) => error.into(),
            BuildError::ImageJson(error) => error.into(),
            BuildError::Planned(error) => error.into(),
            BuildError::Commands(_) => Self::build(
                error,
                "mend `extraCommands` of the spec: they see the packages, and neither the host nor the network",
            ),
            BuildError::TooManyPaths { .. } => Self::build(
                error,
                "use `paths`, `accounts` and `presets` instead, which run no command, or fewer packages",
            ),
            BuildError::Left(ref source) if is_of_host(source) => Self::system(error),
            BuildError::Left(_) => {
                Self::build(error, "leave files, folders and links only, and all of them readable")
            }
            BuildError::Lock(outdated) => {
                let fix = outdated.outdated.fix(&outdated.spec);
                Self::build(outdated, fix)
            }
            BuildError::Read(error) => error.into(),
            BuildError::NotOfSpec(_) => Self::build(
                error,
                "name packages as the spec names them; the spec itself comes before `--update`",
            ),
            BuildError::Nowhere { .. } => Self::build(
                error,
                "list a binary cache that has it in `caches` of the configuration, or copy it into one that is listed",
            ),
            BuildError::NoSandbox | BuildError::NoNamespaces(_) => Self::build(error, DECLARATIVE),
            BuildError::Project(_) => Self::build(error, "name a folder of the project that can be read"),
            BuildError::NoNix => Self::build(
                error,
                "run `nixlayer lock` where Nix is and commit the file that it writes, or install Nix here",
            ),
            BuildError::Unlike { of_commands: true, .. } => Self::build(
                error,
                "let `extraCommands` make the same every time: no date, no random number, nothing of the host",
            ),
            BuildError::Unlike { of_commands: false, .. } => Self::system(error).fix(
                "find out which host made the record, and whether its store or this host's is damaged: `nix-store --verify --check-contents`",
            ),
            BuildError::Layer { ref source } if is_changed_file(source) => {
                Self::build(error, "let nothing that the job has started write to the project while its image is made")
            }
            BuildError::LeadsOut { .. } => Self::build(error, OUTSIDE),
            BuildError::FlakeFile { ref folder } => {
                let flake = if folder == "." { folder.clone() } else { format!("./{folder}") };
                let fix = format!("name an output of it, as in `{flake}#image` or `{flake}#default`");
                Self::build(error, fix)
            }
            BuildError::NoExpression { .. } | BuildError::NoFlake { .. } => {
                Self::build(error, "commit the file, or correct its name")
            }
            BuildError::Tag { .. } => Self::build(
                error,
                "correct the image's `tag` in the expression, or name another: in `NIXLAYER_TAGS`, or behind `--to`",
            ),
            BuildError::TooManyImages { .. } | BuildError::TooLarge { .. } => {
                Self::build(error, "make several smaller ones of it, and name one behind a `#`")
            }
            BuildError::Conf { .. } | BuildError::NotReferred { .. } => Self::build(
                error,
                "correct what the expression says of it; anything that `dockerTools` of nixpkgs 20.09 or later writes is taken",
            ),
            BuildError::NoImage { .. } => Self::build(
                error,
                "name an image of `dockerTools` or nix2container, an archive or an image layout, behind a `#` if need be",
            ),
            BuildError::OtherTar { .. } => {
                Self::build(error, "make the image anew: its parts do not belong together")
            }
            BuildError::Unreadable { ref source, .. }
            | BuildError::Base { ref source, .. }
            | BuildError::Tar { ref source, .. }
                if !is_of_host(source) =>
            {
                Self::build(error, "let the image be made of files of the store, with no link that leads out of it")
            }
            BuildError::Unreadable { .. }
            | BuildError::Base { .. }
            | BuildError::Tar { .. }
            | BuildError::Sandbox(_)
            | BuildError::Closure(_)
            | BuildError::Scratch { .. }
            | BuildError::Layer { .. }
            | BuildError::Thread => Self::system(error),
        }
    }
}

const DECLARATIVE: &str =
    "use `paths`, `accounts` and `presets` in the place of `extraCommands`: they run no command";

impl From<LockFileError> for Failure {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::Folder(error) => error.into(),
            LockFileError::Lock(error) => match error {
                LockError::Version { .. } => {
                    Self::build(error, "use the version of nixlayer that wrote it, or a later one")
                }
                LockError::TooMany { .. } => {
                    Self::build(error, "make several images of it, or ask for a larger limit with your case")
                }
                LockError::Json { .. } | LockError::Closure { .. } | LockError::Undescribed { .. } => {
                    Self::build(
                        error,
                        "run `nixlayer lock` where Nix is, and commit what it writes unchanged",
                    )
                }
            },
        }
    }
}
