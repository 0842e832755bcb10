//! Where images go: a registry, or a folder in the shape of an image layout.
//!
//! The layers go first, several at a time; then the configuration, the manifest, and the tags last.
//! Whatever stops a push, each tag names a whole image, the old one or the new one.

mod answer;
mod blob;
mod error;
mod oci_layout;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use self::answer::{Answer, Refusal};
pub use self::blob::{Blob, BlobWriter};
pub use self::error::{AuthError, PublishError};
pub use self::oci_layout::OciLayout;
pub use self::registry::{Credentials, ManifestReference, Mount, OpenUpload, Registry};
use crate::oci::{Digest, Image, Repository, Tag};

/// Where an image goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A repository on a registry.
    Registry {
        /// The registry.
        registry: Arc<Registry>,
        /// The repository, on that registry.
        repository: Repository,
    },
    /// An image layout.
    OciLayout(Arc<OciLayout>),
}

/// A blob that is where it was to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of its bytes.
    pub size: u64,
    /// Whether it was there before.
    pub reused: bool,
    /// How many bytes were sent all the same: the digest of a large blob is known only at its end.
    pub sent: u64,
}

/// What tags name, for those that somebody has asked for; none where there was no such tag.
pub type Standing = BTreeMap<Tag, Option<Digest>>;

/// An image that is where it was to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Tags that now name the image and did not before.
    pub moved: Vec<Tag>,
    /// Tags that named it already.
    pub unchanged: Vec<Tag>,
}

impl Destination {
    /// Brings the blob there that `make` makes, while it is being made. Several may be under way at a time.
    ///
    /// `make` is called again when the blob has to be sent from its start once more.
    pub async fn put_blob(&self, make: &(dyn Fn() -> Blob + Send + Sync)) -> Result<Stored, PublishError> {
        self.put_blob_into(None, make).await
    }

    /// As [`put_blob`](Self::put_blob), into a session that a [mount](Self::mount) has opened.
    pub async fn put_blob_into(
        &self,
        open: Option<OpenUpload>,
        make: &(dyn Fn() -> Blob + Send + Sync),
    ) -> Result<Stored, PublishError> {
        match self {
            Self::Registry { registry, repository } => registry.put_blob(repository, make, open).await,
            Self::OciLayout(layout) => {
                let (layout, blob) = (Arc::clone(layout), make());
                // Whoever waits holds it: when nobody does any more, the thread is to end, and its file to go.
                let waiting = Arc::new(());
                let waited_for = Arc::downgrade(&waiting);
                let stored = blocking(move || layout.put_blob(blob, &|| waited_for.strong_count() > 0)).await;
                drop(waiting);
                stored
            }
        }
    }

    /// Whether a blob of `size` bytes is there.
    pub async fn has_blob(&self, digest: &Digest, size: u64) -> Result<bool, PublishError> {
        match self {
            Self::Registry { registry, repository } => registry.has_blob(repository, digest, size).await,
            Self::OciLayout(layout) => Ok(layout.has_blob(digest, size)),
        }
    }

    /// Brings a blob there that another repository of the same registry has.
    pub async fn mount(&self, digest: &Digest, from: &Repository) -> Result<Mount, PublishError> {
        match self {
            Self::Registry { registry, repository } => registry.mount(repository, digest, from).await,
            Self::OciLayout(_) => Ok(Mount::Refused),
        }
    }

    /// Brings an image there whose layers are there, and lets the tags name it. `standing` is what is known of the
    /// tags.
    pub async fn put_image(
        &self,
        image: &Image,
        tags: &[Tag],
        standing: &Standing,
    ) -> Result<Published, PublishError> {
        match self {
            Self::Registry { registry, repository } => {
                push(registry, repository, image, tags, standing).await
            }
            Self::OciLayout(layout) => {
                let (layout, image, moved) = (Arc::clone(layout), image.clone(), tags.to_vec());
                blocking(move || {
                    layout.put_image(&image, &moved)?;
                    Ok(Published { digest: image.digest(), moved, unchanged: Vec::new() })
                })
                .await
            }
        }
    }
}

/// Once some tags are known to name other images, the image is probably new here: neither its configuration nor
/// the rest of the tags are asked for.
async fn push(
    registry: &Registry,
    repository: &Repository,
    image: &Image,
    tags: &[Tag],
    standing: &Standing,
) -> Result<Published, PublishError> {
    let digest = image.digest();
    let names_it = |tag: &Tag| standing.get(tag).is_some_and(|named| *named == Some(digest));
    let ask = standing.is_empty() || tags.iter().any(names_it);
    let (mut moved, mut unchanged) = (Vec::new(), Vec::new());
    for tag in tags {
        let there = match standing.get(tag) {
            Some(named) => *named == Some(digest),
            None => ask && registry.tagged(repository, tag).await? == Some(digest),
        };
        if there { &mut unchanged } else { &mut moved }.push(tag.clone());
    }
    // What a tag names is complete, so with one tag in place only the others are left to move.
    let manifest = Bytes::copy_from_slice(image.manifest_bytes());
    if unchanged.is_empty() {
        let config = Bytes::copy_from_slice(image.config_bytes());
        if ask {
            registry.put_blob(repository, &|| Blob::of(config.clone()), None).await?;
        } else {
            registry.put_new_blob(repository, &config).await?;
        }
        let reference = ManifestReference::Digest(digest);
        registry.put_manifest(repository, &reference, manifest.clone()).await?;
    }
    let mut refused = Vec::new();
    for tag in &moved {
        let reference = ManifestReference::Tag(tag.clone());
        match registry.put_manifest(repository, &reference, manifest.clone()).await {
            Ok(()) => {}
            // It may be protected, and name this image all the same.
            Err(PublishError::TagProtected { .. })
                if !ask && registry.tagged(repository, tag).await? == Some(digest) =>
            {
                refused.push(tag.clone());
            }
            Err(error) => return Err(error),
        }
    }
    moved.retain(|tag| !refused.contains(tag));
    unchanged.extend(refused);
    Ok(Published { digest, moved, unchanged })
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    // The work does not panic; should it ever, its thread counts as a producer that stopped.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(PublishError::ProducerGone))
}
