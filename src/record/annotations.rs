//! Records as annotations of a manifest (image specification, "Annotations").

use serde_json::{Map, Value};

use super::Record;
use super::seal::SIGNATURE;
use crate::layer::{LayerDigests, LayerKey};
use crate::oci::image::canonical_json;
use crate::oci::{Descriptor, DiffId, Manifest};

const KEY: &str = "dev.nixlayer.layer.key";
const DIFF_ID: &str = "dev.nixlayer.layer.diff-id";
const UNCOMPRESSED_SIZE: &str = "dev.nixlayer.layer.uncompressed-size";

/// Writes what `record` says beyond digest and size beside these into the layer's descriptor.
pub fn annotate(descriptor: &mut Descriptor, record: &Record) {
    for (name, value) in [
        (KEY, record.key.to_string()),
        (DIFF_ID, record.layer.diff_id.to_string()),
        (UNCOMPRESSED_SIZE, record.layer.uncompressed_size.to_string()),
    ] {
        descriptor.annotations.insert(name.to_owned(), value);
    }
}

/// The records in a manifest, whoever wrote them. Layers without one are passed over.
pub fn records_in(manifest: &Manifest) -> Vec<Record> {
    manifest.layers.iter().filter_map(record).collect()
}

fn record(layer: &Descriptor) -> Option<Record> {
    let said = |name: &str| layer.annotations.get(name);
    let key: LayerKey = said(KEY)?.parse().ok()?;
    let diff_id: DiffId = said(DIFF_ID)?.parse().ok()?;
    let uncompressed_size = said(UNCOMPRESSED_SIZE)?.parse().ok()?;
    let (digest, size) = (layer.digest, layer.size);
    Some(Record { key, layer: LayerDigests { diff_id, digest, size, uncompressed_size } })
}

/// A manifest as it would be without records and their signature, as canonical JSON; none if it is no JSON.
///
/// Hosts that sign with different keys write different manifests of the same image.
pub fn without_records(manifest: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(manifest).ok()?;
    strip(&mut manifest, &[SIGNATURE]);
    for layer in manifest.get_mut("layers").and_then(Value::as_array_mut).into_iter().flatten() {
        strip(layer, &[KEY, DIFF_ID, UNCOMPRESSED_SIZE]);
    }
    Some(canonical_json(&manifest))
}

fn strip(annotated: &mut Value, names: &[&str]) {
    let Some(object) = annotated.as_object_mut() else { return };
    if let Some(annotations) = object.get_mut("annotations").and_then(Value::as_object_mut) {
        names.iter().for_each(|name| drop(annotations.remove(*name)));
    }
    if object.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
        object.remove("annotations");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::oci::{Digest, Image, ImageLayer, ImageSource, Platform, media_type};

    /// The record of a layer whose blob is `text`.
    pub(in crate::record) fn record_of(text: &str) -> Record {
        Record {
            key: LayerKey::of_root("gzip", text.as_bytes()),
            layer: LayerDigests {
                diff_id: Digest::of(format!("{text}.tar").as_bytes()).to_string().parse().unwrap(),
                digest: Digest::of(text.as_bytes()),
                size: text.len() as u64,
                uncompressed_size: 10_240,
            },
        }
    }

    /// The manifest of an image of such layers.
    pub(in crate::record) fn manifest(records: &[Record], annotations: &[(&str, &str)]) -> Vec<u8> {
        let layer = |record: &Record| {
            let LayerDigests { diff_id, digest, size, .. } = record.layer;
            let media_type = media_type::LAYER_GZIP.to_owned();
            let mut descriptor = Descriptor { media_type, digest, size, annotations: BTreeMap::new() };
            annotate(&mut descriptor, record);
            ImageLayer { diff_id, descriptor, history: Map::new() }
        };
        let image = Image::assemble(ImageSource {
            platform: Platform { architecture: "amd64".to_owned(), variant: None },
            created: "1970-01-01T00:00:00Z".to_owned(),
            config: Map::new(),
            layers: records.iter().map(layer).collect(),
            annotations: annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        });
        image.manifest_bytes().to_vec()
    }

    #[test]
    fn records_come_back_from_a_manifest() {
        let records = [record_of("a"), record_of("b")];

        let read = Manifest::parse(&manifest(&records, &[])).unwrap();

        assert_eq!(records_in(&read), records);
    }

    #[test]
    fn a_layer_whose_record_is_broken_has_none() {
        let mut read = Manifest::parse(&manifest(&[record_of("a"), record_of("b")], &[])).unwrap();
        read.layers[0].annotations.insert(UNCOMPRESSED_SIZE.to_owned(), "-1".to_owned());

        assert_eq!(records_in(&read), [record_of("b")]);
    }

    #[test]
    fn only_what_records_say_is_left_out_of_a_comparison() {
        let records = [record_of("a")];
        let mut other_key = records;
        other_key[0].key = LayerKey::of_root("gzip", b"other");
        let plain = manifest(&records, &[("a", "b")]);

        let same =
            [manifest(&records, &[("a", "b"), (SIGNATURE, "k:x")]), manifest(&other_key, &[("a", "b")])];
        let different = [manifest(&[record_of("b")], &[("a", "b")]), manifest(&records, &[("a", "c")])];

        assert!(same.iter().all(|other| without_records(other) == without_records(&plain)));
        assert!(different.iter().all(|other| without_records(other) != without_records(&plain)));
        assert!(!String::from_utf8(without_records(&plain).unwrap()).unwrap().contains("dev.nixlayer"));
        assert_eq!(without_records(b"{"), None);
    }

    /// GitLab.com refuses manifests above 256 kB, and others read them with every pull.
    #[test]
    fn a_manifest_of_a_hundred_layers_stays_small() {
        let records: Vec<Record> = (0..100).map(|number| record_of(&format!("{number}"))).collect();
        let signature = format!("{}:{}", "k".repeat(64), "A".repeat(88));

        assert!(manifest(&records, &[(SIGNATURE, &signature)]).len() < 64 * 1024);
    }
}
