//! Moves one blob to a registry (distribution specification, "Pushing blobs"), whatever happens on the way.
//!
//! A blob that fits one chunk is complete before the first request, so its digest is known: ask whether it
//! is there; if not, open a session, and put the whole blob into it. A larger blob travels while it is
//! still being made, and its digest comes last:
//!
//! ```text
//! open a session → chunk, chunk, … → is the blob there by now? → close the session, or give it up
//!       ↑             │ broken                                         │ broken
//!       │             ↓                                                ↓
//!       │      where does the session stand? ── within the chunk: go on there
//!       │             │ it is gone, or stands elsewhere
//!       └── once more, the blob's bytes being made again
//! ```
//!
//! A chunk is kept in memory until the registry has acknowledged it, so where the session resumes, no more
//! than one chunk is sent twice. Where it does not (distribution 2.8 forgets a session that was cut inside
//! a body), the blob begins again in a new session: layers are made of the same bytes every time.
//!
//! All tries of a blob share one budget of patience, which begins anew whenever the upload has moved on.
//! A future that is dropped leaves nothing but an open session, which the registry collects.

use std::time::Duration;

use bytes::Bytes;

use super::session::{OpenUpload, Session, acknowledged};
use super::{Registry, location, scope};
use crate::http::header::{CONTENT_RANGE, HeaderValue, LOCATION};
use crate::http::{Body, Method, Request, Response, Retries, Url};
use crate::oci::{Digest, Repository};
use crate::publish::blob::BlobEnd;
use crate::publish::{Blob, PublishError, Refusal, Stored};

/// Registries move a closed blob to its place, on some storages by copying it: at no less than this, in
/// bytes per second.
const SLOWEST_MOVE: u64 = 16 * 1024 * 1024;

/// Why a try did not bring the blob there.
enum Setback {
    /// Another session may: this one is gone, or cannot go on where we can.
    Session(PublishError),
    /// The registry says that the bytes are not those of the digest.
    Corrupted(PublishError),
    /// No other try would fare better.
    Final(PublishError),
}

impl From<PublishError> for Setback {
    fn from(error: PublishError) -> Self {
        Self::Final(error)
    }
}

/// Moves the blob to `repository` that `make` makes, unless it is there already.
pub(super) async fn put_blob(
    registry: &Registry,
    repository: &Repository,
    make: &(dyn Fn() -> Blob + Send + Sync),
    open: Option<OpenUpload>,
) -> Result<Stored, PublishError> {
    let upload = Upload::new(registry, repository);
    Upload { spare: open.map(|OpenUpload(session)| session), ..upload }.put(make).await
}

/// Moves a blob to `repository` that is hardly ever there.
pub(super) async fn put_new_blob(
    registry: &Registry,
    repository: &Repository,
    bytes: &Bytes,
) -> Result<Stored, PublishError> {
    let upload = Upload::new(registry, repository);
    Upload { ask_first: false, ..upload }.put(&|| Blob::of(bytes.clone())).await
}

/// One blob's way to the registry, over as many tries as it takes.
struct Upload<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    retries: Retries<'a>,
    /// Bytes that were sent, also in vain.
    sent: u64,
    /// The most bytes that a session has had.
    furthest: u64,
    /// A session that is open already.
    spare: Option<Session>,
    /// Whether a blob that is complete before the first request may be there.
    ask_first: bool,
}

impl<'a> Upload<'a> {
    fn new(registry: &'a Registry, repository: &'a Repository) -> Self {
        let retries = registry.http.retries();
        Self { registry, repository, retries, sent: 0, furthest: 0, spare: None, ask_first: true }
    }

    /// Tries until the blob is there, or no further try would fare better.
    async fn put(mut self, make: &(dyn Fn() -> Blob + Send + Sync)) -> Result<Stored, PublishError> {
        let mut corrupted = false;
        let stored = loop {
            let error = match self.attempt(make()).await {
                Ok(stored) => break Ok(stored),
                Err(Setback::Session(error)) => error,
                Err(Setback::Corrupted(error)) if !corrupted => {
                    corrupted = true;
                    error
                }
                Err(Setback::Corrupted(error) | Setback::Final(error)) => break Err(error),
            };
            if !self.retries.pause(None, &format!("{}, a blob begins again", reason(&error))).await {
                break Err(error);
            }
        };
        if let Some(spare) = self.spare.take() {
            self.forget(spare).await;
        }
        stored
    }

