//! Media types that nixlayer writes (image specification, "Media Types").

/// A manifest of one image.
pub const MANIFEST: &str = oci_client::manifest::OCI_IMAGE_MEDIA_TYPE;

/// The configuration of an image.
pub const CONFIG: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;

/// A layer: a tar, compressed with gzip.
pub const LAYER_GZIP: &str = oci_client::manifest::IMAGE_LAYER_GZIP_MEDIA_TYPE;

/// A layer: a tar, compressed with Zstandard.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A list of manifests, as `index.json` of an image layout.
pub const INDEX: &str = oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE;
