//! Why a store path could not be had from binary caches.

use std::io;
use std::time::Duration;

use crate::http::{self, HttpError, StatusCode};
use crate::nix::nar::NarError;
use crate::nix::{CacheInfoError, FileHash, NarHash, NarInfoError, StorePath};

/// Why a store path could not be had from binary caches.
#[derive(Debug, thiserror::Error)]
pub enum BinaryCacheError {
    /// There are no caches.
    #[error("`{path}` is not on this host, and there is no binary cache to ask for it")]
    NoCache {
        /// The path.
        path: StorePath,
    },
    /// No cache has it.
    #[error("`{path}` is in none of the binary caches: {}", caches.join(", "))]
    Missing {
        /// The path.
        path: StorePath,
        /// Those that were asked.
        caches: Vec<String>,
    },
    /// A cache that could have it did not give it.
    #[error("`{path}` cannot be had from `{cache}`")]
    Fault {
        /// The path.
        path: StorePath,
        /// The cache.
        cache: String,
        /// Why.
        #[source]
        fault: Box<CacheFault>,
    },
}

impl BinaryCacheError {
    /// Whether a cache gave other bytes than it should. It will not be asked for the path again, so whoever
    /// begins anew gets it from another one, if there is one.
    pub fn is_of_wrong_bytes(&self) -> bool {
        matches!(self, Self::Fault { fault, .. } if fault.is_of_wrong_bytes())
    }
}

/// What is wrong with a cache, or with what it gives.
#[derive(Debug, thiserror::Error)]
pub enum CacheFault {
    /// It does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refuses.
    #[error("`{file}` is refused with status {status}")]
    Refused {
        /// What was asked for.
        file: String,
        /// The answer.
        status: StatusCode,
        /// How long the cache wants to be left alone.
        wait: Option<Duration>,
    },
    /// A file of the cache, on this host, cannot be read.
    #[error("`{file}` cannot be read")]
    File {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is no cache of our store.
    #[error("`nix-cache-info` cannot be used")]
    CacheInfo(#[source] CacheInfoError),
    /// What it says of the path makes no sense.
    #[error("its narinfo cannot be used")]
    NarInfo(#[source] NarInfoError),
    /// The narinfo is in an encoding that nobody asked for.
    #[error("`{file}` has the content encoding `{encoding}`, which nobody asked for")]
    Encoding {
        /// The file.
        file: String,
        /// The encoding.
        encoding: String,
    },
    /// It speaks of another path.
    #[error("its narinfo is that of `{0}`")]
    OtherPath(StorePath),
    /// It speaks of other contents than the lock.
    #[error("it says that the {what} is `{said}`, and the lock says `{pinned}`")]
    Differs {
        /// What differs.
        what: &'static str,
        /// As the cache has it.
        said: String,
        /// As the lock has it.
        pinned: String,
    },
    /// Nobody trusted signed it.
    #[error("no trusted key signed its narinfo")]
    Unsigned,
    /// The NAR is somewhere else.
    #[error("its NAR is at `{url}`, which is not in the cache")]
    Elsewhere {
        /// The address that the narinfo names.
        url: String,
    },
    /// The file of the NAR is not what it is announced to be.
    #[error("`{file}` has {found} bytes instead of {announced}")]
    FileSize {
        /// The file.
        file: String,
        /// How many there are, as far as they were read.
        found: u64,
        /// How many the narinfo says.
        announced: u64,
    },
    /// The file of the NAR is not what it is announced to be.
    #[error("`{file}` has the hash `{found}` instead of `{announced}`")]
    FileHash {
        /// The file.
        file: String,
        /// The hash of the bytes.
        found: FileHash,
        /// What the narinfo says.
        announced: FileHash,
    },
    /// The file of the NAR cannot be decompressed.
    #[error("`{file}` cannot be decompressed")]
    Compressed {
        /// The file.
        file: String,
        /// What the library says.
        #[source]
        source: io::Error,
    },
    /// The file goes on after what is compressed in it.
    #[error("`{file}` goes on after the end of what is compressed in it")]
    Surplus {
        /// The file.
        file: String,
    },
    /// It is no NAR.
    #[error("`{file}` does not hold a NAR")]
    Nar {
        /// The file.
        file: String,
        /// Where it is wrong.
        #[source]
        source: NarError,
    },
    /// There is more of it than there can be.
    #[error("`{file}` holds more than a NAR of {announced} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// The size that the lock or the narinfo says.
        announced: u64,
    },
    /// There is less of it.
    #[error("`{file}` holds a NAR of {found} bytes instead of {announced}")]
    NarSize {
        /// The file.
        file: String,
        /// The size.
        found: u64,
        /// The size that the lock or the narinfo says.
        announced: u64,
    },
    /// It is another one.
    #[error("`{file}` holds a NAR with the hash `{found}` instead of `{announced}`")]
    NarHash {
        /// The file.
        file: String,
        /// The hash of the bytes.
        found: NarHash,
        /// The hash that the lock or the narinfo says.
        announced: NarHash,
    },
    /// A part of our own program broke.
    #[error("the download ended early")]
    Gone,
}

impl CacheFault {
    /// How long the cache wants to be left alone, if it says so.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether the bytes of a NAR were not those that they should be.
    pub(super) fn is_of_wrong_bytes(&self) -> bool {
        matches!(
            self,
            Self::FileSize { .. }
                | Self::FileHash { .. }
                | Self::Compressed { .. }
                | Self::Surplus { .. }
                | Self::Nar { .. }
                | Self::TooLarge { .. }
                | Self::NarSize { .. }
                | Self::NarHash { .. }
        )
    }

    /// Whether the cache should not be asked first for a while.
    pub(super) fn is_trouble(&self) -> bool {
        self.may_recover() || matches!(self, Self::Http(HttpError::Connect { .. }))
    }

    /// A line for the log.
    pub(super) fn in_short(&self) -> String {
        match self {
            Self::Http(error) => error.in_short(),
            fault => fault.to_string(),
        }
    }

    /// Whether another try may go well.
    pub(super) fn may_recover(&self) -> bool {
        match self {
            Self::Http(error) => error.may_recover(),
            Self::Refused { status, .. } => http::may_recover(*status),
            Self::File { .. }
            | Self::CacheInfo(_)
            | Self::NarInfo(_)
            | Self::Encoding { .. }
            | Self::OtherPath(_)
            | Self::Differs { .. }
            | Self::Unsigned
            | Self::Elsewhere { .. }
            | Self::FileSize { .. }
            | Self::FileHash { .. }
            | Self::Compressed { .. }
            | Self::Surplus { .. }
            | Self::Nar { .. }
            | Self::TooLarge { .. }
            | Self::NarSize { .. }
            | Self::NarHash { .. }
            | Self::Gone => false,
        }
    }
}
