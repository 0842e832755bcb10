//! The body of a request: in memory, so that it can be sent again, and watched while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// How much is handed to the connection at a time: less than what sockets buffer, so that a peer that
/// takes nothing is noticed soon.
const FRAME: usize = 64 * 1024;

/// The body of a request, in pieces that need not be copied together.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pieces: Vec<Bytes>,
}

impl Body {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes after the first `known` ones.
    #[must_use]
    pub fn after(&self, known: u64) -> Self {
        let mut left = known;
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            let skipped = left.min(piece.len() as u64);
            left -= skipped;
            if skipped < piece.len() as u64 {
                pieces.push(piece.slice(skipped as usize..));
            }
        }
        Self { pieces }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self { pieces: vec![bytes] }
    }
}

impl From<Vec<Bytes>> for Body {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self { pieces }
    }
}

/// A body on its way; others can see how far it has come.
pub(super) struct Sending {
    pieces: std::vec::IntoIter<Bytes>,
    current: Bytes,
    left: u64,
    progress: Arc<AtomicU64>,
}

impl Sending {
    /// Sends `body`, and counts in `progress` the bytes that the connection has taken.
    pub(super) fn new(body: &Body, progress: Arc<AtomicU64>) -> Self {
        let left = body.len();
        Self { pieces: body.pieces.clone().into_iter(), current: Bytes::new(), left, progress }
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.current.is_empty() {
            match self.pieces.next() {
                Some(piece) => self.current = piece,
                None => return Poll::Ready(None),
            }
        }
        let length = self.current.len().min(FRAME);
        let frame = self.current.split_to(length);
        self.left -= length as u64;
        self.progress.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is left after some bytes is what the whole has after them.
        #[test]
        fn a_rest_is_the_end_of_the_whole(pieces: Vec<Vec<u8>>, known in 0..200u64) {
            let whole = pieces.concat();
            let body = Body::from(pieces.into_iter().map(Bytes::from).collect::<Vec<_>>());

            let rest = body.after(known);

            let expected = &whole[(known as usize).min(whole.len())..];
            prop_assert_eq!(rest.len(), expected.len() as u64);
            prop_assert_eq!(rest.pieces.concat(), expected);
        }
    }
}
