//! A request as the proxy sees it, and which step of a push it is.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::TcpStream;

/// A step of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    /// `GET /v2/`, which learns how to get in.
    Ping,
    /// A question for a token.
    Token,
    /// The question whether a blob is there.
    HeadBlob,
    /// The start of an upload.
    Post,
    /// A chunk.
    Patch,
    /// A blob in one request.
    Whole,
    /// The end of an upload that had chunks.
    Close,
    /// The question how an upload stands.
    Status,
    /// The question what a tag names.
    HeadManifest,
    /// A manifest under its digest.
    PutDigest,
    /// A manifest under a tag.
    PutTag,
    /// What no push depends on.
    Other,
}

impl Site {
    /// The steps of a push, in the order in which it comes to them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Ping,
        Self::Token,
        Self::HeadBlob,
        Self::Post,
        Self::Patch,
        Self::Whole,
        Self::Close,
        Self::Status,
        Self::HeadManifest,
        Self::PutDigest,
        Self::PutTag,
    ];
}

/// A request that reached the proxy.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its place among all, from 0.
    pub(crate) number: usize,
    pub(crate) site: Site,
    /// With query.
    pub(crate) path: String,
    /// What it shows to be let in.
    pub(crate) authorization: Option<String>,
    /// How long its body says it is.
    pub(crate) length: usize,
    /// Whether the proxy did something to it.
    pub(crate) faulted: bool,
}

/// The head of a request, up to and with the empty line.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) length: usize,
}

impl Head {
    /// Reads a head, and what came of the body with it; none where the client sends nothing.
    pub(crate) fn read(stream: &mut TcpStream) -> io::Result<Option<(Self, Vec<u8>)>> {
        let Some((text, rest)) = read_head(stream)? else { return Ok(None) };
        let mut words = text.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let path = words.next().unwrap_or_default().to_owned();
        assert!(header(&text, "transfer-encoding").is_none(), "a request says how long it is: {text}");
        let length = header(&text, "content-length").map_or(0, |length| length.parse().unwrap());
        Ok(Some((Self { method, path, length, text }, rest)))
    }

    /// The step that this is. `chunked` has the uploads to which a chunk was sent.
    pub(crate) fn site(&self, chunked: &mut BTreeSet<String>) -> Site {
        let path = self.path.split('?').next().unwrap_or_default();
        let upload = path.contains("/blobs/uploads/");
        match self.method.as_str() {
            "GET" if path == "/v2/" => Site::Ping,
            "GET" if path == "/jwt/auth" => Site::Token,
            "GET" if upload => Site::Status,
            "HEAD" if path.contains("/blobs/") => Site::HeadBlob,
            "HEAD" if path.contains("/manifests/") => Site::HeadManifest,
            "POST" if upload => Site::Post,
            "PATCH" => {
                chunked.insert(path.to_owned());
                Site::Patch
            }
            "PUT" if upload && chunked.contains(path) => Site::Close,
            "PUT" if upload => Site::Whole,
            "PUT" if path.contains("/manifests/sha256:") => Site::PutDigest,
            "PUT" if path.contains("/manifests/") => Site::PutTag,
            _ => Site::Other,
        }
    }
}

/// Reads up to and with the first empty line, and what came with it; none where nothing comes.
pub(crate) fn read_head(stream: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Ok(Some((String::from_utf8(bytes).unwrap(), rest)));
        }
        match read_some(stream, &mut buffer)? {
            0 if bytes.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

/// What a socket with a time limit has next: unlike without one, a signal interrupts it (`signal(7)`).
pub(crate) fn read_some(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// The length of the head of a whole request or answer, with the empty line.
pub(crate) fn head_length(message: &[u8]) -> usize {
    message.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
}

/// The value of a header.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// `head` with one header more, in the place of those of the same name.
pub(crate) fn with_header(head: &str, name: &str, value: &str) -> String {
    let is_it = |line: &&str| line.split(':').next().is_some_and(|key| key.eq_ignore_ascii_case(name));
    let kept: Vec<&str> = head.trim_end().lines().filter(|line| !is_it(line)).collect();
    format!("{}\r\n{name}: {value}\r\n\r\n", kept.join("\r\n"))
}
