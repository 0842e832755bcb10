//! Pushes to a registry in this process, and to servers that misbehave.

#![expect(clippy::unwrap_used, reason = "in a test, what goes wrong is to be seen")]

mod blobs;
mod client_certificates;
mod faults;
mod images;
mod mounts;
mod nobody;
mod origins;
mod proxies;
mod support;
mod tls;
mod tokens;
mod trust;
