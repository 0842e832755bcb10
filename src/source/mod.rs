//! Where store paths come from.

pub mod binary_cache;
pub mod docker_tools;
pub mod local_store;
pub mod nix;
mod store_paths;

pub use store_paths::{ReadError, StorePaths, Upcoming};
