//! Derivations in the store of this host: quicker read than asked for.

use std::error::Error;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::NixError;
use crate::nix::{Derivation, StorePath};
use crate::source::store_file;

/// So much is read of one at the most: that of a package has some kilobytes, and one that lists others some hundred bytes
/// for each.
const MOST_BYTES: u64 = 256 << 20;

/// A derivation that was only ever evaluated; its variables say what was wanted to be known.
pub(super) struct Evaluated(Derivation);

/// What a garbage collector root holds.
pub(super) fn evaluated(root: &Path) -> Result<Evaluated, NixError> {
    let target = fs::read_link(root).map_err(unusable)?;
    let path: StorePath = target.to_string_lossy().parse().map_err(unusable)?;
    derivation(&path).map(Evaluated)
}

/// What is in a `.drv` file.
pub(super) fn derivation(path: &StorePath) -> Result<Derivation, NixError> {
    let mut text = Vec::new();
    let file = store_file::open(&path.to_path_buf()).map_err(unusable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(unusable)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(unusable(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Derivation::parse(&text).map_err(unusable)
}

impl Evaluated {
    /// The text of a variable; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.environment.get(name).map_or("", String::as_str)
    }

    /// What is in a variable as JSON.
    pub(super) fn answer<T: DeserializeOwned>(&self, name: &str) -> Result<T, NixError> {
        serde_json::from_str(self.text(name)).map_err(unusable)
    }
}

fn unusable(source: impl Error + Send + Sync + 'static) -> NixError {
    NixError::Answer { source: Box::new(source) }
}
