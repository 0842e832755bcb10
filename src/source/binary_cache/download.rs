//! The bytes of one file of a cache, on their way from a task that downloads to a thread that reads.
//!
//! The task reads ahead of the thread by a megabyte at most. What breaks is taken up where it broke: with
//! a range where the cache knows ranges, else from the start, the known bytes being passed over. So the
//! reader never sees a break, unless the cache stays away for longer than patience lasts.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::CacheFault;
use crate::http::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, IF_RANGE, RANGE};
use crate::http::{Http, HttpError, Request, Response, StatusCode, shown};

/// How far a download runs ahead of its reader, in bytes.
const READ_AHEAD: usize = 1 << 20;

/// The compressed bytes of a NAR.
pub(super) enum CompressedNar {
    /// From a file of this host.
    File(File),
    /// From a server.
    Download(Download),
}

/// The reader's end of a download.
pub(super) struct Download {
    messages: mpsc::UnboundedReceiver<Message>,
    current: Option<Piece>,
    ended: bool,
    /// Why it ended early; an [`io::Error`] cannot hold it where a decompressor is in between.
    pub(super) fault: Option<CacheFault>,
}

/// What comes from the task. A channel that closes without an end has lost its task.
enum Message {
    Piece(Piece),
    End,
    Fault(CacheFault),
}

/// Bytes that have come, and their share of the read-ahead.
struct Piece {
    bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

/// Begins to download what `request` asks for.
pub(super) fn start(http: Arc<Http>, request: Request) -> CompressedNar {
    let (sender, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut transfer = Transfer {
            http: &http,
            request: &request,
            sink: sender.clone(),
            room: Arc::new(Semaphore::new(READ_AHEAD)),
            offset: 0,
            etag: None,
        };
        tokio::select! {
            // Whatever it is waiting for, a reader that is gone does not want it.
            () = sender.closed() => {}
            ended = transfer.run() => {
                let _ = sender.send(ended.map_or_else(Message::Fault, |()| Message::End));
            }
        }
    });
    CompressedNar::Download(Download { messages, current: None, ended: false, fault: None })
}

/// The sender's end of a download.
struct Transfer<'a> {
    http: &'a Http,
    request: &'a Request,
    sink: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
    /// How many bytes have gone to the reader.
    offset: u64,
    /// The version of the file that they belong to.
    etag: Option<HeaderValue>,
}

/// How a response, or a part of one, came to its end.
enum End {
    Complete,
    ReaderGone,
    Broken(HttpError),
}

impl Transfer<'_> {
    async fn run(&mut self) -> Result<(), CacheFault> {
        let mut retries = self.http.retries();
        loop {
            let mut response = retries.send(&self.ranged()).await?;
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && self.offset > 0 {
                // The file ends where we are, or is another one: only all of it can tell.
                self.etag = None;
                response = retries.send(&self.ranged()).await?;
            }
            let skip = self.start_of(&response)?;
            let before = self.offset;
            match self.pass_on(response, skip).await {
                End::Complete | End::ReaderGone => return Ok(()),
                End::Broken(error) if !error.may_recover() => return Err(error.into()),
                End::Broken(error) => {
                    if self.offset > before {
                        retries.moved_on();
                    }
                    if !retries.pause(None, &error.in_short()).await {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    /// The request for what is still to come. Without a version of the file, the parts could be of two.
    fn ranged(&self) -> Request {
        let request = self.request.clone();
        match (&self.etag, HeaderValue::try_from(format!("bytes={}-", self.offset))) {
            (Some(etag), Ok(range)) if self.offset > 0 => {
                request.header(RANGE, range).header(IF_RANGE, etag.clone())
            }
            _ => request,
        }
    }

    /// How many bytes of the answer are known already.
    fn start_of(&mut self, response: &Response) -> Result<u64, CacheFault> {
        let file = shown(response.url());
        let status = response.status();
        let encoding = response.header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity");
        if let Some(encoding) = encoding {
            return Err(CacheFault::Encoding { file, encoding: encoding.to_owned() });
        }
        if status == StatusCode::PARTIAL_CONTENT && self.offset > 0 {
            let range = response.header(CONTENT_RANGE).unwrap_or_default();
            let start: Option<u64> =
                range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse().ok());
            return match start {
                Some(start) if start == self.offset => Ok(0),
                Some(_) | None => Err(CacheFault::Refused { file, status, wait: None }),
            };
        }
        if status != StatusCode::OK {
            return Err(CacheFault::Refused { file, status, wait: None });
        }
        // A weak one does not speak of bytes (RFC 9110 §8.8.1).
        let etag = response.header(ETAG).filter(|etag| !etag.starts_with("W/"));
        self.etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
        Ok(self.offset)
    }

    /// Hands the body on, without its first `skip` bytes.
    async fn pass_on(&mut self, mut response: Response, mut skip: u64) -> End {
        loop {
            let mut bytes = match response.chunk().await {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return End::Complete,
                Err(error) => return End::Broken(error),
            };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            bytes.advance(known);
            skip -= known as u64;
            while !bytes.is_empty() {
                let bytes = bytes.split_to(bytes.len().min(READ_AHEAD));
                let length = bytes.len();
                let share = Arc::clone(&self.room).acquire_many_owned(length as u32).await;
                let Ok(share) = share else { return End::ReaderGone };
                if self.sink.send(Message::Piece(Piece { bytes, _share: share })).is_err() {
                    return End::ReaderGone;
                }
                self.offset += length as u64;
            }
        }
    }
}

impl Read for CompressedNar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Download(download) => download.read(buffer),
        }
    }
}

impl Read for Download {
    /// Waits for bytes, so it is for threads that may block.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = &mut self.current {
                let length = piece.bytes.len().min(buffer.len());
                if length > 0 || buffer.is_empty() {
                    buffer[..length].copy_from_slice(&piece.bytes[..length]);
                    piece.bytes.advance(length);
                    return Ok(length);
                }
                self.current = None;
            }
            let fault = match self.messages.blocking_recv() {
                Some(Message::Piece(piece)) => {
                    self.current = Some(piece);
                    continue;
                }
                Some(Message::End) => {
                    self.messages.close();
                    self.ended = true;
                    return Ok(0);
                }
                Some(Message::Fault(fault)) => fault,
                None if self.ended => return Ok(0),
                None => CacheFault::Gone,
            };
            self.fault = Some(fault);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}
