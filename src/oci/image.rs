//! An image put together from its layers: configuration, manifest, and the digests of both.
//!
//! The JSON is canonical (RFC 8785: sorted keys, no white space), so that equal images have equal
//! digests. It is written once; the bytes travel with their digest from here to the registry.
//!
//! ```
//! use nixlayer::oci::{Image, ImageSource, Platform};
//!
//! let image = Image::assemble(ImageSource {
//!     platform: Platform { architecture: "amd64".to_owned(), variant: None },
//!     created: "1970-01-01T00:00:01Z".to_owned(),
//!     config: serde_json::Map::new(),
//!     layers: Vec::new(),
//!     annotations: Default::default(),
//! });
//! assert!(image.manifest_bytes().starts_with(br#"{"config":{"digest":"sha256:"#));
//! ```

use std::collections::BTreeMap;

use canon_json::CanonJsonSerialize;
use serde_json::{Map, Value, json};

use super::{Descriptor, DiffId, Digest, media_type};

/// What an image is assembled from.
#[derive(Clone, Debug)]
pub struct ImageSource {
    /// What the image runs on.
    pub platform: Platform,
    /// When it was made, as RFC 3339 text.
    pub created: String,
    /// The `config` object of the image configuration: `Cmd`, `Env`, …
    pub config: Map<String, Value>,
    /// The layers, the lowest first.
    pub layers: Vec<ImageLayer>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// The platform of an image; its operating system is always `linux`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Go's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v8`.
    pub variant: Option<String>,
}

/// A finished layer, and what the image's history says about it.
#[derive(Clone, Debug)]
pub struct ImageLayer {
    /// Digest of the tar before compression.
    pub diff_id: DiffId,
    /// The blob.
    pub descriptor: Descriptor,
    /// What the image's history says of it: `comment`, `created_by`, `author`. Without `created`, it is as old as
    /// the image.
    pub history: Map<String, Value>,
}

/// A complete image, its layers being known by their descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    config: Descriptor,
    config_bytes: Vec<u8>,
    digest: Digest,
    manifest_bytes: Vec<u8>,
}

impl Image {
    /// Writes configuration and manifest. Nothing can go wrong here: what could, did in the types.
    pub fn assemble(source: ImageSource) -> Self {
        let config = canonical_json(&configuration(&source));
        let layers: Vec<_> = source.layers.into_iter().map(|layer| layer.descriptor).collect();
        Self::with_config(config, &layers, &source.annotations)
    }

    /// The image of a configuration that somebody else wrote, whose layers are `layers`.
    pub fn with_config(
        config: Vec<u8>,
        layers: &[Descriptor],
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let descriptor = Descriptor::of(media_type::CONFIG, &config);
        let manifest = canonical_json(&manifest(&descriptor, layers, annotations));
        Self::of(config, manifest)
    }

    /// The image of a configuration and a manifest that somebody else wrote.
    pub fn of(config_bytes: Vec<u8>, manifest_bytes: Vec<u8>) -> Self {
        let config = Descriptor::of(media_type::CONFIG, &config_bytes);
        Self { config, config_bytes, digest: Digest::of(&manifest_bytes), manifest_bytes }
    }

    /// The same image under a manifest that somebody else wrote of it.
    pub fn with_manifest(self, manifest: &[u8]) -> Self {
        Self { digest: Digest::of(manifest), manifest_bytes: manifest.to_vec(), ..self }
    }

    /// Names the configuration.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The configuration as it is stored.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The manifest as it is stored.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The image's digest: that of its manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// `value` with sorted keys and no white space (RFC 8785).
#[expect(
    clippy::expect_used,
    reason = "a `Value` holds only what JSON can say, and memory takes every write"
)]
pub fn canonical_json(value: &Value) -> Vec<u8> {
    value.to_canon_json_vec().expect("a JSON value can be written as JSON")
}

/// Image specification, "OCI Image Configuration".
fn configuration(source: &ImageSource) -> Value {
    let diff_ids: Vec<_> = source.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let history: Vec<_> = source.layers.iter().map(|layer| history(&source.created, layer)).collect();
    let mut configuration = json!({
        "architecture": source.platform.architecture,
        "config": source.config,
        "created": source.created,
        "history": history,
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    if let Some(variant) = &source.platform.variant {
        configuration["variant"] = json!(variant);
    }
    configuration
}

fn history(created: &str, layer: &ImageLayer) -> Value {
    let mut history = layer.history.clone();
    history.entry("created").or_insert_with(|| json!(created));
    Value::Object(history)
}

/// Image specification, "OCI Image Manifest".
fn manifest(config: &Descriptor, layers: &[Descriptor], annotations: &BTreeMap<String, String>) -> Value {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": config.to_json(),
        "layers": layers.iter().map(Descriptor::to_json).collect::<Vec<_>>(),
    });
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    manifest
}

#[cfg(test)]
mod tests {
    use oci_client::config::ConfigFile;
    use oci_client::manifest::OciImageManifest;
    use proptest::prelude::*;

