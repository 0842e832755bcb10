//! Finds the layers that need not be made: somebody made them before, and their blobs are there or near.
//!
//! 1. The image that is now under the tag to be written has records of its layers, and its blobs are in the
//!    repository, for a registry takes no manifest without them.
//! 2. What this host has made itself is known as well.
//! 3. Where something is still unknown, the other tags to be written are asked, then the images that the spec
//!    names.
//! 4. A known blob that no target names is asked for by digest and size. One that is not there may be in another
//!    repository that the spec names, and is mounted from there.
//!
//! Records in a registry count only as far as [`Trust`] believes them. A blob counts as present whoever named it:
//! that is the registry's own word.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::BuildError;
use super::earlier::{Earlier, Place, Seen};
use super::record_store::RecordStore;
use crate::layer::LayerKey;
use crate::oci::{Repository, Tag};
use crate::publish::{Destination, Mount, PublishError};
use crate::record::{Record, Trust, records_in};

/// Blobs that are asked for or mounted at a time.
pub(super) const AT_A_TIME: usize = 16;

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

/// So many images of one run are looked at for layers of another one.
const SIBLINGS: usize = 8;

impl Reuse {
    /// Adds images that have been pushed just before, as far as their layers may serve in `repository`; in a folder,
    /// none does.
    pub fn add_pushed(&mut self, pushed: &[(Repository, Tag)], repository: Option<&Repository>) {
        let registry = repository.map(Repository::registry);
        let near = |(other, _): &&(Repository, Tag)| Some(other.registry()) == registry;
        self.from.extend(pushed.iter().filter(near).take(SIBLINGS).cloned());
    }
}

/// What is known of the layers of some keys.
#[derive(Default)]
pub(super) struct KnownLayers {
    by_key: BTreeMap<LayerKey, Known>,
    /// All that was said, with who said it; kept if layers are to be compared with it.
    said: Vec<(Record, String)>,
}

/// A layer that somebody made before.
#[derive(Clone, Debug)]
struct Known {
    record: Record,
    at: Whereabouts,
}

/// Where the blob of a known layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// In the repository.
    Present,
    /// Perhaps in the repository.
    Unknown,
    /// Not in the repository, and not near it.
    Gone,
    /// In another repository of the registry.
    Elsewhere(Repository),
}

impl KnownLayers {
    /// Finds what is known of the layers of `keys`.
    pub(super) async fn find(earlier: &mut Earlier<'_>, keys: &[LayerKey]) -> Result<Self, BuildError> {
        let reuse = earlier.reuse();
        let mut known = Self::default();
        if let Some(store) = &reuse.store {
            for record in keys.iter().filter_map(|key| store.get(key)) {
                known.note(record, Whereabouts::Unknown, || "this host".to_owned(), reuse.verify);
            }
        }
        // What the first image says decides most.
        earlier.look_at_targets().await?;
        let mut learnt = 0;
        loop {
            for seen in &earlier.seen()[learnt..] {
                known.learn(earlier, seen, keys);
            }
            learnt = earlier.seen().len();
            let complete = keys.iter().all(|key| known.by_key.contains_key(key));
            if complete && !reuse.verify || !earlier.look().await? {
                break;
            }
        }
        for known in known.by_key.values_mut().filter(|known| earlier.has(&known.record.layer.digest)) {
            known.at = Whereabouts::Present;
        }
        if !reuse.verify {
            known.ask(earlier).await?;
            known.look_elsewhere(earlier).await?;
        }
        Ok(known)
    }

    /// The record of a key, and where its blob is.
    pub(super) fn record(&self, key: &LayerKey) -> Option<(Record, &Whereabouts)> {
        self.by_key.get(key).map(|known| (known.record, &known.at))
    }

    /// A record that says something else of the layer than `made`, and whose it is.
    pub(super) fn contradiction(&self, made: &Record) -> Option<&(Record, String)> {
        self.said.iter().find(|(record, _)| record.key == made.key && record.layer != made.layer)
    }

