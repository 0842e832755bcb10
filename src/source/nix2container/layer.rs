//! One layer of an image that nix2container has planned.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::LayerError;
use super::options::Options;
use super::tree::LayerTree;
use crate::nix::{Compression, STORE_DIR, StorePath};
use crate::oci::{DiffId, Digest};
use crate::source::copy::{CopyError, MOST_BYTES, Room};
use crate::source::decoder::Decoder;
use crate::source::store_file;

/// A layer, and what is known of it before it is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Of the blob that nix2container would push.
    pub digest: Digest,
    /// Of the tar: what [`write`](Self::write) gives must have it.
    pub diff_id: DiffId,
    /// Length of the tar in bytes, where it is known.
    pub size: Option<u64>,
    /// What the history of the image says of it: `created_by` and others, by the image specification.
    pub history: Map<String, Value>,
    pub(super) source: Source,
}

/// What a layer is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    Paths(Vec<LayerPath>),
    Archive(Archive),
}

/// A store path in a layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LayerPath {
    pub(super) path: StorePath,
    pub(super) options: Option<Options>,
}

/// The tar of a layer, made already: of a base image, or of paths that would not give the same again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Archive {
    object: StorePath,
    /// Where it lies in the object; empty if it is the object.
    rest: String,
    compression: Compression,
}

impl Layer {
    /// The store paths that must be on the host for the layer to be written.
    pub fn store_paths(&self) -> impl Iterator<Item = &StorePath> {
        let (paths, archive) = match &self.source {
            Source::Paths(paths) => (paths.as_slice(), None),
            Source::Archive(archive) => (&[][..], Some(&archive.object)),
        };
        paths.iter().map(|path| &path.path).chain(archive)
    }

    /// Writes the tar of the layer, and gives the sink back. `host` is the folder that the host's
    /// `/nix/store` lies below: `/`.
    ///
    /// What was written counts only if its digest is the [`diff_id`](Self::diff_id).
    pub fn write<W: Write>(&self, host: &Path, sink: W) -> Result<W, LayerError> {
        match &self.source {
            Source::Paths(paths) => {
                let mut tree = LayerTree::new(host);
                for LayerPath { path, options } in paths {
                    tree.add(&path.to_string(), options.as_ref())?;
                }
                tree.write(sink)
            }
            Source::Archive(archive) => archive.write(host, MOST_BYTES, sink),
        }
    }
}

impl Archive {
    /// The archive at an absolute path in the store, if it is one.
    pub(super) fn parse(path: &str, compression: Compression) -> Option<Self> {
        let in_store = path.strip_prefix(STORE_DIR)?.strip_prefix('/')?;
        let (object, rest) = in_store.split_once('/').unwrap_or((in_store, ""));
        let good = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        if in_store.len() > object.len() && !rest.split('/').all(good) {
            return None;
        }
        let object = StorePath::from_base_name(object).ok()?;
        Some(Self { object, rest: rest.to_owned(), compression })
    }

    /// Writes at most `most` bytes.
    fn write<W: Write>(&self, host: &Path, most: u64, mut sink: W) -> Result<W, LayerError> {
        let store = on_host(host, STORE_DIR.as_bytes());
        let object = store.join(self.object.base_name());
        let path = if self.rest.is_empty() { object } else { object.join(&self.rest) };
        let unreadable = |source| LayerError::Archive { path: path.display().to_string(), source };
        // An object may be a link.
        let file = store_file::open_below(&store, &path).map_err(unreadable)?;
        let mut tar = Decoder::new(self.compression, file).map_err(unreadable)?;
        match Room::new(most).copy(&mut tar, &mut sink) {
            Ok(_) => Ok(sink),
            Err(CopyError::Read(error)) => Err(unreadable(error)),
            Err(CopyError::Write(error)) => Err(LayerError::Write(error)),
            Err(CopyError::TooLarge(most)) => {
                Err(LayerError::TooLarge { path: path.display().to_string(), most })
            }
        }
    }
}

/// Where an absolute path lies on a host whose root is `host`.
pub(super) fn on_host(host: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;

    host.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}

#[cfg(test)]
mod tests;
