//! A manifest that somebody else may have written.

use std::collections::BTreeMap;

use oci_client::manifest::{OciDescriptor, OciImageManifest};

use super::Descriptor;

/// An image manifest (image specification, "OCI Image Manifest"), as far as it matters here. Docker's, version 2,
/// has the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Names the configuration.
    pub config: Descriptor,
    /// Name the layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// What else is said of the image.
    pub annotations: BTreeMap<String, String>,
}

/// Why a text is no manifest of one image.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It has another shape.
    #[error("it is no image manifest")]
    Json(#[from] serde_json::Error),
    /// A digest is none, or a size is negative.
    #[error("its descriptor of `{0}` is none")]
    Descriptor(String),
}

impl Manifest {
    /// Reads a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: OciImageManifest = serde_json::from_slice(bytes)?;
        Ok(Self {
            config: descriptor(manifest.config)?,
            layers: manifest.layers.into_iter().map(descriptor).collect::<Result<_, _>>()?,
            annotations: manifest.annotations.unwrap_or_default(),
        })
    }
}

fn descriptor(read: OciDescriptor) -> Result<Descriptor, ManifestError> {
    let (Ok(digest), Ok(size)) = (read.digest.parse(), read.size.try_into()) else {
        return Err(ManifestError::Descriptor(read.digest.chars().take(100).collect()));
    };
    Ok(Descriptor {
        media_type: read.media_type,
        digest,
        size,
        annotations: read.annotations.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;

    fn text(digest: &str, size: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":7}},
            "layers":[{{"mediaType":"l","digest":"{digest}","size":{size},"annotations":{{"a":"b"}}}}]}}"#
        )
    }

    #[test]
    fn a_manifest_is_read() {
        let digest = Digest::of(b"x");

        let manifest = Manifest::parse(text(&digest.to_string(), "12").as_bytes()).unwrap();

        assert_eq!((manifest.config.digest, manifest.config.size), (digest, 7));
        let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(
            manifest.layers,
            [Descriptor { media_type: "l".to_owned(), digest, size: 12, annotations }]
        );
        assert_eq!(manifest.annotations, BTreeMap::new());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        let digest = Digest::of(b"x").to_string();
        for bytes in [text("sha256:../../x", "1"), text(&digest, "-1"), "{}".to_owned(), "[]".to_owned()] {
            assert!(Manifest::parse(bytes.as_bytes()).is_err(), "{bytes}");
        }
    }
}
