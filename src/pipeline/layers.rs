//! Publishes an image: its layers, then what names them.
//!
//! Layers are made while they are sent, the largest first. The last one of the image may have to wait for
//! others, whose files it links to.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::event::Quota;
use super::listing::Listings;
use super::workshop::{Made, Work, Workshop};
use super::{BuildError, Effort, Event, Prepared, root};
use crate::nix::StorePath;
use crate::oci::{Descriptor, Digest, Image, ImageLayer, ImageSource, Tag, media_type};
use crate::publish::Destination;

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
    let mut workshop = Workshop::new(destination, prepared.level, effort);
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
            made = workshop.next() => made?,
            _ = patience.tick() => {
                on_event(Event::UnderWay { done: layers.len(), layers: materials.len() });
                continue;
            }
        };
        let Some(mut made) = made else { break };
        patience.reset();
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
        Err(error) if error.misses_a_blob() => {
            let again = lost(prepared, &materials, &layers, destination).await?;
            again.into_iter().for_each(|(number, work)| workshop.start(number, work));
            while let Some(made) = workshop.next().await? {
                on_event(Event::Layer(made.report(&materials)));
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

/// What it takes to make the layers again that are no longer there: a cleanup of the registry may have taken
/// what was there when the push began.
async fn lost(
    prepared: &Prepared<'_>,
    materials: &[Material<'_>],
    layers: &[Made],
    destination: &Destination,
) -> Result<Vec<(usize, Work)>, BuildError> {
    let mut lost = Vec::new();
    for (made, material) in layers.iter().zip(materials) {
        if destination.has_blob(&made.stored.digest, made.stored.size).await? {
            continue;
        }
        let work = match (material, prepared.root.get()) {
            (Material::Paths(paths), _) => Work::Paths {
                store: prepared.packages.store.clone(),
                paths: paths.to_vec(),
                listed: BTreeSet::new(),
            },
            (Material::Root, Some(root)) => Work::Root(Arc::clone(root)),
            (Material::Root, None) => return Err(BuildError::Thread),
        };
        lost.push((made.number, work));
    }
    Ok(lost)
}

/// The store layers, those first that will take longest.
fn largest_first(prepared: &Prepared<'_>) -> Vec<usize> {
    let size = |path| prepared.packages.closure.get(path).map_or(0, |info| info.nar_size);
    let layers = prepared.plan.layers();
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|index| Reverse(layers[*index].iter().map(size).sum::<u64>()));
    order
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