    use super::*;
    use crate::oci::Hasher;

    fn layer(content: &str) -> ImageLayer {
        let mut hasher = Hasher::default();
        std::io::Write::write_all(&mut hasher, content.as_bytes()).unwrap();
        ImageLayer {
            diff_id: hasher.diff_id(),
            descriptor: Descriptor::of(media_type::LAYER_GZIP, format!("{content}.gz").as_bytes()),
            history: Map::from_iter([("comment".to_owned(), json!(format!("store paths: ['{content}']")))]),
        }
    }

    fn source(layers: &[&str]) -> ImageSource {
        ImageSource {
            platform: Platform { architecture: "arm64".to_owned(), variant: Some("v8".to_owned()) },
            created: "2024-02-29T12:00:00Z".to_owned(),
            config: Map::from_iter([("Cmd".to_owned(), json!(["/bin/sh"]))]),
            layers: layers.iter().map(|content| layer(content)).collect(),
            annotations: BTreeMap::from([("org.opencontainers.image.title".to_owned(), "app".to_owned())]),
        }
    }

    /// Written out by hand from the image specification's property lists, keys in byte order.
    #[test]
    fn an_image_without_layers_has_the_bytes_of_the_specification() {
        let mut empty = source(&[]);
        empty.annotations.clear();

        let image = Image::assemble(empty);

        assert_eq!(
            String::from_utf8_lossy(image.config_bytes()),
            r#"{"architecture":"arm64","config":{"Cmd":["/bin/sh"]},"created":"2024-02-29T12:00:00Z","history":[],"os":"linux","rootfs":{"diff_ids":[],"type":"layers"},"variant":"v8"}"#
        );
        assert_eq!(
            String::from_utf8_lossy(image.manifest_bytes()),
            format!(
                r#"{{"config":{{"digest":"{}","mediaType":"application/vnd.oci.image.config.v1+json","size":{}}},"layers":[],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}}"#,
                Digest::of(image.config_bytes()),
                image.config_bytes().len()
            )
        );
    }

    #[test]
    fn other_readers_of_the_format_find_what_was_put_in() {
        let image = Image::assemble(source(&["glibc", "app"]));

        let manifest: OciImageManifest = serde_json::from_slice(image.manifest_bytes()).unwrap();
        let config: ConfigFile = serde_json::from_slice(image.config_bytes()).unwrap();
        assert_eq!(manifest.schema_version, 2);
        assert_eq!(manifest.config.digest, Digest::of(image.config_bytes()).to_string());
        assert_eq!(manifest.layers[1].digest, Digest::of(b"app.gz").to_string());
        assert_eq!(manifest.layers[1].media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(manifest.annotations.unwrap()["org.opencontainers.image.title"], "app");
        assert_eq!(config.rootfs.r#type, "layers");
        assert_eq!(config.rootfs.diff_ids[0], Digest::of(b"glibc").to_string());
        assert_eq!(config.history.unwrap()[1].comment.as_deref(), Some("store paths: ['app']"));
        assert_eq!(config.config.unwrap().cmd, Some(vec!["/bin/sh".to_owned()]));
    }

    /// RFC 8785, section 3.2.3: the sorting example.
    #[test]
    fn canonical_json_sorts_by_utf_16_code_units() {
        let value =
            json!({ "\u{20ac}": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "\u{1f600}": 5, "\u{80}": 6, "ö": 7 });

        let text = String::from_utf8(canonical_json(&value)).unwrap();

        let order: Vec<_> = text.chars().filter(|char| ('2'..='7').contains(char)).collect();
        assert_eq!(String::from_iter(order), "246753");
    }

    proptest! {
        /// What is read and written again, such as a manifest of which a part is left out, stays what it was.
        #[test]
        fn a_number_is_read_as_it_was_written(number in prop::num::f64::NORMAL) {
            let text = canonical_json(&json!(number));

            prop_assert_eq!(serde_json::from_slice::<f64>(&text).unwrap(), number);
        }

        /// `layers` and `diff_ids` agree in number and order, whatever the layers are.
        #[test]
        fn layers_and_diff_ids_agree(contents in prop::collection::vec("[a-z]{1,4}", 0..20)) {
            let contents: Vec<_> = contents.iter().map(String::as_str).collect();
            let image = Image::assemble(source(&contents));

            let config: Value = serde_json::from_slice(image.config_bytes()).unwrap();
            let manifest: Value = serde_json::from_slice(image.manifest_bytes()).unwrap();
            for (index, content) in contents.iter().enumerate() {
                let diff_id = Digest::of(content.as_bytes()).to_string();
                let digest = Digest::of(format!("{content}.gz").as_bytes()).to_string();
                prop_assert_eq!(&config["rootfs"]["diff_ids"][index], &json!(diff_id));
                prop_assert_eq!(&manifest["layers"][index]["digest"], &json!(digest));
            }
            prop_assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), contents.len());
            prop_assert_eq!(manifest["layers"].as_array().unwrap().len(), contents.len());
        }
    }
}
