//! Finds the layers that need not be made: somebody made them before, and their blobs are there or near.
//!
//! 1. The image that is now under the tag to be written has records of its layers, and its blobs are in the
//!    repository, for a registry takes no manifest without them.
//! 2. Where records are missing, the other tags to be written are asked, then the images that the spec names.
//!    A blob named there is asked for by its digest and size, or mounted if it is in another repository.
//! 3. Records that this host has written itself serve where nobody signs any.
//!
//! Records in a registry count only as far as [`Trust`] believes them. A blob counts as present whoever named it:
//! that is the registry's own word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::record_store::RecordStore;
use super::{BuildError, Event, history};
use crate::layer::LayerKey;
use crate::nix::StorePath;
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::publish::{Destination, Mount, OpenUpload, PublishError, Standing};
use crate::record::{Record, Trust, records_in, without_records};

/// Blobs that are asked for or mounted at a time.
const AT_A_TIME: usize = 16;

/// What may spare a build its layers.
#[derive(Clone, Debug, Default)]
pub struct Reuse {
    /// Whose records are believed, and who signs those of this build.
    pub trust: Trust,
    /// The records of this host.
    pub store: Option<RecordStore>,
    /// Images whose layers may serve, beside those under the tags to be written.
    pub from: Vec<(Repository, Tag)>,
    /// Makes every layer, and compares what comes of it with the records.
    pub verify: bool,
}

/// What stands at the destination and near it, as far as somebody has looked.
pub(super) struct Earlier<'a> {
    destination: Option<&'a Destination>,
    reuse: &'a Reuse,
    on_event: &'a (dyn Fn(Event) + Sync),
    waiting: VecDeque<Place>,
    seen: Vec<Seen>,
    /// Blobs that the repository has.
    present: BTreeSet<Digest>,
    standing: Standing,
}

/// Where an image may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    repository: Repository,
    tag: Tag,
    /// Whether the tag is to be written.
    target: bool,
}

/// An image that is there.
struct Seen {
    place: Place,
    bytes: Bytes,
    manifest: Manifest,
}

/// A layer that somebody made before.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) record: Record,
    at: Whereabouts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Whereabouts {
    /// In the repository.
    Present,
    /// Perhaps in the repository.
    Unknown,
    /// In another repository of the registry.
    Elsewhere(Repository),
}

/// Whether a known layer has to be sent after all.
pub(super) enum Confirmed {
    /// It is there; or it was let in from another repository.
    There { mounted: bool },
    /// It is not, and this session is open for it.
    Gone(Option<OpenUpload>),
}

impl<'a> Earlier<'a> {
    /// Nothing has been looked at yet. Without a destination, there is nothing to look at.
    pub(super) fn new(
        destination: Option<&'a Destination>,
        tags: &[Tag],
        reuse: &'a Reuse,
        on_event: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        let mut waiting = VecDeque::new();
        if let Some(Destination::Registry { repository, .. }) = destination {
            let place = |repository: &Repository, tag: &Tag, target| {
                let (repository, tag) = (repository.clone(), tag.clone());
                Place { repository, tag, target }
            };
            waiting.extend(tags.iter().map(|tag| place(repository, tag, true)));
            let near = reuse.from.iter().filter(|(near, tag)| near != repository || !tags.contains(tag));
            waiting.extend(near.map(|(near, tag)| place(near, tag, false)));
        }
        Self {
            destination,
            reuse,
            on_event,
            waiting,
            seen: Vec::new(),
            present: BTreeSet::new(),
            standing: Standing::new(),
        }
    }

    /// What the tags that were looked at name.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The manifest of an image that differs from `manifest` in its records only, if a tag to be written names one.
    pub(super) fn same_image(&self, manifest: &[u8]) -> Option<&Bytes> {
        let ours = without_records(manifest)?;
        let targets = self.seen.iter().filter(|seen| seen.place.target);
        targets.map(|seen| &seen.bytes).find(|bytes| without_records(bytes).as_ref() == Some(&ours))
    }

    /// The store paths in the layers of the nearest image, as its history tells them; none if there is no image.
    pub(super) async fn groups(&mut self) -> Result<Vec<Vec<StorePath>>, BuildError> {
        while self.seen.is_empty() {
            if !self.look().await? {
                return Ok(Vec::new());
            }
        }
        let (Some(Destination::Registry { registry, .. }), Some(seen)) =
            (self.destination, self.seen.first())
        else {
            return Ok(Vec::new());
        };
        let Seen { place, manifest, .. } = seen;
        let config = registry.blob(&place.repository, &manifest.config.digest, self.is_ours(place)).await?;
        Ok(config.map(|config| history::store_paths(&config)).unwrap_or_default())
    }

