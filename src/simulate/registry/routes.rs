//! Which request does what (distribution specification, "Endpoints").

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use bytes::Bytes;
use serde_json::json;

use super::arriving::Arriving;
use super::endpoint::{Endpoint, endpoint, query};
use super::reply::{Reply, content, digest_invalid, empty, error, with};
use super::store::{Manifest, ManifestRefused};
use super::{Logged, Shared, uploads};
use crate::oci::{self, Descriptor, Digest};

/// Answers any request, and logs it.
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    // A token counts if it is good when the request begins, however long its body takes.
    let (reply, length) = match refusal(&shared, &parts) {
        Some(refusal) => {
            let length = to_bytes(body, usize::MAX).await.map_or(0, |body| body.len());
            (refusal, length)
        }
        None => match Arriving::new(&shared, &parts).read(body).await {
            Some(body) => {
                let length = body.len();
                (reply(&shared, &parts, body), length)
            }
            None => (error(StatusCode::BAD_REQUEST, "SIZE_INVALID", "the body broke off"), 0),
        },
    };
    shared.state().log.push(Logged {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        authorized: parts.headers.contains_key(header::AUTHORIZATION),
        body: length,
        status: reply.status().as_u16(),
    });
    if parts.method == Method::HEAD { reply.map(|_| Body::empty()) } else { reply }
}

/// The answer to a request that may not be made.
fn refusal(shared: &Shared, parts: &Parts) -> Option<Reply> {
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let Some(endpoint) = endpoint(parts.uri.path()) else {
        return Some(error(StatusCode::NOT_FOUND, "NAME_INVALID", "there is no such endpoint"));
    };
    let need = match endpoint {
        Endpoint::Token => return None,
        Endpoint::Base => None,
        Endpoint::Blob { repository, .. }
        | Endpoint::Manifest { repository, .. }
        | Endpoint::Tags { repository }
            if reads =>
        {
            Some((repository, "pull"))
        }
        Endpoint::Blob { repository, .. }
        | Endpoint::Manifest { repository, .. }
        | Endpoint::Tags { repository }
        | Endpoint::Uploads { repository }
        | Endpoint::Upload { repository, .. } => Some((repository, "push")),
    };
    let refusal = shared.refusal(&parts.headers, need);
    // A blob of another repository is for those who may pull it there.
    let query = query(&parts.uri);
    let from = query.iter().find(|(name, _)| name == "from" && parts.method == Method::POST);
    refusal.or_else(|| shared.refusal(&parts.headers, Some((&from?.1, "pull"))))
}

fn reply(shared: &Shared, parts: &Parts, body: Bytes) -> Reply {
    let (method, headers, query) = (&parts.method, &parts.headers, query(&parts.uri));
    let endpoint = endpoint(parts.uri.path()).unwrap_or(Endpoint::Base);
    match (method.as_str(), endpoint) {
        (_, Endpoint::Token) => shared.give_token(headers, &query),
        ("GET", Endpoint::Base) => empty(StatusCode::OK),
        ("GET" | "HEAD", Endpoint::Blob { repository, digest }) => get_blob(shared, repository, digest),
        ("POST", Endpoint::Uploads { repository }) => {
            uploads::open(shared, repository, &query, headers, body)
        }
        ("GET", Endpoint::Upload { repository, id }) => uploads::status(shared, repository, id, headers),
        ("PATCH", Endpoint::Upload { repository, id }) => {
            uploads::append(shared, repository, id, &query, headers, &body)
        }
        ("PUT", Endpoint::Upload { repository, id }) => {
            uploads::close(shared, repository, id, &query, headers, &body)
        }
        ("DELETE", Endpoint::Upload { repository, id }) => uploads::give_up(shared, repository, id),
        ("GET" | "HEAD", Endpoint::Manifest { repository, reference }) => {
            get_manifest(shared, repository, reference)
        }
        ("PUT", Endpoint::Manifest { repository, reference }) => {
            put_manifest(shared, repository, reference, headers, body)
        }
        ("GET", Endpoint::Tags { repository }) => {
            let tags = json!({ "name": repository, "tags": shared.state().store.tags(repository) });
            content("application/json", tags.to_string())
        }
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the endpoint has no such method"),
    }
}

fn get_blob(shared: &Shared, repository: &str, digest: &str) -> Reply {
    let Ok(digest) = digest.parse::<Digest>() else { return digest_invalid() };
    match shared.state().store.blob(repository, &digest) {
        Some(bytes) => {
            let length = bytes.len().to_string();
            let reply = with(content("application/octet-stream", bytes), "content-length", &length);
            with(reply, "docker-content-digest", &digest.to_string())
        }
        None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry"),
    }
}

fn get_manifest(shared: &Shared, repository: &str, reference: &str) -> Reply {
    match shared.state().store.manifest(repository, reference) {
        Some((digest, manifest)) => {
            let length = manifest.bytes.len().to_string();
            let reply = with(content(&manifest.media_type, manifest.bytes), "content-length", &length);
            with(reply, "docker-content-digest", &digest.to_string())
        }
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown to registry"),
    }
}

fn put_manifest(
    shared: &Shared,
    repository: &str,
    reference: &str,
    headers: &HeaderMap,
    bytes: Bytes,
) -> Reply {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let manifest = Manifest { media_type: media_type.unwrap_or_default().to_owned(), bytes };
    let mut state = shared.state();
    state.manifests += 1;
    if shared.settings.rules.loses_blobs_at == Some(state.manifests) {
        state.store.lose_blobs(repository);
    }
    let rules = &shared.settings.rules;
    let is_foreign = |layer: &Descriptor| rules.foreign_layers.as_ref() == Some(&layer.media_type);
    let read = oci::Manifest::parse(&manifest.bytes);
    if read.is_ok_and(|read| read.layers.iter().any(is_foreign)) {
        return error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "unknown media type in a layer");
    }
    match state.store.put_manifest(repository, reference, manifest) {
        Ok(digest) => {
            let reply =
                with(empty(StatusCode::CREATED), "location", &format!("/v2/{repository}/manifests/{digest}"));
            with(reply, "docker-content-digest", &digest.to_string())
        }
        Err(ManifestRefused::Digest) => digest_invalid(),
        Err(ManifestRefused::Reference) => {
            error(StatusCode::BAD_REQUEST, "TAG_INVALID", "the reference is neither tag nor digest")
        }
        Err(ManifestRefused::Invalid) => {
            error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "manifest invalid")
        }
        Err(ManifestRefused::BlobUnknown(digest)) => error(
            StatusCode::BAD_REQUEST,
            "MANIFEST_BLOB_UNKNOWN",
            &format!("the repository does not have `{digest}`"),
        ),
    }
}
