//! Blocks as Zstandard frames.
//!
//! RFC 8878 §3 makes the concatenation of frames one stream. Each frame states the size of its
//! content, so that whoever decompresses it knows how much room it takes, and refers to no dictionary.
//! It has no checksum: digest and `diff_id` already cover every byte of a layer, before and after
//! compression, and every runtime checks them. The bytes depend on level, block size and libzstd's
//! version, which is why the manifest of this crate pins the latter.

use std::io;

use ::zstd::bulk::Compressor;
use ::zstd::{compress_bound, zstd_safe};

use super::blocks::Encoder;

/// Of closures of 68 and 244 MB, half of it makes 4 and 2 % more at level 3; twice of it, which takes twice the
/// memory, makes 2 and 1 % less.
pub(super) const BLOCK: usize = 2 * 1024 * 1024;

/// How hard to try: 1 is fast, 19 is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZstdLevel(u8);

/// The number is no [`ZstdLevel`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no zstd level: the number must be from 1 to 19")]
pub struct ZstdLevelError(u8);

/// Makes a frame of each block.
pub(super) struct ZstdEncoder {
    compressor: Compressor<'static>,
    level: ZstdLevel,
}

impl ZstdLevel {
    /// 3: zstd's own.
    pub const DEFAULT: Self = Self(3);

    /// The level of a number from 1 to 19.
    pub fn new(level: u8) -> Result<Self, ZstdLevelError> {
        // From 20 on zstd takes much more memory, for what it finds in windows larger than our blocks.
        if (1..=19).contains(&level) { Ok(Self(level)) } else { Err(ZstdLevelError(level)) }
    }

    pub(super) fn number(self) -> u8 {
        self.0
    }
}

impl Default for ZstdLevel {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl ZstdEncoder {
    pub(super) fn new(level: ZstdLevel) -> Self {
        Self { compressor: Compressor::default(), level }
    }
}

impl Encoder for ZstdEncoder {
    fn bound(&mut self, length: usize) -> usize {
        compress_bound(length)
    }

    fn encode(&mut self, block: &[u8], output: &mut [u8]) -> io::Result<usize> {
        self.compressor.set_compression_level(self.level.0.into())?;
        self.compressor.compress_to_buffer(block, output)
    }
}

/// The version of libzstd, by itself.
pub(super) fn version() -> &'static str {
    zstd_safe::version_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(length: u64) -> Vec<u8> {
        (0..length).map(|place| ((place * place) >> 11) as u8 & 0x3f).collect()
    }

    fn frame(encoder: &mut ZstdEncoder, block: &[u8]) -> Vec<u8> {
        let mut output = vec![0; encoder.bound(block.len())];
        let length = encoder.encode(block, &mut output).unwrap();
        output.truncate(length);
        output
    }

    fn encoder(level: u8) -> ZstdEncoder {
        ZstdEncoder::new(ZstdLevel::new(level).unwrap())
    }

    /// RFC 8878 §3.1.1: the magic number; then a descriptor that says: size of the content in 4 bytes, one
    /// segment, no checksum, no dictionary; then that size.
    #[test]
    fn a_header_states_the_size_and_nothing_of_the_machine() {
        let bytes = frame(&mut encoder(3), &block(300_000));

        assert_eq!(bytes[..5], [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000]);
        assert_eq!(bytes[5..9], 300_000u32.to_le_bytes());
    }

    /// The levels stand for all the ways that zstd searches: its tables are kept from block to block.
    #[test]
    fn a_frame_does_not_depend_on_what_its_encoder_did_before() {
        let blocks = [block(BLOCK as u64), vec![1; 5], block(70_000), vec![0; 300_000], block(BLOCK as u64)];
        for level in [1, 3, 5, 8, 13, 16, 19] {
            let mut used = encoder(level);
            for block in &blocks {
                assert!(frame(&mut used, block) == frame(&mut encoder(level), block), "level {level}");
            }
        }
    }

    #[test]
    fn a_level_outside_the_range_is_refused() {
        assert_eq!(ZstdLevel::new(0), Err(ZstdLevelError(0)));
        assert_eq!(ZstdLevel::new(20), Err(ZstdLevelError(20)));
        assert_eq!(ZstdLevel::new(3), Ok(ZstdLevel::DEFAULT));
        assert_eq!(ZstdLevel::new(19).map(ZstdLevel::number), Ok(19));
    }
}
