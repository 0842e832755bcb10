//! Turns store paths into the layers of an image.
//!
//! 1. [`LayerPlan`] groups the paths of a closure: which paths share a layer, in which order.
//! 2. [`StoreLayer`] writes the paths of one group as a tar; [`RootTree`] is what lies outside the
//!    store, `/bin` and `/etc` for example, and becomes the image's last layer.
//! 3. [`LayerWriter`] takes the bytes of such a tar, and in one pass computes the `diff_id`,
//!    compresses on the threads of [`Workers`], and computes digest and size of the result.
//!
//! Every byte depends on the contents alone, never on the machine, the clock or the number of
//! threads, so that equal store paths make equal layers wherever they are built.
//!
//! ```
//! use nixlayer::layer::{Compression, LayerWriter, StoreLayer, StoreMetadata, Workers};
//! use nixlayer::nix::tree::{Entry, Node};
//!
//! let path = "/nix/store/00000000000000000000000000000000-motd-1".parse()?;
//! let text = b"hello\n";
//! let workers = Workers::new(2);
//!
//! let layer = LayerWriter::new(Vec::new(), Compression::default(), &workers);
//! let mut layer = StoreLayer::new(layer, StoreMetadata::default())?;
//! let node = Node::Regular { executable: false, size: 6, contents: &mut text.as_slice() };
//! layer.append(&path, Entry { path: b"", node })?;
//! let (blob, digests) = layer.finish()?.finish()?;
//!
//! assert_eq!(digests.size, blob.len() as u64);
//! assert_eq!(digests.uncompressed_size, 10240);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod blocks;
pub mod compression;
pub mod gzip;
mod header;
mod key;
pub mod plan;
pub mod root;
pub mod store;
pub mod tar;
pub mod workers;
pub mod writer;
pub mod zstd;

pub use blocks::BlockWriter;
pub use compression::Compression;
pub use gzip::GzipLevel;
pub use header::Dialect;
pub use key::LayerKey;
pub use plan::{LayerBudget, LayerPlan};
pub use root::{Contents, Linked, RootKind, RootNode, RootTree, TreeError};
pub use store::{StoreLayer, StoreMetadata};
pub use tar::{Member, Metadata, TarWriter};
pub use workers::Workers;
pub use writer::{Hashing, LayerDigests, LayerWriter};
pub use zstd::ZstdLevel;
