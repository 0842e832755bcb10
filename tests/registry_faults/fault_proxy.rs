//! A proxy before a registry that knows what each request is for, and does to it what it is told.
//!
//! One connection carries one request. `Host` stays as it is, so that absolute locations lead back here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) use crate::connection::Kind;
use crate::connection::{Connection, End, fin, rst};
use crate::request::{Seen, Site};

/// Longer than anything here takes, be it on a machine that pauses. It ends connections that hang.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// Says what happens to a request that has come.
type Decide = Box<dyn Fn(&Seen) -> Option<Kind> + Send + Sync>;

/// Is told of a request that the registry has answered, before the client knows.
type Watch = Box<dyn Fn(&Seen) + Send + Sync>;

/// The proxy; it ends, with all its connections, when it is dropped.
pub(crate) struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the connections share.
pub(crate) struct Shared {
    pub(crate) target: SocketAddr,
    pub(crate) decide: Decide,
    pub(crate) watch: Watch,
    pub(crate) log: Mutex<Vec<Seen>>,
    /// Uploads to which a chunk was sent.
    pub(crate) chunked: Mutex<BTreeSet<String>>,
    /// The connections of clients.
    open: Mutex<BTreeMap<usize, TcpStream>>,
    over: AtomicBool,
}

impl FaultProxy {
    /// A proxy on a free port.
    pub(crate) fn start(
        target: SocketAddr,
        decide: impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static,
        watch: impl Fn(&Seen) + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), target, decide, watch)
    }

    /// A proxy on the port of `listener`.
    pub(crate) fn start_on(
        listener: TcpListener,
        target: SocketAddr,
        decide: impl Fn(&Seen) -> Option<Kind> + Send + Sync + 'static,
        watch: impl Fn(&Seen) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            decide: Box::new(decide),
            watch: Box::new(watch),
            log: Mutex::default(),
            chunked: Mutex::default(),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || listen(&listener, &shared)
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order in which they came.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    /// How many requests of `site` came.
    pub(crate) fn count(&self, site: Site) -> usize {
        self.log().iter().filter(|seen| seen.site == site).count()
    }

    /// How many requests of `site` met a fault.
    pub(crate) fn faults(&self, site: Site) -> usize {
        self.log().iter().filter(|seen| seen.site == site && seen.faulted).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // The listening thread waits for one more connection.
        drop(TcpStream::connect(self.address));
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the proxy panicked");
    }
}

fn listen(listener: &TcpListener, shared: &Shared) {
    thread::scope(|scope| {
        for (key, client) in listener.incoming().enumerate() {
            if shared.over.load(Ordering::SeqCst) {
                return;
            }
            let client = client.unwrap();
            client.set_read_timeout(Some(LIMIT)).unwrap();
            client.set_write_timeout(Some(LIMIT)).unwrap();
            client.set_nodelay(true).unwrap();
            shared.open.lock().unwrap().insert(key, client.try_clone().unwrap());
            if shared.over.load(Ordering::SeqCst) {
                let _ = client.shutdown(Shutdown::Both);
            }
            scope.spawn(move || {
                let end = Connection { shared, client: &client }.serve();
                // What a client does that goes away meanwhile is its own business.
                let end = end.unwrap_or(End::Fin);
                if end == End::Fin {
                    fin(&client);
                }
                // Only the last handle resets.
                shared.open.lock().unwrap().remove(&key);
                if end == End::Rst {
                    rst(client);
                }
            });
        }
    });
}
