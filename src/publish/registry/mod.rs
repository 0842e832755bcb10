//! A registry: pushes blobs and manifests (distribution specification 1.1).
//!
//! `access` opens the door, `upload` moves blobs into a `session`, `mount` lets one repository have the blobs of another,
//! and this file asks for what is there and puts manifests. Every request is whole in memory, so one that met an expired
//! token is sent again with a fresh one, once; a second refusal is final. One that met a server which may recover is sent
//! again while patience lasts.

mod access;
mod challenge;
mod location;
mod mount;
mod session;
mod token;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use self::access::{Access, Scope};
pub use self::mount::Mount;
pub use self::session::OpenUpload;
use super::{Blob, PublishError, Refusal, Stored};
use crate::http::header::{self, HeaderName, HeaderValue};
use crate::http::{Http, Method, Request, Response, Retries, StatusCode, Url, may_recover};
use crate::oci::{Digest, Repository, Tag, media_type};
use crate::secret::Secret;

/// No registry keeps larger ones (distribution specification, "Pushing Manifests").
const MOST_MANIFEST: usize = 4 << 20;

const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Whom a registry sees.
#[derive(Debug)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user, such as `gitlab-ci-token` with the token of a job.
    Password {
        /// The name.
        user: String,
        /// The password, or the token in its place.
        password: Secret,
    },
}

/// How a request names a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestReference {
    /// By its content.
    Digest(Digest),
    /// By a name that may move.
    Tag(Tag),
}

/// A registry, and our way in. To be shared by all pushes of a process, for it keeps the tokens.
#[derive(Debug)]
pub struct Registry {
    http: Arc<Http>,
    host: String,
    access: Access,
}

impl Registry {
    /// The registry at `host`, a name with an optional port. The credentials are sent to it, and to
    /// token endpoints on the same host and port, or on one of `realm_hosts`, written likewise.
    pub fn new(http: Arc<Http>, host: &str, credentials: Credentials, realm_hosts: BTreeSet<String>) -> Self {
        let access = Access::new(Arc::clone(&http), host, credentials, realm_hosts);
        Self { http, host: host.to_owned(), access }
    }

    /// Checks that a token can be had for reading `repository`. Changes nothing there.
    pub async fn check_pull(&self, repository: &Repository) -> Result<(), PublishError> {
        self.access.authorization(&scope(repository, false), &mut self.http.retries()).await.map(drop)
    }

    /// Checks that a token can be had for pushing to `repository`. GitLab creates the repository's
    /// record when it grants one.
    pub async fn check_push(&self, repository: &Repository) -> Result<(), PublishError> {
        self.access.authorization(&scope(repository, true), &mut self.http.retries()).await.map(drop)
    }

    /// Whether the repository has the blob, of `size` bytes.
    pub async fn has_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, PublishError> {
        self.look_for_blob(repository, digest, size, &mut self.http.retries()).await
    }

