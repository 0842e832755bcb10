//! A registry: pushes blobs and manifests (distribution specification 1.1).
//!
//! `access` opens the door, `upload` moves blobs, and this file asks for what is there
//! and puts manifests. Every request is whole in memory, so one that met an expired token is sent
//! again with a fresh one, once; a second refusal is final. One that met a server which may recover is
//! sent again while patience lasts.

mod access;
mod challenge;
mod location;
mod token;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use self::access::{Access, Scope};
use super::{Blob, PublishError, Refusal, Stored};
use crate::http::header::{HeaderName, HeaderValue};
use crate::http::{Http, Method, Request, Response, Retries, StatusCode, Url, may_recover};
use crate::oci::{Digest, Repository, Tag, media_type};
use crate::secret::Secret;

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
        self.access.authorization(&scope(repository, false)).await.map(drop)
    }

    /// Checks that a token can be had for pushing to `repository`. GitLab creates the repository's
    /// record when it grants one.
    pub async fn check_push(&self, repository: &Repository) -> Result<(), PublishError> {
        self.access.authorization(&scope(repository, true)).await.map(drop)
    }

    /// Whether the repository has the blob.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, PublishError> {
        let url = self.url(repository, &format!("blobs/{digest}"))?;
        let found =
            self.probe(repository, Request::new(Method::HEAD, url), "the question for a blob").await?;
        Ok(found.is_some())
    }

    /// Moves the blob to the repository that `make` makes, unless it is there already. `make` is called again
    /// when the blob has to be sent from its start once more, and then makes the same bytes.
    pub async fn put_blob(
        &self,
        repository: &Repository,
        make: &(dyn Fn() -> Blob + Send + Sync),
    ) -> Result<Stored, PublishError> {
        upload::put_blob(self, repository, make).await
    }

    /// The digest of the manifest under `tag`; none where there is no such tag.
    pub async fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, PublishError> {
        const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, \
            application/vnd.oci.image.index.v1+json, \
            application/vnd.docker.distribution.manifest.v2+json, \
            application/vnd.docker.distribution.manifest.list.v2+json";
        let url = self.url(repository, &format!("manifests/{tag}"))?;
        let request = Request::new(Method::HEAD, url).accept(ACCEPT);
        let found = self.probe(repository, request, &format!("the question for the tag `{tag}`")).await?;
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
        let body_type = HeaderValue::from_static(media_type::MANIFEST);
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

    /// Asks whether something is there. As the token grants pushing, a refusal to look means no:
    /// GitLab denies everything in a repository whose first push is still to come.
    async fn probe(
        &self,
        repository: &Repository,
        request: Request,
        what: &str,
    ) -> Result<Option<Response>, PublishError> {
        let response = match self.send(repository, request, what, &mut self.http.retries()).await {
            Err(PublishError::Refused { answer, .. }) if answer.status == 401 => return Ok(None),
            response => response?,
        };
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            _ => Err(self.refused(what, repository, response).await),
        }
    }

    /// Sends a request until the registry answers something that it would not answer otherwise later, or
    /// patience is at its end.
    async fn send(
        &self,
        repository: &Repository,
        request: Request,
        what: &str,
        retries: &mut Retries<'_>,
    ) -> Result<Response, PublishError> {
        loop {
            let sent = self.send_once(repository, request.clone(), what).await;
            let (after, reason) = match &sent {
                Ok(response) if may_recover(response.status()) => {
                    (response.retry_after(), format!("`{}` answered {}", self.host, response.status()))
                }
                Err(PublishError::Http(error)) if error.may_recover() => (None, error.to_string()),
                Ok(_) | Err(_) => return sent,
            };
            if !retries.pause(after, &reason).await {
                return sent;
            }
        }
    }

    /// Sends a request that may push to `repository`, with a fresh token if the first is refused.
    async fn send_once(
        &self,
        repository: &Repository,
        request: Request,
        what: &str,
    ) -> Result<Response, PublishError> {
        let scope = scope(repository, true);
        let first = self.access.authorization(&scope).await?;
        let response = self.http.send(request.clone().authorization(first.clone())).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.access.rejected(&scope, &first, &response).await;
        let second = self.access.authorization(&scope).await?;
        let response = self.http.send(request.authorization(second)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        Err(self.refused(what, repository, response).await)
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
    Scope { repository: repository.clone(), push }
}
