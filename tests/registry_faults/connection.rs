//! One connection of the proxy: what a client's request meets on its way to the registry and back.
//!
//! What the registry has of a request is settled before the client learns anything: it has answered, or has
//! seen that nothing more comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use tokio::net::TcpSocket;

use crate::fault_proxy::{LIMIT, Shared};
use crate::request::{Head, Seen, Site, head_length, header, read_head, read_some, with_header};

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The connection ends before an answer; the registry sees nothing.
    Fin,
    /// As `Fin`, by a reset.
    Rst,
    /// The connection ends in the middle of the body, or of the answer where there is no body.
    FinInside,
    /// As `FinInside`, by a reset.
    RstInside,
    /// The connection ends after so many bytes of the body.
    FinAfter(usize),
    /// There is no answer, and no end.
    Hang,
    /// The answer comes at 1 byte per second.
    Trickle,
    /// Another server than the registry answers.
    Says(u16),
    /// It answers 429 with a `Retry-After`.
    RetryAfter(&'static str),
    /// It answers 500, and repeats what it was told.
    Echo,
    /// It sends the client elsewhere.
    Redirect(String),
    /// The registry's answer is shorter than it was, and says so.
    Truncated,
    /// The answer has no end. A token never ends; anything else is a 503.
    Endless,
    /// The registry does what it is asked, and its answer is lost.
    AnswerLost,
    /// One byte of the body is another.
    Altered,
    /// The body arrives at so many bytes per second.
    Slow(u32),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    Rst,
}

/// Ends a connection when the client does.
pub(crate) fn fin(client: &TcpStream) {
    let _ = client.shutdown(Shutdown::Write);
    // Closing with something unread would be a reset.
    let _ = io::copy(&mut &*client, &mut io::sink());
}

/// Ends a connection at once.
pub(crate) fn rst(client: TcpStream) {
    let socket = TcpSocket::from_std_stream(client);
    socket.set_zero_linger().unwrap();
}

/// A connection on which a request comes.
pub(crate) struct Connection<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) client: &'a TcpStream,
}

