//! What the tests push, and where it goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use nixlayer::http::{Http, HttpSettings, Patience};
use nixlayer::oci::{
    Descriptor, Digest, Hasher, Image, ImageLayer, ImageSource, Platform, Repository, Tag, media_type,
};
use nixlayer::publish::{Blob, Credentials, Destination, Registry};
use nixlayer::secret::Secret;
use nixlayer::simulate::registry::{self as simulated, RegistrySettings, User};
use tokio::runtime::Runtime;

use crate::fault_proxy::LIMIT;
use crate::request::head_length;

pub(crate) const CHUNK: usize = 16 * 1024;
pub(crate) const USER: &str = "ci";
pub(crate) const PASSWORD: &str = "canary-password-4711";

/// Runs the registries in this process, and the pushes.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Numbers that are the same in every run.
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// `length` bytes that no other seed gives.
pub(crate) fn bytes(length: usize, seed: u64) -> Bytes {
    let mut numbers = SplitMix64(seed);
    let words = std::iter::repeat_with(|| numbers.next().to_le_bytes());
    words.flatten().take(length).collect()
}

/// A blob made by a thread, in small pieces.
pub(crate) fn blob(content: Bytes) -> Blob {
    let (mut writer, blob) = Blob::channel(CHUNK);
    thread::spawn(move || {
        for piece in content.chunks(10_000) {
            writer.write_all(piece)?;
        }
        writer.finish(Digest::of(&content))
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

/// How long to wait, scaled down for tests, with `budget` to spend on each piece of work.
///
/// A server that is not meant to be silent has to answer within a second, however busy the machine is.
pub(crate) fn hurried(budget: Duration) -> HttpSettings {
    HttpSettings {
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        patience: Patience { budget, first: Duration::from_millis(1), longest: Duration::from_millis(20) },
        ..HttpSettings::default()
    }
}

/// The same, where nothing hangs and each request counts, however long the machine pauses.
pub(crate) fn unhurried(budget: Duration) -> HttpSettings {
    HttpSettings { connect_timeout: LIMIT, idle_timeout: LIMIT, ..hurried(budget) }
}

/// What a push has to spend that is to survive, be it on a machine that pauses.
pub(crate) const BUDGET: Duration = Duration::from_secs(100);

/// The repository `name` of the registry at `host`, which is spoken to in the clear.
pub(crate) fn destination(host: &str, name: &str, settings: HttpSettings) -> Destination {
    let mut settings = settings;
    settings.plain_http.insert(host.to_owned());
    let http = Arc::new(Http::new(settings).unwrap());
    let credentials = Credentials::Password { user: USER.to_owned(), password: Secret::from(PASSWORD) };
    let registry = Registry::new(http, host, credentials, BTreeSet::new());
    Destination::Registry { registry: Arc::new(registry), repository: Repository::new(host, name).unwrap() }
}

/// A user who may push everything below `team`.
pub(crate) fn settings() -> RegistrySettings {
    RegistrySettings::default().user(USER, User::new(PASSWORD).may_push("team"))
}

pub(crate) fn simulated(settings: RegistrySettings) -> Arc<simulated::Registry> {
    Arc::new(RUNTIME.block_on(simulated::Registry::start(settings)).unwrap())
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

/// What a registry that wants no credentials answers to a `GET`: status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: {}\r\n\r\n", media_type::MANIFEST);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let at = head_length(&answer);
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(at))
}

/// Does `work` for each of `items`, on `threads` threads, and gives what it says of those that went wrong.
pub(crate) fn in_parallel<T: Send>(
    threads: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let items = Mutex::new(items.into_iter());
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let Some(item) = items.lock().unwrap().next() else { return };
                    if let Err(error) = work(item) {
                        wrong.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    wrong
}
