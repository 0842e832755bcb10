//! How one part of an image names another.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Digest;

/// The annotation of an image in an image layout that holds its name or tag (image specification, "Pre-Defined
/// Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Names a blob or manifest by its content (image specification, "OCI Content Descriptors").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the bytes are; see [`media_type`](super::media_type).
    pub media_type: String,
    /// Digest of the bytes as a registry stores them.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
    /// What else is known; often empty.
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The descriptor of `bytes`, without annotations.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            annotations: BTreeMap::new(),
        }
    }

    /// The descriptor as JSON; empty annotations are left out.
    pub fn to_json(&self) -> Value {
        let mut json =
            json!({ "mediaType": self.media_type, "digest": self.digest.to_string(), "size": self.size });
        if !self.annotations.is_empty() {
            json["annotations"] = json!(self.annotations);
        }
        json
    }
}
