//! Bodies that arrive whole, and bodies that break off.

use axum::body::Body;
use axum::http::request::Parts;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::endpoint::{Endpoint, endpoint, query};
use super::{Shared, uploads};

/// More than any chunk that a client sends.
const MOST_BODY: usize = 1024 * 1024 * 1024;

/// A body on its way. Dropped before its end, it leaves to its upload what has arrived: a server whose
/// client is gone may drop the request without another word.
pub(super) struct Arriving<'a> {
    shared: &'a Shared,
    parts: &'a Parts,
    bytes: BytesMut,
    whole: bool,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(shared: &'a Shared, parts: &'a Parts) -> Self {
        Self { shared, parts, bytes: BytesMut::new(), whole: false }
    }

    /// The body; none if it breaks off.
    pub(super) async fn read(mut self, body: Body) -> Option<Bytes> {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            self.bytes.extend_from_slice(&piece.ok()?);
            if self.bytes.len() > MOST_BODY {
                return None;
            }
        }
        self.whole = true;
        Some(std::mem::take(&mut self.bytes).freeze())
    }
}

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if !self.whole
            && let Some(Endpoint::Upload { repository, id }) = endpoint(self.parts.uri.path())
        {
            let query = query(&self.parts.uri);
            uploads::cut(self.shared, repository, id, &query, &self.parts.headers, &self.bytes);
        }
    }
}
