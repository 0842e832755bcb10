//! Lets a repository have a blob of another one on the same registry, without sending it (distribution
//! specification, "Mounting a blob from another repository").
//!
//! A mount saves an upload where it works, and costs nothing where it does not: the registry then opens the
//! session that the upload needs anyway.

use super::access::Scope;
use super::session::OpenUpload;
use super::{PublishError, Registry};
use crate::http::{Method, Request, Retries, StatusCode};
use crate::oci::{Digest, Repository};

/// What came of a mount.
#[derive(Debug)]
pub enum Mount {
    /// The blob is there.
    Done,
    /// The blob has to be sent, and this upload is open for it.
    Open(OpenUpload),
    /// The blob has to be sent.
    Refused,
}

pub(super) async fn mount(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    from: &Repository,
) -> Result<Mount, PublishError> {
    let mut retries = registry.http.retries();
    match attempt(registry, repository, digest, from, &mut retries).await {
        // Nobody need wait as long once more.
        Err(error) if retries.gave_up() => Err(error),
        // Whatever is wrong, the upload will meet it and say so.
        attempted => Ok(attempted.unwrap_or(Mount::Refused)),
    }
}

async fn attempt(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    from: &Repository,
    retries: &mut Retries<'_>,
) -> Result<Mount, PublishError> {
    // A token for both: GitLab gives none for what its holder may not read.
    let scope = Scope { repository: repository.clone(), push: true, from: Some(from.clone()) };
    let opened = registry.url(repository, "blobs/uploads/")?;
    let mut url = opened.clone();
    url.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", from.name());
    let request = Request::new(Method::POST, url);
    let response = registry.send_once(&scope, request, "a mount", retries).await?;
    Ok(match response.status() {
        StatusCode::CREATED => Mount::Done,
        StatusCode::ACCEPTED => Mount::Open(OpenUpload::of(&response, &opened)?),
        _ => Mount::Refused,
    })
}
