//! A way to a registry on which an upload can come to a standstill.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Hands connections on to a registry, until it is told to swallow what clients send there.
pub(crate) struct StallingProxy {
    address: SocketAddr,
    switches: Arc<Switches>,
}

#[derive(Default)]
struct Switches {
    /// Requests that bring bytes of a blob or a manifest are answered no more.
    stalls: AtomicBool,
    /// One of them has come.
    stalled: AtomicBool,
    /// The proxy is gone.
    over: AtomicBool,
}

impl StallingProxy {
    /// Starts a proxy for the registry at `target`.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let switches = Arc::new(Switches::default());
        thread::spawn({
            let switches = Arc::clone(&switches);
            move || {
                for client in listener.incoming() {
                    if switches.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (client, server) = (client.unwrap(), TcpStream::connect(target).unwrap());
                    let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    thread::spawn(move || hand_on(back_from, back_to, |_| false));
                    let switches = Arc::clone(&switches);
                    thread::spawn(move || hand_on(client, server, |bytes| switches.swallow(bytes)));
                }
            }
        });
        Self { address, switches }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// From now on no upload gets through.
    pub(crate) fn stall(&self) {
        self.switches.stalls.store(true, Ordering::SeqCst);
    }

    /// From now on all uploads get through, as at the beginning.
    pub(crate) fn recover(&self) {
        self.switches.stalls.store(false, Ordering::SeqCst);
        self.switches.stalled.store(false, Ordering::SeqCst);
    }

    /// Whether an upload waits for an answer that will not come.
    pub(crate) fn has_stalled(&self) -> bool {
        self.switches.stalled.load(Ordering::SeqCst)
    }
}

impl Drop for StallingProxy {
    fn drop(&mut self) {
        self.switches.over.store(true, Ordering::SeqCst);
        // The listening thread waits for one more connection.
        drop(TcpStream::connect(self.address));
    }
}

impl Switches {
    /// Whether what a client sends here, and everything after it, is lost on the way.
    fn swallow(&self, bytes: &[u8]) -> bool {
        let uploads = bytes.starts_with(b"PUT ") || bytes.starts_with(b"PATCH ");
        let swallow = uploads && self.stalls.load(Ordering::SeqCst);
        self.stalled.fetch_or(swallow, Ordering::SeqCst);
        swallow
    }
}

/// Copies until one side ends, or reads on without writing once `swallow` is true of what came.
fn hand_on(mut from: TcpStream, mut to: TcpStream, swallow: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 << 10];
    let mut swallows = false;
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        swallows = swallows || swallow(&buffer[..length]);
        if !swallows && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
