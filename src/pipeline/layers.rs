//! Makes the layers of an image while sending them, several at a time.
//!
//! A layer has a thread that reads the store and writes tar; the threads that compress are shared by
//! all layers. What comes out goes to the destination in chunks as the thread makes them, and the
//! thread waits when the destination is slower, so memory is bounded by chunks and streams.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{BuildError, Effort, Event, Prepared};
use crate::layer::{LayerDigests, LayerWriter, Level, RootTree, StoreLayer, Workers};
use crate::nix::StorePath;
use crate::oci::{Descriptor, Digest, Image, ImageLayer, ImageSource, Tag, media_type};
use crate::publish::{Blob, BlobWriter, Destination, PublishError, Stored};
use crate::source::local_store;

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
#[derive(Clone)]
enum Material {
    Paths(Vec<StorePath>),
    Root(Arc<RootTree>),
}

/// A layer that is where it was to go.
struct Made {
    number: usize,
    stored: Stored,
    digests: LayerDigests,
}

pub(super) async fn publish(
    prepared: &Prepared,
    destination: &Destination,
    tags: &[Tag],
    effort: Effort,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Published, BuildError> {
    let materials = materials(prepared);
    let workers = Workers::new(effort.threads.get());
    let slots = Arc::new(Semaphore::new(effort.uploads.get()));
    let mut under_way = JoinSet::new();
    for (index, material) in materials.iter().enumerate() {
        let (workers, slots) = (workers.clone(), Arc::clone(&slots));
        let (destination, material, level) = (destination.clone(), material.clone(), prepared.level);
        under_way.spawn(async move {
            let _slot = slots.acquire_owned().await.map_err(|_| BuildError::Thread)?;
            let (stored, digests) = send(&destination, material, level, workers, effort.chunk).await?;
            Ok(Made { number: index + 1, stored, digests })
        });
    }
    let mut layers = Vec::with_capacity(materials.len());
    let mut patience = tokio::time::interval(QUIET);
    patience.reset();
    loop {
        let made = tokio::select! {
            made = under_way.join_next() => made,
            _ = patience.tick() => {
                on_event(Event::UnderWay { done: layers.len(), layers: materials.len() });
                continue;
            }
        };
        let Some(made) = made else { break };
        patience.reset();
        let made: Result<Made, BuildError> = made.map_err(|_| BuildError::Thread)?;
        let made = made?;
        on_event(Event::Layer(made.report(&materials)));
        layers.push(made);
    }
    layers.sort_by_key(|made| made.number);

    let image = Image::assemble(ImageSource {
        platform: prepared.platform.clone(),
        created: prepared.created.to_string(),
        config: prepared.config.clone(),
        layers: layers.iter().zip(&materials).map(|(made, material)| made.image_layer(material)).collect(),
        annotations: prepared.annotations.clone(),
    });
    let published = destination.put_image(&image, tags).await?;
    Ok(Published {
        digest: published.digest,
        unchanged: published.unchanged,
        layers: layers.iter().map(|made| made.report(&materials)).collect(),
    })
}

fn materials(prepared: &Prepared) -> Vec<Material> {
    let store = prepared.plan.layers().iter().cloned().map(Material::Paths);
    store.chain([Material::Root(Arc::clone(&prepared.root))]).collect()
}

/// Makes one layer on a thread of its own and sends it from here.
async fn send(
    destination: &Destination,
    material: Material,
    level: Level,
    workers: Workers,
    chunk: usize,
) -> Result<(Stored, LayerDigests), BuildError> {
    let (writer, blob) = Blob::channel(chunk);
    let producer = tokio::task::spawn_blocking(move || produce(&material, level, &workers, writer));
    let stored = destination.put_blob(blob).await;
    let produced = producer.await.map_err(|_| BuildError::Thread)?;
    match (stored, produced) {
        (Ok(stored), Ok(digests)) => Ok((stored, digests)),
        // Whichever failed first is the reason; the other only saw its partner go.
        (Err(PublishError::ProducerGone) | Ok(_), Err(error)) => Err(error),
        (Err(error), _) => Err(error.into()),
    }
}

fn produce(
    material: &Material,
    level: Level,
    workers: &Workers,
    writer: BlobWriter,
) -> Result<LayerDigests, BuildError> {
    let broken = |source| BuildError::Layer { source };
    let layer = LayerWriter::new(writer, level, workers);
    let layer = match material {
        Material::Root(root) => root.write(layer).map_err(broken)?,
        Material::Paths(paths) => {
            let mut store_layer = StoreLayer::new(layer).map_err(broken)?;
            for path in paths {
                let read = local_store::read(path, |entry| store_layer.append(path, entry));
                read.map_err(|source| BuildError::Store { path: path.clone(), source })?;
            }
            store_layer.finish().map_err(broken)?
        }
    };
    let (writer, digests) = layer.finish().map_err(broken)?;
    writer.finish(digests.digest).map_err(broken)?;
    Ok(digests)
}

impl Made {
    fn report(&self, materials: &[Material]) -> LayerReport {
        LayerReport {
            number: self.number,
            contents: materials.get(self.number - 1).map(Material::summary).unwrap_or_default(),
            size: self.stored.size,
            tar_size: self.digests.uncompressed_size,
            reused: self.stored.reused,
        }
    }

    fn image_layer(&self, material: &Material) -> ImageLayer {
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

impl Material {
    /// A few words for the log.
    fn summary(&self) -> String {
        match self {
            Self::Root(_) => "files of the image itself".to_owned(),
            // Within a layer paths are sorted by name; the one in front stands for the others.
            Self::Paths(paths) => match paths.as_slice() {
                [] => String::new(),
                [path] => path.name().to_owned(),
                [first, rest @ ..] => format!("{} and {} more", first.name(), rest.len()),
            },
        }
    }

    /// The history entry, in the words of dockerTools.
    fn comment(&self) -> String {
        match self {
            Self::Root(_) => "customisation layer".to_owned(),
            Self::Paths(paths) => {
                let paths: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
                format!("store paths: [{}]", paths.join(", "))
            }
        }
    }
}
