//! Layered OCI images from Nix packages, built and pushed by GitLab CI jobs.
//!
//! The flow, which `docs/architecture.md` describes:
//!
//! ```text
//! job payload + variables → Job → ImageSpec → store paths → Closure → LayerPlan → Layer… → Image → Published
//! ```

// Vocabulary: the words of the standards, as types. No files, no network, no clock.
pub mod nix;
pub mod oci;
pub mod secret;
pub mod yaml;

// Transforms: pure functions over them.
pub mod job;
pub mod layer;
pub mod lock;
pub mod spec;

// Edges: files, processes, network.
pub mod folder;
pub mod http;
pub mod publish;
pub mod record;
pub mod sandbox;
pub mod source;

// Flow: the one place where the parts meet.
pub mod pipeline;

// Entry: the runner's contract, the admin's configuration, the command line.
pub mod admin;
pub mod cli;
pub mod failure;
pub mod simulate;
pub mod stage;
