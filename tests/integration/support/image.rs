//! An image as its bytes say it, read with `flate2`, `zstd` and `tar` and no code of ours.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// An image, unpacked into memory.
pub(crate) struct Image {
    pub(crate) manifest: Value,
    /// The image configuration: platform, `config`, history.
    pub(crate) configuration: Value,
    /// The members of every layer, in the order of the tar.
    pub(crate) layers: Vec<Vec<(String, Member)>>,
}

/// One member of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File(Vec<u8>),
    Link(String),
}

impl Image {
    /// The image `tag` of the OCI layout in `layout`.
    pub(crate) fn from_layout(layout: &Path, tag: &str) -> Self {
        let entries = entries(layout);
        let tagged = entries
            .iter()
            .find(|manifest| manifest["annotations"]["org.opencontainers.image.ref.name"] == tag)
            .unwrap_or_else(|| panic!("there is no `{tag}` in {entries:?}"));
        Self::of_entry(layout, tagged)
    }

    /// The image of the OCI layout in `layout`, which has no other.
    pub(crate) fn only_one(layout: &Path) -> Self {
        let entries = entries(layout);
        let [entry] = entries.as_slice() else { panic!("there is not one image: {entries:?}") };
        Self::of_entry(layout, entry)
    }

    fn of_entry(layout: &Path, entry: &Value) -> Self {
        let blob = |digest: &str| fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap();
        Self::read(&blob(entry["digest"].as_str().unwrap()), blob)
    }

    /// The image of `manifest`, whose blobs `blob` gives.
    pub(crate) fn read(manifest: &[u8], blob: impl Fn(&str) -> Vec<u8>) -> Self {
        let manifest: Value = serde_json::from_slice(manifest).unwrap();
        let text = |digest: &Value| blob(digest.as_str().unwrap());
        let layers = manifest["layers"].as_array().unwrap();
        Self {
            configuration: serde_json::from_slice(&text(&manifest["config"]["digest"])).unwrap(),
            layers: layers
                .iter()
                .map(|layer| members(decompressed(layer, &text(&layer["digest"]))))
                .collect(),
            manifest,
        }
    }

    /// The `config` of the image configuration.
    pub(crate) fn config(&self) -> &Value {
        &self.configuration["config"]
    }

    /// The digests of the layers before compression, as the configuration says them.
    pub(crate) fn diff_ids(&self) -> &Value {
        &self.configuration["rootfs"]["diff_ids"]
    }

    /// The digests of the layers.
    pub(crate) fn layer_digests(&self) -> Vec<&str> {
        let layers = self.manifest["layers"].as_array().unwrap();
        layers.iter().map(|layer| layer["digest"].as_str().unwrap()).collect()
    }

    /// The last layer, which holds what is in no store path, by path.
    pub(crate) fn root(&self) -> BTreeMap<&str, &Member> {
        let last = self.layers.last().unwrap();
        let root: BTreeMap<_, _> = last.iter().map(|(path, member)| (path.as_str(), member)).collect();
        assert_eq!(root.len(), last.len(), "a path is there twice");
        root
    }

    /// The store paths in the layers, with repetitions, sorted.
    pub(crate) fn store_paths(&self) -> Vec<&str> {
        let all = self.layers.iter().flatten().map(|(path, _)| path.as_str());
        let is_top = |path: &&str| path.strip_prefix("/nix/store/").is_some_and(|rest| !rest.contains('/'));
        let mut paths: Vec<&str> = all.filter(is_top).collect();
        paths.sort_unstable();
        paths
    }
}

/// What the index of a layout lists.
fn entries(layout: &Path) -> Vec<Value> {
    let mut index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    serde_json::from_value(index["manifests"].take()).unwrap()
}

/// The tar in `blob`, which is compressed as the media type of `layer` says.
fn decompressed<'a>(layer: &Value, blob: &'a [u8]) -> Box<dyn Read + 'a> {
    match layer["mediaType"].as_str().unwrap() {
        "application/vnd.oci.image.layer.v1.tar+gzip" => Box::new(flate2::read::MultiGzDecoder::new(blob)),
        "application/vnd.oci.image.layer.v1.tar+zstd" => {
            Box::new(zstd::stream::read::Decoder::new(blob).unwrap())
        }
        other => panic!("layers of the type `{other}` are not known"),
    }
}

fn members(tar: impl Read) -> Vec<(String, Member)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let kind = match entry.header().entry_type() {
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Symlink => {
                Kind::Link(String::from_utf8(entry.link_name_bytes().unwrap().into_owned()).unwrap())
            }
            tar::EntryType::Regular => {
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents).unwrap();
                Kind::File(contents)
            }
            other => panic!("`{path}` is of the kind {other:?}"),
        };
        let header = entry.header();
        let member = Member {
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            mtime: header.mtime().unwrap(),
            kind,
        };
        (path.trim_end_matches('/').to_owned(), member)
    });
    entries.collect()
}

impl Member {
    /// The text of a file.
    pub(crate) fn text(&self) -> &str {
        match &self.kind {
            Kind::File(contents) => std::str::from_utf8(contents).unwrap(),
            other => panic!("{other:?} has no text"),
        }
    }

    /// Where a link leads.
    pub(crate) fn target(&self) -> &str {
        match &self.kind {
            Kind::Link(target) => target,
            other => panic!("{other:?} leads nowhere"),
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder => write!(formatter, "a folder"),
            Self::File(contents) => write!(formatter, "a file of {} bytes", contents.len()),
            Self::Link(target) => write!(formatter, "a link to {target}"),
        }
    }
}
