//! All that an image says of a layer, in one pass over its tar.

use std::io::{self, Write};

use super::{BlockWriter, Compression, Workers};
use crate::oci::{DiffId, Digest, Hasher};

/// Takes the bytes of a layer's tar, and passes the compressed layer on to a sink.
pub struct LayerWriter<W> {
    tar: Hashing<BlockWriter<Hashing<W>>>,
}

/// What an image's configuration and manifest say of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerDigests {
    /// Of the tar.
    pub diff_id: DiffId,
    /// Of the compressed tar: the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Length of the tar in bytes.
    pub uncompressed_size: u64,
}

impl<W: Write> LayerWriter<W> {
    /// A layer that nothing has been written of yet.
    pub fn new(sink: W, compression: Compression, workers: &Workers) -> Self {
        Self { tar: Hashing::new(BlockWriter::new(Hashing::new(sink), compression, workers)) }
    }

    /// Ends the layer, and gives the sink back with what is to be said of it.
    pub fn finish(self) -> io::Result<(W, LayerDigests)> {
        let Hashing { sink: blocks, hasher: tar, length: uncompressed_size } = self.tar;
        let Hashing { sink, hasher: blob, length: size } = blocks.finish()?;
        let digests = LayerDigests { diff_id: tar.diff_id(), digest: blob.digest(), size, uncompressed_size };
        Ok((sink, digests))
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tar.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tar.flush()
    }
}

/// Counts and hashes what passes through.
pub struct Hashing<W> {
    sink: W,
    /// Of all bytes so far.
    pub hasher: Hasher,
    /// How many bytes there were.
    pub length: u64,
}

impl<W> Hashing<W> {
    /// Nothing has passed yet on its way to `sink`.
    pub fn new(sink: W) -> Self {
        Self { sink, hasher: Hasher::default(), length: 0 }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.sink.write(bytes)?;
        self.hasher.write_all(&bytes[..taken])?;
        self.length += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    /// Takes three bytes at a time, as a socket might.
    struct Reluctant(Vec<u8>);

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(3)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_digests_are_those_of_the_bytes() {
        let tar: Vec<u8> = (0..1_500_000u32).map(|place| (place / 7) as u8).collect();
        let mut layer = LayerWriter::new(Reluctant(Vec::new()), Compression::default(), &Workers::new(2));
        layer.write_all(&tar).unwrap();

        let (Reluctant(blob), digests) = layer.finish().unwrap();

        let mut decoded = Vec::new();
        MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut decoded).unwrap();
        assert!(decoded == tar);
        assert_eq!(digests.digest, Digest::of(&blob));
        assert_eq!(digests.diff_id.to_string(), Digest::of(&tar).to_string());
        assert_eq!((digests.size, digests.uncompressed_size), (blob.len() as u64, 1_500_000));
    }
}
