//! One layer of an image that nix2container has planned.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::LayerError;
use super::options::Options;
use super::tree::LayerTree;
use crate::nix::{Compression, STORE_DIR, StorePath};
use crate::oci::{DiffId, Digest};
use crate::source::decoder::Decoder;

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
            Source::Archive(archive) => archive.write(host, sink),
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

    fn write<W: Write>(&self, host: &Path, mut sink: W) -> Result<W, LayerError> {
        let (path, file) = self.open(host)?;
        let read = |source| LayerError::Archive { path: path.display().to_string(), source };
        let mut tar = Decoder::new(self.compression, file).map_err(read)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match tar.read(&mut buffer) {
                Ok(0) => return Ok(sink),
                Ok(length) => sink.write_all(&buffer[..length]).map_err(LayerError::Write)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read(error)),
            }
        }
    }

    /// Links are followed within the store: an object may be one.
    fn open(&self, host: &Path) -> Result<(PathBuf, File), LayerError> {
        let store = on_host(host, STORE_DIR.as_bytes());
        let mut path = store.join(self.object.base_name());
        if !self.rest.is_empty() {
            path.push(&self.rest);
        }
        let text = path.display().to_string();
        let read = |source| LayerError::Archive { path: text.clone(), source };
        let real = fs::canonicalize(&path).map_err(read)?;
        let real_store = fs::canonicalize(&store).map_err(read)?;
        if real == real_store || !real.starts_with(&real_store) {
            return Err(LayerError::Outside(text));
        }
        if !fs::symlink_metadata(&real).map_err(read)?.is_file() {
            return Err(LayerError::Kind(text));
        }
        let file = File::open(&real).map_err(read)?;
        Ok((path, file))
    }
}

/// Where an absolute path lies on a host whose root is `host`.
pub(super) fn on_host(host: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;

    host.join(std::ffi::OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}

#[cfg(test)]
mod tests;
