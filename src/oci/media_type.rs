//! Media types of what nixlayer writes or passes on (image specification, "Media Types").

use serde::Deserialize;

/// A manifest of one image.
pub const MANIFEST: &str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;

/// The same as Docker has it (distribution, "Image Manifest Version 2, Schema 2"): only where somebody else wrote it.
pub const DOCKER_MANIFEST: &str = oci_client::manifest::IMAGE_MANIFEST_MEDIA_TYPE;

/// The configuration of an image.
pub const CONFIG: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;

/// A layer: a tar, compressed with gzip.
pub const LAYER_GZIP: &str = oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;

/// A layer: a tar, compressed with Zstandard.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A list of manifests, as `index.json` of an image layout.
pub const INDEX: &str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;

/// The media type of a manifest of one image: where it is sent or listed, it has to be what it says itself (distribution
/// specification, "Pushing Manifests").
pub fn of_manifest(manifest: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: String,
    }

    match serde_json::from_slice::<Typed>(manifest) {
        Ok(Typed { media_type }) if media_type == DOCKER_MANIFEST => DOCKER_MANIFEST,
        _ => MANIFEST,
    }
}
