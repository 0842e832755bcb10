//! Publishes an image: its layers, then what names them.

use std::collections::BTreeMap;

use super::earlier::{Earlier, REFUSED};
use super::layer_set::LayerSet;
use super::layers::Layers;
use super::{BuildError, Effort, Event, Prepared, Published, Reuse};
use crate::layer::{Compression, LayerDigests};
use crate::oci::{Descriptor, Image, ImageLayer, ImageSource, Tag};
use crate::publish::Destination;
use crate::record::{Record, annotate};

/// Publishes with gzip what a registry does not take with zstd, now or the last time.
pub(super) async fn publish(
    prepared: &Prepared<'_>,
    destination: &Destination,
    tags: &[Tag],
    effort: Effort,
    reuse: &Reuse,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Published, BuildError> {
    let mut earlier = Earlier::new(Some(destination), tags, reuse, on_event);
    let wanted = prepared.compression;
    if let Compression::Gzip(_) = wanted {
        return publish_as(prepared, wanted, &mut earlier, destination, tags, effort).await;
    }
    earlier.look_at_targets().await?;
    if earlier.has_refused(wanted) {
        earlier.say("layers are made with gzip, since the registry did not take them with zstd".to_owned());
    } else {
        match publish_as(prepared, wanted, &mut earlier, destination, tags, effort).await {
            Err(error) if error.refuses_the_manifest() => {
                earlier.say(format!("layers are made again with gzip, since with zstd {error}"));
            }
            published => return published,
        }
    }
    publish_as(prepared, Compression::default(), &mut earlier, destination, tags, effort).await
}

async fn publish_as(
    prepared: &Prepared<'_>,
    compression: Compression,
    earlier: &mut Earlier<'_>,
    destination: &Destination,
    tags: &[Tag],
    effort: Effort,
) -> Result<Published, BuildError> {
    let (reuse, on_event) = (earlier.reuse(), earlier.on_event());
    let set = LayerSet::plan(prepared, compression, earlier).await?;
    let refused = (compression != prepared.compression)
        .then(|| (REFUSED.to_owned(), prepared.compression.media_type().to_owned()));
    let mut layers = Layers::new(prepared, destination, effort, reuse, on_event, set);
    let mut sessions = if reuse.verify { BTreeMap::new() } else { layers.take_over().await? };

    let mut lost_before = false;
    loop {
        layers.make_missing(&mut sessions).await?;
        let image = image_of(&layers, prepared, destination, reuse, refused.clone());
        let image = match earlier.same_image(image.manifest_bytes()) {
            Some(manifest) => image.with_manifest(manifest),
            None => image,
        };
        match destination.put_image(&image, tags, earlier.standing()).await {
            // A cleanup of the registry may have taken what was there when the push began.
            Err(error) if error.misses_a_blob() && !lost_before => {
                lost_before = true;
                layers.forget_lost().await?;
            }
            published => {
                let published = published?;
                let (digest, unchanged) = (published.digest, published.unchanged);
                return Ok(Published { digest, tags: tags.to_vec(), unchanged, layers: layers.reports() });
            }
        }
    }
}

/// The image of layers that are there.
fn image_of(
    layers: &Layers<'_>,
    prepared: &Prepared<'_>,
    destination: &Destination,
    reuse: &Reuse,
    refused: Option<(String, String)>,
) -> Image {
    let records: Vec<Record> = layers.records().map(|(_, record)| record).collect();
    let recorded = layers.records().filter(|(number, _)| layers.set().is_recorded(*number));
    let recorded: Vec<Record> = recorded.map(|(_, record)| record).collect();
    let seal = match destination {
        Destination::Registry { repository, .. } => reuse.trust.seal(repository, &recorded),
        Destination::OciLayout(_) => None,
    };
    assemble(prepared, layers.set(), &records, seal, refused)
}

/// The image of these layers, given what came of each, with an annotation that seals the records.
///
/// A record that nobody may rely on is left out where there is a seal; without one, nobody does.
pub(super) fn assemble(
    prepared: &Prepared<'_>,
    layers: &LayerSet,
    records: &[Record],
    seal: Option<(String, String)>,
    refused: Option<(String, String)>,
) -> Image {
    let layer = |(index, record): (usize, &Record)| {
        let LayerDigests { diff_id, digest, size, .. } = record.layer;
        let media_type = layers.compression().media_type().to_owned();
        let mut descriptor = Descriptor { media_type, digest, size, annotations: BTreeMap::new() };
        if seal.is_none() || layers.is_recorded(index + 1) {
            annotate(&mut descriptor, record);
        }
        ImageLayer { diff_id, descriptor, history: prepared.recipe.history(layers.material(index + 1)) }
    };
    Image::assemble(ImageSource {
        platform: prepared.platform.clone(),
        created: prepared.created.clone(),
        config: prepared.config.clone(),
        layers: records.iter().enumerate().map(layer).collect(),
        annotations: prepared.annotations.clone().into_iter().chain(seal.clone()).chain(refused).collect(),
    })
}
