//! Files of the project that go into the image, each sealed by its digest.
//!
//! The digests are part of the key of the last layer, and the files are read once more when that layer is written.
//! Should one have changed meanwhile, the layer fails: under its key it would pass for what it is not.

use std::io::{self, Read, Write as _};
use std::sync::Arc;

use super::{Build, BuildError, blocking, files};
use crate::layer::root::Open;
use crate::layer::{Contents, RootKind, RootNode};
use crate::oci::{Digest, Hasher};
use crate::spec::PathAction;
use crate::yaml::KeyPath;

/// What each entry of `paths` copies.
#[derive(Debug)]
pub(super) struct Copies(Vec<Vec<Copied>>);

/// A file, folder or link of the project.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    /// The way to it from what is copied.
    pub(super) below: Vec<u8>,
    pub(super) node: RootNode,
    /// Of a file's contents.
    pub(super) digest: Option<Digest>,
}

impl Copies {
    /// Finds and reads what the spec copies; fails if the project does not have it.
    pub(super) async fn find(build: &Build<'_>) -> Result<Self, BuildError> {
        let mut copies = Vec::new();
        for (index, entry) in build.spec.paths.iter().enumerate() {
            let PathAction::Copy { source } = &entry.action else {
                copies.push(Vec::new());
                continue;
            };
            let failed = |error: String| {
                let key = KeyPath::root().key("paths").index(index).key("source");
                let fix = "name a file or folder of the project that is there when the image is built";
                BuildError::Spec(build.spec.error_at(&key, error, fix))
            };
            let found = files::copy(build.project, source).map_err(|error| failed(error.to_string()))?;
            let sealed =
                blocking(move || found.into_iter().map(sealed).collect::<io::Result<Vec<_>>>()).await?;
            copies.push(sealed.map_err(|error| failed(format!("`{source}` cannot be read: {error}")))?);
        }
        Ok(Self(copies))
    }

    /// What the entry at `index` copies.
    pub(super) fn of(&self, index: usize) -> &[Copied] {
        self.0.get(index).map(Vec::as_slice).unwrap_or_default()
    }
}

fn sealed((below, node): (Vec<u8>, RootNode)) -> io::Result<Copied> {
    let RootKind::Regular(Contents::Reader { open, .. }) = &node.kind else {
        return Ok(Copied { below, node, digest: None });
    };
    let mut hasher = Hasher::default();
    let size = io::copy(&mut open()?, &mut hasher)?;
    let (digest, open) = (hasher.digest(), Arc::clone(open));
    let open: Open =
        Arc::new(move || Ok(Box::new(Sealed { file: open()?, hasher: Some(Hasher::default()), digest })));
    let kind = RootKind::Regular(Contents::Reader { size, open });
    Ok(Copied { below, node: RootNode { kind, ..node }, digest: Some(digest) })
}

/// A file of the project was not the same when the layer was written as when its key was made.
#[derive(Debug, thiserror::Error)]
#[error("a file of the project changed while the image was made")]
struct ChangedFile;

/// Whether a layer failed for a file of the project that changed.
pub fn is_changed_file(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<ChangedFile>())
}

/// A file whose end is reached only if it has the digest that it had before.
struct Sealed {
    file: Box<dyn Read + Send>,
    /// None behind the end.
    hasher: Option<Hasher>,
    digest: Digest,
}

impl Read for Sealed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.write_all(&buffer[..length])?;
        }
        let at_end = length == 0 && !buffer.is_empty();
        if let Some(hasher) = self.hasher.take_if(|_| at_end)
            && hasher.digest() != self.digest
        {
            return Err(io::Error::other(ChangedFile));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &'static [u8], then: &'static [u8]) -> RootNode {
        let first = std::sync::atomic::AtomicBool::new(true);
        let open: Open = Arc::new(move || {
            let first = first.swap(false, std::sync::atomic::Ordering::Relaxed);
            Ok(Box::new(if first { bytes } else { then }))
        });
        RootNode::file(0o644, Contents::Reader { size: bytes.len() as u64, open })
    }

    fn read(node: &RootNode) -> io::Result<String> {
        let RootKind::Regular(contents) = &node.kind else { panic!("{node:?}") };
        io::read_to_string(contents.open()?.1)
    }

    #[test]
    fn a_file_that_stays_the_same_is_read_as_it_is() {
        let copied = sealed((b"a".to_vec(), file(b"text", b"text"))).unwrap();

        assert_eq!(copied.digest, Some(Digest::of(b"text")));
        assert_eq!(read(&copied.node).unwrap(), "text");
    }

    #[test]
    fn a_file_that_changes_after_it_was_read_for_its_key_is_an_error() {
        for then in [&b"test"[..], b"tex", b"texts", b""] {
            let copied = sealed((b"a".to_vec(), file(b"text", then))).unwrap();

            let error = read(&copied.node).unwrap_err();

            assert_eq!(error.to_string(), "a file of the project changed while the image was made");
        }
    }
}
