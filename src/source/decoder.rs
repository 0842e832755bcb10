//! Decompresses a file while it arrives, in memory that no file can make large.

use std::io::{self, BufReader, Read};

use brotli_decompressor::{BrotliDecoderParameter, Decompressor};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use crate::nix::Compression;

/// What `xz -9` needs, and a little more: its dictionary has 64 MiB.
const XZ_MEMORY: u64 = 80 << 20;

/// The largest window of `zstd -19`; `--ultra` and `--long` can ask for more, up to gigabytes.
const ZSTD_WINDOW_LOG: u32 = 27;

const BROTLI_BUFFER: usize = 64 * 1024;

/// The decompressed bytes of `R`, whose members, frames or streams follow one another.
pub(in crate::source) enum Decoder<R: Read> {
    None(R),
    Xz(XzDecoder<R>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
    Bzip2(MultiBzDecoder<R>),
    Brotli(Box<Decompressor<R>>),
    Gzip(MultiGzDecoder<R>),
}

/// The compression of a file that begins with `head`, some of its first bytes. Brotli has no mark to tell it by.
pub(super) fn compression_of(head: &[u8]) -> Compression {
    match head {
        // RFC 1952, section 2.3.1.
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // RFC 8878, sections 3.1.1 and 3.1.2: a frame, or one to be skipped.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', ..] => Compression::Bzip2,
        _ => Compression::None,
    }
}

impl<R: Read> Decoder<R> {
    pub(in crate::source) fn new(compression: Compression, compressed: R) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None(compressed),
            Compression::Xz => {
                let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
                Self::Xz(XzDecoder::new_stream(compressed, stream))
            }
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(compressed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
            Compression::Bzip2 => Self::Bzip2(MultiBzDecoder::new(compressed)),
            Compression::Brotli => {
                let mut decoder = Decompressor::new(compressed, BROTLI_BUFFER);
                // RFC 7932 has windows up to 16 MiB; an extension that no cache uses has them up to 1 GiB.
                decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                Self::Brotli(Box::new(decoder))
            }
            Compression::Gzip => Self::Gzip(MultiGzDecoder::new(compressed)),
        })
    }

    /// Where the compressed bytes come from.
    pub(super) fn compressed(&mut self) -> &mut R {
        match self {
            Self::None(inner) => inner,
            Self::Xz(decoder) => decoder.get_mut(),
            Self::Zstd(decoder) => decoder.get_mut().get_mut(),
            Self::Bzip2(decoder) => decoder.get_mut(),
            Self::Brotli(decoder) => decoder.get_mut(),
            Self::Gzip(decoder) => decoder.get_mut(),
        }
    }

    /// Where the compressed bytes come from, after those that were needed.
    pub(super) fn into_inner(self) -> R {
        match self {
            Self::None(inner) => inner,
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish().into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Brotli(decoder) => decoder.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(inner) => inner.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Bzip2(decoder) => decoder.read(buffer),
            Self::Brotli(decoder) => match decoder.read(buffer)? {
                // Of bytes that it has taken and does not need it tells when it is asked again.
                0 => decoder.read(buffer),
                read => Ok(read),
            },
            Self::Gzip(decoder) => decoder.read(buffer),
        }
    }
}
