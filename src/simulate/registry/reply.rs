//! Answers in the shape of the distribution specification.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

pub(super) type Reply = Response<Body>;

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::default();
    *reply.status_mut() = status;
    reply
}

/// An answer with a body of `media_type`.
pub(super) fn content(media_type: &str, body: impl Into<Body>) -> Reply {
    with(Reply::new(body.into()), "content-type", media_type)
}

/// An error as the section "Error Codes" wants it.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = json!({ "errors": [{ "code": code, "message": message, "detail": null }] });
    let mut reply = content("application/json", body.to_string());
    *reply.status_mut() = status;
    reply
}

/// `reply` with one more header; a value that is no header is left out.
pub(super) fn with(mut reply: Reply, name: &'static str, value: &str) -> Reply {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
    reply
}

/// The error for content that is not what its digest says.
pub(super) fn digest_invalid() -> Reply {
    error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "the content does not have this digest")
}
