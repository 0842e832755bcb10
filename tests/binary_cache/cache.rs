//! Binary caches by hand: compressed NARs, and narinfos signed with a key of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use nixlayer::nix::{Closure, FileHash, NarHash, PathInfo, PublicKey, StorePath};
use nixlayer::source::binary_cache::{CachePlace, CacheSettings};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256};

use crate::trees::{Tree, nar};

/// The files of a cache by their paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// What a narinfo may name as its compression, except that there are two ways to make zstd.
pub(crate) const COMPRESSIONS: [&str; 7] = ["none", "xz", "zstd", "zstd-frames", "bzip2", "gzip", "br"];

/// A path of a cache.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) path: StorePath,
    pub(crate) tree: Tree,
    pub(crate) nar: Vec<u8>,
    pub(crate) references: BTreeSet<StorePath>,
    /// As the narinfo names it.
    pub(crate) compression: &'static str,
    /// The compressed NAR.
    pub(crate) file: Vec<u8>,
    pub(crate) url: String,
    /// Whether the narinfo has `FileHash` and `FileSize`.
    pub(crate) file_is_announced: bool,
}

/// The path number `number`.
pub(crate) fn store_path(number: usize, name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{number:032}-{name}")).unwrap()
}

impl Item {
    /// The path number `number` with the contents `tree`, compressed in one of [`COMPRESSIONS`].
    pub(crate) fn new(number: usize, tree: Tree, compression: &'static str) -> Self {
        let nar = nar(&tree);
        let path = store_path(number, "vec-1.0");
        Self {
            references: BTreeSet::from([path.clone()]),
            file: compress(&nar, compression),
            url: format!("nar/{number}-{compression}.nar"),
            compression: compression.trim_end_matches("-frames"),
            file_is_announced: true,
            path,
            tree,
            nar,
        }
    }

    /// The same, but that the narinfo says nothing of the file of the NAR.
    pub(crate) fn unannounced(self) -> Self {
        Self { file_is_announced: false, ..self }
    }

    /// The same, but that the cache's file of the NAR is this one.
    pub(crate) fn with_file(self, file: Vec<u8>) -> Self {
        Self { file, ..self }
    }

    /// What a lock would say of it.
    pub(crate) fn info(&self) -> PathInfo {
        PathInfo {
            path: self.path.clone(),
            nar_hash: NarHash::from_bytes(Sha256::digest(&self.nar).into()),
            nar_size: self.nar.len() as u64,
            references: self.references.clone(),
        }
    }

    pub(crate) fn narinfo_file(&self) -> String {
        format!("{}.narinfo", self.path.hash_part())
    }

    /// Its narinfo without a signature.
    pub(crate) fn unsigned(&self) -> String {
        let PathInfo { path, nar_hash, nar_size, references } = self.info();
        let references: Vec<&str> = references.iter().map(StorePath::base_name).collect();
        let mut text = format!("StorePath: {path}\nURL: {}\nCompression: {}\n", self.url, self.compression);
        if self.file_is_announced {
            let hash = FileHash::from_bytes(Sha256::digest(&self.file).into());
            text += &format!("FileHash: {hash}\nFileSize: {}\n", self.file.len());
        }
        text + &format!("NarHash: {nar_hash}\nNarSize: {nar_size}\nReferences: {}\n", references.join(" "))
    }

    /// The line that signs its narinfo.
    pub(crate) fn signature(&self, key: &Key) -> String {
        let PathInfo { path, nar_hash, nar_size, references } = self.info();
        let references: Vec<String> = references.iter().map(StorePath::to_string).collect();
        let message = format!("1;{path};{nar_hash};{nar_size};{}", references.join(","));
        format!("Sig: {}:{}\n", key.name, STANDARD.encode(key.pair.sign(message.as_bytes())))
    }

    pub(crate) fn narinfo(&self) -> String {
        self.unsigned() + &self.signature(&Key::ours())
    }
}

