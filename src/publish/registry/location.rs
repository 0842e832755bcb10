//! Where an upload goes on: the `Location` of the registry's last answer.

use crate::http::{Url, shown};
use crate::oci::Digest;
use crate::publish::PublishError;

/// The URL that `location`, absolute or relative, names in an answer of `answered`. An upload stays
/// on its origin, for that is where its token is good; its query is the registry's own business.
pub(super) fn next(answered: &Url, location: Option<&str>) -> Result<Url, PublishError> {
    let refused = |location: String, reason| PublishError::Location { location, reason };
    let Some(location) = location else {
        return Err(refused(shown(answered), "the answer has no `Location`"));
    };
    let next = answered.join(location).map_err(|_| refused(shown(answered), "the `Location` is no URL"))?;
    if answered.scheme() == "https" && next.scheme() == "http" {
        let reason = "it leaves HTTPS; the registry needs `relativeurls` behind its reverse proxy";
        return Err(refused(shown(&next), reason));
    }
    if answered.origin() != next.origin() {
        return Err(refused(shown(&next), "it is on another host"));
    }
    Ok(next)
}

/// `location` with the digest that closes the upload.
pub(super) fn with_digest(location: &Url, digest: &Digest) -> Url {
    let mut location = location.clone();
    location.query_pairs_mut().append_pair("digest", &digest.to_string());
    location
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered() -> Url {
        Url::parse("https://registry.example:5050/v2/team/app/blobs/uploads/").unwrap()
    }

    #[test]
    fn an_upload_goes_on_where_the_registry_says() {
        for (location, expected) in [
            (
                "/v2/team/app/blobs/uploads/1?_state=a%2Bb%3D",
                "https://registry.example:5050/v2/team/app/blobs/uploads/1?_state=a%2Bb%3D",
            ),
            ("1?_state=x", "https://registry.example:5050/v2/team/app/blobs/uploads/1?_state=x"),
            ("https://registry.example:5050/elsewhere", "https://registry.example:5050/elsewhere"),
        ] {
            assert_eq!(next(&answered(), Some(location)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn an_upload_stays_on_its_origin() {
        for location in [
            "http://registry.example:5050/v2/x",
            "https://registry.example/v2/x",
            "https://other.example:5050/v2/x",
            "//other.example/v2/x",
            "https://registry.example:5050@other.example/",
            "file:///etc/passwd",
            "https://",
        ] {
            let error = next(&answered(), Some(location)).unwrap_err();
            assert!(matches!(error, PublishError::Location { .. }), "{location}");
        }
        assert!(next(&answered(), None).is_err());
    }

    #[test]
    fn a_proxy_that_hides_https_is_named() {
        let error = next(&answered(), Some("http://registry.example:5050/v2/x")).unwrap_err();

        assert!(error.to_string().contains("`relativeurls`"), "{error}");
    }

    #[test]
    fn the_digest_joins_the_query_and_leaves_it_as_it_was() {
        let digest = Digest::of(b"abc");
        let location = Url::parse("https://r.example/u?_state=a%2Bb%3D").unwrap();

        assert_eq!(
            with_digest(&location, &digest).as_str(),
            format!("https://r.example/u?_state=a%2Bb%3D&digest=sha256%3A{}", digest.hex())
        );
        let location = Url::parse("https://r.example/u").unwrap();
        assert_eq!(
            with_digest(&location, &digest).query(),
            Some(&*format!("digest=sha256%3A{}", digest.hex()))
        );
    }

    proptest! {
        /// No `Location` leads off the origin.
        #[test]
        fn no_location_leaves_the_origin(location in "(https?:)?[/\\\\@:.a-z?#\\[\\]]{0,30}|\\PC*") {
            if let Ok(next) = next(&answered(), Some(&location)) {
                prop_assert_eq!(next.origin(), answered().origin());
            }
        }
    }
}
