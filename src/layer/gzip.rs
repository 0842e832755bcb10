//! Blocks as gzip members.
//!
//! RFC 1952 §2.2 makes the concatenation of members one gzip file. The header that libdeflate writes
//! holds nothing of the machine: no name, MTIME 0, OS 255 (unknown), and XFL 4 for level 1, 2 from
//! level 8 on, else 0. The bytes depend on level, block size and libdeflate's version, which is why
//! the manifest of this crate pins the latter.

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use super::blocks::Encoder;

/// Larger blocks make no smaller layers: deflate looks back 32 KiB at most.
pub(super) const BLOCK: usize = 512 * 1024;

/// The version of libdeflate, which does not tell it itself.
pub(super) const LIBDEFLATE: &str = "1.26.1";

/// How hard to try: 1 is fast, 12 is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GzipLevel(u8);

/// The number is no [`GzipLevel`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no gzip level: the number must be from 1 to 12")]
pub struct GzipLevelError(u8);

/// Makes a member of each block.
pub(super) struct GzipEncoder(Compressor);

impl GzipLevel {
    /// 1: in some six sevenths of the default's time, and about a twentieth larger.
    pub const FAST: Self = Self(1);

    /// 2: the fastest that is smaller than what skopeo makes, in half of its time.
    pub const DEFAULT: Self = Self(2);

    /// The level of a number from 1 to 12.
    pub fn new(level: u8) -> Result<Self, GzipLevelError> {
        // libdeflate's level 0 is no compression, so it is none of ours.
        if (1..=12).contains(&level) { Ok(Self(level)) } else { Err(GzipLevelError(level)) }
    }

    pub(super) fn number(self) -> u8 {
        self.0
    }
}

impl Default for GzipLevel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl GzipEncoder {
    pub(super) fn new(level: GzipLevel) -> Self {
        // Every `GzipLevel` is one of libdeflate's, so there is nothing to fall back from.
        Self(Compressor::new(CompressionLvl::new(level.0.into()).unwrap_or_default()))
    }
}

impl Encoder for GzipEncoder {
    fn bound(&mut self, length: usize) -> usize {
        self.0.gzip_compress_bound(length)
    }

    fn encode(&mut self, block: &[u8], output: &mut [u8]) -> io::Result<usize> {
        self.0.gzip_compress(block, output).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(block: &[u8], level: u8) -> Vec<u8> {
        let mut encoder = GzipEncoder::new(GzipLevel::new(level).unwrap());
        let mut output = vec![0; encoder.bound(block.len())];
        let length = encoder.encode(block, &mut output).unwrap();
        output.truncate(length);
        output
    }

    /// RFC 1952 §2.3: magic, method 8, no flags, no time, the level's XFL, unknown OS.
    #[test]
    fn a_header_holds_nothing_of_the_machine() {
        for (level, xfl) in [(1, 4), (6, 0), (12, 2)] {
            assert_eq!(member(b"x", level)[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, xfl, 255], "level {level}");
        }
    }

    #[test]
    fn a_level_outside_the_range_is_refused() {
        assert_eq!(GzipLevel::new(0), Err(GzipLevelError(0)));
        assert_eq!(GzipLevel::new(13), Err(GzipLevelError(13)));
        assert_eq!(GzipLevel::new(2), Ok(GzipLevel::DEFAULT));
        assert_eq!(GzipLevel::new(1), Ok(GzipLevel::FAST));
    }
}
