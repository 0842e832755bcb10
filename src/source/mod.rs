//! Where store paths come from, layers that somebody else has planned, and images that are finished already.

pub mod archive;
pub mod binary_cache;
mod container;
mod copy;
mod decoder;
pub mod docker_tools;
mod json;
pub mod local_store;
pub mod nix;
pub mod nix2container;
pub mod store_file;
mod store_paths;

pub use json::KeyError;
pub use store_paths::{ReadError, StorePaths, Upcoming};
