//! A web server that misbehaves on demand.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, UNIX_EPOCH};

/// Serves a folder over HTTP/1.1, one request per connection, until it is dropped.
pub(crate) struct CacheServer {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

/// What may be wrong with the answer to a request for a file that is there.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, and a line of text.
    Status(u16),
    /// The connection ends after this many bytes of the body, fewer than `Content-Length` says.
    CutAfter(u64),
    /// No answer, for as long as the client waits.
    Hang,
    /// An empty file.
    Empty,
    /// A file with one bit changed, in the byte at this offset.
    Flip(u64),
    /// A file of this length, all in order otherwise.
    Truncate(u64),
    /// 302, with this `Location`.
    Redirect(String),
    /// The file again and again, for as long as the client reads.
    Endless,
    /// The body comes in ten pieces, 100 ms apart.
    Slow,
}

/// One request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// With its query, if there is one.
    pub(crate) path: String,
    /// The header `Range`.
    pub(crate) range: Option<String>,
    /// The header `Authorization`.
    pub(crate) authorization: Option<String>,
}

struct State {
    folder: PathBuf,
    ranges: AtomicBool,
    over: AtomicBool,
    /// What to do wrong, for paths with which suffix, how many times more.
    faults: Mutex<Vec<(String, Fault, usize)>>,
    requests: Mutex<Vec<Recorded>>,
}

impl CacheServer {
    /// Serves the files below `folder`, as they are when they are asked for.
    pub(crate) fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            folder: folder.to_owned(),
            ranges: AtomicBool::new(true),
            over: AtomicBool::new(false),
            faults: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = thread::spawn({
            let state = Arc::clone(&state);
            move || listen(&listener, &state)
        });
        Self { address, state, listener: Some(listener) }
    }

    /// From now on every answer is the whole file, with neither `ETag` nor `Accept-Ranges`.
    pub(crate) fn without_ranges(self) -> Self {
        self.state.ranges.store(false, Ordering::SeqCst);
        self
    }

    /// Has `fault` happen to the next `times` requests for a path that ends in `path_suffix`, after the faults that
    /// this path is to have already.
    pub(crate) fn fault(&self, path_suffix: &str, fault: Fault, times: usize) {
        self.state.faults.lock().unwrap().push((path_suffix.to_owned(), fault, times));
    }

    /// Whether a fault is still to happen.
    pub(crate) fn has_faults(&self) -> bool {
        self.state.faults.lock().unwrap().iter().any(|(_, _, times)| *times > 0)
    }

    /// Where the folder is, without a `/` at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has been asked for so far, in the order in which it came.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl Drop for CacheServer {
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
        for (_, thread) in connections.extract_if(.., |(_, thread)| thread.is_finished()) {
            thread.join().unwrap();
        }
        let stream = stream.unwrap();
        let state = Arc::clone(state);
        let handle = stream.try_clone().unwrap();
        let thread = thread::spawn(move || {
            // A client may go away at any time.
            let _ = answer(&stream, &state);
            let _ = stream.shutdown(Shutdown::Both);
        });
        connections.push((handle, thread));
    }
    for (stream, thread) in connections {
        let _ = stream.shutdown(Shutdown::Both);
        thread.join().unwrap();
    }
}

/// The lines of a request before its empty line.
struct Head {
    request: Recorded,
    if_range: Option<String>,
}

