//! What a layer is made of, in one number: layers of equal keys have equal bytes.
//!
//! A key is known before a single file is read, from what Nix says of the store paths. So whoever knows what
//! came of a key the last time need not make the layer again.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use super::StoreMetadata;
use crate::nix::{NarHash, StorePath};
use crate::oci::{DiffId, Digest, DigestError, Hasher};

/// The rules by which trees become tars: order, owner, times, modes, headers. Another number for other rules.
const FORMAT: &str = "nixlayer-layer-1";

/// The SHA-256 of what a layer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerKey(Digest);

impl LayerKey {
    /// The key of a layer of store paths, in the order of its tar.
    ///
    /// `compression` names what compresses it and how, so that another one gives another key.
    pub fn of_store_paths<'a>(
        compression: &str,
        metadata: &StoreMetadata,
        paths: impl IntoIterator<Item = (&'a StorePath, NarHash)>,
    ) -> Self {
        let mut key = Fields::new(compression, "store paths");
        // What is as usual goes without saying, as it did before there was anything else.
        if *metadata != StoreMetadata::default() {
            let StoreMetadata { store_mode, mtime, uid, gid, uname, gname } = metadata;
            for number in [u64::from(*store_mode), *mtime, (*uid).into(), (*gid).into()] {
                key.add(number.to_string().as_bytes());
            }
            key.add(uname.as_bytes());
            key.add(gname.as_bytes());
        }
        for (path, nar_hash) in paths {
            key.add(path.to_string().as_bytes());
            key.add(nar_hash.to_string().as_bytes());
        }
        key.finish()
    }

    /// The key of a layer that was a tar before, made by whomever.
    pub fn of_tar(compression: &str, diff_id: &DiffId) -> Self {
        let mut key = Fields::new(compression, "tar");
        key.add(diff_id.to_string().as_bytes());
        key.finish()
    }

    /// The key of an image's own files, of which `description` says everything that can change them.
    pub fn of_root(compression: &str, description: &[u8]) -> Self {
        let mut key = Fields::new(compression, "root");
        key.add(description);
        key.finish()
    }
}

/// Texts one after the other, each behind its length, so that no two lists of them look the same.
struct Fields(Hasher);

impl Fields {
    fn new(compression: &str, kind: &str) -> Self {
        let mut fields = Self(Hasher::default());
        for field in [FORMAT, compression, kind] {
            fields.add(field.as_bytes());
        }
        fields
    }

    fn add(&mut self, field: &[u8]) {
        // A hash takes every byte.
        let _ = write!(self.0, "{}:", field.len()).and_then(|()| self.0.write_all(field));
    }

    fn finish(self) -> LayerKey {
        LayerKey(self.0.digest())
    }
}

impl FromStr for LayerKey {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("{}-{name}", "0".repeat(32))).unwrap()
    }

    fn diff_id(text: &str) -> DiffId {
        Digest::of(text.as_bytes()).to_string().parse().unwrap()
    }

    #[test]
    fn whatever_changes_a_layer_changes_its_key() {
        let (a, b) = (path("a"), path("b"));
        let [one, two] = [1, 2].map(|byte| NarHash::from_bytes([byte; 32]));
        let usual = StoreMetadata::default();
        let metadata = [
            StoreMetadata { store_mode: 0o555, ..usual.clone() },
            StoreMetadata { mtime: 0, ..usual.clone() },
            StoreMetadata { uid: 1, ..usual.clone() },
            StoreMetadata { gid: 1, ..usual.clone() },
            StoreMetadata { uname: "a".to_owned(), ..usual.clone() },
            StoreMetadata { gname: "a".to_owned(), ..usual.clone() },
        ];
        let keys = [
            LayerKey::of_store_paths("gzip", &usual, []),
            LayerKey::of_store_paths("gzip", &usual, [(&a, one)]),
            LayerKey::of_store_paths("zstd", &usual, [(&a, one)]),
            LayerKey::of_store_paths("gzip", &usual, [(&a, two)]),
            LayerKey::of_store_paths("gzip", &usual, [(&b, one)]),
            LayerKey::of_store_paths("gzip", &usual, [(&a, one), (&b, one)]),
            LayerKey::of_store_paths("gzip", &usual, [(&b, one), (&a, one)]),
            LayerKey::of_root("gzip", b""),
            LayerKey::of_root("gzip", b"1:a"),
            LayerKey::of_tar("gzip", &diff_id("a")),
            LayerKey::of_tar("zstd", &diff_id("a")),
            LayerKey::of_tar("gzip", &diff_id("b")),
        ];
        let marked = metadata.iter().map(|metadata| LayerKey::of_store_paths("gzip", metadata, []));
        let keys: Vec<LayerKey> = keys.into_iter().chain(marked).collect();

        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    }

    /// `sha256sum` of `16:nixlayer-layer-14:gzip4:root1:x`. What registries hold must be found again by later
    /// versions that make the same bytes.
    #[test]
    fn a_key_is_the_same_in_every_version() {
        let key = LayerKey::of_root("gzip", b"x");

        assert_eq!(key.to_string(), Digest::of(b"16:nixlayer-layer-14:gzip4:root1:x").to_string());
        let key = LayerKey::of_store_paths("gzip", &StoreMetadata::default(), []);
        assert_eq!(key.to_string(), Digest::of(b"16:nixlayer-layer-14:gzip11:store paths").to_string());
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}
