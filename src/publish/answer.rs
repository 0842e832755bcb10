//! What a registry says when it does not do what it was asked.

use std::fmt;

use oci_client::errors::OciEnvelope;

use crate::http::{Response, StatusCode, authority};
use crate::secret::Secret;

/// Error bodies are short; whatever follows is of no use to anybody.
const MOST_BODY: usize = 64 * 1024;

/// The most characters of a body that a person is shown.
const MOST_TEXT: usize = 400;

const REDACTED: &str = "[redacted]";

/// An answer other than the expected one, ready to be shown: no markup, no secret, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who answered: host and port.
    pub host: String,
    /// The HTTP status.
    pub status: u16,
    /// The registry's error code, such as `DENIED`, where the body has one.
    pub code: Option<String>,
    /// What else the body says; may be empty.
    pub text: String,
}

/// What an [`Answer`] means for the push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token or password does not count, though it is fresh.
    Unauthorized,
    /// The credentials are known, and not enough.
    Denied,
    /// The registry cannot have a repository of this name, or has none.
    Repository,
    /// The manifest or its tag is not acceptable.
    Manifest,
    /// The manifest names a blob that the repository lacks.
    BlobMissing,
    /// The bytes that arrived do not have the digest or size we said.
    Content,
    /// The upload session is gone or stands elsewhere: a new one is needed.
    Upload,
    /// The server is overloaded or broken: the same request may work later.
    Unavailable,
    /// None of these.
    Unexpected,
}

impl Answer {
    /// Reads the rest of `response`. Should the body repeat a secret or a token, it is hidden.
    pub(super) async fn read(response: Response, secrets: &[Secret]) -> Self {
        let host = authority(response.url());
        let status = response.status().as_u16();
        // A body that breaks off explains nothing, but the status still does.
        let body = response.body_start(MOST_BODY).await.map(|(body, _)| body).unwrap_or_default();
        Self::parse(host, status, &String::from_utf8_lossy(&body), secrets)
    }

