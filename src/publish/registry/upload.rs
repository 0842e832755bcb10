//! Moves one blob to a registry (distribution specification, "Pushing blobs").
//!
//! A blob that fits one chunk is complete before the first request, so its digest is known:
//!
//! 1. ask whether it is there;
//! 2. open a session, and put the whole blob into it.
//!
//! A larger blob travels while it is still being made, and its digest comes last:
//!
//! 1. open a session;
//! 2. send chunk after chunk, each kept in memory until the registry has acknowledged it;
//! 3. ask whether the blob is there by now, and either give the session up or close it.
//!
//! When the producer fails, or the registry refuses to go on, the session is given up. A future that
//! is dropped leaves nothing but an open session, which the registry collects.

use bytes::Bytes;

use super::{Registry, location};
use crate::http::header::{CONTENT_RANGE, HeaderName, HeaderValue, LOCATION};
use crate::http::{Method, Request, Response, Url};
use crate::oci::{Digest, Repository};
use crate::publish::blob::BlobEnd;
use crate::publish::{Blob, PublishError, Stored};

const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// The largest chunk that a registry may ask us to hold in memory.
const MOST_MIN_LENGTH: usize = 128 * 1024 * 1024;

/// Moves `blob` to `repository`, unless it is there already.
pub(super) async fn put_blob(
    registry: &Registry,
    repository: &Repository,
    mut blob: Blob,
) -> Result<Stored, PublishError> {
    if blob.is_one_chunk().await {
        put_whole(registry, repository, blob).await
    } else {
        put_in_chunks(registry, repository, blob).await
    }
}

async fn put_whole(
    registry: &Registry,
    repository: &Repository,
    mut blob: Blob,
) -> Result<Stored, PublishError> {
    let bytes = blob.next().await.unwrap_or_default();
    let BlobEnd { digest, size } = blob.end().await?;
    if registry.has_blob(repository, &digest).await? {
        return Ok(Stored { digest, size, reused: true, sent: 0 });
    }
    let session = Session::open(registry, repository).await?;
    let closed = session.close(&digest, bytes).await;
    session.end(closed.map(|()| Stored { digest, size, reused: false, sent: size })).await
}

async fn put_in_chunks(
    registry: &Registry,
    repository: &Repository,
    blob: Blob,
) -> Result<Stored, PublishError> {
    let mut session = Session::open(registry, repository).await?;
    let stored = session.fill(blob).await;
    session.end(stored).await
}

/// An upload session that is open at the registry.
struct Session<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    /// Where the next request goes; every answer names a new place.
    location: Url,
    /// How many bytes the registry has acknowledged.
    offset: u64,
    /// The least bytes that the registry takes at once, but for the last chunk.
    min_length: usize,
}

impl<'a> Session<'a> {
    async fn open(registry: &'a Registry, repository: &'a Repository) -> Result<Self, PublishError> {
        let url = registry.url(repository, "blobs/uploads/")?;
        let request = binary(Method::POST, url.clone(), Bytes::new());
        let response = accepted(registry, repository, request, "an upload").await?;
        let min_length = response.header(OCI_CHUNK_MIN_LENGTH).and_then(|length| length.parse().ok());
        Ok(Self {
            registry,
            repository,
            location: location::next(&url, response.header(LOCATION))?,
            offset: 0,
            min_length: min_length.unwrap_or(0).min(MOST_MIN_LENGTH),
        })
    }

    /// Sends a blob while it is being made. Another job may have pushed the same bytes meanwhile.
    async fn fill(&mut self, mut blob: Blob) -> Result<Stored, PublishError> {
        while let Some(chunk) = blob.next_of(self.min_length).await {
            self.send(chunk).await?;
        }
        let BlobEnd { digest, size } = blob.end().await?;
        let reused = self.registry.has_blob(self.repository, &digest).await?;
        if !reused {
            self.close(&digest, Bytes::new()).await?;
        }
        Ok(Stored { digest, size, reused, sent: self.offset })
    }

    /// Sends the next chunk; it counts when the registry has said so.
    async fn send(&mut self, chunk: Bytes) -> Result<(), PublishError> {
        let end = self.offset + chunk.len() as u64;
        let mut request = binary(Method::PATCH, self.location.clone(), chunk);
        // A range counts from 0 and names its last byte; an empty chunk has none.
        if let Some(last) = end.checked_sub(1)
            && let Ok(range) = HeaderValue::try_from(format!("{}-{last}", self.offset))
        {
            request = request.header(CONTENT_RANGE, range);
        }
        let response = accepted(self.registry, self.repository, request, "a chunk of a blob").await?;
        self.location = location::next(&self.location, response.header(LOCATION))?;
        self.offset = end;
        Ok(())
    }

    /// Sends what is left, and makes the blob of all that was sent.
    async fn close(&self, digest: &Digest, rest: Bytes) -> Result<(), PublishError> {
        let url = location::with_digest(&self.location, digest);
        let request = binary(Method::PUT, url, rest);
        accepted(self.registry, self.repository, request, "a blob").await.map(drop)
    }

    /// Tells the registry to forget the session if no blob came of it. The registry does so by itself
    /// one day, so nothing is lost when it does not listen; one that is out of reach is not asked.
    async fn end(self, stored: Result<Stored, PublishError>) -> Result<Stored, PublishError> {
        let forget = match &stored {
            Ok(stored) => stored.reused,
            Err(error) => !matches!(error, PublishError::Http(_)),
        };
        if forget {
            let request = Request::new(Method::DELETE, self.location);
            let _ = self.registry.send(self.repository, request, "the end of an upload").await;
        }
        stored
    }
}

fn binary(method: Method, url: Url, body: Bytes) -> Request {
    Request::new(method, url).body(HeaderValue::from_static("application/octet-stream"), body)
}

async fn accepted(
    registry: &Registry,
    repository: &Repository,
    request: Request,
    what: &str,
) -> Result<Response, PublishError> {
    let response = registry.send(repository, request, what).await?;
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(registry.refused(what, repository, response).await)
    }
}