impl Connection<'_> {
    /// Serves one request, and says how the connection is to end.
    pub(crate) fn serve(&self) -> io::Result<End> {
        let Some((head, start)) = Head::read(&mut self.client.try_clone()?)? else { return Ok(End::Fin) };
        let (seen, kind) = self.note(&head);
        let mut body = Body { client: self.client, start, left: head.length };
        let end = match &kind {
            Some(Kind::Rst | Kind::RstInside) => End::Rst,
            _ => End::Fin,
        };
        match kind {
            None => {
                let answer = self.pass(&head, &seen, &mut body, |_| {})?;
                self.send(&answer)?;
            }
            Some(Kind::Slow(rate)) => {
                let pause =
                    |piece: &mut [u8]| thread::sleep(Duration::from_secs(1) * piece.len() as u32 / rate);
                let answer = self.pass(&head, &seen, &mut body, pause)?;
                self.send(&answer)?;
            }
            Some(Kind::Altered) => {
                let mut altered = false;
                let answer = self.pass(&head, &seen, &mut body, |piece| {
                    if !std::mem::replace(&mut altered, true) {
                        piece[0] ^= 1;
                    }
                })?;
                self.send(&answer)?;
            }
            Some(Kind::FinAfter(length)) => self.cut(&head, &seen, &mut body, length)?,
            Some(Kind::FinInside | Kind::RstInside) if head.length > 0 => {
                self.cut(&head, &seen, &mut body, head.length / 2)?;
            }
            Some(Kind::FinInside | Kind::RstInside) => {
                let answer = self.pass(&head, &seen, &mut body, |_| {})?;
                let head = head_length(&answer);
                // A token is read; of other answers, the head is what counts.
                let cut = if seen.site == Site::Token { head + (answer.len() - head) / 2 } else { head / 2 };
                self.send(&answer[..cut])?;
            }
            Some(Kind::AnswerLost) => drop(self.pass(&head, &seen, &mut body, |_| {})?),
            Some(Kind::Truncated) => {
                let answer = self.pass(&head, &seen, &mut body, |_| {})?;
                self.send(&truncated(&answer))?;
            }
            Some(kind) => {
                body.discard()?;
                self.instead(&kind, &head, &seen)?;
            }
        }
        Ok(end)
    }

    /// Writes the request down, and asks what is to happen to it.
    fn note(&self, head: &Head) -> (Seen, Option<Kind>) {
        let site = head.site(&mut self.shared.chunked.lock().unwrap());
        let mut seen = {
            let mut log = self.shared.log.lock().unwrap();
            let seen = Seen {
                number: log.len(),
                site,
                path: head.path.clone(),
                authorization: header(&head.text, "authorization").map(str::to_owned),
                length: head.length,
                faulted: false,
            };
            log.push(seen.clone());
            seen
        };
        let kind = (self.shared.decide)(&seen);
        seen.faulted = kind.is_some();
        self.shared.log.lock().unwrap()[seen.number].faulted = seen.faulted;
        (seen, kind)
    }

    /// Lets the registry answer, and gives its answer.
    fn pass(
        &self,
        head: &Head,
        seen: &Seen,
        body: &mut Body<'_>,
        mut change: impl FnMut(&mut [u8]),
    ) -> io::Result<Vec<u8>> {
        let mut server = self.connect()?;
        server.write_all(with_header(&head.text, "Connection", "close").as_bytes())?;
        while let Some(mut piece) = body.next()? {
            change(&mut piece);
            server.write_all(&piece)?;
        }
        let Some((answer, rest)) = read_head(&mut server)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut answer = with_header(&answer, "Connection", "close").into_bytes();
        answer.extend(rest);
        server.read_to_end(&mut answer)?;
        (self.shared.watch)(seen);
        Ok(answer)
    }

    /// Lets the registry have `length` bytes of the body and no more, and waits until it has noticed.
    fn cut(&self, head: &Head, seen: &Seen, body: &mut Body<'_>, length: usize) -> io::Result<()> {
        let mut server = self.connect()?;
        server.write_all(with_header(&head.text, "Connection", "close").as_bytes())?;
        let mut left = length;
        while left > 0
            && let Some(piece) = body.next()?
        {
            let taken = piece.len().min(left);
            server.write_all(&piece[..taken])?;
            left -= taken;
        }
        server.shutdown(Shutdown::Write)?;
        let _ = io::copy(&mut server, &mut io::sink());
        (self.shared.watch)(seen);
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let server = TcpStream::connect(self.shared.target)?;
        server.set_read_timeout(Some(LIMIT))?;
        server.set_write_timeout(Some(LIMIT))?;
        server.set_nodelay(true)?;
        Ok(server)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.client).write_all(bytes)
    }

    /// Answers in the place of the registry.
    fn instead(&self, kind: &Kind, head: &Head, seen: &Seen) -> io::Result<()> {
        match kind {
            Kind::Hang => io::copy(&mut &*self.client, &mut io::sink()).map(drop),
            Kind::Trickle => {
                self.client.set_read_timeout(Some(Duration::from_secs(1)))?;
                for byte in b"HTTP/1.1 200 OK\r\n" {
                    self.send(&[*byte])?;
                    // The second ends early when the client has had enough.
                    if matches!(read_some(self.client, &mut [0]), Ok(0)) {
                        break;
                    }
                }
                Ok(())
            }
            Kind::Says(502) => self.answer(head, "502 Bad Gateway", &[("Content-Type", "text/html")], PAGE),
            Kind::Says(status) => self.answer(head, &format!("{status} Fault"), &[], "Retry later\n"),
            Kind::RetryAfter(when) => {
                self.answer(head, "429 Too Many Requests", &[("Retry-After", when)], "Retry later\n")
            }
            Kind::Echo => self.answer(head, "500 Internal Server Error", &[], &head.text),
            Kind::Redirect(target) => {
                self.answer(head, "307 Temporary Redirect", &[("Location", target)], "")
            }
            Kind::Endless => {
                let status = if seen.site == Site::Token { "200 OK" } else { "503 Service Unavailable" };
                self.send(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n").as_bytes())?;
                loop {
                    self.send(&[b' '; 16 << 10])?;
                }
            }
            Kind::Fin
            | Kind::Rst
            | Kind::FinInside
            | Kind::RstInside
            | Kind::FinAfter(_)
            | Kind::Truncated
            | Kind::AnswerLost
            | Kind::Altered
            | Kind::Slow(_) => Ok(()),
        }
    }

    fn answer(&self, request: &Head, status: &str, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n");
        let body = if request.method == "HEAD" { "" } else { body };
        self.send((head + body).as_bytes())
    }
}

const PAGE: &str = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";

/// The registry's answer with half its body.
fn truncated(answer: &[u8]) -> Vec<u8> {
    let at = head_length(answer);
    let (head, body) = answer.split_at(at);
    let half = &body[..body.len() / 2];
    let head = with_header(std::str::from_utf8(head).unwrap(), "Content-Length", &half.len().to_string());
    [head.as_bytes(), half].concat()
}

/// What is left of a request's body.
struct Body<'a> {
    client: &'a TcpStream,
    /// What came with the head.
    start: Vec<u8>,
    left: usize,
}

impl Body<'_> {
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut piece = std::mem::take(&mut self.start);
        if piece.is_empty() {
            piece.resize(self.left.min(4096), 0);
            let length = read_some(self.client, &mut piece)?;
            piece.truncate(length);
        }
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= piece.len();
        Ok(Some(piece))
    }

    fn discard(&mut self) -> io::Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}
