//! Makes the layers of an image while sending them, several at a time.
//!
//! A layer has a thread that reads the store and writes tar; the threads that compress are shared by
//! all layers. What comes out goes to the destination in chunks as the thread makes them, and the
//! thread waits when the destination is slower, so memory is bounded by chunks and streams.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::event::Quota;
use super::listing::{Listing, Listings};
use super::{BuildError, Effort, Event, Prepared, root};
use crate::layer::{LayerDigests, LayerWriter, Level, RootTree, StoreLayer, Workers};
use crate::nix::StorePath;
use crate::oci::{Descriptor, Digest, Image, ImageLayer, ImageSource, Tag, media_type};
use crate::publish::{Blob, BlobWriter, Destination, PublishError, Stored};
use crate::source::StorePaths;

/// How long the log is quiet at most: GitLab tells a runner of a cancelled job when it sends some log.
const QUIET: Duration = Duration::from_secs(10);

/// An image that is where it was to go.
#[derive(Clone, Debug)]
pub struct Published {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Tags that named it already.
    pub unchanged: Vec<Tag>,
    /// What became of its layers, in order.
    pub layers: Vec<LayerReport>,
}

/// What became of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerReport {
    /// Its place in the image, from 1.
    pub number: usize,
    /// What is in it, in a few words.
    pub contents: String,
    /// Its size in the registry, in bytes.
    pub size: u64,
    /// Its size as a tar, in bytes.
    pub tar_size: u64,
    /// Whether the destination had it already.
    pub reused: bool,
}

/// What a layer is made of.
enum Material<'a> {
    Paths(&'a [StorePath]),
    Root,
}

/// What it takes to make a layer.
enum Work {
    Paths {
        store: StorePaths,
        paths: Vec<StorePath>,
        /// Those of whose trees the names are wanted.
        listed: BTreeSet<StorePath>,
    },
    Root(Arc<RootTree>),
}

/// A layer that is where it was to go.
struct Made {
    number: usize,
    stored: Stored,
    digests: LayerDigests,
    listings: Listings,
}

/// Layers under way to one destination.
struct Workshop<'a> {
    destination: &'a Destination,
    effort: Effort,
    level: Level,
    workers: Workers,
    /// For layers that are being made, and for large ones until they have arrived.
    slots: Arc<Semaphore>,
    /// For all that are under way.
    places: Arc<Semaphore>,
    under_way: JoinSet<Result<Made, BuildError>>,
}

/// How many layers are under way at a time, small ones being no more than requests that wait for answers.
const UNDER_WAY: usize = 16;

/// A layer of at most so many bytes is small: it waits to be sent in memory that large ones need besides.
const SMALL: u64 = 2 << 20;

pub(super) async fn publish(
    prepared: &Prepared<'_>,
    destination: &Destination,
    tags: &[Tag],
    effort: Effort,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Published, BuildError> {
    let store_layers = prepared.plan.layers();
    let materials: Vec<Material<'_>> =
        store_layers.iter().map(|paths| Material::Paths(paths)).chain([Material::Root]).collect();
    let mut workshop = Workshop {
        destination,
        effort,
        level: prepared.level,
        workers: Workers::new(effort.threads.get()),
        slots: Arc::new(Semaphore::new(effort.uploads.get())),
        places: Arc::new(Semaphore::new(UNDER_WAY.max(effort.uploads.get()))),
        under_way: JoinSet::new(),
    };
    let mut unlisted = BTreeSet::new();
    match prepared.root.get() {
        Some(root) => workshop.start(materials.len(), Work::Root(Arc::clone(root))),
        None => unlisted.extend(prepared.packages.contents.iter().cloned()),
    }
    for index in largest_first(prepared) {
        let paths = &store_layers[index];
        let listed = paths.iter().filter(|path| unlisted.contains(*path)).cloned().collect();
        let work = Work::Paths { store: prepared.packages.store.clone(), paths: paths.clone(), listed };
        workshop.start(index + 1, work);
    }
    let mut layers = Vec::with_capacity(materials.len());
    let mut listings = Listings::new();
    let mut patience = tokio::time::interval(QUIET);
    patience.reset();
    loop {
        let made = tokio::select! {
            made = workshop.under_way.join_next() => made,
            _ = patience.tick() => {
                on_event(Event::UnderWay { done: layers.len(), layers: materials.len() });
                continue;
            }
        };
        let Some(made) = made else { break };
        patience.reset();
        let mut made = made.map_err(|_| BuildError::Thread)??;
        on_event(Event::Layer(made.report(&materials)));
        listings.append(&mut made.listings);
        layers.push(made);
        // The last of `contents` has arrived, so the last layer can be made.
        if prepared.root.get().is_none() && unlisted.iter().all(|path| listings.contains_key(path)) {
            let quota = Quota::new(on_event);
            let root = root::assemble(prepared.build, &prepared.packages, &listings, &quota).await?;
            let root = prepared.root.get_or_init(|| Arc::new(root));
            workshop.start(materials.len(), Work::Root(Arc::clone(root)));
        }
    }
    layers.sort_by_key(|made| made.number);

    let image = Image::assemble(ImageSource {
        platform: prepared.platform.clone(),
        created: prepared.created.to_string(),
        config: prepared.config.clone(),
        layers: layers.iter().zip(&materials).map(|(made, material)| made.image_layer(material)).collect(),
        annotations: prepared.annotations.clone(),
    });
    let published = match destination.put_image(&image, tags).await {
        // A cleanup of the registry may have taken what was there when the push began.
        Err(error) if error.misses_a_blob() => {
            for (made, material) in layers.iter().zip(&materials) {
                if !destination.has_blob(&made.stored.digest).await? {
                    let work = match material {
                        Material::Root => prepared.root.get().map(|root| Work::Root(Arc::clone(root))),
                        Material::Paths(paths) => Some(Work::Paths {
                            store: prepared.packages.store.clone(),
                            paths: paths.to_vec(),
                            listed: BTreeSet::new(),
                        }),
                    };
                    workshop.start(made.number, work.ok_or(BuildError::Thread)?);
                }
            }
            while let Some(made) = workshop.under_way.join_next().await {
                on_event(Event::Layer(made.map_err(|_| BuildError::Thread)??.report(&materials)));
            }
            destination.put_image(&image, tags).await?
        }
        published => published?,
    };
    Ok(Published {
        digest: published.digest,
        unchanged: published.unchanged,
        layers: layers.iter().map(|made| made.report(&materials)).collect(),
    })
}

impl Workshop<'_> {
    /// Starts to make the layer of this number as soon as there is room.
    fn start(&mut self, number: usize, work: Work) {
        let (workers, slots, places) =
            (self.workers.clone(), Arc::clone(&self.slots), Arc::clone(&self.places));
        let (destination, level, chunk) = (self.destination.clone(), self.level, self.effort.chunk);
        self.under_way.spawn(async move {
            let _place = places.acquire_owned().await.map_err(|_| BuildError::Thread)?;
            let slot = slots.acquire_owned().await.map_err(|_| BuildError::Thread)?;
            let (stored, (digests, listings)) = send(&destination, work, level, workers, chunk, slot).await?;
            Ok(Made { number, stored, digests, listings })
        });
    }
}

