//! What the registry holds: blobs, uploads that are under way, manifests, tags.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use crate::oci::{Digest, Tag};

/// Everything in memory; names are those of repositories.
#[derive(Debug, Default)]
pub(super) struct Store {
    blobs: BTreeMap<(String, Digest), Bytes>,
    uploads: BTreeMap<String, Upload>,
    manifests: BTreeMap<(String, Digest), Manifest>,
    tags: BTreeMap<(String, String), Digest>,
    opened: usize,
}

/// An upload session.
#[derive(Debug, Default)]
pub(super) struct Upload {
    repository: String,
    bytes: BytesMut,
    /// Goes up with every change; a location with another state is out of date.
    state: usize,
    /// Where the first chunk ended.
    first: usize,
    /// Where the last chunk that arrived whole ended.
    whole: usize,
    /// How long it was, with what had arrived of it before it broke off.
    last: Option<usize>,
    /// A chunk of it broke off, and it is not to go on.
    lost: bool,
}

/// A manifest as it was put.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// Why a manifest was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestRefused {
    /// It is no manifest.
    Invalid,
    /// It is not what its digest says.
    Digest,
    /// The reference is neither digest nor tag.
    Reference,
    /// The repository lacks what it names.
    BlobUnknown(String),
}

impl Store {
    pub(super) fn all_blobs(&self) -> Vec<(String, Digest)> {
        self.blobs.keys().cloned().collect()
    }

    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.blobs.get(&(repository.to_owned(), *digest)).cloned()
    }

    /// Keeps a blob if it is what its digest says.
    pub(super) fn put_blob(&mut self, repository: &str, digest: Digest, bytes: Bytes) -> bool {
        let right = Digest::of(&bytes) == digest;
        if right {
            self.blobs.insert((repository.to_owned(), digest), bytes);
        }
        right
    }

    /// Opens an upload, and gives its name.
    pub(super) fn open_upload(&mut self, repository: &str) -> String {
        self.opened += 1;
        let id = format!("upload-{}", self.opened);
        let upload = Upload { repository: repository.to_owned(), ..Upload::default() };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// The upload `id` of the repository.
    pub(super) fn upload(&mut self, repository: &str, id: &str) -> Option<&mut Upload> {
        self.uploads.get_mut(id).filter(|upload| upload.repository == repository)
    }

    /// Forgets an upload, and gives what it held.
    pub(super) fn close_upload(&mut self, id: &str) -> Option<Bytes> {
        self.uploads.remove(id).map(|upload| upload.bytes.freeze())
    }

    pub(super) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Forgets all blobs of a repository.
    pub(super) fn lose_blobs(&mut self, repository: &str) {
        self.blobs.retain(|(name, _), _| name != repository);
    }

    /// The manifest under a tag or digest.
    pub(super) fn manifest(&self, repository: &str, reference: &str) -> Option<(Digest, Manifest)> {
        let digest = match reference.parse() {
            Ok(digest) => digest,
            Err(_) => *self.tags.get(&(repository.to_owned(), reference.to_owned()))?,
        };
        let manifest = self.manifests.get(&(repository.to_owned(), digest))?;
        Some((digest, manifest.clone()))
    }

    /// Takes a manifest, if all it names is there, and lets a tag name it.
    pub(super) fn put_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        manifest: Manifest,
    ) -> Result<Digest, ManifestRefused> {
        let digest = Digest::of(&manifest.bytes);
        let tag = match reference.parse::<Digest>() {
            Ok(named) if named == digest => None,
            Ok(_) => return Err(ManifestRefused::Digest),
            Err(_) => Some(reference.parse::<Tag>().map_err(|_| ManifestRefused::Reference)?),
        };
        let json: Value = serde_json::from_slice(&manifest.bytes).map_err(|_| ManifestRefused::Invalid)?;
        if json["schemaVersion"] != 2
            || json["mediaType"].as_str().is_some_and(|it| it != manifest.media_type)
        {
            return Err(ManifestRefused::Invalid);
        }
        let list = |key: &str| json[key].as_array().cloned().unwrap_or_default();
        for child in list("manifests") {
            let known = digest_of(&child)?;
            if !self.manifests.contains_key(&(repository.to_owned(), known)) {
                return Err(ManifestRefused::BlobUnknown(known.to_string()));
            }
        }
        let config = json.get("config").cloned();
        for blob in config.into_iter().chain(list("layers")) {
            let known = digest_of(&blob)?;
            let found = self.blob(repository, &known);
            match found {
                None => return Err(ManifestRefused::BlobUnknown(known.to_string())),
                Some(bytes) if blob["size"] != bytes.len() => return Err(ManifestRefused::Invalid),
                Some(_) => {}
            }
        }
        self.manifests.insert((repository.to_owned(), digest), manifest);
        if let Some(tag) = tag {
            self.tags.insert((repository.to_owned(), tag.to_string()), digest);
        }
        Ok(digest)
    }

    /// All tags with their repositories, in order.
    pub(super) fn all_tags(&self) -> Vec<(String, String)> {
        self.tags.keys().cloned().collect()
    }

    /// The tags of a repository, in order.
    pub(super) fn tags(&self, repository: &str) -> Vec<&str> {
        let ours = self.tags.keys().filter(|(name, _)| name == repository);
        ours.map(|(_, tag)| tag.as_str()).collect()
    }
}

impl Upload {
    /// The number of bytes so far.
    pub(super) fn offset(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn state(&self) -> usize {
        self.state
    }

    /// The number of bytes after the first chunk.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// The length of the last chunk that arrived whole.
    pub(super) fn last_chunk(&self) -> Option<usize> {
        self.last
    }

    /// Takes a chunk, or what was missing of it.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.append_part(bytes);
        self.last = Some(self.bytes.len() - self.whole);
        self.whole = self.bytes.len();
        if self.first == 0 {
            self.first = self.whole;
        }
    }

    /// Takes the start of a chunk that broke off.
    pub(super) fn append_part(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.state += 1;
    }
}

fn digest_of(descriptor: &Value) -> Result<Digest, ManifestRefused> {
    descriptor["digest"].as_str().and_then(|text| text.parse().ok()).ok_or(ManifestRefused::Invalid)
}
