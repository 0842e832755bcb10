//! Reads what the tests set up, as a layer's thread would.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use nixlayer::http::{Http, HttpSettings, Patience, authority};
use nixlayer::layer::{StoreLayer, StoreMetadata};
use nixlayer::nix::StorePath;
use nixlayer::source::binary_cache::{
    BinaryCacheError, BinaryCaches, CacheFault, CachePlace, CacheSettings, RequireSignatures,
};
use nixlayer::source::{ReadError, StorePaths};
use tokio::runtime::Runtime;

use crate::cache::{Item, closure};

/// For all tests, as the program has one.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Patience with servers that are back at once.
pub(crate) const PATIENT: Patience = Patience {
    budget: Duration::from_secs(100),
    first: Duration::from_millis(5),
    longest: Duration::from_millis(20),
};

/// Patience with servers that never are.
pub(crate) const HASTY: Patience = Patience { budget: Duration::from_millis(60), ..PATIENT };

/// How long a server of the tests may be silent that is not meant to be, on a machine that pauses.
pub(crate) const LONG: Duration = Duration::from_secs(300);

/// How long one may be that is.
pub(crate) const SHORT: Duration = Duration::from_millis(250);

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(600);

pub(crate) fn http(caches: &[CacheSettings], patience: Patience, idle_timeout: Duration) -> Arc<Http> {
    let hosts = caches.iter().filter_map(|cache| match &cache.place {
        CachePlace::Http(url) => Some(authority(url)),
        CachePlace::Folder(_) | CachePlace::Path(_) => None,
    });
    http_to(hosts.collect(), patience, idle_timeout)
}

pub(crate) fn http_to(plain_http: BTreeSet<String>, patience: Patience, idle_timeout: Duration) -> Arc<Http> {
    let settings = HttpSettings { plain_http, patience, idle_timeout, ..HttpSettings::default() };
    Arc::new(Http::new(settings).unwrap())
}

/// Caches that are soon given up.
pub(crate) fn caches(caches: Vec<CacheSettings>) -> Arc<BinaryCaches> {
    let http = http(&caches, HASTY, LONG);
    Arc::new(BinaryCaches::new(http, caches, RequireSignatures::Unpinned))
}

/// Caches that are waited for.
pub(crate) fn patient_caches(caches: Vec<CacheSettings>) -> Arc<BinaryCaches> {
    let http = http(&caches, PATIENT, LONG);
    Arc::new(BinaryCaches::new(http, caches, RequireSignatures::Unpinned))
}

/// The store of exactly these paths, none of them on disk.
pub(crate) fn store<'a>(items: impl IntoIterator<Item = &'a Item>, caches: &Arc<BinaryCaches>) -> StorePaths {
    StorePaths::new(&closure(items), BTreeMap::new(), Some(Arc::clone(caches)))
}

/// The layer of `paths`.
pub(crate) fn layer(store: &StorePaths, paths: &[StorePath]) -> Result<Vec<u8>, ReadError> {
    let _in_runtime = RUNTIME.enter();
    let mut layer = StoreLayer::new(Vec::new(), StoreMetadata::default()).unwrap();
    for tree in store.upcoming(paths) {
        let path = tree.path();
        tree.read(|entry| layer.append(path, entry))?;
    }
    Ok(layer.finish().unwrap())
}

/// The layer of one path, pinned as `item` is, from `caches`.
pub(crate) fn read(item: &Item, caches: &Arc<BinaryCaches>) -> Result<Vec<u8>, ReadError> {
    layer(&store([item], caches), std::slice::from_ref(&item.path))
}

/// What reading `item` must give.
pub(crate) fn right(item: &Item) -> Vec<u8> {
    crate::trees::tar([(&item.path, &item.tree)])
}

/// Panics unless reading `item` gave what it must give. Whole layers would be no help in a message.
#[track_caller]
pub(crate) fn assert_right(read: Result<Vec<u8>, ReadError>, item: &Item, about: &str) {
    let tar = read.unwrap_or_else(|error| panic!("{about}: {}", chain(&error)));
    assert!(tar == right(item), "{about}: the layer is another one");
}

/// What is wrong with the cache `cache`, as the error says that reading `item` gave.
#[track_caller]
pub(crate) fn fault(read: Result<Vec<u8>, ReadError>, item: &Item, cache: &str) -> CacheFault {
    let Err(error) = read else { panic!("it was read") };
    let ReadError::BinaryCache(error) = error else { panic!("{error:?}") };
    fault_in(error, &item.path, cache)
}

#[track_caller]
pub(crate) fn fault_in(error: BinaryCacheError, of: &StorePath, by: &str) -> CacheFault {
    let shown = chain(&error);
    assert!(shown.starts_with(&format!("`{of}` cannot be had from `{by}`; ")), "{shown}");
    let BinaryCacheError::Fault { path, cache, fault } = error else { panic!("{error:?}") };
    assert_eq!((&path, cache.as_str()), (of, by));
    *fault
}

/// The error and its causes, as a person reads them.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("; {error}");
        cause = error.source();
    }
    text
}

/// Waits until `holds`.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LIMIT, "not so in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
