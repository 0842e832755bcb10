//! What a request is about.

use axum::http::Uri;

use crate::http::Url;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endpoint<'a> {
    Token,
    Base,
    Blob { repository: &'a str, digest: &'a str },
    Uploads { repository: &'a str },
    Upload { repository: &'a str, id: &'a str },
    Manifest { repository: &'a str, reference: &'a str },
    Tags { repository: &'a str },
}

/// What `path` names.
pub(super) fn endpoint(path: &str) -> Option<Endpoint<'_>> {
    if path == "/jwt/auth" {
        return Some(Endpoint::Token);
    }
    let rest = path.strip_prefix("/v2/")?;
    if rest.is_empty() {
        return Some(Endpoint::Base);
    }
    if let Some(repository) = rest.strip_suffix("/blobs/uploads/").or(rest.strip_suffix("/blobs/uploads")) {
        return Some(Endpoint::Uploads { repository });
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Some(Endpoint::Tags { repository });
    }
    let (start, last) = rest.rsplit_once('/')?;
    let named = |suffix| start.strip_suffix(suffix);
    if let Some(repository) = named("/blobs/uploads") {
        Some(Endpoint::Upload { repository, id: last })
    } else if let Some(repository) = named("/blobs") {
        Some(Endpoint::Blob { repository, digest: last })
    } else {
        named("/manifests").map(|repository| Endpoint::Manifest { repository, reference: last })
    }
}

/// The parameters of a request.
pub(super) fn query(uri: &Uri) -> Vec<(String, String)> {
    let url = Url::parse(&format!("http://registry{uri}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_the_specification_says() {
        for (path, expected) in [
            ("/v2/", Some(Endpoint::Base)),
            ("/jwt/auth", Some(Endpoint::Token)),
            ("/v2/a/b/blobs/sha256:1", Some(Endpoint::Blob { repository: "a/b", digest: "sha256:1" })),
            ("/v2/a/b/blobs/uploads/", Some(Endpoint::Uploads { repository: "a/b" })),
            ("/v2/a/b/blobs/uploads/7", Some(Endpoint::Upload { repository: "a/b", id: "7" })),
            ("/v2/a/b/manifests/1.2", Some(Endpoint::Manifest { repository: "a/b", reference: "1.2" })),
            ("/v2/a/b/tags/list", Some(Endpoint::Tags { repository: "a/b" })),
            ("/v1/", None),
            ("/v2/a", None),
            ("/v2/a/referrers/x", None),
        ] {
            assert_eq!(endpoint(path), expected, "{path}");
        }
    }
}
