//! Brings an image of an archive to a destination, in one pass over the archive; one that is compressed as a whole is
//! decompressed a second time where it can be, to find out what is in it.
//!
//! 1. A [thread](reading) goes through the archive, and asks at each layer what to do with it.
//! 2. [`Transfer`](transfer::Transfer) knows which layers are there already, and sends the others while they are
//!    read. Those of Docker's archives are compressed on the way, and have records as the layers of a spec do; what
//!    gzip or zstd has compressed there, and whatever is in image layouts, stays as it is.
//! 3. When all has passed by, the image is checked against it, and only then the tags are let know.
//!
//! The configuration is the archive's own to the byte, and so is the manifest of an image layout.

mod decision;
mod leaving;
mod reading;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use self::reading::{Reading, Wanted};
use self::transfer::{Sent, Transfer};
use super::earlier::Earlier;
use super::event::Patience;
use super::{BuildError, Effort, Event, LayerReport, Published, Reuse, blocking};
use crate::layer::Compression;
use crate::nix;
use crate::oci::{Descriptor, Image, Tag, media_type};
use crate::publish::Destination;
use crate::record::{Record, annotate};
use crate::source::archive::{ArchiveFault, ArchiveSource, ArchivedImage, MemberName, Select};

/// An image of an archive that is to be published.
pub struct ArchivePush<'a> {
    /// The archive.
    pub source: &'a Arc<ArchiveSource>,
    /// Which of its images.
    pub select: &'a Select,
    /// Annotations of the manifest, for archives that have no manifest of their own.
    pub annotations: BTreeMap<String, String>,
}

