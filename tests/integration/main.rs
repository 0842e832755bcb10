//! nixlayer's parts together, and with the real programs around them: Nix, a registry, tools that read images.
//!
//! `tests/run` prepares the machine and runs these; with the machine prepared, `cargo test --test integration` does.

#[cfg(test)]
mod caches;
#[cfg(test)]
mod cancelling;
#[cfg(test)]
mod cleanup;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod compression;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod docker_tools;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod expressions;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod flakes;
#[cfg(test)]
mod get_env;
#[cfg(test)]
mod host;
#[cfg(test)]
mod hostile_expressions;
#[cfg(test)]
mod images;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod mistakes;
#[cfg(test)]
mod nix2container;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod real_parts;
#[cfg(test)]
mod record_keys;
#[cfg(test)]
mod records;
#[cfg(test)]
mod registries;
#[cfg(test)]
mod reuse;
#[cfg(test)]
mod roots;
#[cfg(test)]
mod signed_records;
#[cfg(test)]
mod specs;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trust;
