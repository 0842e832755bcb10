//! Reads store paths from Nix binary caches, while they download and without a Nix store.
//!
//! A cache is a folder, on this host or behind HTTP: `nix-cache-info` says what it is, `HASH.narinfo` what
//! it has of a path, and a compressed NAR holds the path itself. Nothing of it is believed for its own
//! sake. What a lock pins must be what the cache says and, in the end, what the bytes are; of what no lock
//! pins, a narinfo counts when a trusted key signed it. A NAR is read in one pass, in bounded memory:
//!
//! ```text
//! HTTP, resumed where it broke → read-ahead → decompression → NAR hash and size → entries
//! ```
//!
//! Entries reach whoever asked before the hash is known, so what is made of them counts only when
//! [`Incoming::read`] returns without an error.

mod cache;
mod download;
mod error;
mod incoming;
mod netrc;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use self::cache::{Cache, Looked};
pub use self::cache::{CachePlace, CacheSettings};
use self::download::CompressedNar;
pub use self::error::{BinaryCacheError, CacheFault};
pub use self::incoming::Incoming;
pub use self::netrc::basic_credentials;
use crate::http::Http;
use crate::nix::{NarInfo, PathInfo, PublicKey, StorePath};

/// Which narinfos must be signed by a trusted key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequireSignatures {
    /// Those of paths whose NAR hash no lock pins.
    #[default]
    Unpinned,
    /// All.
    Always,
}

/// Several binary caches that are asked as one.
#[derive(Debug)]
pub struct BinaryCaches {
    http: Arc<Http>,
    caches: Vec<Cache>,
    keys: Vec<PublicKey>,
    require_signatures: RequireSignatures,
    /// What caches gave with other bytes than they said: they are not asked for it again, and last for all else.
    wrong: Mutex<BTreeSet<(StorePath, String)>>,
}

/// A NAR that a cache has begun to give.
struct Opened {
    cache: String,
    narinfo: NarInfo,
    nar: CompressedNar,
}

/// A narinfo that may be used, and the cache that gave it.
struct Found<'a> {
    cache: &'a Cache,
    narinfo: NarInfo,
}

impl BinaryCaches {
    /// These caches, of which none is asked yet.
    pub fn new(http: Arc<Http>, caches: Vec<CacheSettings>, require_signatures: RequireSignatures) -> Self {
        let keys = caches.iter().flat_map(|cache| cache.public_keys.iter().cloned()).collect();
        let caches = caches.into_iter().map(Cache::new).collect();
        Self { http, caches, keys, require_signatures, wrong: Mutex::default() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// What they know of a path that no lock pins: nothing if none has it.
    pub async fn describe(&self, path: &StorePath) -> Result<Option<PathInfo>, BinaryCacheError> {
        let found = match self.find(path, None, &[]).await {
            Err(BinaryCacheError::Missing { .. } | BinaryCacheError::NoCache { .. }) => return Ok(None),
            found => found?,
        };
        Ok(Some(found.narinfo.info))
    }

    /// Begins to download the path that a lock describes as `info`.
    ///
    /// To be called within a tokio runtime; the work on its bytes is then the caller's.
    pub fn begin(self: &Arc<Self>, info: &PathInfo) -> Incoming {
        Incoming::begin(Arc::clone(self), info.clone())
    }

    /// The NAR of a path, from the best of those caches that are not `except`.
    async fn open(&self, info: &PathInfo, except: &[&str]) -> Result<Opened, BinaryCacheError> {
        let mut except = except.to_vec();
        let mut first_fault = None;
        loop {
            let Found { cache, narinfo } = match self.find(&info.path, Some(info), &except).await {
                Ok(found) => found,
                Err(error) => return Err(first_fault.unwrap_or(error)),
            };
            match cache.open(&self.http, &narinfo) {
                Ok(nar) => return Ok(Opened { cache: cache.name().to_owned(), narinfo, nar }),
                Err(fault) => {
                    first_fault.get_or_insert(BinaryCacheError::Fault {
                        path: info.path.clone(),
                        cache: cache.name().to_owned(),
                        fault: Box::new(fault),
                    });
                    except.push(cache.name());
                }
            }
        }
    }

    /// The best narinfo of `path`, of those caches that are not `except`.
    ///
    /// A cache in trouble does not keep another one from answering; only when none has the path, and some
    /// could not be asked, all are asked again.
    async fn find(
        &self,
        path: &StorePath,
        pinned: Option<&PathInfo>,
        except: &[&str],
    ) -> Result<Found<'_>, BinaryCacheError> {
        if self.caches.is_empty() {
            return Err(BinaryCacheError::NoCache { path: path.clone() });
        }
        let mut retries = self.http.retries();
        loop {
            let mut first_fault = None;
            let mut may_recover = false;
            let mut wait = None;
            for cache in self.in_order().await {
                if except.contains(&cache.name()) || self.is_wrong(path, cache) {
                    continue;
                }
                match cache.look_up(&self.http, path).await {
                    Ok(Looked::Missing) => {}
                    Ok(Looked::Found(narinfo)) => match self.check(&narinfo, pinned) {
                        Ok(()) => return Ok(Found { cache, narinfo: *narinfo }),
                        Err(fault) => {
                            first_fault.get_or_insert((cache, fault));
                        }
                    },
                    Err(fault) => {
                        if fault.is_trouble() {
                            cache.had_trouble();
                        }
                        if fault.may_recover() {
                            may_recover = true;
                            wait = wait.max(fault.wait());
                        }
                        first_fault.get_or_insert((cache, fault));
                    }
                }
            }
            let reason = first_fault
                .as_ref()
                .map(|(cache, fault)| format!("`{}`: {}", cache.name(), fault.in_short()));
            if may_recover && retries.pause(wait, &reason.unwrap_or_default()).await {
                continue;
            }
            return Err(match first_fault {
                Some((cache, fault)) => BinaryCacheError::Fault {
                    path: path.clone(),
                    cache: cache.name().to_owned(),
                    fault: Box::new(fault),
                },
                None => {
                    let caches = self.caches.iter().map(|cache| cache.name().to_owned()).collect();
                    BinaryCacheError::Missing { path: path.clone(), caches }
                }
            });
        }
    }

    /// Remembers that `cache` gave other bytes for `path` than it should.
    fn was_wrong(&self, path: &StorePath, cache: &str) {
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.insert((path.clone(), cache.to_owned()));
        }
    }

