//! One push of a small image, and what became of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nixlayer::oci::{Digest, Image};
use nixlayer::publish::{Destination, PublishError, Published, Standing, Stored};
use nixlayer::simulate::registry as simulated;
use tokio::time::timeout;

use crate::fault_proxy::LIMIT;
use crate::support::{CHUNK, RUNTIME, blob, bytes, get, image, tag};

/// The tag of every push.
pub(crate) const TAG: &str = "v1";

/// An image with its layers: one of several chunks, one that fits a single request.
#[derive(Clone, Debug)]
pub(crate) struct Cargo {
    pub(crate) layers: Vec<Bytes>,
    pub(crate) image: Image,
}

impl Cargo {
    /// The image that only this seed gives.
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(vec![bytes(5 * CHUNK + 3, seed), bytes(1000, !seed)])
    }

    pub(crate) fn of(layers: Vec<Bytes>) -> Self {
        Self { image: image(&layers), layers }
    }

    /// Pushes it, one request after the other, as [`TAG`].
    pub(crate) fn push(&self, destination: &Destination) -> Result<Published, PublishError> {
        RUNTIME.block_on(async {
            let push = async {
                for layer in &self.layers {
                    put_blob(destination, layer).await?;
                }
                destination.put_image(&self.image, &[tag(TAG)], &Standing::new()).await
            };
            timeout(LIMIT, push).await.unwrap()
        })
    }
}

/// Brings `content` there. All blobs of these tests go through here.
pub(crate) async fn put_blob(destination: &Destination, content: &Bytes) -> Result<Stored, PublishError> {
    let make = || blob(content.clone());
    destination.put_blob(&make).await
}

/// [`put_blob`], to its end.
pub(crate) fn put_one_blob(destination: &Destination, content: &Bytes) -> Result<Stored, PublishError> {
    RUNTIME.block_on(async { timeout(LIMIT, put_blob(destination, content)).await.unwrap() })
}

/// A registry, and how to look into it behind the proxy's back.
#[derive(Clone)]
pub(crate) enum Behind {
    /// The one in this process.
    Simulated(Arc<simulated::Registry>),
    /// A real one, which asks for no credentials.
    Real(SocketAddr),
}

impl Behind {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Simulated(registry) => registry.address(),
            Self::Real(address) => *address,
        }
    }

    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        match self {
            Self::Simulated(registry) => registry.blob(repository, digest),
            Self::Real(address) => found(*address, &format!("/v2/{repository}/blobs/{digest}")),
        }
    }

    pub(crate) fn manifest(&self, repository: &str) -> Option<Bytes> {
        match self {
            Self::Simulated(registry) => registry.manifest(repository, TAG),
            Self::Real(address) => found(*address, &format!("/v2/{repository}/manifests/{TAG}")),
        }
    }

    /// Whether the tag names `cargo`, and all of it is there.
    pub(crate) fn holds(&self, repository: &str, cargo: &Cargo) -> Result<(), String> {
        match self.manifest(repository) {
            Some(manifest) if manifest == cargo.image.manifest_bytes() => {
                self.is_whole(repository, &manifest)
            }
            Some(manifest) => Err(format!("the tag names {}", Digest::of(&manifest))),
            None => Err("there is no such tag".to_owned()),
        }
    }

    /// Whether the blobs are there that a manifest names, each with its own bytes.
    pub(crate) fn is_whole(&self, repository: &str, manifest: &[u8]) -> Result<(), String> {
        let manifest: serde_json::Value = serde_json::from_slice(manifest).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        for descriptor in layers.iter().chain([&manifest["config"]]) {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            match self.blob(repository, &digest) {
                Some(blob) if Digest::of(&blob) == digest => {}
                found => return Err(format!("{digest} is {:?}", found.map(|blob| Digest::of(&blob)))),
            }
        }
        Ok(())
    }
}

fn found(address: SocketAddr, path: &str) -> Option<Bytes> {
    match get(address, path) {
        (200, body) => Some(body.into()),
        _ => None,
    }
}

/// Watches a tag, which may name one of some images or nothing.
#[derive(Clone, Default)]
pub(crate) struct TagWatch(Arc<Mutex<Vec<String>>>);

impl TagWatch {
    /// Looks at the tag now.
    pub(crate) fn look(&self, behind: &Behind, repository: &str, allowed: &[Bytes]) {
        let Some(manifest) = behind.manifest(repository) else { return };
        let seen = if allowed.contains(&manifest) {
            behind.is_whole(repository, &manifest)
        } else {
            Err(format!("the tag named {}", Digest::of(&manifest)))
        };
        if let Err(error) = seen {
            self.0.lock().unwrap().push(error);
        }
    }

    /// What was seen that should not have been.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The bytes that a tag names when it names `cargo`.
pub(crate) fn manifest_of(cargo: &Cargo) -> Bytes {
    Bytes::copy_from_slice(cargo.image.manifest_bytes())
}
