//! Nix's vocabulary: store paths, their hashes and references, closures, file trees.
//!
//! Nothing here touches the machine: the texts and bytes come from the callers, so the same types
//! describe a path of the local store and one that a binary cache offers.

pub mod closure;
pub mod dump_db;
pub mod nar;
pub mod nar_hash;
pub mod nix32;
pub mod store_path;
pub mod system;
pub mod tree;

pub use closure::{Closure, ClosureError, PathInfo};
pub use nar_hash::NarHash;
pub use store_path::{STORE_DIR, StorePath};
pub use system::System;