    /// From the first byte to the last, in one session.
    async fn attempt(&mut self, mut blob: Blob) -> Result<Stored, Setback> {
        let first = blob.next_chunk(0).await.unwrap_or_default();
        if !blob.look_ahead().await {
            let BlobEnd { digest, size } = blob.end().await?;
            return self.put_whole(&first.into(), digest, size).await;
        }
        let mut session = self.open().await?;
        let stored = self.fill(&mut session, first, blob).await;
        self.end(session, &stored).await;
        stored
    }

    /// A blob that is all there.
    async fn put_whole(&mut self, body: &Body, digest: Digest, size: u64) -> Result<Stored, Setback> {
        if self.ask_first && self.has(&digest, size).await? {
            return Ok(Stored { digest, size, reused: true, sent: self.sent });
        }
        let session = self.open().await?;
        let closed = self.close(&session, &digest, size, body.clone()).await;
        let stored = closed.map(|()| Stored { digest, size, reused: false, sent: self.sent });
        self.end(session, &stored).await;
        stored
    }

    async fn has(&mut self, digest: &Digest, size: u64) -> Result<bool, PublishError> {
        self.registry.look_for_blob(self.repository, digest, size, &mut self.retries).await
    }

    async fn open(&mut self) -> Result<Session, Setback> {
        if let Some(spare) = self.spare.take() {
            return Ok(spare);
        }
        let url = self.registry.url(self.repository, "blobs/uploads/")?;
        let request = binary(Method::POST, url.clone(), Bytes::new());
        let response = self.registry.send(self.repository, request, "an upload", &mut self.retries).await?;
        if !response.status().is_success() {
            return Err(self.registry.refused("an upload", self.repository, response).await.into());
        }
        let OpenUpload(session) = OpenUpload::of(&response, &url)?;
        Ok(session)
    }

    /// Sends a blob while it is being made. Another job may have pushed the same bytes meanwhile.
    async fn fill(
        &mut self,
        session: &mut Session,
        first: Vec<Bytes>,
        mut blob: Blob,
    ) -> Result<Stored, Setback> {
        let mut next = Some(first);
        while let Some(mut chunk) = next {
            let length = chunk.iter().map(Bytes::len).sum::<usize>();
            if length < session.min_length {
                let missing = session.min_length - length;
                chunk.extend(blob.next_chunk(missing).await.unwrap_or_default());
            }
            self.send_chunk(session, &chunk.into()).await?;
            next = blob.next_chunk(session.min_length).await;
        }
        let BlobEnd { digest, size } = blob.end().await?;
        let reused = self.has(&digest, size).await?;
        if !reused {
            self.close(session, &digest, size, Body::default()).await?;
        }
        Ok(Stored { digest, size, reused, sent: self.sent })
    }

