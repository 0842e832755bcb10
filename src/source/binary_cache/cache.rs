//! One binary cache, behind HTTP or in a folder.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use tokio::sync::OnceCell;

use super::CacheFault;
use super::download::{self, CompressedNar};
use crate::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue};
use crate::http::{Http, Request, StatusCode, Url, shown};
use crate::nix::{CacheInfo, NarInfo, PublicKey, StorePath};
use crate::secret::Secret;

/// What a cache that says nothing counts as; Nix has the same default.
const DEFAULT_PRIORITY: u32 = 50;

/// How long a cache that was in trouble is asked after the others.
const LAST_AFTER_TROUBLE: Duration = Duration::from_secs(60);

/// How a binary cache is reached, and whom it is believed from.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// What messages call it.
    pub name: String,
    /// Where it is.
    pub place: CachePlace,
    /// The keys whose signatures count, in whichever cache.
    pub public_keys: Vec<PublicKey>,
    /// Lower ones are asked first; if none is given, what the cache says of itself.
    pub priority: Option<u32>,
    /// The value of `Authorization` in requests to it.
    pub authorization: Option<Arc<Secret>>,
}

/// Where a binary cache is.
#[derive(Clone, Debug)]
pub enum CachePlace {
    /// Behind HTTP; the path ends in `/`.
    Http(Url),
    /// In a folder, which no file of the cache may lead out of.
    Folder(Arc<Dir>),
    /// In the folder at this path, which may be missing at times.
    Path(PathBuf),
}

impl CacheSettings {
    /// A cache that nothing special is said of.
    pub fn new(name: String, place: CachePlace) -> Self {
        Self { name, place, public_keys: Vec::new(), priority: None, authorization: None }
    }
}

/// A cache in use.
#[derive(Debug)]
pub(super) struct Cache {
    settings: CacheSettings,
    /// What it says of itself, once it has said so.
    priority: OnceCell<u32>,
    trouble: Mutex<Option<Instant>>,
}

/// What a cache says of a path.
pub(super) enum Looked {
    Missing,
    Found(Box<NarInfo>),
}

