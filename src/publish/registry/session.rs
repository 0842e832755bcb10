//! An upload session that is open at the registry, by the registry's own word: every answer says where it goes on and
//! what it has.

use super::location;
use crate::http::header::{HeaderName, LOCATION, RANGE};
use crate::http::{Response, Url};
use crate::publish::PublishError;

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The largest chunk that a registry may ask us to hold in memory.
const MOST_MIN_LENGTH: usize = 128 * 1024 * 1024;

/// A session that was opened for a blob and has nothing of it yet.
#[derive(Debug)]
pub struct OpenUpload(pub(super) Session);

/// An upload session that is open at the registry.
#[derive(Debug)]
pub(super) struct Session {
    /// Where the next request goes; every answer names a new place.
    pub(super) location: Url,
    /// How many bytes the registry has acknowledged.
    pub(super) offset: u64,
    /// The least bytes that the registry takes at once, but for the last chunk.
    pub(super) min_length: usize,
}

impl OpenUpload {
    /// The session that an answer to a request at `asked` tells of.
    pub(super) fn of(response: &Response, asked: &Url) -> Result<Self, PublishError> {
        let min_length = response.header(OCI_CHUNK_MIN_LENGTH).and_then(|length| length.parse().ok());
        Ok(Self(Session {
            location: location::next(asked, response.header(LOCATION))?,
            offset: 0,
            min_length: min_length.unwrap_or(0).min(MOST_MIN_LENGTH),
        }))
    }
}

impl Session {
    /// Goes on where the answer to its last request says.
    pub(super) fn follow(&mut self, response: &Response) -> Result<(), PublishError> {
        self.location = location::next(&self.location, response.header(LOCATION))?;
        Ok(())
    }
}

/// How many bytes a session has, as `Range: 0-LAST` says it. A registry that has none yet says `0-0`, as
/// one that has a single byte does: what is sent twice then is refused, and begins again.
pub(super) fn acknowledged(response: &Response) -> Option<u64> {
    let range = response.header(RANGE)?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    if last == 0 { Some(0) } else { last.checked_add(1) }
}
