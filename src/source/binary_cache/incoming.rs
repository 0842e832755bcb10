//! One store path on its way from a binary cache.

use std::io::{self, Read, Write as _};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::download::CompressedNar;
use super::{BinaryCacheError, BinaryCaches, CacheFault, Opened};
use crate::nix::nar::{self, NarError, NarHasher};
use crate::nix::tree::Entry;
use crate::nix::{FileHash, NarInfo, PathInfo};
use crate::source::ReadError;
use crate::source::decoder::Decoder;

/// What a file may have beyond twice the bytes of its NAR, where the narinfo does not say how long it is.
/// Compressing makes nothing that much larger, but padding and empty frames can go on without end.
const SPARE: u64 = 1 << 20;

/// A store path that has begun to arrive. When it is dropped, the download ends.
pub struct Incoming {
    caches: Arc<BinaryCaches>,
    info: PathInfo,
    runtime: Handle,
    opening: Opening,
}

/// The task that looks for the path; it ends when nobody waits for it any more.
struct Opening(JoinHandle<Result<Opened, BinaryCacheError>>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Incoming {
    pub(super) fn begin(caches: Arc<BinaryCaches>, info: PathInfo) -> Self {
        let runtime = Handle::current();
        let opening = runtime.spawn({
            let (caches, info) = (Arc::clone(&caches), info.clone());
            async move { caches.open(&info, &[]).await }
        });
        Self { caches, info, runtime, opening: Opening(opening) }
    }

    /// Calls `visit` for every entry, in order, and then says whether they were those of the path.
    ///
    /// It waits for bytes, so it is for threads that may block. A cache that fails on the way gives way to
    /// the next one that has the path; the entries go on where they were.
    pub fn read(self, visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<(), ReadError> {
        let Self { caches, info, runtime, mut opening } = self;
        let opened = runtime.block_on(&mut opening.0).unwrap_or_else(|_| {
            let cache = "the binary caches".to_owned();
            Err(BinaryCacheError::Fault { path: info.path.clone(), cache, fault: Box::new(CacheFault::Gone) })
        })?;
        let current = Source::new(opened, &info)?;
        let mut stream = NarStream {
            caches: &caches,
            info: &info,
            runtime: &runtime,
            tried: Vec::new(),
            current,
            hasher: NarHasher::default(),
            fault: None,
        };
        let error = match nar::read(&mut stream, visit) {
            Ok(()) => match stream.finish() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(NarError::Visit(error)) => return Err(ReadError::Visit(error)),
            Err(error) => stream.failed(error),
        };
        if let BinaryCacheError::Fault { cache, .. } = &error
            && error.is_of_wrong_bytes()
        {
            caches.was_wrong(&info.path, cache);
        }
        Err(error.into())
    }
}

/// The bytes of a NAR, from whichever cache gives them; hashed and counted.
struct NarStream<'a> {
    caches: &'a Arc<BinaryCaches>,
    info: &'a PathInfo,
    runtime: &'a Handle,
    /// Caches that failed on the way.
    tried: Vec<String>,
    current: Source,
    hasher: NarHasher,
    /// Why reading stopped.
    fault: Option<BinaryCacheError>,
}

impl NarStream<'_> {
    /// Goes on with another cache from the byte where this one failed; without one, that failure counts.
    fn fail_over(&mut self, error: io::Error) -> Result<(), BinaryCacheError> {
        let fault = self.current.fault_of(error);
        // The program ends, and nothing can be begun any more.
        let over = matches!(fault, CacheFault::Gone);
        let failed = self.current.error(self.info, fault);
        if over {
            return Err(failed);
        }
        tracing::warn!(%failed, "trying another binary cache");
        self.tried.push(self.current.cache.clone());
        let tried: Vec<&str> = self.tried.iter().map(String::as_str).collect();
        let opened = self.runtime.block_on(self.caches.open(self.info, &tried));
        let Ok(mut next) = opened.and_then(|opened| Source::new(opened, self.info)) else {
            return Err(failed);
        };
        let known = self.hasher.size();
        let skipped = io::copy(&mut (&mut next.decoder).take(known), &mut io::sink());
        // That one fails as well, or ends early: the next read tells.
        self.current = next;
        match skipped {
            Ok(_) => Ok(()),
            Err(error) => self.fail_over(error),
        }
    }

    /// What the end of [`nar::read`] means.
    fn failed(&mut self, error: NarError) -> BinaryCacheError {
        self.fault.take().unwrap_or_else(|| {
            let file = self.current.narinfo.url.clone();
            self.current.error(self.info, CacheFault::Nar { file, source: error })
        })
    }

    /// Whether all the bytes were those of the path, and those of the file what the narinfo says.
    fn finish(self) -> Result<(), BinaryCacheError> {
        let Self { info, current, hasher, .. } = self;
        let (cache, file) = (current.cache.clone(), current.narinfo.url.clone());
        let error =
            |fault| BinaryCacheError::Fault { path: info.path.clone(), cache, fault: Box::new(fault) };
        let (found, announced) = (hasher.size(), info.nar_size);
        if found != announced {
            return Err(error(CacheFault::NarSize { file, found, announced }));
        }
        let (found, announced) = (hasher.hash(), info.nar_hash);
        if found != announced {
            return Err(error(CacheFault::NarHash { file, found, announced }));
        }
        let narinfo = current.narinfo;
        let mut compressed = current.decoder.into_inner();
        match compressed.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(error(CacheFault::Surplus { file })),
            Err(source) => return Err(error(compressed.fault(source, &file))),
        }
        if let Some(announced) = narinfo.file_size
            && compressed.size != announced
        {
            return Err(error(CacheFault::FileSize { file, found: compressed.size, announced }));
        }
        let found = FileHash::from_bytes(compressed.sha256.finalize().into());
        match narinfo.file_hash {
            Some(announced) if announced != found => {
                Err(error(CacheFault::FileHash { file, found, announced }))
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Read for NarStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.current.decoder.read(buffer) {
                Ok(read) => {
                    let announced = self.info.nar_size;
                    if self.hasher.size() + read as u64 > announced {
                        let file = self.current.narinfo.url.clone();
                        let fault = CacheFault::TooLarge { file, announced };
                        self.fault = Some(self.current.error(self.info, fault));
                        return Err(io::ErrorKind::FileTooLarge.into());
                    }
                    self.hasher.write_all(&buffer[..read])?;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if let Err(failed) = self.fail_over(error) {
                        self.fault = Some(failed);
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
        }
    }
}

/// One cache's file of the NAR.
struct Source {
    cache: String,
    narinfo: NarInfo,
    decoder: Decoder<CompressedFile>,
}

impl Source {
    fn new(opened: Opened, info: &PathInfo) -> Result<Self, BinaryCacheError> {
        let Opened { cache, narinfo, nar } = opened;
        let compressed = CompressedFile {
            nar,
            size: 0,
            announced: narinfo.file_size,
            nar_size: info.nar_size,
            sha256: Sha256::new(),
        };
        match Decoder::new(narinfo.compression, compressed) {
            Ok(decoder) => Ok(Self { cache, narinfo, decoder }),
            Err(source) => {
                let fault = Box::new(CacheFault::Compressed { file: narinfo.url, source });
                Err(BinaryCacheError::Fault { path: info.path.clone(), cache, fault })
            }
        }
    }

    /// Why reading failed: the download, or else the decompressor.
    fn fault_of(&mut self, error: io::Error) -> CacheFault {
        let file = self.narinfo.url.clone();
        self.decoder.compressed().fault(error, &file)
    }

    fn error(&self, info: &PathInfo, fault: CacheFault) -> BinaryCacheError {
        let fault = Box::new(fault);
        BinaryCacheError::Fault { path: info.path.clone(), cache: self.cache.clone(), fault }
    }
}

/// The compressed file; hashed, counted, and not longer than it can be.
struct CompressedFile {
    nar: CompressedNar,
    size: u64,
    announced: Option<u64>,
    nar_size: u64,
    sha256: Sha256,
}

impl CompressedFile {
    /// How many bytes it may have: what the narinfo says, which nobody signs, is no reason to take more than
    /// there can be.
    fn most(&self) -> u64 {
        let possible = self.nar_size.saturating_mul(2).saturating_add(SPARE);
        self.announced.map_or(possible, |announced| announced.min(possible))
    }

    /// What an error in reading it, or what it holds, means.
    fn fault(&mut self, error: io::Error, file: &str) -> CacheFault {
        let file = file.to_owned();
        if self.size > self.most() {
            return match self.announced {
                Some(announced) if self.size > announced => {
                    CacheFault::FileSize { file, found: self.size, announced }
                }
                Some(_) | None => CacheFault::TooLarge { file, announced: self.nar_size },
            };
        }
        match &mut self.nar {
            CompressedNar::Download(download) => match download.fault.take() {
                Some(fault) => fault,
                None => CacheFault::Compressed { file, source: error },
            },
            CompressedNar::File(_) => CacheFault::Compressed { file, source: error },
        }
    }
}

impl Read for CompressedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.nar.read(buffer)?;
        self.size += read as u64;
        self.sha256.update(&buffer[..read]);
        if self.size > self.most() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(read) }
    }
}
