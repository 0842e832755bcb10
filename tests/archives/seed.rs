//! An image to put into archives: three layers, one of them large and one twice.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use nixlayer::oci::Digest;
use serde_json::{Value, json};
use tar::{Builder, Header};

/// Bytes of the file that makes one layer large.
pub(crate) const LARGE: usize = 8 << 20;

/// An image on its way into an archive.
pub(crate) struct Seed {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) config: Vec<u8>,
}

impl Seed {
    /// An image that no other seed gives.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(vec![
            layer("etc/motd", format!("hello {seed}\n").as_bytes()),
            layer("opt/large", &noise(LARGE, seed)),
            layer("etc/motd", format!("hello {seed}\n").as_bytes()),
        ])
    }

    pub(crate) fn of(layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        // Order and white space are as no library of ours would write them.
        let config = format!(
            "{{\n    \"rootfs\": {}, \"os\": \"linux\",\n \"architecture\":\"amd64\", \"config\": {{\"Cmd\": [\"/bin/sh\"]}}\n}}\n",
            json!({ "type": "layers", "diff_ids": diff_ids })
        );
        Self { layers, config: config.into_bytes() }
    }

    pub(crate) fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(|layer| Digest::of(layer).to_string()).collect()
    }

    /// As dockerTools streams it: layers by their digests, and what names them at the end. Equal layers are
    /// there once.
    pub(crate) fn streamed(&self, tags: &[&str]) -> Vec<u8> {
        self.archived(tags, |layer| Digest::of(layer).hex())
    }

    /// As `buildImage` makes it: compressed as a whole, with layers by the digest of something else.
    pub(crate) fn built(&self, tags: &[&str]) -> Vec<u8> {
        let archive = self.archived(tags, |layer| Digest::of(Digest::of(layer).hex().as_bytes()).hex());
        gzip(&archive)
    }

    fn archived(&self, tags: &[&str], id: impl Fn(&[u8]) -> String) -> Vec<u8> {
        let names: Vec<String> = self.layers.iter().map(|layer| format!("{}/layer.tar", id(layer))).collect();
        let mut members: Vec<(String, &[u8])> = Vec::new();
        for (name, layer) in names.iter().zip(&self.layers) {
            if members.iter().all(|(there, _)| there != name) {
                members.push((name.clone(), layer));
            }
        }
        let config = format!("{}.json", Digest::of(&self.config).hex());
        let manifest = manifest(&[(&config, tags, &names)]).to_string();
        members.push((config, &self.config));
        members.push(("manifest.json".to_owned(), manifest.as_bytes()));
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
        archive(&members)
    }
}

/// A `manifest.json`: configuration, tags and layers of each image.
pub(crate) fn manifest(images: &[(&str, &[&str], &[String])]) -> Value {
    let entry = |(config, tags, layers): &(&str, &[&str], &[String])| json!({ "Config": config, "RepoTags": tags, "Layers": layers });
    images.iter().map(entry).collect()
}

/// A tar of these files, in this order.
pub(crate) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A layer of one file.
pub(crate) fn layer(name: &str, contents: &[u8]) -> Vec<u8> {
    archive(&[(name, contents)])
}

/// The same bytes, compressed.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Bytes that cannot be compressed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let (mut bytes, mut state) = (Vec::with_capacity(length + 8), seed);
    while bytes.len() < length {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(bits ^ (bits >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Runs a script of Python in a folder.
pub(crate) fn python(folder: &Path, script: &str) {
    let mut child =
        Command::new("python3").arg("-").current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}