    /// What is known of the layers of these keys.
    pub(super) async fn find(&mut self, keys: &[LayerKey]) -> Result<BTreeMap<LayerKey, Known>, BuildError> {
        let own: BTreeMap<LayerKey, Record> = match &self.reuse.store {
            Some(store) => keys.iter().filter_map(|key| Some((*key, store.get(key)?))).collect(),
            None => BTreeMap::new(),
        };
        let mut known = BTreeMap::new();
        let mut told = 0;
        // The first tag is always asked for, since it says what is there.
        while self.standing.is_empty()
            || keys.iter().any(|key| !known.contains_key(key) && !own.contains_key(key))
        {
            let more = self.look().await?;
            for seen in &self.seen[told..] {
                self.learn(seen, keys, &own, &mut known);
            }
            told = self.seen.len();
            if !more {
                break;
            }
        }
        let own = own.into_iter().map(|(key, record)| (key, Known { record, at: Whereabouts::Unknown }));
        let mut all: BTreeMap<LayerKey, Known> = own.collect();
        all.extend(known);
        for known in all.values_mut() {
            if self.present.contains(&known.record.layer.digest) {
                known.at = Whereabouts::Present;
            }
        }
        Ok(all)
    }

    /// Adds what the records of one image say of `keys`, if they are to be believed.
    fn learn(
        &self,
        seen: &Seen,
        keys: &[LayerKey],
        own: &BTreeMap<LayerKey, Record>,
        known: &mut BTreeMap<LayerKey, Known>,
    ) {
        let Seen { place, manifest, .. } = seen;
        let say = |reason: String| {
            let image = place.repository.with_tag(&place.tag);
            (self.on_event)(Event::Said(format!("the layer records of `{image}` are not used: {reason}")));
        };
        let wanted = |record: &Record| keys.contains(&record.key) && !known.contains_key(&record.key);
        let records = match self.reuse.trust.believe(manifest, &place.repository) {
            Ok(records) => records,
            Err(distrust) => {
                // Whoever misses nothing need not hear of it.
                if records_in(manifest).iter().any(|record| wanted(record) && !own.contains_key(&record.key))
                {
                    say(distrust.to_string());
                }
                return;
            }
        };
        let differs = |record: &Record| own.get(&record.key).is_some_and(|own| own.layer != record.layer);
        if let Some(record) = records.iter().find(|record| differs(record)) {
            say(format!("this host has made another layer of `{}`", record.key));
            return;
        }
        let ours = self.is_ours(place);
        let wanted: Vec<Record> = records.into_iter().filter(wanted).collect();
        for record in wanted {
            let at =
                if ours { Whereabouts::Unknown } else { Whereabouts::Elsewhere(place.repository.clone()) };
            known.insert(record.key, Known { record, at });
        }
    }

    /// Looks at the next image; false if there is none left.
    async fn look(&mut self) -> Result<bool, BuildError> {
        let (Some(Destination::Registry { registry, .. }), Some(place)) =
            (self.destination, self.waiting.pop_front())
        else {
            return Ok(false);
        };
        let ours = self.is_ours(&place);
        let found = match registry.manifest(&place.repository, &place.tag, ours).await {
            // Whatever is wrong with an image that is not to be written, the build goes on without it.
            Err(error) if !place.target => {
                let image = place.repository.with_tag(&place.tag);
                (self.on_event)(Event::Said(format!("the layers of `{image}` are not used: {error}")));
                None
            }
            found => found?,
        };
        if place.target {
            self.standing.insert(place.tag.clone(), found.as_ref().map(|bytes| Digest::of(bytes)));
        }
        let Some(bytes) = found else { return Ok(true) };
        // An index, or something that is no image, has no layers of ours.
        if let Ok(manifest) = Manifest::parse(&bytes) {
            if place.target {
                self.present.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
            self.seen.push(Seen { place, bytes, manifest });
        }
        Ok(true)
    }

    /// Whether an image is in the repository that is written to.
    fn is_ours(&self, place: &Place) -> bool {
        match self.destination {
            Some(Destination::Registry { repository, .. }) => *repository == place.repository,
            Some(Destination::OciLayout(_)) | None => false,
        }
    }
}

impl Known {
    /// Whether it is in another repository only, as far as is known.
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self.at, Whereabouts::Elsewhere(_))
    }
}

/// Asks for the blobs of known layers, or mounts them.
pub(super) async fn confirm(
    destination: &Destination,
    known: &BTreeMap<LayerKey, Known>,
) -> Result<BTreeMap<LayerKey, Confirmed>, BuildError> {
    let asked = known.iter().map(|(key, known)| async move {
        Ok::<_, PublishError>((*key, confirm_one(destination, known).await?))
    });
    Ok(stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?)
}

async fn confirm_one(destination: &Destination, known: &Known) -> Result<Confirmed, PublishError> {
    let layer = &known.record.layer;
    match &known.at {
        Whereabouts::Present => Ok(Confirmed::There { mounted: false }),
        Whereabouts::Unknown if destination.has_blob(&layer.digest, layer.size).await? => {
            Ok(Confirmed::There { mounted: false })
        }
        Whereabouts::Unknown => Ok(Confirmed::Gone(None)),
        Whereabouts::Elsewhere(repository) => Ok(match destination.mount(&layer.digest, repository).await {
            Mount::Done => Confirmed::There { mounted: true },
            Mount::Open(session) => Confirmed::Gone(Some(session)),
            Mount::Refused => Confirmed::Gone(None),
        }),
    }
}
