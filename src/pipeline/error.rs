//! Why there is no image.

use std::io;
use std::path::PathBuf;

use super::{CommandsFailed, CopyError, OutdatedLock};
use crate::nix::{ClosureError, StorePath, System};
use crate::oci::reference::ReferenceError;
use crate::oci::{DiffId, Digest};
use crate::publish::PublishError;
use crate::source::ReadError;
use crate::source::archive::ArchiveError;
use crate::source::docker_tools::ConfError;
use crate::source::nix::NixError;
use crate::source::nix2container::{ImageJsonError, LayerError};
use crate::spec::ProjectPath;
use crate::yaml;

/// Why there is no image, or not where it was to go.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The spec asks for something that cannot be.
    #[error(transparent)]
    Spec(yaml::Error),
    /// Nix did not give the packages.
    #[error(transparent)]
    Nix(#[from] NixError),
    /// The spec's commands failed.
    #[error("`extraCommands` failed")]
    Commands(#[source] CommandsFailed),
    /// The spec's commands could not be started.
    #[error("`extraCommands` cannot be started")]
    Sandbox(#[source] io::Error),
    /// There are more store paths than the sandbox of the commands can show.
    #[error("`extraCommands` would see {paths} store paths, and {most} are possible")]
    TooManyPaths {
        /// How many there are.
        paths: usize,
        /// How many are possible.
        most: usize,
    },
    /// What the commands left is no tree for an image.
    #[error("what `extraCommands` left cannot be read")]
    Left(#[source] io::Error),
    /// The tree for the commands could not be made.
    #[error("the tree for `extraCommands` cannot be made in `{folder}`")]
    Scratch {
        /// The scratch folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A store path could not be read, or not be had.
    #[error(transparent)]
    Read(ReadError),
    /// The lock is not that of the spec.
    #[error(transparent)]
    Lock(OutdatedLock),
    /// A name that is to be updated is none of the spec's.
    #[error("`{0}` is not in the spec")]
    NotOfSpec(String),
    /// Nobody can say what a path is made of.
    #[error(
        "`{path}` is neither in the store of this host nor in a binary cache, and nothing here can build it for {system}"
    )]
    Nowhere {
        /// The path.
        path: StorePath,
        /// What it is for.
        system: System,
    },
    /// What was found out of the store paths does not fit together.
    #[error("the store paths that the spec needs are no closure")]
    Closure(#[source] ClosureError),
    /// There is neither a lock nor Nix.
    #[error("there is neither a lock for this spec nor Nix on this host")]
    NoNix,
    /// Commands need a store that is not the host's, and the host's programs run without a sandbox.
    #[error(
        "`extraCommands` cannot run: their store paths are not in the store of this host, and there is no sandbox to show them in"
    )]
    NoSandbox,
    /// The same, since the sandbox does not start.
    #[error("`extraCommands` cannot run: this host lets no sandbox start")]
    NoNamespaces(#[source] io::Error),
    /// A folder of the project cannot be read.
    #[error("the package set cannot be read")]
    Project(#[source] CopyError),
    /// A layer could not be written.
    #[error("a layer cannot be written")]
    Layer {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The project has no such expression.
    #[error("{}", no_expression(.path))]
    NoExpression {
        /// The file or folder.
        path: ProjectPath,
    },
    /// A link of the project leads out of it.
    #[error("`{}` leads out of the project", .path.as_str())]
    LeadsOut {
        /// The file or folder.
        path: ProjectPath,
    },
    /// A flake is named by its file.
    #[error("`flake.nix` in the folder `{folder}` is a flake, and no image")]
    FlakeFile {
        /// The folder.
        folder: String,
    },
    /// The project has no such flake.
    #[error("there is no `flake.nix` in the folder `{}` of the project", .path.as_str())]
    NoFlake {
        /// The folder.
        path: ProjectPath,
    },
    /// What Nix built cannot be read.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// What it is.
        path: StorePath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What Nix built is larger than what it is taken for.
    #[error("`{path}` has more than {limit} bytes")]
    TooLarge {
        /// What it is.
        path: StorePath,
        /// How many are possible.
        limit: u64,
    },
    /// What an image says is its tag is none.
    #[error("`{image}`: {reason}")]
    Tag {
        /// Where the image is defined.
        image: String,
        /// What is wrong with it.
        reason: ReferenceError,
    },
    /// There are too many images in an archive.
    #[error("there are {images} images in the archive, and {most} are possible")]
    TooManyImages {
        /// How many there are.
        images: usize,
        /// How many are possible.
        most: usize,
    },
    /// The description of a layered image is none.
    #[error("`{conf}` describes no image that can be made")]
    Conf {
        /// The description.
        conf: StorePath,
        /// What is wrong with it.
        #[source]
        source: ConfError,
    },
    /// The plan of an image is none.
    #[error(transparent)]
    ImageJson(#[from] ImageJsonError),
    /// A layer cannot be made as it is planned.
    #[error(transparent)]
    Planned(LayerError),
    /// The archive that an image is based on cannot be opened.
    #[error("`{archive}`, which the image is based on, cannot be opened")]
    Base {
        /// The archive.
        archive: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A layer names a store path that is not there.
    #[error("`{path}` is in no layer that can be made: what describes the image does not refer to it")]
    NotReferred {
        /// The path.
        path: StorePath,
    },
    /// A derivation makes something that is no image.
    #[error("`{name}` makes no image")]
    NoImage {
        /// The name of the derivation.
        name: String,
    },
    /// The tar of a layer cannot be read.
    #[error("the layer {layer} cannot be read")]
    Tar {
        /// What is in it.
        layer: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A tar is not the one that the image names.
    #[error("the layer {layer} is `{found}`, and the image names `{named}`")]
    OtherTar {
        /// What is in it.
        layer: String,
        /// What its image says it is.
        named: DiffId,
        /// What it is.
        found: DiffId,
    },
    /// A layer is not what somebody has written down of it.
    #[error("a layer is `{made}`, and the record of {by} says `{recorded}`")]
    Unlike {
        /// Whose record it is.
        by: String,
        /// Whether commands of the spec made the layer.
        of_commands: bool,
        /// Its blob, as the record has it.
        recorded: Digest,
        /// Its blob.
        made: Digest,
    },
    /// An archive of images cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The image did not reach its destination.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A part of our own program broke.
    #[error("the thread that made a layer ended early")]
    Thread,
}

fn no_expression(path: &ProjectPath) -> String {
    match path.as_str() {
        "." => "there is neither `default.nix` nor `flake.nix` in the project's folder".to_owned(),
        path => format!(
            "`{path}` is no file of the project, and no folder of it with `default.nix` or `flake.nix`"
        ),
    }
}

impl BuildError {
    /// Whether the registry takes no such manifest.
    pub(super) fn refuses_the_manifest(&self) -> bool {
        matches!(self, Self::Publish(error) if error.refuses_the_manifest())
    }

    /// Whether a binary cache gave other bytes than it should.
    pub(super) fn is_of_wrong_bytes(&self) -> bool {
        matches!(self, Self::Read(ReadError::BinaryCache(error)) if error.is_of_wrong_bytes())
    }
}

impl From<LayerError> for BuildError {
    fn from(error: LayerError) -> Self {
        match error {
            LayerError::Write(source) => Self::Layer { source },
            error => Self::Planned(error),
        }
    }
}

impl From<ReadError> for BuildError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Visit(source) => Self::Layer { source },
            error => Self::Read(error),
        }
    }
}
