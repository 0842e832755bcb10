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

mod arriving;
mod auth;
mod endpoint;
mod reply;
mod routes;
mod rules;
mod store;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::auth::Tokens;
use self::rules::Rules;
pub use self::rules::{CutBody, Locations, Resume};
use self::store::Store;
use crate::oci::Digest;

/// Who may do what, and how.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    users: BTreeMap<String, User>,
    token_lifetime: Duration,
    rules: Rules,
}

/// A user of the registry. Everybody may pull everything, but for what is kept from a user.
#[derive(Clone, Debug)]
pub struct User {
    password: String,
    push: BTreeSet<String>,
    hidden: BTreeSet<String>,
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
    /// How many manifests came, taken or not.
    manifests: usize,
}

impl Default for RegistrySettings {
    /// No users; tokens live for 5 minutes, as on a GitLab of one's own.
    fn default() -> Self {
        Self { users: BTreeMap::new(), token_lifetime: Duration::from_secs(300), rules: Rules::default() }
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
        self.rules.chunk_min_length = Some(length);
        self
    }

    /// Loses all blobs of a repository when its manifest of this number comes, counted from 1, as to a cleanup at
    /// the wrong moment.
    pub fn loses_blobs_at_manifest(mut self, number: usize) -> Self {
        self.rules.loses_blobs_at = Some(number);
        self
    }

    /// Refuses manifests with layers of a media type, as registries do that are older than it.
    pub fn knows_no_layers_of(mut self, media_type: &str) -> Self {
        self.rules.foreign_layers = Some(media_type.to_owned());
        self
    }

    /// Sets how a session that was cut goes on.
    pub fn resume(mut self, resume: Resume) -> Self {
        self.rules.resume = resume;
        self
    }

    /// Sets what becomes of the bytes of a body that broke off.
    pub fn cut_body(mut self, cut_body: CutBody) -> Self {
        self.rules.cut_body = cut_body;
        self
    }

    /// Sets in which form the registry says where an upload goes on.
    pub fn locations(mut self, locations: Locations) -> Self {
        self.rules.locations = locations;
        self
    }
}

impl User {
    /// A user who may only pull.
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), push: BTreeSet::new(), hidden: BTreeSet::new() }
    }

    /// Lets the user push to a repository and those below it, as GitLab does with a project's.
    pub fn may_push(mut self, repository: &str) -> Self {
        self.push.insert(repository.to_owned());
        self
    }

    /// Keeps a repository from the user.
    pub fn may_not_pull(mut self, repository: &str) -> Self {
        self.hidden.insert(repository.to_owned());
        self
    }

    fn may_pull_from(&self, repository: &str) -> bool {
        !self.hidden.contains(repository)
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
        let shared = Arc::new(Shared::new(settings, format!("http://{address}")));
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

    /// All blobs, each with its repository, in order.
    pub fn blobs(&self) -> Vec<(String, Digest)> {
        self.shared.state().store.all_blobs()
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
    fn new(settings: RegistrySettings, origin: String) -> Self {
        let state =
            State { tokens: Tokens::default(), store: Store::default(), log: Vec::new(), manifests: 0 };
        Self { settings, origin, state: Mutex::new(state) }
    }

    /// Where the client reaches the registry: by the way that it came.
    fn origin(&self, headers: &HeaderMap) -> String {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.map_or_else(|| self.origin.clone(), |host| format!("http://{host}"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use reqwest::{Client, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn bearer(origin: &str) -> String {
        let url = format!("{origin}/jwt/auth?scope=repository:app:pull,push");
        let answer = Client::new().get(url).basic_auth("ci", Some("p")).send().await.unwrap();
        let answer: serde_json::Value = answer.json().await.unwrap();
        format!("Bearer {}", answer["token"].as_str().unwrap())
    }

    fn header_of(response: &Response, name: &str) -> String {
        response.headers()[name].to_str().unwrap().to_owned()
    }

    /// On the wire: what a client sent before it went away is there when it comes back.
    #[tokio::test]
    async fn an_upload_goes_on_at_the_byte_that_arrived() {
        // An error means that another test has installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let user = User::new("p").may_push("app");
        let registry = Registry::start(RegistrySettings::default().user("ci", user)).await.unwrap();
        let origin = format!("http://{}", registry.address());
        let bearer = bearer(&origin).await;
        let client = Client::new();
        let start = client.post(format!("{origin}/v2/app/blobs/uploads/"));
        let opened = start.header("authorization", &bearer).send().await.unwrap();
        let place = header_of(&opened, "location");

        let mut stream = TcpStream::connect(registry.address()).await.unwrap();
        let head = format!(
            "PATCH {place} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Range: 0-9\r\n\
             Content-Length: 10\r\n\r\nabcd"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();

        let asked = client.get(format!("{origin}{place}")).header("authorization", &bearer);
        let stands = asked.send().await.unwrap();
        assert_eq!((stands.status().as_u16(), header_of(&stands, "range")), (204, "0-3".to_owned()));
        let place = header_of(&stands, "location");
        let rest = client.patch(format!("{origin}{place}")).header("content-range", "4-9").body("efghij");
        let taken = rest.header("authorization", &bearer).send().await.unwrap();
        assert_eq!(taken.status(), 202);
        let digest = Digest::of(b"abcdefghij");
        let place = header_of(&taken, "location");
        let close = client.put(format!("{origin}{place}&digest={digest}"));
        assert_eq!(close.header("authorization", &bearer).send().await.unwrap().status(), 201);
        assert_eq!(registry.blob("app", &digest), Some(Bytes::from_static(b"abcdefghij")));
    }
}
