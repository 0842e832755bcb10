//! The hash and size of an archive, from its bytes as they pass.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

use crate::nix::NarHash;

/// Hashes and counts the bytes of an archive.
#[derive(Clone, Default)]
pub struct NarHasher {
    sha256: Sha256,
    size: u64,
}

impl NarHasher {
    /// The hash of what was written.
    pub fn hash(self) -> NarHash {
        NarHash::from_bytes(self.sha256.finalize().into())
    }

    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Write for NarHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