    fn parse(host: String, status: u16, body: &str, secrets: &[Secret]) -> Self {
        let (code, text) = envelope(body).unwrap_or_else(|| (None, plain_text(body)));
        let hide = |text: String| {
            let known = secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty());
            known.fold(text, |text, secret| text.replace(secret, REDACTED))
        };
        Self { host, status, code: code.map(|code| one_line(&hide(code))), text: one_line(&hide(text)) }
    }

    /// What the answer means: by its code where the standard or GitLab names one, else by its status.
    pub fn refusal(&self) -> Refusal {
        match self.code.as_deref().unwrap_or_default() {
            "UNAUTHORIZED" => Refusal::Unauthorized,
            "DENIED" => Refusal::Denied,
            "NAME_INVALID" | "NAME_UNKNOWN" => Refusal::Repository,
            "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN" => Refusal::BlobMissing,
            "DIGEST_INVALID" | "SIZE_INVALID" => Refusal::Content,
            "BLOB_UPLOAD_UNKNOWN" | "BLOB_UPLOAD_INVALID" | "RANGE_INVALID" | "CONTENT_RANGE_INVALID" => {
                Refusal::Upload
            }
            "MANIFEST_INVALID"
            | "MANIFEST_UNVERIFIED"
            | "MANIFEST_SIZE_LIMIT"
            | "MANIFEST_REFERENCE_LIMIT"
            | "TAG_INVALID" => Refusal::Manifest,
            "TOOMANYREQUESTS" | "UNAVAILABLE" | "CONNECTIONRESET" | "REQUESTCANCELED" => Refusal::Unavailable,
            _ => match self.status {
                401 => Refusal::Unauthorized,
                403 => Refusal::Denied,
                416 => Refusal::Upload,
                408 | 429 | 499 | 500 | 502 | 503 | 504 | 522 => Refusal::Unavailable,
                _ => Refusal::Unexpected,
            },
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` answered {}", self.host, self.status)?;
        match &self.code {
            Some(code) => write!(formatter, " {code}")?,
            None => {
                let reason = StatusCode::from_u16(self.status).ok().and_then(|code| code.canonical_reason());
                reason.map_or(Ok(()), |reason| write!(formatter, " {reason}"))?;
            }
        }
        if self.text.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.text) }
    }
}

impl std::error::Error for Answer {}

/// The first error of a body as the distribution specification, "Error Codes", wants it.
fn envelope(body: &str) -> Option<(Option<String>, String)> {
    let envelope: OciEnvelope = serde_json::from_str(body).ok()?;
    let error = envelope.errors.into_iter().next()?;
    let code = serde_json::to_value(&error.code).ok()?.as_str().map(str::to_owned);
    let text = match &error.detail {
        serde_json::Value::Null => error.message,
        serde_json::Value::String(detail) => format!("{} ({detail})", error.message),
        detail => format!("{} ({detail})", error.message),
    };
    Some((code, text))
}

/// What a proxy's error page is called, or the text that is no page.
fn plain_text(body: &str) -> String {
    let text = body.trim_start();
    if !text.starts_with('<') {
        return text.to_owned();
    }
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    match title {
        Some((title, _)) => format!("a web page, `{}`", title.trim()),
        None => "a web page".to_owned(),
    }
}

fn one_line(text: &str) -> String {
    let words = text.split(|char: char| char.is_whitespace() || char.is_control());
    // So starts every JSON Web Token: with `{"` in base64.
    let words = words.map(|word| if word.contains("eyJ") { REDACTED } else { word });
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(status: u16, body: &str) -> Answer {
        Answer::parse("registry.example".to_owned(), status, body, &[Secret::from("canary")])
    }

    /// The bodies are of the kinds that GitLab, its registry, and proxies before them send.
    #[test]
    fn answers_are_shown_in_one_line_and_classified() {
        let html = "<html>\r\n<head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
        for (status, body, shown, refusal) in [
            (
                403,
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
                "403 DENIED: requested access to the resource is denied",
                Refusal::Denied,
            ),
            (
                400,
                r#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid","detail":"unknown media type"}]}"#,
                "400 MANIFEST_INVALID: manifest invalid (unknown media type)",
                Refusal::Manifest,
            ),
            (
                400,
                r#"{"errors":[{"code":"MANIFEST_REFERENCE_LIMIT","message":"too many"}]}"#,
                "400 MANIFEST_REFERENCE_LIMIT: too many",
                Refusal::Manifest,
            ),
            (
                404,
                r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#,
                "404 BLOB_UPLOAD_UNKNOWN",
                Refusal::Upload,
            ),
            (502, html, "502 Bad Gateway: a web page, `502 Bad Gateway`", Refusal::Unavailable),
            (429, "Retry later\n", "429 Too Many Requests: Retry later", Refusal::Unavailable),
            (413, "", "413 Payload Too Large", Refusal::Unexpected),
            (416, "", "416 Range Not Satisfiable", Refusal::Upload),
            (401, "you said canary", "401 Unauthorized: you said [redacted]", Refusal::Unauthorized),
            (401, "bad token=eyJhbGci.e30.c2ln", "401 Unauthorized: bad [redacted]", Refusal::Unauthorized),
            (400, "a\u{1b}[31mb\nc", "400 Bad Request: a [31mb c", Refusal::Unexpected),
        ] {
            let answer = parse(status, body);

            assert_eq!(answer.to_string(), format!("`registry.example` answered {shown}"));
            assert_eq!(answer.refusal(), refusal, "{body}");
        }
    }

    proptest! {
        /// Whatever the body is, it becomes one short line.
        #[test]
        fn any_body_becomes_a_short_line(body in any::<String>(), status in 100..600u16) {
            let answer = parse(status, &body);

            prop_assert!(answer.text.chars().count() <= MOST_TEXT + 1);
            prop_assert!(!answer.to_string().chars().any(char::is_control));
        }
    }
}
