//! Whom a narinfo is believed from.

use std::sync::Arc;

use nixlayer::nix::PathInfo;
use nixlayer::source::binary_cache::{
    BinaryCacheError, BinaryCaches, CacheFault, CacheSettings, RequireSignatures,
};

use crate::cache::{FolderCache, Item, Key, files, store_path};
use crate::reading::{HASTY, LONG, RUNTIME, assert_right, caches, fault, fault_in, http, read};
use crate::trees::vector;

fn item() -> Item {
    Item::new(1, vector(), "xz")
}

/// A cache whose narinfo of [`item`] is this one.
fn saying(narinfo: String) -> FolderCache {
    let mut files = files([&item()]);
    files.insert(item().narinfo_file(), narinfo.into_bytes());
    FolderCache::new(&files)
}

fn describe(caches: &Arc<BinaryCaches>) -> Result<Option<PathInfo>, BinaryCacheError> {
    RUNTIME.block_on(caches.describe(&item().path))
}

fn always(caches: Vec<CacheSettings>) -> Arc<BinaryCaches> {
    Arc::new(BinaryCaches::new(http(&caches, HASTY, LONG), caches, RequireSignatures::Always))
}

#[test]
fn a_path_that_a_trusted_key_signed_is_described() {
    let (item, other) = (item(), Key::new("other-1", 2));
    for narinfo in [
        item.narinfo(),
        // One is enough, also after ones that do not count.
        item.unsigned() + &item.signature(&other) + &item.signature(&Key::ours()),
        item.unsigned() + "Sig: new-kind:AAAA\n" + &item.signature(&Key::ours()),
        // How the file is compressed, and where it is, is not signed.
        item.narinfo().replace("URL: nar", "URL: elsewhere").replace("xz\n", "zstd\n"),
    ] {
        let cache = saying(narinfo);

        let described = describe(&caches(vec![cache.settings("folder")])).unwrap();

        assert_eq!(described, Some(item.info()));
    }
}

#[test]
fn a_path_that_nobody_trusted_signed_is_not_described() {
    let item = item();
    let sizes = |narinfo: String| narinfo.replace("NarSize: ", "NarSize: 1");
    let more = Item { references: [store_path(2, "more")].into(), ..item.clone() };
    let signature = item.signature(&Key::ours());
    for narinfo in [
        item.unsigned(),
        item.unsigned() + &item.signature(&Key::new("other-1", 2)),
        // A name is no key.
        item.unsigned() + &item.signature(&Key::new("test-1", 2)),
        item.unsigned() + &item.signature(&Key::new("other-1", 1)),
        item.unsigned() + &altered(&item.signature(&Key::ours())),
        sizes(item.narinfo()),
        more.unsigned() + &signature,
        item.unsigned() + &more.signature(&Key::ours()),
    ] {
        let cache = saying(narinfo);

        let error = describe(&caches(vec![cache.settings("folder")])).unwrap_err();

        let fault = fault_in(error, &item.path, "folder");
        assert!(matches!(fault, CacheFault::Unsigned), "{fault:?}");
    }
}

/// The line of a signature with another first digit.
fn altered(line: &str) -> String {
    let (name, base64) = line.rsplit_once(':').unwrap();
    let digit = if base64.starts_with('A') { "B" } else { "A" };
    format!("{name}:{digit}{}", &base64[1..])
}

#[test]
fn a_path_that_no_cache_has_is_not_described_and_no_error() {
    let empty = FolderCache::new(&files([]));

    assert_eq!(describe(&caches(vec![empty.settings("empty")])).unwrap(), None);
    assert_eq!(describe(&caches(Vec::new())).unwrap(), None);
}

#[test]
fn a_pinned_path_needs_a_signature_only_where_all_do() {
    let item = item();
    let (unsigned, foreign) =
        (saying(item.unsigned()), saying(item.unsigned() + &item.signature(&Key::new("test-1", 2))));
    for cache in [&unsigned, &foreign] {
        assert_right(read(&item, &caches(vec![cache.settings("folder")])), &item, "pinned");

        let fault = fault(read(&item, &always(vec![cache.settings("folder")])), &item, "folder");

        assert!(matches!(fault, CacheFault::Unsigned), "{fault:?}");
    }
    let signed = saying(item.narinfo());
    assert_right(read(&item, &always(vec![signed.settings("folder")])), &item, "signed");
}

#[test]
fn a_key_of_one_cache_counts_for_another() {
    let item = item();
    let (full, empty) = (saying(item.narinfo()), FolderCache::new(&files([])));
    let keyless = CacheSettings { public_keys: Vec::new(), ..full.settings("keyless") };
    let caches = always(vec![keyless.clone(), empty.settings("empty")]);

    assert_eq!(describe(&caches).unwrap(), Some(item.info()));
    assert_right(read(&item, &caches), &item, "signed");
    let fault = fault(read(&item, &always(vec![keyless])), &item, "keyless");
    assert!(matches!(fault, CacheFault::Unsigned), "{fault:?}");
}
