//! OCI's vocabulary: digests, repositories, tags, descriptors, image configurations, manifests.
//!
//! The types follow the OCI image specification 1.1 and the distribution specification 1.1. They
//! know neither Nix nor how bytes travel.

mod descriptor;
mod digest;
pub mod image;
mod manifest;
pub mod media_type;
pub mod reference;

pub use descriptor::{Descriptor, REF_NAME};
pub use digest::{DiffId, Digest, DigestError, Hasher};
pub use image::{Image, ImageLayer, ImageSource, Platform};
pub use manifest::{Manifest, ManifestError};
pub use reference::{Repository, Tag};
