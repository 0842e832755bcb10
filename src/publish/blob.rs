//! A blob on its way: made by a thread, taken by a destination, never whole in memory or on disk.
//!
//! The producer writes into a [`BlobWriter`], which hands pieces over as they fill; the destination takes
//! from the [`Blob`] the chunks that it sends and keeps until they are acknowledged. Two pieces at most
//! wait between them, so a slow registry slows the producer down, and a blob on its way takes the memory
//! of one chunk and little more.
//!
//! ```
//! use std::io::Write;
//! use nixlayer::oci::Digest;
//! use nixlayer::publish::Blob;
//!
//! let (mut writer, blob) = Blob::channel(16 * 1024 * 1024);
//! std::thread::spawn(move || {
//!     writer.write_all(b"layer")?;
//!     writer.finish(Digest::of(b"layer"))
//! });
//! // destination.put_blob(…)
//! # drop(blob);
//! ```

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::PublishError;
use crate::oci::Digest;

/// The most that is handed over at a time.
const PIECE: usize = 256 << 10;

/// How many pieces may wait to be taken.
const WAITING: usize = 2;

/// A blob that is still being made.
#[derive(Debug)]
pub struct Blob {
    pieces: mpsc::Receiver<Bytes>,
    /// What has been taken of the pieces and is in no chunk yet.
    ahead: Bytes,
    chunk_size: usize,
    end: oneshot::Receiver<BlobEnd>,
}

/// The producer's side of a [`Blob`]. To be used on a thread of its own: writing blocks while the
/// destination is busy. Dropping it unfinished fails the blob; why, only the producer knows.
#[derive(Debug)]
pub struct BlobWriter {
    pieces: mpsc::Sender<Bytes>,
    end: oneshot::Sender<BlobEnd>,
    piece: BytesMut,
    piece_size: usize,
    size: u64,
}

/// What is known of a blob once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobEnd {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Blob {
    /// A blob that is taken in chunks of `chunk_size` bytes, the last being shorter, and where to write it.
    pub fn channel(chunk_size: usize) -> (BlobWriter, Self) {
        let chunk_size = chunk_size.max(1);
        let (piece_sender, pieces) = mpsc::channel(WAITING);
        let (end_sender, end) = oneshot::channel();
        let writer = BlobWriter {
            pieces: piece_sender,
            end: end_sender,
            piece: BytesMut::new(),
            piece_size: chunk_size.min(PIECE),
            size: 0,
        };
        (writer, Self { pieces, ahead: Bytes::new(), chunk_size, end })
    }

    /// A blob that is in memory already.
    pub fn of(bytes: Bytes) -> Self {
        let (piece_sender, pieces) = mpsc::channel(1);
        let (end_sender, end) = oneshot::channel();
        let complete = BlobEnd { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        let chunk_size = bytes.len().max(1);
        // Neither channel is full or closed: both were made here.
        let _ = piece_sender.try_send(bytes);
        let _ = end_sender.send(complete);
        Self { pieces, ahead: Bytes::new(), chunk_size, end }
    }

    /// The next chunk, of at least `least` bytes; the last may have fewer. None after the last, or when the
    /// producer failed.
    pub(super) async fn next_chunk(&mut self, least: usize) -> Option<Vec<Bytes>> {
        let mut left = self.chunk_size.max(least);
        let mut chunk = Vec::new();
        while left > 0 && self.look_ahead().await {
            let piece = self.ahead.split_to(left.min(self.ahead.len()));
            left -= piece.len();
            chunk.push(piece);
        }
        if chunk.is_empty() { None } else { Some(chunk) }
    }

    /// Whether there is more to come, as far as the producer has got.
    pub(super) async fn look_ahead(&mut self) -> bool {
        while self.ahead.is_empty() {
            match self.pieces.recv().await {
                Some(piece) => self.ahead = piece,
                None => return false,
            }
        }
        true
    }

    /// The next bytes, however many there are, on a thread that may block.
    pub(super) fn blocking_next(&mut self) -> Option<Bytes> {
        self.pieces.blocking_recv()
    }

    /// What the producer says at the end, if it got that far.
    pub(super) async fn end(self) -> Result<BlobEnd, PublishError> {
        self.end.await.map_err(|_| PublishError::ProducerGone)
    }

    /// As [`end`](Self::end), on a thread that may block.
    pub(super) fn blocking_end(self) -> Result<BlobEnd, PublishError> {
        self.end.blocking_recv().map_err(|_| PublishError::ProducerGone)
    }
}

impl BlobWriter {
    /// Hands over the rest, and says which digest all the bytes have.
    pub fn finish(mut self, digest: Digest) -> io::Result<()> {
        self.flush()?;
        self.end.send(BlobEnd { digest, size: self.size }).map_err(|_| gone())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece.reserve(self.piece_size);
        }
        let taken = bytes.len().min(self.piece_size - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        self.size += taken as u64;
        if self.piece.len() == self.piece_size {
            self.flush()?;
        }
        Ok(taken)
    }

    /// Hands over what there is, be it much or little.
    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(std::mem::take(&mut self.piece).freeze()).map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the blob any more")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the bytes are written, all arrive in order, in full chunks but for the last.
        #[test]
        fn chunks_are_full_but_the_last(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            chunk_size in 1..40usize,
            least in 0..60usize,
        ) {
            let whole = pieces.concat();
            let (mut writer, mut blob) = Blob::channel(chunk_size);
            let digest = Digest::of(&whole);
            let thread = std::thread::spawn(move || {
                for piece in pieces {
                    writer.write_all(&piece).unwrap();
                }
                writer.finish(digest).unwrap();
            });

            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (chunks, end) = runtime.block_on(async {
                let mut chunks = Vec::new();
                while let Some(chunk) = blob.next_chunk(least).await {
                    chunks.push(chunk.concat());
                }
                (chunks, blob.end().await.unwrap())
            });
            thread.join().unwrap();

            prop_assert_eq!(chunks.concat(), &whole[..]);
            prop_assert_eq!(end, BlobEnd { digest, size: whole.len() as u64 });
            if let Some((last, full)) = chunks.split_last() {
                let size = chunk_size.max(least);
                prop_assert!(full.iter().all(|chunk| chunk.len() == size));
                prop_assert!((1..=size).contains(&last.len()));
            }
        }
    }

    #[test]
    fn a_producer_that_vanishes_fails_the_blob() {
        let (mut writer, mut blob) = Blob::channel(4);
        writer.write_all(b"ab").unwrap();
        drop(writer);

        assert_eq!(blob.blocking_next(), None);
        assert!(matches!(blob.blocking_end(), Err(PublishError::ProducerGone)));
    }

    #[test]
    fn a_destination_that_vanishes_stops_the_producer() {
        let (mut writer, blob) = Blob::channel(4);
        drop(blob);

        assert_eq!(writer.write_all(b"abcd").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