    /// As [`has_blob`](Self::has_blob), as part of the work that `retries` are for.
    async fn look_for_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        retries: &mut Retries<'_>,
    ) -> Result<bool, PublishError> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let request = Request::new(Method::HEAD, url);
        let found = self.probe(&scope(repository, true), request, "the question for a blob", retries).await?;
        let Some(response) = found else { return Ok(false) };
        // Not everybody says how long a blob is; some then say 0, and no blob of an image is empty.
        let length = response.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        Ok(length.is_none_or(|length: u64| length == 0 || length == size))
    }

    /// Moves the blob to the repository that `make` makes, unless it is there already. `make` is called again
    /// when the blob has to be sent from its start once more, and then makes the same bytes.
    ///
    /// It goes into the session that `open` is, if there is one.
    pub async fn put_blob(
        &self,
        repository: &Repository,
        make: &(dyn Fn() -> Blob + Send + Sync),
        open: Option<OpenUpload>,
    ) -> Result<Stored, PublishError> {
        upload::put_blob(self, repository, make, open).await
    }

    /// Moves a blob to the repository that is hardly ever there already, without asking first.
    pub async fn put_new_blob(&self, repository: &Repository, bytes: &Bytes) -> Result<Stored, PublishError> {
        upload::put_new_blob(self, repository, bytes).await
    }

    /// Lets `repository` have a blob of `from`, which lies on the same registry. Only a registry that is out of reach
    /// is an error.
    pub async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, PublishError> {
        mount::mount(self, repository, digest, from).await
    }

    /// The manifest under `tag`, in whatever form it is kept; none where there is no such tag. `push` asks with
    /// the right to write, as there is a token for it where an image is pushed.
    pub async fn manifest(
        &self,
        repository: &Repository,
        tag: &Tag,
        push: bool,
    ) -> Result<Option<Bytes>, PublishError> {
        let url = self.url(repository, &format!("manifests/{tag}"))?;
        let request = Request::new(Method::GET, url).accept(ACCEPT);
        self.get(&scope(repository, push), request, &format!("the question for the tag `{tag}`")).await
    }

    /// A blob that is small enough to be kept in memory; none where there is no such blob. It is what its
    /// digest says.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        push: bool,
    ) -> Result<Option<Bytes>, PublishError> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let body = self.get(&scope(repository, push), Request::get(url), "a blob").await?;
        Ok(body.filter(|body| Digest::of(body) == *digest))
    }

    /// The digest of the manifest under `tag`; none where there is no such tag.
    pub async fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, PublishError> {
        let url = self.url(repository, &format!("manifests/{tag}"))?;
        let request = Request::new(Method::HEAD, url).accept(ACCEPT);
        let what = format!("the question for the tag `{tag}`");
        let found = self.probe(&scope(repository, true), request, &what, &mut self.http.retries()).await?;
        Ok(found.and_then(|response| response.header(DOCKER_CONTENT_DIGEST)?.parse().ok()))
    }

    /// Puts an image manifest under its digest or a tag. All it names must be there.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &ManifestReference,
        manifest: Bytes,
    ) -> Result<(), PublishError> {
        let url = match reference {
            ManifestReference::Digest(digest) => self.url(repository, &format!("manifests/{digest}"))?,
            ManifestReference::Tag(tag) => self.url(repository, &format!("manifests/{tag}"))?,
        };
        let sent = Digest::of(&manifest);
        let body_type = HeaderValue::from_static(media_type::of_manifest(&manifest));
        let request = Request::new(Method::PUT, url).body(body_type, manifest);
        let response = self.send(repository, request, "a manifest", &mut self.http.retries()).await?;
        if !response.status().is_success() {
            let error = self.refused("a manifest", repository, response).await;
            return Err(match (reference, error) {
                (ManifestReference::Tag(tag), PublishError::Refused { answer, .. })
                    if answer.refusal() == Refusal::Denied =>
                {
                    PublishError::TagProtected {
                        tag: tag.clone(),
                        repository: repository.to_string(),
                        answer,
                    }
                }
                (_, error) => error,
            });
        }
        match response.header(DOCKER_CONTENT_DIGEST) {
            Some(stored) if stored != sent.to_string() => {
                Err(PublishError::WrongDigest { sent, stored: stored.chars().take(100).collect() })
            }
            _ => Ok(()),
        }
    }

    /// Asks for something that is kept in memory; none where it is not there. An answer that is cut on its way is
    /// asked for again.
    async fn get(&self, scope: &Scope, request: Request, what: &str) -> Result<Option<Bytes>, PublishError> {
        let mut retries = self.http.retries();
        loop {
            let found = self.probe(scope, request.clone(), what, &mut retries).await?;
            let Some(response) = found else { return Ok(None) };
            match response.body(MOST_MANIFEST).await {
                Ok(body) => return Ok(Some(body)),
                Err(error) if error.may_recover() && retries.pause(None, &error.in_short()).await => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks whether something is there. As the token grants pushing, a refusal to look means no:
    /// GitLab denies everything in a repository whose first push is still to come.
    async fn probe(
        &self,
        scope: &Scope,
        request: Request,
        what: &str,
        retries: &mut Retries<'_>,
    ) -> Result<Option<Response>, PublishError> {
        let response = match self.send_for(scope, request, what, retries).await {
            Err(PublishError::Refused { answer, .. }) if answer.status == 401 => return Ok(None),
            response => response?,
        };
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            _ => Err(self.refused(what, &scope.repository, response).await),
        }
    }

    /// As [`send_for`](Self::send_for), to push to `repository`.
    async fn send(
        &self,
        repository: &Repository,
        request: Request,
        what: &str,
        retries: &mut Retries<'_>,
    ) -> Result<Response, PublishError> {
        self.send_for(&scope(repository, true), request, what, retries).await
    }

    /// Sends a request until the registry answers something that it would not answer otherwise later, or
    /// patience is at its end.
    async fn send_for(
        &self,
        scope: &Scope,
        request: Request,
        what: &str,
        retries: &mut Retries<'_>,
    ) -> Result<Response, PublishError> {
        loop {
            let sent = self.send_once(scope, request.clone(), what, retries).await;
            let (after, reason) = match &sent {
                Ok(response) if may_recover(response.status()) => {
                    (response.retry_after(), format!("`{}` answered {}", self.host, response.status()))
                }
                Err(PublishError::Http(error)) if error.may_recover() => (None, error.in_short()),
                Ok(_) | Err(_) => return sent,
            };
            if !retries.pause(after, &reason).await {
                return sent;
            }
        }
    }

    /// Sends a request that shows a token for `scope`, with a fresh one if the first is refused. Only the tokens
    /// are asked for again.
    async fn send_once(
        &self,
        scope: &Scope,
        request: Request,
        what: &str,
        retries: &mut Retries<'_>,
    ) -> Result<Response, PublishError> {
        let first = self.access.authorization(scope, retries).await?;
        let response = self.http.send(request.clone().authorization(first.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.access.rejected(scope, &first, &response).await;
        let second = self.access.authorization(scope, retries).await?;
        let response = self.http.send(request.authorization(second)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        Err(self.refused(what, &scope.repository, response).await)
    }

    /// Reads why the registry did not do what it was asked.
    async fn refused(&self, what: &str, repository: &Repository, response: Response) -> PublishError {
        let answer = self.access.answer(response).await;
        PublishError::Refused { what: format!("{what} in `{repository}`"), answer }
    }

    /// The URL of something in a repository.
    fn url(&self, repository: &Repository, path: &str) -> Result<Url, PublishError> {
        Ok(self.http.url(&self.host, &format!("/v2/{}/{path}", repository.name()))?)
    }
}

fn scope(repository: &Repository, push: bool) -> Scope {
    Scope { repository: repository.clone(), push, from: None }
}
