//! The Nix archive: one file tree as one stream of bytes, in the order of [`super::tree`].
//!
//! Everything in it is a string: a length of eight bytes, little end first, then the bytes, then zeros to
//! a multiple of eight. The grammar (Nix manual, "Nix Archive (NAR) format"):
//!
//! ```text
//! nar       = "nix-archive-1" object
//! object    = "(" "type" (regular | symlink | directory) ")"
//! regular   = "regular" ["executable" ""] "contents" BYTES
//! symlink   = "symlink" "target" BYTES
//! directory = "directory" { "entry" "(" "name" BYTES "node" object ")" }
//! ```
//!
//! One tree has one archive: names of a folder are strictly increasing, padding is zero, nothing follows
//! the end. [`read`] refuses all else, so bytes that it takes are what [`NarWriter`] writes of the same
//! tree. Neither holds more in memory than one path and one buffer.
//!
//! ```
//! use nixlayer::nix::nar::{self, NarWriter};
//! use nixlayer::nix::tree::{Entry, Node};
//!
//! let mut writer = NarWriter::new(Vec::new())?;
//! writer.append(Entry { path: b"", node: Node::Symlink { target: b"elsewhere" } })?;
//! let archive = writer.finish()?;
//!
//! nar::read(&archive[..], |entry| {
//!     assert!(matches!(entry.node, Node::Symlink { target: b"elsewhere" }));
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod hasher;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{NarError, NarFault};
pub use hasher::NarHasher;
pub use reader::read;
pub use writer::NarWriter;

const MAGIC: &str = "nix-archive-1";

/// Bytes of a name; Linux has no longer ones (`NAME_MAX`).
const MAX_NAME: u64 = 255;

/// Bytes of a link's target, and of the way from the tree's root to a file. Nix could unpack no longer
/// ones (`PATH_MAX` is 4096 with the final NUL). It bounds the depth, too.
const MAX_PATH: u64 = 4095;

/// How many zeros follow a string of `length` bytes.
fn padding(length: u64) -> usize {
    ((8 - length % 8) % 8) as usize
}