impl Cache {
    pub(super) fn new(settings: CacheSettings) -> Self {
        Self { settings, priority: OnceCell::new(), trouble: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its priority; none while it is in trouble, for it would not say so soon. What else is wrong with
    /// `nix-cache-info` shows when the cache is asked for a path.
    pub(super) async fn priority(&self, http: &Http) -> Option<u32> {
        if self.in_trouble() {
            return None;
        }
        if self.settings.priority.is_some() {
            return self.settings.priority;
        }
        let asked = self.priority.get_or_try_init(async || {
            // Whoever waited here for another one's answer need not wait for the same again.
            if self.in_trouble() {
                return Err(());
            }
            let said = self.info(http).await.map_err(|fault| {
                if fault.is_trouble() {
                    self.had_trouble();
                }
            })?;
            Ok(said.priority.unwrap_or(DEFAULT_PRIORITY))
        });
        match asked.await {
            Ok(priority) => Some(*priority),
            Err(()) if self.in_trouble() => None,
            Err(()) => Some(DEFAULT_PRIORITY),
        }
    }

    async fn info(&self, http: &Http) -> Result<CacheInfo, CacheFault> {
        match self.small_file(http, "nix-cache-info", CacheInfo::MAX_BYTES).await? {
            Some(bytes) => CacheInfo::parse(&bytes).map_err(CacheFault::CacheInfo),
            None => Ok(CacheInfo::default()),
        }
    }

    /// Asks for the narinfo of `path`.
    pub(super) async fn look_up(&self, http: &Http, path: &StorePath) -> Result<Looked, CacheFault> {
        // A cache of another store would have other paths. All who look up may ask it at once: one after
        // another they would wait for a cache that hangs as often as there are paths.
        if !self.priority.initialized() {
            let priority = self.info(http).await?.priority.unwrap_or(DEFAULT_PRIORITY);
            // Another one was faster, or is about to be.
            let _ = self.priority.set(priority);
        }
        let file = format!("{}.narinfo", path.hash_part());
        let Some(bytes) = self.small_file(http, &file, NarInfo::MAX_BYTES).await? else {
            return Ok(Looked::Missing);
        };
        let narinfo = NarInfo::parse(&bytes).map_err(CacheFault::NarInfo)?;
        if narinfo.info.path != *path {
            return Err(CacheFault::OtherPath(narinfo.info.path));
        }
        Ok(Looked::Found(Box::new(narinfo)))
    }

    /// Opens the compressed NAR of `narinfo`.
    pub(super) fn open(&self, http: &Arc<Http>, narinfo: &NarInfo) -> Result<CompressedNar, CacheFault> {
        let elsewhere = || CacheFault::Elsewhere { url: narinfo.url.clone() };
        match &self.settings.place {
            CachePlace::Http(root) => {
                let url = root.join(&narinfo.url).map_err(|_| elsewhere())?;
                if url.origin() != root.origin() {
                    return Err(elsewhere());
                }
                let request = Request::get(url).authorization(self.settings.authorization.clone());
                let request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
                Ok(download::start(Arc::clone(http), request))
            }
            CachePlace::Folder(_) | CachePlace::Path(_) => {
                if narinfo.url.contains(':') || narinfo.url.starts_with('/') {
                    return Err(elsewhere());
                }
                let failed = |source| CacheFault::File { file: narinfo.url.clone(), source };
                let file = self.folder().and_then(|folder| open(&folder, &narinfo.url)).map_err(failed)?;
                Ok(CompressedNar::File(file.into_std()))
            }
        }
    }

    /// The folder that it is in, if it is in one.
    fn folder(&self) -> io::Result<Arc<Dir>> {
        match &self.settings.place {
            CachePlace::Folder(folder) => Ok(Arc::clone(folder)),
            CachePlace::Path(path) => Dir::open_ambient_dir(path, ambient_authority()).map(Arc::new),
            CachePlace::Http(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// A file that fits into memory; none if the cache does not have it.
    async fn small_file(&self, http: &Http, file: &str, limit: usize) -> Result<Option<Vec<u8>>, CacheFault> {
        match &self.settings.place {
            CachePlace::Http(root) => {
                let url = root.join(file).map_err(|_| CacheFault::Elsewhere { url: file.to_owned() })?;
                let request = Request::get(url).authorization(self.settings.authorization.clone());
                let request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
                let response = http.send(request).await?;
                let (file, wait) = (shown(response.url()), response.retry_after());
                match response.status() {
                    StatusCode::OK => {}
                    StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
                    status => return Err(CacheFault::Refused { file, status, wait }),
                }
                match response.header(CONTENT_ENCODING) {
                    None | Some("identity") => {}
                    Some(encoding) => {
                        return Err(CacheFault::Encoding { file, encoding: encoding.to_owned() });
                    }
                }
                Ok(Some(response.body(limit).await?.to_vec()))
            }
            CachePlace::Folder(_) | CachePlace::Path(_) => {
                let failed = |source| CacheFault::File { file: file.to_owned(), source };
                let folder = self.folder().map_err(failed)?;
                let opened = match open(&folder, file) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    opened => opened.map_err(failed)?,
                };
                let mut bytes = Vec::new();
                // One byte more, which its reader then refuses.
                opened.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
                Ok(Some(bytes))
            }
        }
    }

    /// Whether it could not be asked a short while ago.
    fn in_trouble(&self) -> bool {
        let trouble = self.trouble.lock().ok().and_then(|trouble| *trouble);
        trouble.is_some_and(|since| since.elapsed() < LAST_AFTER_TROUBLE)
    }

    /// Remembers that it could not be asked just now.
    pub(super) fn had_trouble(&self) {
        if let Ok(mut trouble) = self.trouble.lock() {
            *trouble = Some(Instant::now());
        }
    }
}

/// Opens a regular file beneath `folder`. Without the flag, a pipe without a writer would be waited for.
fn open(folder: &Dir, file: &str) -> io::Result<cap_std::fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let opened = folder.open_with(file, &options)?;
    if opened.metadata()?.is_file() { Ok(opened) } else { Err(io::Error::other("it is no regular file")) }
}
