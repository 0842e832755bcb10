//! A container registry inside the process, as strict as the distribution specification 1.1, with
//! tokens as GitLab gives them. It listens on the loopback interface and keeps everything in memory.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use nixlayer::simulate::registry::{Registry, RegistrySettings, User};
//!
//! let user = User::new("secret").may_push("team/app");
//! let registry = Registry::start(RegistrySettings::default().user("ci", user)).await?;
//! assert!(registry.address().ip().is_loopback());
//! registry.stop().await;
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```

mod auth;
mod reply;
mod routes;
mod store;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::auth::Tokens;
use self::store::Store;
use crate::oci::Digest;

/// Who may do what, and how.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    users: BTreeMap<String, User>,
    token_lifetime: Duration,
    chunk_min_length: Option<usize>,
}

/// A user of the registry. Everybody may pull everything.
#[derive(Clone, Debug)]
pub struct User {
    password: String,
    push: BTreeSet<String>,
}

/// A request that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The method.
    pub method: String,
    /// The path, without query.
    pub path: String,
    /// Whether it came with `Authorization`.
    pub authorized: bool,
    /// The number of bytes in its body.
    pub body: usize,
    /// The status of the answer.
    pub status: u16,
}

/// A registry that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<io::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    settings: RegistrySettings,
    /// Where the registry is reached, as `http://127.0.0.1:PORT`.
    origin: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: Tokens,
    store: Store,
    log: Vec<Logged>,
}

impl Default for RegistrySettings {
    /// No users; tokens live for 5 minutes, as on a GitLab of one's own.
    fn default() -> Self {
        Self { users: BTreeMap::new(), token_lifetime: Duration::from_secs(300), chunk_min_length: None }
    }
}

impl RegistrySettings {
    /// Adds a user.
    pub fn user(mut self, name: &str, user: User) -> Self {
        self.users.insert(name.to_owned(), user);
        self
    }

    /// Sets how long a token is good, in whole seconds.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// Demands chunks of at least `length` bytes, but for the last of a blob.
    pub fn chunk_min_length(mut self, length: usize) -> Self {
        self.chunk_min_length = Some(length);
        self
    }
}

impl User {
    /// A user who may only pull.
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), push: BTreeSet::new() }
    }

    /// Lets the user push to a repository and those below it, as GitLab does with a project's.
    pub fn may_push(mut self, repository: &str) -> Self {
        self.push.insert(repository.to_owned());
        self
    }

    fn may_push_to(&self, repository: &str) -> bool {
        let below = |own: &String| {
            repository.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.push.iter().any(below)
    }
}

impl Registry {
    /// Starts a registry on a free port of 127.0.0.1.
    pub async fn start(settings: RegistrySettings) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = State { tokens: Tokens::default(), store: Store::default(), log: Vec::new() };
        let shared =
            Arc::new(Shared { settings, origin: format!("http://{address}"), state: Mutex::new(state) });
        let router = Router::new().fallback(routes::answer).with_state(Arc::clone(&shared));
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        Ok(Self { address, shared, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far, in the order of their answers.
    pub fn log(&self) -> Vec<Logged> {
        self.shared.state().log.clone()
    }

    /// The digest under `reference`, a tag or digest of `repository`.
    pub fn manifest_digest(&self, repository: &str, reference: &str) -> Option<Digest> {
        self.shared.state().store.manifest(repository, reference).map(|(digest, _)| digest)
    }

    /// All tags, each with its repository, in order.
    pub fn tags(&self) -> Vec<(String, String)> {
        self.shared.state().store.all_tags()
    }

    /// The bytes of the manifest under `reference`, a tag or digest of `repository`.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<bytes::Bytes> {
        self.shared.state().store.manifest(repository, reference).map(|(_, manifest)| manifest.bytes)
    }

    /// The bytes of a blob.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<bytes::Bytes> {
        self.shared.state().store.blob(repository, digest)
    }

    /// The number of upload sessions that were neither closed nor given up.
    pub fn open_uploads(&self) -> usize {
        self.shared.state().store.open_uploads()
    }

    /// Stops it; what it stored is gone.
    pub async fn stop(mut self) {
        self.server.abort();
        // The only end of an aborted task is that it was aborted.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
