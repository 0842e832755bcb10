//! Where store paths come from.

pub mod local_store;
pub mod nix;