    fn is_wrong(&self, path: &StorePath, cache: &Cache) -> bool {
        self.wrong.lock().is_ok_and(|wrong| wrong.contains(&(path.clone(), cache.name().to_owned())))
    }

    fn was_ever_wrong(&self, cache: &Cache) -> bool {
        self.wrong.lock().is_ok_and(|wrong| wrong.iter().any(|(_, name)| name == cache.name()))
    }

    /// Whether a narinfo may be used.
    fn check(&self, narinfo: &NarInfo, pinned: Option<&PathInfo>) -> Result<(), CacheFault> {
        let signed = || narinfo.is_signed_by(&self.keys);
        let Some(pinned) = pinned else {
            return if signed() { Ok(()) } else { Err(CacheFault::Unsigned) };
        };
        let said = &narinfo.info;
        let differs = |what, said: String, pinned: String| Err(CacheFault::Differs { what, said, pinned });
        if said.nar_hash != pinned.nar_hash {
            return differs("NAR hash", said.nar_hash.to_string(), pinned.nar_hash.to_string());
        }
        if said.nar_size != pinned.nar_size {
            return differs("NAR size", said.nar_size.to_string(), pinned.nar_size.to_string());
        }
        if said.references != pinned.references {
            let names = |info: &PathInfo| {
                let names: Vec<&str> = info.references.iter().map(StorePath::base_name).collect();
                names.join(" ")
            };
            return differs("list of references", names(said), names(pinned));
        }
        match self.require_signatures {
            RequireSignatures::Always if !signed() => Err(CacheFault::Unsigned),
            RequireSignatures::Always | RequireSignatures::Unpinned => Ok(()),
        }
    }

    /// The caches in the order in which they are asked: by priority, and last those just in trouble and those
    /// that gave wrong bytes.
    async fn in_order(&self) -> Vec<&Cache> {
        let mut ordered = Vec::with_capacity(self.caches.len());
        for (index, cache) in self.caches.iter().enumerate() {
            let priority = cache.priority(&self.http).await;
            ordered.push((self.was_ever_wrong(cache), priority.is_none(), priority, index, cache));
        }
        ordered.sort_by_key(|&(wrong, in_trouble, priority, index, _)| (wrong, in_trouble, priority, index));
        ordered.into_iter().map(|(_, _, _, _, cache)| cache).collect()
    }
}