/// A key that signs narinfos.
pub(crate) struct Key {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Key {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap() }
    }

    /// The one that the tests trust.
    pub(crate) fn ours() -> Self {
        Self::new("test-1", 1)
    }

    pub(crate) fn public(&self) -> PublicKey {
        format!("{}:{}", self.name, STANDARD.encode(self.pair.public_key())).parse().unwrap()
    }
}

/// A whole cache of these.
pub(crate) fn files<'a>(items: impl IntoIterator<Item = &'a Item>) -> Files {
    let mut files = Files::from([("nix-cache-info".to_owned(), b"StoreDir: /nix/store\n".to_vec())]);
    for item in items {
        files.insert(item.narinfo_file(), item.narinfo().into_bytes());
        files.insert(item.url.clone(), item.file.clone());
    }
    files
}

pub(crate) fn closure<'a>(items: impl IntoIterator<Item = &'a Item>) -> Closure {
    Closure::new(items.into_iter().map(Item::info)).unwrap()
}

/// A cache in a folder that is gone with it.
pub(crate) struct FolderCache {
    folder: tempfile::TempDir,
}

impl FolderCache {
    pub(crate) fn new(files: &Files) -> Self {
        let cache = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(cache.path().join("nar")).unwrap();
        for (name, bytes) in files {
            fs::write(cache.path().join(name), bytes).unwrap();
        }
        cache
    }

    /// Where it is. Beside it, within the same temporary folder, is room for what is not of the cache.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("cache")
    }

    pub(crate) fn outside(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn settings(&self, name: &str) -> CacheSettings {
        let dir = Dir::open_ambient_dir(self.path(), ambient_authority()).unwrap();
        settings(name, CachePlace::Folder(Arc::new(dir)))
    }
}

/// A cache whose narinfos our key signs.
pub(crate) fn settings(name: &str, place: CachePlace) -> CacheSettings {
    let public_keys = vec![Key::ours().public()];
    CacheSettings { name: name.to_owned(), place, public_keys, priority: None, authorization: None }
}

/// `bytes`, compressed in one of [`COMPRESSIONS`].
pub(crate) fn compress(bytes: &[u8], compression: &str) -> Vec<u8> {
    let mut compressed = Vec::new();
    match compression {
        "none" => compressed.extend(bytes),
        "xz" => drop(liblzma::read::XzEncoder::new(bytes, 0).read_to_end(&mut compressed).unwrap()),
        "zstd" => compressed = zstd::encode_all(bytes, 1).unwrap(),
        "zstd-frames" => {
            let frames = bytes.chunks(bytes.len().div_ceil(5).max(1));
            compressed = frames.flat_map(|frame| zstd::encode_all(frame, 1).unwrap()).collect();
        }
        "bzip2" => {
            let mut encoder = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast());
            encoder.read_to_end(&mut compressed).unwrap();
        }
        "gzip" => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            for member in [first, second] {
                let mut encoder = flate2::read::GzEncoder::new(member, flate2::Compression::fast());
                encoder.read_to_end(&mut compressed).unwrap();
            }
        }
        "br" => compressed = brotli(bytes),
        other => panic!("no compression `{other}`"),
    }
    compressed
}

/// Brotli that stores bytes as they are (RFC 7932, section 9), for there is no encoder at hand.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    for (index, piece) in bytes.chunks(1 << 16).enumerate() {
        // From the lowest bit: ISLAST 0, MNIBBLES 00 for four, MLEN - 1, ISUNCOMPRESSED 1.
        let header = (piece.len() as u32 - 1) << 3 | 1 << 19;
        // The first one comes after the bit 0 of WBITS, a window of 64 KiB.
        let header = if index == 0 { header << 1 } else { header };
        compressed.extend(&header.to_le_bytes()[..3]);
        compressed.extend(piece);
    }
    // ISLAST 1, ISLASTEMPTY 1.
    compressed.push(0b11);
    compressed
}
