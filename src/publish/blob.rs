//! A blob on its way: made by a thread, taken by a destination, never whole in memory or on disk.
//!
//! The producer writes into a [`BlobWriter`], which cuts the bytes into chunks; the destination
//! takes the chunks from the [`Blob`]. At most one chunk waits between them, so a slow registry
//! slows the producer down.
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
//! // destination.put_blob(blob).await
//! # drop(blob);
//! ```

use std::collections::VecDeque;
use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::PublishError;
use crate::oci::Digest;

/// A blob that is still being made.
#[derive(Debug)]
pub struct Blob {
    chunks: mpsc::Receiver<Bytes>,
    ahead: VecDeque<Bytes>,
    end: oneshot::Receiver<BlobEnd>,
}

/// The producer's side of a [`Blob`]. To be used on a thread of its own: writing blocks while the
/// destination is busy. Dropping it unfinished fails the blob; why, only the producer knows.
#[derive(Debug)]
pub struct BlobWriter {
    chunks: mpsc::Sender<Bytes>,
    end: oneshot::Sender<BlobEnd>,
    chunk: BytesMut,
    chunk_size: usize,
    size: u64,
}

/// What is known of a blob once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobEnd {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Blob {
    /// A blob in chunks of `chunk_size` bytes, the last being shorter, and where to write it.
    pub fn channel(chunk_size: usize) -> (BlobWriter, Self) {
        let (chunk_sender, chunks) = mpsc::channel(1);
        let (end_sender, end) = oneshot::channel();
        let writer = BlobWriter {
            chunks: chunk_sender,
            end: end_sender,
            chunk: BytesMut::new(),
            chunk_size: chunk_size.max(1),
            size: 0,
        };
        (writer, Self { chunks, ahead: VecDeque::new(), end })
    }

    /// A blob that is in memory already.
    pub fn of(bytes: Bytes) -> Self {
        let (chunk_sender, chunks) = mpsc::channel(1);
        let (end_sender, end) = oneshot::channel();
        let complete = BlobEnd { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        // Neither channel is full or closed: both were made here.
        let _ = chunk_sender.try_send(bytes);
        let _ = end_sender.send(complete);
        Self { chunks, ahead: VecDeque::new(), end }
    }

    /// Whether there is no second chunk, so that the blob is complete in memory.
    pub(super) async fn is_one_chunk(&mut self) -> bool {
        while self.ahead.len() < 2 {
            match self.chunks.recv().await {
                Some(chunk) => self.ahead.push_back(chunk),
                None => return true,
            }
        }
        false
    }

    /// The next chunk; none after the last, or when the producer failed.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        match self.ahead.pop_front() {
            Some(chunk) => Some(chunk),
            None => self.chunks.recv().await,
        }
    }

    /// The next chunks as one of at least `length` bytes; the last may have fewer.
    pub(super) async fn next_of(&mut self, length: usize) -> Option<Bytes> {
        let chunk = self.next().await?;
        if chunk.len() >= length {
            return Some(chunk);
        }
        let mut joined = BytesMut::from(chunk);
        while joined.len() < length
            && let Some(chunk) = self.next().await
        {
            joined.extend_from_slice(&chunk);
        }
        Some(joined.freeze())
    }

    /// The next chunk, on a thread that may block.
    pub(super) fn blocking_next(&mut self) -> Option<Bytes> {
        self.chunks.blocking_recv()
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
        if self.chunk.is_empty() {
            self.chunk.reserve(self.chunk_size);
        }
        let taken = bytes.len().min(self.chunk_size - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        self.size += taken as u64;
        if self.chunk.len() == self.chunk_size {
            self.flush()?;
        }
        Ok(taken)
    }

    /// Hands the bytes over as a chunk, be it full or not.
    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        self.chunks.blocking_send(std::mem::take(&mut self.chunk).freeze()).map_err(|_| gone())
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

            let chunks: Vec<_> = std::iter::from_fn(|| blob.blocking_next()).collect();
            let end = blob.blocking_end().unwrap();
            thread.join().unwrap();

            prop_assert_eq!(chunks.concat(), &whole[..]);
            prop_assert_eq!(end, BlobEnd { digest, size: whole.len() as u64 });
            if let Some((last, full)) = chunks.split_last() {
                prop_assert!(full.iter().all(|chunk| chunk.len() == chunk_size));
                prop_assert!((1..=chunk_size).contains(&last.len()));
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