/// The store layers, those first that will take longest.
fn largest_first(prepared: &Prepared<'_>) -> Vec<usize> {
    let size = |path| prepared.packages.closure.get(path).map_or(0, |info| info.nar_size);
    let layers = prepared.plan.layers();
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|index| Reverse(layers[*index].iter().map(size).sum::<u64>()));
    order
}

/// Makes one layer on a thread of its own and sends it from here.
async fn send(
    destination: &Destination,
    work: Work,
    level: Level,
    workers: Workers,
    chunk: usize,
    slot: OwnedSemaphorePermit,
) -> Result<(Stored, (LayerDigests, Listings)), BuildError> {
    let work = Arc::new(work);
    let slot = Arc::new(Mutex::new(Some(slot)));
    // The newest producer is the one whose bytes arrive.
    let producer = Mutex::new(None);
    let make = || {
        let (writer, blob) = Blob::channel(chunk);
        let (work, workers, slot) = (Arc::clone(&work), workers.clone(), Arc::clone(&slot));
        let started = tokio::task::spawn_blocking(move || {
            let produced = produce(&work, level, &workers, writer)?;
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
    let stored = destination.put_blob(&make).await;
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
    level: Level,
    workers: &Workers,
    writer: BlobWriter,
) -> Result<(LayerDigests, Listings), BuildError> {
    let broken = |source| BuildError::Layer { source };
    let layer = LayerWriter::new(writer, level, workers);
    let mut listings = Listings::new();
    let layer = match work {
        Work::Root(root) => root.write(layer).map_err(broken)?,
        Work::Paths { store, paths, listed } => {
            let mut store_layer = StoreLayer::new(layer).map_err(broken)?;
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
    writer.finish(digests.digest).map_err(broken)?;
    Ok((digests, listings))
}

impl Made {
    fn report(&self, materials: &[Material<'_>]) -> LayerReport {
        LayerReport {
            number: self.number,
            contents: materials.get(self.number - 1).map(Material::summary).unwrap_or_default(),
            size: self.stored.size,
            tar_size: self.digests.uncompressed_size,
            reused: self.stored.reused,
        }
    }

    fn image_layer(&self, material: &Material<'_>) -> ImageLayer {
        ImageLayer {
            diff_id: self.digests.diff_id,
            descriptor: Descriptor {
                media_type: media_type::LAYER_GZIP.to_owned(),
                digest: self.stored.digest,
                size: self.stored.size,
                annotations: Default::default(),
            },
            comment: Some(material.comment()),
            created_by: Some("nixlayer".to_owned()),
        }
    }
}

impl Material<'_> {
    /// A few words for the log.
    fn summary(&self) -> String {
        match self {
            Self::Root => "files of the image itself".to_owned(),
            // Within a layer paths are sorted by name; the one in front stands for the others.
            Self::Paths(paths) => match paths {
                [] => String::new(),
                [path] => path.name().to_owned(),
                [first, rest @ ..] => format!("{} and {} more", first.name(), rest.len()),
            },
        }
    }

    /// The history entry, in the words of dockerTools.
    fn comment(&self) -> String {
        match self {
            Self::Root => "customisation layer".to_owned(),
            Self::Paths(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
                format!("store paths: [{}]", paths.join(", "))
            }
        }
    }
}
