//! Store paths wherever they are: on disk, or in binary caches. One image may be made of both.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::binary_cache::{BinaryCacheError, BinaryCaches, Incoming};
use super::local_store;
use crate::nix::nar::{NarHasher, NarWriter};
use crate::nix::tree::Entry;
use crate::nix::{Closure, NarHash, PathInfo, StorePath};

/// How many paths of one layer arrive at a time: the one that is read, and those that come next.
const AT_A_TIME: usize = 4;

/// Where the trees of a closure's paths are to be had.
#[derive(Clone, Debug)]
pub struct StorePaths {
    infos: Arc<BTreeMap<StorePath, PathInfo>>,
    /// Those that are on disk, and where.
    on_disk: Arc<BTreeMap<StorePath, PathBuf>>,
    /// Where the others come from.
    caches: Option<Arc<BinaryCaches>>,
}

/// Why the tree of a path did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The path on disk cannot be read.
    #[error("`{path}` cannot be read")]
    Disk {
        /// The path.
        path: StorePath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The path on disk is not what is known of it.
    #[error("`{path}` on this host has a NAR of the hash `{found}`, and should have `{known}`")]
    Altered {
        /// The path.
        path: StorePath,
        /// The hash of the tree that is there.
        found: NarHash,
        /// The hash that the store's database or the lock knows.
        known: NarHash,
    },
    /// The path cannot be had from a binary cache.
    #[error(transparent)]
    BinaryCache(#[from] BinaryCacheError),
    /// Whoever was shown the entries could not go on.
    #[error("an entry cannot be used")]
    Visit(#[source] io::Error),
}

impl StorePaths {
    /// The paths of `closure`, all of them in the host's store.
    pub fn of_host(closure: &Closure) -> Self {
        Self::new(closure, closure.paths().map(|path| (path.clone(), path.to_path_buf())).collect(), None)
    }

    /// The paths of `closure`, of which those of `on_disk` are there and the others in `caches`.
    pub fn new(
        closure: &Closure,
        on_disk: BTreeMap<StorePath, PathBuf>,
        caches: Option<Arc<BinaryCaches>>,
    ) -> Self {
        let infos = closure.infos().map(|info| (info.path.clone(), info.clone())).collect();
        Self { infos: Arc::new(infos), on_disk: Arc::new(on_disk), caches }
    }

    /// Where `path` is on disk, if it is.
    pub fn on_disk(&self, path: &StorePath) -> Option<&PathBuf> {
        self.on_disk.get(path)
    }

    /// The trees of `paths`, in their order. While one is read, the next ones arrive already.
    ///
    /// To be called within a tokio runtime.
    pub fn upcoming<'a>(&'a self, paths: &'a [StorePath]) -> Upcoming<'a> {
        Upcoming { store: self, waiting: paths.iter(), begun: VecDeque::new() }
    }

    fn begin<'a>(&'a self, path: &'a StorePath) -> Tree<'a> {
        let info = self.infos.get(path);
        if let (Some(place), Some(info)) = (self.on_disk.get(path), info) {
            return Tree { path, from: From::Disk { place, known: info.nar_hash } };
        }
        let incoming = || Some(self.caches.as_ref()?.begin(info?));
        Tree {
            path,
            from: incoming().map_or(From::Nowhere, |incoming| From::BinaryCache(Box::new(incoming))),
        }
    }
}

/// The trees of some store paths, one after another.
pub struct Upcoming<'a> {
    store: &'a StorePaths,
    waiting: std::slice::Iter<'a, StorePath>,
    begun: VecDeque<Tree<'a>>,
}

/// The tree of one path, which may still be arriving.
pub struct Tree<'a> {
    path: &'a StorePath,
    from: From<'a>,
}

enum From<'a> {
    Disk { place: &'a PathBuf, known: NarHash },
    BinaryCache(Box<Incoming>),
    Nowhere,
}

impl<'a> Iterator for Upcoming<'a> {
    type Item = Tree<'a>;

    fn next(&mut self) -> Option<Tree<'a>> {
        while self.begun.len() < AT_A_TIME
            && let Some(path) = self.waiting.next()
        {
            self.begun.push_back(self.store.begin(path));
        }
        self.begun.pop_front()
    }
}

impl<'a> Tree<'a> {
    /// The path.
    pub fn path(&self) -> &'a StorePath {
        self.path
    }

    /// Calls `visit` for every entry, in the order of [`crate::nix::tree`]. What was made of them counts
    /// only if this gives no error: at the end the tree must have the hash that is known of it. It may block.
    ///
    /// A store can be other than its database says, by a bad disk, or where builders can write to it.
    pub fn read(self, mut visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<(), ReadError> {
        match self.from {
            From::Disk { place, known } => {
                let mut nar = NarWriter::new(NarHasher::default()).map_err(ReadError::Visit)?;
                local_store::read(place, |entry| nar.pass(entry, &mut visit))
                    .map_err(|error| error.of(self.path))?;
                let found = nar.finish().map_err(ReadError::Visit)?.hash();
                if found == known {
                    return Ok(());
                }
                Err(ReadError::Altered { path: self.path.clone(), found, known })
            }
            From::BinaryCache(incoming) => incoming.read(visit),
            From::Nowhere => Err(BinaryCacheError::NoCache { path: self.path.clone() }.into()),
        }
    }

    /// As [`read`](Self::read), for the names alone: what is on disk is not read, and so not hashed.
    pub fn list(self, visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<(), ReadError> {
        match self.from {
            From::Disk { place, .. } => local_store::read(place, visit).map_err(|error| error.of(self.path)),
            From::BinaryCache(incoming) => incoming.read(visit),
            From::Nowhere => Err(BinaryCacheError::NoCache { path: self.path.clone() }.into()),
        }
    }
}
