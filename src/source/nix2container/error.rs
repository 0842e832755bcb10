//! Why there is no image, or no layer, of what nix2container has planned.

use std::io;

use crate::source::json::KeyError;

/// Why a file is no plan of an image.
#[derive(Debug, thiserror::Error)]
pub enum ImageJsonError {
    /// It is larger than any image needs.
    #[error("`{file}` has {size} bytes, and {most} are the most that is read")]
    TooLarge {
        /// The file.
        file: String,
        /// Its length in bytes.
        size: usize,
        /// The most that it may have.
        most: usize,
    },
    /// It is no JSON.
    #[error("`{file}` is not JSON")]
    Json {
        /// The file.
        file: String,
        /// Line, column and reason.
        #[source]
        source: serde_json::Error,
    },
    /// Another version of nix2container wrote it.
    #[error("`{file}` has format version {found}, and this program knows version 1")]
    Version {
        /// The file.
        file: String,
        /// The version it has.
        found: u64,
    },
    /// What stands at a key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Why the tar of a layer did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A file or folder of the store cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A tar has no word for what lies in the store.
    #[error("`{0}` is no file, folder or link")]
    Kind(String),
    /// A layer that lies in the store is no file there, or none that can be decompressed.
    #[error("`{path}` is no layer that can be read")]
    Archive {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// A layer that lies in the store is too large.
    #[error("the layer `{path}` has more than {most} bytes, decompressed")]
    TooLarge {
        /// The file.
        path: String,
        /// The most that it may have.
        most: u64,
    },
    /// A regular expression cannot be used.
    #[error("`{0}` is no regular expression that can be used here")]
    Pattern(String),
    /// A path is moved to where nothing can be.
    #[error("`{path}` is to be moved to `{to}`, which is no place in an image")]
    Place {
        /// The path in the store.
        path: String,
        /// Where it is to be.
        to: String,
    },
    /// A path is moved to where no program could open it.
    #[error("`{path}` is to be moved to a path of more than {most} bytes")]
    TooLong {
        /// The path in the store.
        path: String,
        /// The longest that a path may be.
        most: usize,
    },
    /// Two files have the same place.
    #[error("`{place}` comes from `{first}` and from `{second}`, which differ in {difference}")]
    Conflict {
        /// Where both are to be in the image.
        place: String,
        /// The one that came first.
        first: String,
        /// The other.
        second: String,
        /// What they differ in.
        difference: &'static str,
    },
    /// Something lies in what is no folder.
    #[error("`{path}` cannot be in `{parent}`, which is not a folder")]
    Below {
        /// Where it is to be in the image.
        path: String,
        /// What is there.
        parent: String,
    },
    /// The tar cannot be written.
    #[error("the tar of a layer cannot be written")]
    Write(#[source] io::Error),
}
