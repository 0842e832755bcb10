//! What the tests push, and where it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as Incoming;
use axum::http::{HeaderMap, Response as Outgoing};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nixlayer::http::{Http, HttpSettings, Patience};
use nixlayer::oci::{
    Descriptor, Digest, Hasher, Image, ImageLayer, ImageSource, Platform, Repository, Tag, media_type,
};
use nixlayer::publish::{Blob, Credentials, Destination, Registry};
use nixlayer::secret::Secret;
use nixlayer::simulate::registry::{self as simulated, Logged, RegistrySettings, User};
use tokio::net::TcpListener;

pub(crate) const CHUNK: usize = 64 * 1024;
pub(crate) const PASSWORD: &str = "canary-password";

/// `length` bytes that differ from chunk to chunk.
pub(crate) fn bytes(length: usize, seed: usize) -> Bytes {
    (0..length).map(|index| (index / 1000 + index + seed) as u8).collect()
}

/// A blob made by a thread, in small pieces.
pub(crate) fn blob(content: Bytes) -> Blob {
    let (mut writer, blob) = Blob::channel(CHUNK);
    std::thread::spawn(move || {
        for piece in content.chunks(10_000) {
            writer.write_all(piece)?;
        }
        writer.finish(Digest::of(&content))
    });
    blob
}

/// A blob whose producer fails after `content`.
pub(crate) fn failing_blob(content: Bytes) -> Blob {
    let (mut writer, blob) = Blob::channel(CHUNK);
    std::thread::spawn(move || {
        writer.write_all(&content).unwrap();
    });
    blob
}

pub(crate) fn image(layers: &[Bytes]) -> Image {
    let layers = layers.iter().map(|content| {
        let mut hasher = Hasher::default();
        hasher.write_all(content).unwrap();
        ImageLayer {
            diff_id: hasher.diff_id(),
            descriptor: Descriptor::of(media_type::LAYER_GZIP, content),
            history: serde_json::Map::new(),
        }
    });
    Image::assemble(ImageSource {
        platform: Platform { architecture: "amd64".to_owned(), variant: None },
        created: "1970-01-01T00:00:01Z".to_owned(),
        config: serde_json::Map::new(),
        layers: layers.collect(),
        annotations: BTreeMap::new(),
    })
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(crate) fn http(plain: &[String]) -> Arc<Http> {
    let plain_http = plain.iter().cloned().collect();
    let patience = Patience {
        budget: Duration::from_secs(1),
        first: Duration::from_millis(10),
        longest: Duration::from_millis(100),
    };
    // On a machine that pauses, a server may look silent.
    let idle_timeout = Duration::from_secs(300);
    Arc::new(
        Http::new(HttpSettings { plain_http, patience, idle_timeout, ..HttpSettings::default() }).unwrap(),
    )
}

pub(crate) fn credentials() -> Credentials {
    Credentials::Password { user: "ci".to_owned(), password: Secret::from(PASSWORD) }
}

pub(crate) fn destination(address: SocketAddr, name: &str, credentials: Credentials) -> Destination {
    let host = address.to_string();
    let registry = Registry::new(http(std::slice::from_ref(&host)), &host, credentials, BTreeSet::new());
    Destination::Registry { registry: Arc::new(registry), repository: Repository::new(&host, name).unwrap() }
}

pub(crate) fn settings() -> RegistrySettings {
    RegistrySettings::default().user("ci", User::new(PASSWORD).may_push("team/app"))
}

pub(crate) async fn start(settings: RegistrySettings) -> (simulated::Registry, Destination) {
    let registry = simulated::Registry::start(settings).await.unwrap();
    let destination = destination(registry.address(), "team/app", credentials());
    (registry, destination)
}

/// A server that answers each request with what `script` says, and keeps a log.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Logged>>>,
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Scripted {
    pub(crate) async fn start(
        script: impl Fn(SocketAddr, &Incoming, usize) -> Outgoing<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        let headers = Arc::new(Mutex::new(Vec::new()));
        let kept_headers = Arc::clone(&headers);
        let answer = move |request: Incoming| {
            let mut log = kept.lock().unwrap();
            let reply = script(address, &request, log.len());
            kept_headers.lock().unwrap().push(request.headers().clone());
            log.push(Logged {
                method: request.method().to_string(),
                path: request.uri().path().to_owned(),
                authorized: request.headers().contains_key("authorization"),
                body: 0,
                status: reply.status().as_u16(),
            });
            std::future::ready(reply)
        };
        let router = Router::new().fallback(answer);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, log, headers, task }
    }

    pub(crate) fn log(&self) -> Vec<Logged> {
        self.log.lock().unwrap().clone()
    }

    /// The headers of each request.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        self.headers.lock().unwrap().clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &str) -> Outgoing<Body> {
    let mut reply = Outgoing::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    reply.body(Body::from(body.to_owned())).unwrap()
}

/// An answer that ends, with its connection, after `start`.
pub(crate) fn cut(start: &'static str) -> Outgoing<Body> {
    let lost = async {
        // What was sent before is to arrive.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(io::Error::other("cut"))
    };
    let start = stream::once(std::future::ready(Ok(start)));
    Outgoing::new(Body::from_stream(start.chain(stream::once(lost))))
}

pub(crate) fn count(log: &[Logged], method: &str, path: &str) -> usize {
    log.iter().filter(|request| request.method == method && request.path.contains(path)).count()
}

/// The error and its causes, as a person reads them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("; {error}");
        cause = error.source();
    }
    text
}
