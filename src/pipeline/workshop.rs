//! Where layers are made while they are sent, several at a time.
//!
//! A layer has a thread that reads the store and writes tar; the threads that compress are shared by
//! all layers. What comes out goes to the destination in chunks as the thread makes them, and the
//! thread waits when the destination is slower, so memory is bounded by chunks and streams.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::listing::{Listing, Listings};
use super::recipe::TarLayer;
use super::{BuildError, Effort};
use crate::layer::{Compression, LayerDigests, LayerWriter, RootTree, StoreLayer, StoreMetadata, Workers};
use crate::nix::StorePath;
use crate::publish::{Blob, BlobWriter, Destination, OpenUpload, PublishError, Stored};
use crate::source::StorePaths;

/// How many layers are under way at a time, small ones being no more than requests that wait for answers.
const UNDER_WAY: usize = 16;

/// A layer of at most so many bytes is small: it waits to be sent in memory that large ones need besides.
const SMALL: u64 = 512 << 10;

/// Layers under way to one destination.
pub(super) struct Workshop<'a> {
    destination: &'a Destination,
    effort: Effort,
    compression: Compression,
    workers: Workers,
    /// For layers that are being made, and for large ones until they have arrived.
    slots: Arc<Semaphore>,
    /// For all that are under way.
    places: Arc<Semaphore>,
    under_way: JoinSet<Result<Made, BuildError>>,
}

/// What it takes to make a layer.
pub(super) enum Work {
    Paths {
        store: StorePaths,
        paths: Vec<StorePath>,
        metadata: StoreMetadata,
        /// Those of whose trees the names are wanted.
        listed: BTreeSet<StorePath>,
    },
    Root(Arc<RootTree>),
    Tar(Arc<TarLayer>),
}

/// A layer that is where it was to go.
pub(super) struct Made {
    pub(super) number: usize,
    pub(super) stored: Stored,
    pub(super) digests: LayerDigests,
    pub(super) listings: Listings,
}

impl<'a> Workshop<'a> {
    /// A workshop whose layers go to `destination`, compressed as `compression` says.
    pub(super) fn new(destination: &'a Destination, compression: Compression, effort: Effort) -> Self {
        Self {
            destination,
            effort,
            compression,
            workers: Workers::new(effort.threads.get()),
            slots: Arc::new(Semaphore::new(effort.uploads.get())),
            places: Arc::new(Semaphore::new(UNDER_WAY.max(effort.uploads.get()))),
            under_way: JoinSet::new(),
        }
    }

    /// Starts to make the layer of this number as soon as there is room, and sends it into the session that is
    /// open for it, if one is.
    pub(super) fn start(&mut self, number: usize, work: Work, open: Option<OpenUpload>) {
        let (workers, slots, places) =
            (self.workers.clone(), Arc::clone(&self.slots), Arc::clone(&self.places));
        let (destination, compression, chunk) =
            (self.destination.clone(), self.compression, self.effort.chunk);
        self.under_way.spawn(async move {
            let _place = places.acquire_owned().await.map_err(|_| BuildError::Thread)?;
            let slot = slots.acquire_owned().await.map_err(|_| BuildError::Thread)?;
            let slot = Arc::new(Mutex::new(Some(slot)));
            let work = Arc::new(work);
            let (mut open, mut first_error) = (open, None);
            let (stored, (digests, listings)) = loop {
                match send(&destination, open.take(), &work, compression, &workers, chunk, &slot).await {
                    Ok(sent) => break sent,
                    // The bytes of one cache were wrong, and another one may have the right ones.
                    Err(error) if error.is_of_wrong_bytes() && first_error.is_none() => {
                        first_error = Some(error);
                    }
                    Err(error) => return Err(first_error.unwrap_or(error)),
                }
            };
            Ok(Made { number, stored, digests, listings })
        });
    }

    /// The next layer that has arrived; none when there are no more under way.
    pub(super) async fn next(&mut self) -> Result<Option<Made>, BuildError> {
        match self.under_way.join_next().await {
            Some(made) => made.map_err(|_| BuildError::Thread)?.map(Some),
            None => Ok(None),
        }
    }
}

/// Makes one layer on a thread of its own and sends it from here.
async fn send(
    destination: &Destination,
    open: Option<OpenUpload>,
    work: &Arc<Work>,
    compression: Compression,
    workers: &Workers,
    chunk: usize,
    slot: &Arc<Mutex<Option<OwnedSemaphorePermit>>>,
) -> Result<(Stored, (LayerDigests, Listings)), BuildError> {
    // The newest producer is the one whose bytes arrive.
    let producer = Mutex::new(None);
    let make = || {
        let (writer, blob) = Blob::channel(chunk);
        let (work, workers, slot) = (Arc::clone(work), workers.clone(), Arc::clone(slot));
        let started = tokio::task::spawn_blocking(move || {
            let produced = produce(&work, compression, &workers, writer)?;
            if produced.0.size <= SMALL
                && let Ok(mut slot) = slot.lock()
            {
                drop(slot.take());
            }
            Ok(produced)
        });
        if let Ok(mut producer) = producer.lock() {
            *producer = Some(started);
        }
        blob
    };
    let stored = destination.put_blob_into(open, &make).await;
    let producer = producer.into_inner().ok().flatten().ok_or(BuildError::Thread)?;
    let produced = producer.await.map_err(|_| BuildError::Thread)?;
    match (stored, produced) {
        (Ok(stored), Ok(produced)) => Ok((stored, produced)),
        // Whichever failed first is the reason; the other only saw its partner go.
        (Err(PublishError::ProducerGone) | Ok(_), Err(error)) => Err(error),
        (Err(error), _) => Err(error.into()),
    }
}

fn produce(
    work: &Work,
    compression: Compression,
    workers: &Workers,
    writer: BlobWriter,
) -> Result<(LayerDigests, Listings), BuildError> {
    let broken = |source| BuildError::Layer { source };
    let layer = LayerWriter::new(writer, compression, workers);
    let mut listings = Listings::new();
    let layer = match work {
        Work::Root(root) => root.write(layer).map_err(broken)?,
        Work::Tar(tar) => tar.write(layer)?,
        Work::Paths { store, paths, metadata, listed } => {
            let mut store_layer = StoreLayer::new(layer, metadata.clone()).map_err(broken)?;
            for tree in store.upcoming(paths) {
                let path = tree.path();
                let mut listing = listed.contains(path).then(Listing::default);
                tree.read(|entry| {
                    if let Some(listing) = &mut listing {
                        listing.note(&entry);
                    }
                    store_layer.append(path, entry)
                })?;
                listings.extend(listing.map(|listing| (path.clone(), listing)));
            }
            store_layer.finish().map_err(broken)?
        }
    };
    let (writer, digests) = layer.finish().map_err(broken)?;
    if let Work::Tar(tar) = work {
        tar.check(&digests)?;
    }
    writer.finish(digests.digest).map_err(broken)?;
    Ok((digests, listings))
}