fn answer(mut stream: &TcpStream, state: &State) -> io::Result<()> {
    let head = read_head(stream)?;
    let path = head.request.path.split('?').next().unwrap_or_default().to_owned();
    state.requests.lock().unwrap().push(head.request.clone());
    let inside = path.strip_prefix('/').filter(|path| !path.split('/').any(|part| part == ".."));
    let file = inside.map(|path| state.folder.join(path)).filter(|file| file.is_file());
    let Some(file) = file else {
        return plain(stream, 404, "");
    };
    if !matches!(head.request.method.as_str(), "GET" | "HEAD") {
        return plain(stream, 405, "");
    }
    let modified = fs::metadata(&file)?.modified()?;
    let mut body = fs::read(&file)?;
    // Another file, or the same one changed, has another one.
    let etag = format!("\"{:x}-{:x}\"", body.len(), modified.duration_since(UNIX_EPOCH).unwrap().as_nanos());
    let fault = state.next_fault(&path);
    match &fault {
        Some(Fault::Status(status)) => return plain(stream, *status, ""),
        Some(Fault::Redirect(location)) => return plain(stream, 302, &format!("Location: {location}\r\n")),
        Some(Fault::Hang) => return stream.read_to_end(&mut Vec::new()).map(drop),
        Some(Fault::Endless) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            if body.is_empty() {
                body.push(0);
            }
            loop {
                stream.write_all(&body)?;
            }
        }
        Some(Fault::Empty) => body.clear(),
        Some(Fault::Truncate(length)) => body.truncate(usize::try_from(*length).unwrap()),
        Some(Fault::Flip(offset)) => body[usize::try_from(*offset).unwrap()] ^= 1,
        Some(Fault::CutAfter(_) | Fault::Slow) | None => {}
    }

    let mut first = 0;
    let mut lines = String::new();
    if state.ranges.load(Ordering::SeqCst) {
        lines = format!("Accept-Ranges: bytes\r\nETag: {etag}\r\n");
        let same = head.if_range.is_none_or(|known| known == etag);
        let range = head.request.range.as_deref().filter(|_| same);
        // RFC 9110, 14.2: a server may ignore the ranges it does not know.
        let asked = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        if let Some(asked) = asked {
            let length = body.len();
            if asked >= length {
                return plain(stream, 416, &format!("Content-Range: bytes */{length}\r\n"));
            }
            first = asked;
            lines += &format!("Content-Range: bytes {first}-{}/{length}\r\n", length - 1);
        }
    }
    let body = &body[first..];
    let status = if lines.contains("Content-Range") { "206 Partial Content" } else { "200 OK" };
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{lines}\r\n")?;
    match fault {
        _ if head.request.method == "HEAD" => Ok(()),
        Some(Fault::CutAfter(sent)) => {
            let sent = usize::try_from(sent).unwrap();
            assert!(sent < length, "there are no {sent} of {length} bytes to cut after");
            stream.write_all(&body[..sent])
        }
        Some(Fault::Slow) => {
            for piece in body.chunks(length.div_ceil(10)) {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(piece)?;
            }
            Ok(())
        }
        _ => stream.write_all(body),
    }
}

fn read_head(stream: &TcpStream) -> io::Result<Head> {
    let mut lines = BufReader::new(stream).lines().take_while(|line| !matches!(line.as_deref(), Ok("")));
    let first = lines.next().unwrap_or(Err(io::ErrorKind::UnexpectedEof.into()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let request = Recorded { method: word(), path: word(), range: None, authorization: None };
    let mut head = Head { request, if_range: None };
    for line in lines {
        let line = line?;
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = Some(value.trim().to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => head.request.range = value,
            "if-range" => head.if_range = value,
            "authorization" => head.request.authorization = value,
            _ => {}
        }
    }
    Ok(head)
}

/// An answer that is no file. `lines` are more lines of its head.
fn plain(mut stream: &TcpStream, status: u16, lines: &str) -> io::Result<()> {
    let text = format!("the answer is {status}\n");
    write!(
        stream,
        "HTTP/1.1 {status} Said So\r\nContent-Length: {}\r\nConnection: close\r\n{lines}\r\n{text}",
        text.len()
    )
}

impl State {
    fn next_fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, fault, times) =
            faults.iter_mut().find(|(suffix, _, times)| *times > 0 && path.ends_with(suffix.as_str()))?;
        *times -= 1;
        Some(fault.clone())
    }
}