impl ArchivePush<'_> {
    /// Sends the layers that are not there while they are read, then lets `tags` name the image; without tags,
    /// those of its own names.
    ///
    /// No tag moves unless all layers turned out to be what the image says of them.
    pub async fn publish(
        &self,
        destination: &Destination,
        tags: &[Tag],
        effort: Effort,
        reuse: &Reuse,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Published, BuildError> {
        let once = Once::new(on_event);
        let say = |event: Event| once.pass_on(event);
        let source = Arc::clone(self.source);
        let select = self.select.clone();
        let look = move || source.survey()?.map(|contents| contents.image(&select)).transpose();
        let event = Event::Said("looking for the image in the archive".to_owned());
        let image = Patience::new().during(blocking(look), event, on_event).await??.map(Arc::new);
        let own = image.as_ref().map(|image| self.own_tags(image, tags, destination, &say)).transpose()?;
        let tags = own.as_deref().unwrap_or(tags);
        let mut earlier = Earlier::new(Some(destination), tags, reuse, &say);

        let compression = Compression::default();
        let mut lost = false;
        loop {
            let transfer = Transfer::new(destination, &mut earlier, effort, compression, lost);
            let reading = Reading {
                source: Arc::clone(self.source),
                wanted: image.as_ref().map(|image| Arc::new(Wanted::of(image))),
                compression,
                workers: transfer.workers(),
            };
            let (passed, sent) = transfer.run(reading).await?;
            let found = match &image {
                Some(image) => Arc::clone(image),
                None => Arc::new(passed.contents.image(self.select)?),
            };
            found.check(&passed.layers).map_err(|fault| self.source.error(fault))?;
            let event = Event::UnderWay { done: sent.len(), layers: Some(sent.len()) };
            let named = self.name(&found, &sent, destination, tags, &mut earlier, reuse);
            match Patience::new().during(named, event, on_event).await {
                // A cleanup of the registry may have taken what was there when the push began.
                Err(BuildError::Publish(error))
                    if error.misses_a_blob() && !lost && self.source.is_lasting() =>
                {
                    lost = true;
                    on_event(Event::Said("the registry has lost layers, which are sent again".to_owned()));
                }
                published => return published,
            }
        }
    }

    /// The tags that the image is to have. In a layout it may do without.
    fn own_tags(
        &self,
        image: &ArchivedImage,
        tags: &[Tag],
        destination: &Destination,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Vec<Tag>, BuildError> {
        if let Some(others) = image.others().filter(|_| tags.is_empty()) {
            on_event(Event::Said(format!("these names of the image give it no tag: {others}")));
        }
        let own = if tags.is_empty() { image.tags() } else { tags.to_vec() };
        match destination {
            Destination::Registry { .. } if own.is_empty() => {
                Err(self.source.error(ArchiveFault::NoTag).into())
            }
            Destination::Registry { .. } | Destination::OciLayout(_) => Ok(own),
        }
    }

    /// Brings there what names the layers, and moves the tags.
    async fn name<'d>(
        &self,
        image: &ArchivedImage,
        sent: &BTreeMap<MemberName, Sent>,
        destination: &'d Destination,
        tags: &[Tag],
        earlier: &mut Earlier<'d>,
        reuse: &'d Reuse,
    ) -> Result<Published, BuildError> {
        let layers = self.layers(image, sent)?;
        let on_event = earlier.on_event();
        let tags = self.own_tags(image, tags, destination, on_event)?;
        let mut late = Earlier::new(Some(destination), &tags, reuse, on_event);
        // The tags of an image that came as a stream are known at its end.
        let earlier = if earlier.standing().is_empty() { &mut late } else { earlier };
        earlier.look_at_targets().await?;
        let finished = match &image.manifest {
            Some(manifest) => Image::of(image.config.clone(), manifest.clone()),
            None => {
                let assembled = self.assemble(image, &layers, destination, reuse);
                match earlier.same_image(assembled.manifest_bytes()) {
                    Some(manifest) => assembled.with_manifest(manifest),
                    None => assembled,
                }
            }
        };
        let published = destination.put_image(&finished, &tags, earlier.standing()).await?;
        let reports = layers
            .iter()
            .enumerate()
            .map(|(index, sent)| LayerReport { number: index + 1, ..sent.report.clone() });
        Ok(Published {
            digest: published.digest,
            tags,
            unchanged: published.unchanged,
            layers: reports.collect(),
        })
    }

    /// What became of the image's layers, in order.
    fn layers<'s>(
        &self,
        image: &ArchivedImage,
        sent: &'s BTreeMap<MemberName, Sent>,
    ) -> Result<Vec<&'s Sent>, BuildError> {
        let layers = image.layers.iter().map(|layer| {
            let changed = || self.source.error(ArchiveFault::Changed(layer.member.clone())).into();
            sent.get(&layer.member).ok_or_else(changed)
        });
        layers.collect()
    }

    /// The image of a Docker archive, in the words of the image specification.
    fn assemble(
        &self,
        image: &ArchivedImage,
        layers: &[&Sent],
        destination: &Destination,
        reuse: &Reuse,
    ) -> Image {
        // Layers may be equal, and of two records for one key a signature could be of either.
        let (mut keys, mut records) = (BTreeSet::new(), Vec::<Record>::new());
        let descriptors: Vec<Descriptor> = layers
            .iter()
            .map(|sent| {
                let media_type = sent.media_type.to_owned();
                let (digest, size) = (sent.layer.digest, sent.layer.size);
                let mut descriptor = Descriptor { media_type, digest, size, annotations: BTreeMap::new() };
                if let Some(record) = sent.record().filter(|record| keys.insert(record.key)) {
                    annotate(&mut descriptor, &record);
                    records.push(record);
                }
                descriptor
            })
            .collect();
        let seal = match destination {
            Destination::Registry { repository, .. } => reuse.trust.seal(repository, &records),
            Destination::OciLayout(_) => None,
        };
        let annotations = self.annotations.clone().into_iter().chain(seal).collect();
        Image::with_config(image.config.clone(), &descriptors, &annotations)
    }
}

/// The media type of a layer that is passed on as it is.
fn media_type_of(compression: nix::Compression) -> &'static str {
    match compression {
        nix::Compression::Zstd => media_type::LAYER_ZSTD,
        _ => media_type::LAYER_GZIP,
    }
}

/// Passes events on, and lines once each: layers are asked for one by one, and each time the same may be wrong.
struct Once<'a> {
    on_event: &'a (dyn Fn(Event) + Sync),
    said: Mutex<BTreeSet<String>>,
}

impl<'a> Once<'a> {
    fn new(on_event: &'a (dyn Fn(Event) + Sync)) -> Self {
        Self { on_event, said: Mutex::default() }
    }

    fn pass_on(&self, event: Event) {
        if let (Event::Said(line), Ok(mut said)) = (&event, self.said.lock())
            && !said.insert(line.clone())
        {
            return;
        }
        (self.on_event)(event);
    }
}
