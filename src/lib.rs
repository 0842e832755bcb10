//! Layered OCI images from Nix packages, built and pushed by GitLab CI jobs.
//!
//! The flow, which `docs/architecture.md` describes:
//!
//! ```text
//! job payload + variables → Job → ImageSpec → store paths → Closure → LayerPlan → Layer… → Image → Published
//! ```