    /// Sends the next chunk; it counts when the registry has said so.
    async fn send_chunk(&mut self, session: &mut Session, chunk: &Body) -> Result<(), Setback> {
        const WHAT: &str = "a chunk of a blob";
        let start = session.offset;
        let end = start + chunk.len();
        while session.offset < end {
            let before = session.offset;
            let rest = chunk.after(before - start);
            self.sent += rest.len();
            let mut request = binary(Method::PATCH, session.location.clone(), rest);
            // A range counts from 0 and names its last byte.
            if let Ok(range) = HeaderValue::try_from(format!("{before}-{}", end - 1)) {
                request = request.header(CONTENT_RANGE, range);
            }
            let (error, after) = match self.send_once(request, WHAT).await {
                Ok(response) if response.status().is_success() => {
                    session.follow(&response)?;
                    // A registry may take less than it was sent, and says so.
                    let taken = acknowledged(&response).filter(|offset| (before + 1..end).contains(offset));
                    session.offset = taken.unwrap_or(end);
                    self.moved_to(session.offset);
                    continue;
                }
                Ok(response) => {
                    let after = response.retry_after();
                    let error = self.registry.refused(WHAT, self.repository, response).await;
                    match refusal(&error) {
                        Some(Refusal::Upload) => (error, None),
                        Some(Refusal::Unavailable) => (error, after),
                        _ => return Err(error.into()),
                    }
                }
                Err(error) if may_recover(&error) => (error, None),
                Err(error) => return Err(error.into()),
            };
            let refused = refusal(&error) == Some(Refusal::Upload);
            match self.position(session).await? {
                Some(offset) if (before..=end).contains(&offset) && !(refused && offset == before) => {
                    session.offset = offset;
                    self.moved_to(offset);
                }
                // The session is gone, or stands where the bytes are no longer at hand.
                Some(_) | None => return Err(Setback::Session(error)),
            }
            if !self.retries.pause(after, &reason(&error)).await {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Patience begins anew when the upload has come further than ever, and only then: a registry that breaks
    /// each session at the same place must not be tried for ever.
    fn moved_to(&mut self, offset: u64) {
        if offset > self.furthest {
            self.furthest = offset;
            self.retries.moved_on();
        }
    }

    /// Where the session stands, by its own word; none if it is gone.
    async fn position(&mut self, session: &mut Session) -> Result<Option<u64>, Setback> {
        let request = Request::new(Method::GET, session.location.clone());
        let what = "the question for an upload";
        let response = self.registry.send(self.repository, request, what, &mut self.retries).await?;
        if !response.status().is_success() {
            return Ok(None);
        }
        if response.header(LOCATION).is_some() {
            session.follow(&response)?;
        }
        Ok(acknowledged(&response))
    }

    /// Sends what is left, and makes the blob of all that was sent.
    async fn close(
        &mut self,
        session: &Session,
        digest: &Digest,
        size: u64,
        rest: Body,
    ) -> Result<(), Setback> {
        let url = location::with_digest(&session.location, digest);
        let thinking = self.registry.http.idle_timeout() + Duration::from_secs(size / SLOWEST_MOVE);
        self.sent += rest.len();
        let request = binary(Method::PUT, url, rest).thinking(thinking);
        let error = match self.send_once(request, "a blob").await {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => {
                let error = self.registry.refused("a blob", self.repository, response).await;
                match refusal(&error) {
                    Some(Refusal::Upload | Refusal::Unavailable) => error,
                    Some(Refusal::Content) => return Err(Setback::Corrupted(error)),
                    _ => return Err(error.into()),
                }
            }
            Err(error) if may_recover(&error) => error,
            Err(error) => return Err(error.into()),
        };
        // The answer may be all that was lost.
        if self.has(digest, size).await? {
            return Ok(());
        }
        Err(Setback::Session(error))
    }

    /// Tells the registry to forget the session if no blob came of it. The registry does so by itself
    /// one day, so nothing is lost when it does not listen; one that is out of reach is not asked.
    async fn end(&mut self, session: Session, stored: &Result<Stored, Setback>) {
        let forget = match stored {
            Ok(stored) => stored.reused,
            Err(Setback::Session(error) | Setback::Corrupted(error) | Setback::Final(error)) => {
                !matches!(error, PublishError::Http(_))
            }
        };
        if forget {
            self.forget(session).await;
        }
    }

    async fn forget(&mut self, session: Session) {
        let request = Request::new(Method::DELETE, session.location);
        let _ = self.send_once(request, "the end of an upload").await;
    }

    async fn send_once(&mut self, request: Request, what: &str) -> Result<Response, PublishError> {
        self.registry.send_once(&scope(self.repository, true), request, what, &mut self.retries).await
    }
}

/// What the registry's refusal means, if it is one. A 404 without a word is a session that is gone.
fn refusal(error: &PublishError) -> Option<Refusal> {
    let PublishError::Refused { answer, .. } = error else { return None };
    match answer.refusal() {
        Refusal::Unexpected if answer.status == 404 => Some(Refusal::Upload),
        refusal => Some(refusal),
    }
}

/// A few words for the log: what the registry said, or what the network did.
fn reason(error: &PublishError) -> String {
    match error {
        PublishError::Refused { answer, .. } => answer.to_string(),
        PublishError::Http(error) => error.in_short(),
        error => error.to_string(),
    }
}

fn may_recover(error: &PublishError) -> bool {
    matches!(error, PublishError::Http(error) if error.may_recover())
}

fn binary(method: Method, url: Url, body: impl Into<Body>) -> Request {
    Request::new(method, url).body(HeaderValue::from_static("application/octet-stream"), body)
}
