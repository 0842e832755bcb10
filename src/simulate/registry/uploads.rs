//! Uploads: sessions that are opened, filled and closed (distribution specification, "Pushing blobs").

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;

use super::Shared;
use super::reply::{Reply, digest_invalid, empty, error, with};
use crate::oci::Digest;

pub(super) fn open(shared: &Shared, repository: &str, query: &[(String, String)], body: Bytes) -> Reply {
    let mut state = shared.state();
    if let Some(digest) = parameter(query, "digest") {
        let Ok(digest) = digest.parse::<Digest>() else { return digest_invalid() };
        let stored = state.store.put_blob(repository, digest, body);
        return if stored { created_blob(repository, &digest) } else { digest_invalid() };
    }
    let id = state.store.open_upload(repository);
    let reply = progress(StatusCode::ACCEPTED, repository, &id, 0, 0);
    match shared.settings.chunk_min_length {
        Some(length) => with(reply, "oci-chunk-min-length", &length.to_string()),
        None => reply,
    }
}

pub(super) fn status(shared: &Shared, repository: &str, id: &str) -> Reply {
    match shared.state().store.upload(repository, id) {
        Some(upload) => progress(StatusCode::NO_CONTENT, repository, id, upload.offset(), upload.state()),
        None => upload_unknown(),
    }
}

pub(super) fn append(
    shared: &Shared,
    repository: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let mut state = shared.state();
    let Some(upload) = state.store.upload(repository, id) else { return upload_unknown() };
    if parameter(query, "_state") != Some(&upload.state().to_string()) {
        return error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_INVALID", "the location is out of date");
    }
    if let Some(range) = headers.get(header::CONTENT_RANGE) {
        match range.to_str().ok().and_then(parse_range) {
            Some((start, last))
                if start == upload.offset() && last.checked_add(1) == Some(start + body.len()) => {}
            _ => {
                let reply = progress(
                    StatusCode::RANGE_NOT_SATISFIABLE,
                    repository,
                    id,
                    upload.offset(),
                    upload.state(),
                );
                return reply;
            }
        }
    }
    upload.append(body);
    progress(StatusCode::ACCEPTED, repository, id, upload.offset(), upload.state())
}

pub(super) fn close(
    shared: &Shared,
    repository: &str,
    id: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Reply {
    let Some(Ok(digest)) = parameter(query, "digest").map(str::parse::<Digest>) else {
        return digest_invalid();
    };
    let last = append(shared, repository, id, query, headers, body);
    if last.status() != StatusCode::ACCEPTED {
        return last;
    }
    let mut state = shared.state();
    let Some(bytes) = state.store.close_upload(id) else { return upload_unknown() };
    if state.store.put_blob(repository, digest, bytes) {
        created_blob(repository, &digest)
    } else {
        digest_invalid()
    }
}

pub(super) fn give_up(shared: &Shared, repository: &str, id: &str) -> Reply {
    let mut state = shared.state();
    if state.store.upload(repository, id).is_none() {
        return upload_unknown();
    }
    state.store.close_upload(id);
    empty(StatusCode::NO_CONTENT)
}

/// How an upload stands: where it goes on, and which bytes are there.
fn progress(code: StatusCode, repository: &str, id: &str, offset: usize, state: usize) -> Reply {
    let location = format!("/v2/{repository}/blobs/uploads/{id}?_state={state}");
    let reply = with(empty(code), "location", &location);
    with(reply, "range", &format!("0-{}", offset.saturating_sub(1)))
}

/// `start-last`, as the specification wants it: without a unit.
fn parse_range(range: &str) -> Option<(usize, usize)> {
    let (start, last) = range.split_once('-')?;
    Some((start.parse().ok()?, last.parse().ok()?))
}

fn created_blob(repository: &str, digest: &Digest) -> Reply {
    let reply = with(empty(StatusCode::CREATED), "location", &format!("/v2/{repository}/blobs/{digest}"));
    with(reply, "docker-content-digest", &digest.to_string())
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn upload_unknown() -> Reply {
    error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}
