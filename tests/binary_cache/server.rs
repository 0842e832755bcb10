//! A web server for a cache in memory, which misbehaves on demand and keeps a log.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use nixlayer::http::Request;
use nixlayer::source::binary_cache::{CachePlace, CacheSettings};

use crate::cache::{Files, settings};

/// How much is written at a time.
const PIECE: usize = 16 * 1024;

/// Serves files over HTTP/1.1, one request per connection, until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

/// What the server tells of the versions of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versions {
    /// Ranges, and an `ETag` that is good for them.
    Strong,
    /// Ranges, and an `ETag` that does not speak of bytes.
    Weak,
    /// Neither.
    None,
}

/// What is wrong with the answer to a request for a file that is there.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, and these lines in the head.
    Status(u16, &'static str),
    /// The connection ends after this many bytes of the body.
    Cut(usize),
    /// The same, and from then on the file is another one.
    CutAndChange(usize, Vec<u8>),
    /// The first bytes of the body, and then nothing for as long as the client waits.
    HangAfter(usize),
    /// No answer at all, for as long as the client waits.
    Hang,
    /// 302, with this `Location`.
    Redirect(String),
    /// The file, then these bytes for as long as the client reads.
    Endless(Vec<u8>),
}

/// One request, and how far its answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) if_range: Option<String>,
    pub(crate) authorization: Option<String>,
    /// The offset in the file of the first byte of the answer.
    pub(crate) first: usize,
    /// How many bytes of the body were written.
    pub(crate) sent: usize,
    /// Whether the answer has ended.
    pub(crate) over: bool,
}

struct State {
    files: Mutex<Files>,
    versions: Versions,
    over: AtomicBool,
    /// What to do wrong, for paths with which suffix, how many times more.
    faults: Mutex<Vec<(String, Fault, usize)>>,
    log: Mutex<Vec<Asked>>,
}

impl Server {
    pub(crate) fn start(files: Files) -> Self {
        Self::with_versions(files, Versions::Strong)
    }