    fn note(&mut self, record: Record, at: Whereabouts, from: impl FnOnce() -> String, keep: bool) {
        if keep {
            self.said.push((record, from()));
        }
        self.by_key.entry(record.key).or_insert(Known { record, at });
    }

    /// Adds what the records of one image say of `keys`, if they are to be believed.
    fn learn(&mut self, earlier: &Earlier<'_>, seen: &Seen, keys: &[LayerKey]) {
        let (Seen { place, manifest, .. }, reuse) = (seen, earlier.reuse());
        let say =
            |reason: String| earlier.say(format!("the layer records of `{place}` are not used: {reason}"));
        let records = match reuse.trust.believe(manifest, &place.repository) {
            Ok(records) => records,
            Err(distrust) => {
                // Whoever misses nothing need not hear of it.
                let missed =
                    |record: &Record| keys.contains(&record.key) && !self.by_key.contains_key(&record.key);
                if records_in(manifest).iter().any(missed) {
                    say(distrust.to_string());
                }
                return;
            }
        };
        let records = records.into_iter().filter(|record| keys.contains(&record.key));
        let records: Vec<Record> = records.collect();
        if let Some(store) = reuse.store.as_ref().filter(|_| !reuse.verify) {
            let differs =
                |record: &&Record| store.get(&record.key).is_some_and(|own| own.layer != record.layer);
            if let Some(record) = records.iter().find(differs) {
                return say(format!("this host has made another layer of `{}`", record.key));
            }
        }
        for record in records {
            let at = match earlier.is_ours(place) {
                true => Whereabouts::Unknown,
                false => Whereabouts::Elsewhere(place.repository.clone()),
            };
            self.note(record, at, || format!("`{place}`"), reuse.verify);
        }
    }

    /// Asks for the blobs of which that is not known.
    async fn ask(&mut self, earlier: &Earlier<'_>) -> Result<(), BuildError> {
        let Some(destination) = earlier.destination() else { return Ok(()) };
        let unknown = self.by_key.values_mut().filter(|known| known.at == Whereabouts::Unknown);
        let asked = unknown.map(|known| async move {
            let layer = &known.record.layer;
            let there = destination.has_blob(&layer.digest, layer.size).await?;
            known.at = if there { Whereabouts::Present } else { Whereabouts::Gone };
            Ok::<_, PublishError>(())
        });
        Ok(stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?)
    }

    /// Looks for blobs that are not there in images of other repositories.
    async fn look_elsewhere(&mut self, earlier: &mut Earlier<'_>) -> Result<(), BuildError> {
        let mut looked = 0;
        loop {
            for known in self.by_key.values_mut().filter(|known| known.at == Whereabouts::Gone) {
                let names = |seen: &&Seen| {
                    let digest = known.record.layer.digest;
                    !earlier.is_ours(&seen.place)
                        && seen.manifest.layers.iter().any(|layer| layer.digest == digest)
                };
                if let Some(Seen { place: Place { repository, .. }, .. }) =
                    earlier.seen()[looked..].iter().find(names)
                {
                    known.at = Whereabouts::Elsewhere(repository.clone());
                }
            }
            looked = earlier.seen().len();
            let missing = self.by_key.values().any(|known| known.at == Whereabouts::Gone);
            if !missing || !earlier.look().await? {
                return Ok(());
            }
        }
    }

    /// Lets the repository have the blobs that others have. Of those that have to be sent after all, gives the
    /// sessions that are open for them.
    pub(super) async fn mount(
        &mut self,
        destination: &Destination,
    ) -> Result<BTreeMap<LayerKey, Mount>, PublishError> {
        let elsewhere = self.by_key.iter().filter_map(|(key, known)| match &known.at {
            Whereabouts::Elsewhere(repository) => Some((*key, known.record.layer.digest, repository)),
            Whereabouts::Present | Whereabouts::Unknown | Whereabouts::Gone => None,
        });
        let mounted = elsewhere.map(|(key, digest, repository)| async move {
            Ok((key, destination.mount(&digest, repository).await?))
        });
        stream::iter(mounted).buffer_unordered(AT_A_TIME).try_collect().await
    }
}