    pub(crate) fn with_versions(files: Files, versions: Versions) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            files: Mutex::new(files),
            versions,
            over: AtomicBool::new(false),
            faults: Mutex::default(),
            log: Mutex::default(),
        });
        let listener = thread::spawn({
            let state = Arc::clone(&state);
            move || listen(&listener, &state)
        });
        Self { address, state, listener: Some(listener) }
    }

    /// Has `fault` happen to the next `times` requests for a path that ends in `suffix`, after the faults
    /// that this path is to have already.
    pub(crate) fn fault(&self, suffix: &str, fault: Fault, times: usize) {
        self.state.faults.lock().unwrap().push((suffix.to_owned(), fault, times));
    }

    /// Serves these files from now on.
    pub(crate) fn replace(&self, files: Files) {
        *self.state.files.lock().unwrap() = files;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The cache that it is.
    pub(crate) fn settings(&self, name: &str) -> CacheSettings {
        settings(name, CachePlace::Http(Request::url(&self.url()).unwrap()))
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn log(&self) -> Vec<Asked> {
        self.state.log.lock().unwrap().clone()
    }

    /// The requests so far for paths that end in `suffix`.
    pub(crate) fn asked(&self, suffix: &str) -> Vec<Asked> {
        self.log().into_iter().filter(|asked| asked.path.ends_with(suffix)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // The listening thread waits for one more connection.
        drop(TcpStream::connect(self.address));
        let ended = self.listener.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the server panicked");
    }
}

/// Accepts connections until the server is over, then ends them all.
fn listen(listener: &TcpListener, state: &Arc<State>) {
    let mut connections: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    for stream in listener.incoming() {
        if state.over.load(Ordering::SeqCst) {
            break;
        }
        let stream = stream.unwrap();
        let handle = stream.try_clone().unwrap();
        let state = Arc::clone(state);
        let thread = thread::spawn(move || {
            // A client may go away at any time.
            let _ = answer(&stream, &state);
            let _ = stream.shutdown(Shutdown::Both);
        });
        connections.push((handle, thread));
        connections.retain(|(_, thread)| !thread.is_finished());
    }
    for (stream, thread) in connections {
        let _ = stream.shutdown(Shutdown::Both);
        thread.join().unwrap();
    }
}

fn answer(stream: &TcpStream, state: &State) -> io::Result<()> {
    let asked = read_head(stream)?;
    let index = {
        let mut log = state.log.lock().unwrap();
        log.push(asked.clone());
        log.len() - 1
    };
    let answered = answer_to(&asked, index, stream, state);
    state.log.lock().unwrap()[index].over = true;
    answered
}

fn answer_to(asked: &Asked, index: usize, mut stream: &TcpStream, state: &State) -> io::Result<()> {
    let name = asked.path.trim_start_matches('/');
    let Some(mut body) = state.files.lock().unwrap().get(name).cloned() else {
        return plain(stream, 404, "");
    };
    let fault = state.next_fault(&asked.path);
    let etag = version(&body);
    match &fault {
        Some(Fault::Status(status, lines)) => return plain(stream, *status, lines),
        Some(Fault::Redirect(location)) => return plain(stream, 302, &format!("Location: {location}\r\n")),
        Some(Fault::Hang) => return stream.read_to_end(&mut Vec::new()).map(drop),
        Some(Fault::CutAndChange(_, other)) => {
            state.files.lock().unwrap().insert(name.to_owned(), other.clone());
        }
        Some(Fault::Endless(more)) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            state.write(index, stream, &body)?;
            loop {
                state.write(index, stream, more)?;
            }
        }
        Some(Fault::Cut(_) | Fault::HangAfter(_)) | None => {}
    }

    let (etag, ranges) = match state.versions {
        Versions::Strong => (Some(etag), true),
        Versions::Weak => (Some(format!("W/{etag}")), true),
        Versions::None => (None, false),
    };
    let mut lines = etag.iter().map(|etag| format!("ETag: {etag}\r\n")).collect::<String>();
    let same = asked.if_range.is_none() || asked.if_range == etag;
    let range = asked.range.as_deref().filter(|_| ranges && same);
    let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let length = body.len();
    if let Some(first) = first {
        if first >= length {
            return plain(stream, 416, &format!("Content-Range: bytes */{length}\r\n"));
        }
        lines += &format!("Content-Range: bytes {first}-{}/{length}\r\n", length - 1);
        body.drain(..first);
        state.log.lock().unwrap()[index].first = first;
    }
    let status = if first.is_some() { "206 Partial Content" } else { "200 OK" };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{lines}\r\n")?;
    match fault {
        Some(Fault::Cut(sent) | Fault::CutAndChange(sent, _)) => {
            assert!(sent < length, "there are no {sent} of {length} bytes to cut after");
            state.write(index, stream, &body[..sent])
        }
        Some(Fault::HangAfter(sent)) => {
            state.write(index, stream, &body[..sent])?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        _ => state.write(index, stream, &body),
    }
}

/// The `ETag` of a file with these contents.
pub(crate) fn version(body: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body);
    format!("\"{:x}-{:x}\"", body.len(), crc.sum())
}

fn read_head(stream: &TcpStream) -> io::Result<Asked> {
    let mut lines = BufReader::new(stream).lines().take_while(|line| !matches!(line.as_deref(), Ok("")));
    let first = lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked =
        Asked { path, range: None, if_range: None, authorization: None, first: 0, sent: 0, over: false };
    for line in lines {
        let line = line?;
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = Some(value.trim().to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => asked.range = value,
            "if-range" => asked.if_range = value,
            "authorization" => asked.authorization = value,
            _ => {}
        }
    }
    Ok(asked)
}

/// An answer that is no file. `lines` are more lines of its head.
fn plain(mut stream: &TcpStream, status: u16, lines: &str) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Said So\r\nContent-Length: 3\r\nConnection: close\r\n{lines}\r\nno\n")
}

impl State {
    fn write(&self, index: usize, mut stream: &TcpStream, body: &[u8]) -> io::Result<()> {
        for piece in body.chunks(PIECE) {
            stream.write_all(piece)?;
            self.log.lock().unwrap()[index].sent += piece.len();
        }
        Ok(())
    }

    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, fault, times) =
            faults.iter_mut().find(|(suffix, _, times)| *times > 0 && path.ends_with(suffix.as_str()))?;
        *times -= 1;
        Some(fault.clone())
    }
}
