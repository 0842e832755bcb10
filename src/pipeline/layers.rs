//! Brings the layers of an image to their destination.
//!
//! What somebody made before is left where it is. The other layers are made while they are sent, the largest first.
//! The last one of the image may have to wait for others, whose files it links to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::event::{Patience, Quota};
use super::layer_set::LayerSet;
use super::listing::{self, Listings};
use super::recipe::{Material, Recipe, SpecRecipe};
use super::reuse::{AT_A_TIME, Whereabouts};
use super::workshop::{Made, Work, Workshop};
use super::{BuildError, Effort, Event, Fate, LayerReport, Prepared, Reuse, blocking, root};
use crate::layer::RootTree;
use crate::nix::StorePath;
use crate::publish::{Destination, Mount, OpenUpload, PublishError};
use crate::record::Record;
use crate::source::StorePaths;

/// A layer that is where it was to go.
struct Done {
    record: Record,
    fate: Fate,
    sent: u64,
}

/// The layers of one image on their way to one destination.
pub(super) struct Layers<'a> {
    prepared: &'a Prepared<'a>,
    destination: &'a Destination,
    effort: Effort,
    reuse: &'a Reuse,
    on_event: &'a (dyn Fn(Event) + Sync),
    set: LayerSet,
    /// By number, from 1.
    done: BTreeMap<usize, Done>,
}

impl<'a> Layers<'a> {
    /// None of them is there, as far as anybody knows.
    pub(super) fn new(
        prepared: &'a Prepared<'a>,
        destination: &'a Destination,
        effort: Effort,
        reuse: &'a Reuse,
        on_event: &'a (dyn Fn(Event) + Sync),
        set: LayerSet,
    ) -> Self {
        Self { prepared, destination, effort, reuse, on_event, set, done: BTreeMap::new() }
    }

    /// What they are made of.
    pub(super) fn set(&self) -> &LayerSet {
        &self.set
    }

    /// What came of each that is there, in order, with its number.
    pub(super) fn records(&self) -> impl Iterator<Item = (usize, Record)> {
        self.done.iter().map(|(number, done)| (*number, done.record))
    }

    /// Leaves known layers that are there where they are, and mounts those of other repositories. Gives the sessions
    /// that are open for layers which have to be sent after all.
    pub(super) async fn take_over(&mut self) -> Result<BTreeMap<usize, OpenUpload>, BuildError> {
        let mut mounts = self.set.known().mount(self.destination).await?;
        let mut sessions = BTreeMap::new();
        for number in 1..=self.set.len() {
            let Some((record, at)) = self.set.record(number) else { continue };
            let fate = match (at, mounts.remove(&record.key)) {
                (Whereabouts::Present, _) => Fate::Reused,
                (_, Some(Mount::Done)) => Fate::Mounted,
                (_, Some(Mount::Open(session))) => {
                    sessions.insert(number, session);
                    continue;
                }
                (_, Some(Mount::Refused) | None) => continue,
            };
            self.done.insert(number, Done { record, fate, sent: 0 });
        }
        if !self.done.is_empty() {
            let size = self.done.values().map(|done| done.record.layer.size).sum();
            let (layers, of) = (self.done.len(), self.set.len());
            (self.on_event)(Event::Reused { layers, of, size });
        }
        Ok(sessions)
    }

    /// Makes every layer that is not done, and sends it.
    pub(super) async fn make_missing(
        &mut self,
        sessions: &mut BTreeMap<usize, OpenUpload>,
    ) -> Result<(), BuildError> {
        let missing: BTreeSet<usize> =
            (1..=self.set.len()).filter(|number| !self.done.contains_key(number)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let prepared = self.prepared;
        let mut workshop = Workshop::new(self.destination, self.set.compression(), self.effort);
        let last = self.set.len();
        // Whose own files are missing.
        let spec = prepared.recipe.spec().filter(|_| missing.contains(&last));
        let store = self.store(&missing).await?;
        // What the last layer links to is listed while it arrives, where it is not on disk and on its way anyway.
        let mut unlisted = BTreeSet::new();
        if let Some(spec) = spec.filter(|spec| spec.root.get().is_none()) {
            let arriving = |path: &&StorePath| {
                store.on_disk(path).is_none() && missing.iter().any(|number| self.holds(*number, path))
            };
            unlisted.extend(spec.packages.contents.iter().filter(arriving).cloned());
        }
        if let Some(spec) = spec.filter(|_| unlisted.is_empty()) {
            let root = self.root(spec, &store, Listings::new()).await?;
            workshop.start(last, Work::Root(root), sessions.remove(&last));
        }
        for number in self.in_order(missing.iter().copied()) {
            let work = match self.set.material(number) {
                Material::Root => continue,
                Material::Tar(tar) => Work::Tar(Arc::clone(tar)),
                Material::Paths(paths) => {
                    let listed = paths.iter().filter(|path| unlisted.contains(*path)).cloned().collect();
                    let metadata = prepared.recipe.metadata();
                    Work::Paths { store: store.clone(), paths: paths.clone(), metadata, listed }
                }
            };
            workshop.start(number, work, sessions.remove(&number));
        }
        let mut listings = Listings::new();
        let mut patience = Patience::new();
        loop {
            let made = tokio::select! {
                made = workshop.next() => made?,
                () = patience.end() => {
                    (self.on_event)(Event::UnderWay { done: self.done.len(), layers: Some(self.set.len()) });
                    continue;
                }
            };
            let Some(mut made) = made else { return Ok(()) };
            patience.reset();
            listings.append(&mut made.listings);
            self.finish(made).await?;
            // The last of `contents` has arrived, so the last layer can be made.
            if let Some(spec) = spec
                && !unlisted.is_empty()
                && unlisted.iter().all(|path| listings.contains_key(path))
            {
                unlisted.clear();
                let root = self.root(spec, &store, std::mem::take(&mut listings)).await?;
                workshop.start(last, Work::Root(root), sessions.remove(&last));
            }
        }
    }

    /// Where the store paths are to be had that it takes to make these layers.
    async fn store(&self, missing: &BTreeSet<usize>) -> Result<StorePaths, BuildError> {
        let SpecRecipe { build, packages, root, .. } = match &self.prepared.recipe {
            Recipe::Spec(spec) => &**spec,
            Recipe::Planned(planned) => return Ok(StorePaths::of_host(&planned.closure)),
        };
        let quota = Quota::new(self.on_event);
        let assembles = missing.contains(&self.set.len()) && root.get().is_none();
        if assembles && build.spec.has_commands() {
            return packages.store_for_commands(build, &quota).await;
        }
        let made = missing.iter().flat_map(|number| self.set.material(*number).paths());
        let named = packages.contents.iter().filter(|_| assembles);
        Ok(packages.store(build, &made.chain(named).cloned().collect(), &quota).await)
    }

    /// The tree of the last layer, put together when it is first needed.
    async fn root(
        &self,
        spec: &SpecRecipe<'_>,
        store: &StorePaths,
        mut listings: Listings,
    ) -> Result<Arc<RootTree>, BuildError> {
        let SpecRecipe { build, packages, copies, root, .. } = spec;
        if let Some(root) = root.get() {
            return Ok(Arc::clone(root));
        }
        let unread = |path: &&StorePath| !listings.contains_key(path);
        let unread: Vec<StorePath> = packages.contents.iter().filter(unread).cloned().collect();
        let from = store.clone();
        listings.append(&mut blocking(move || listing::read(&from, &unread)).await??);
        let quota = Quota::new(self.on_event);
        let tree = root::assemble(build, packages, store, copies, &listings, &quota).await?;
        Ok(Arc::clone(root.get_or_init(|| Arc::new(tree))))
    }

    /// Takes note of a layer that has arrived.
    async fn finish(&mut self, made: Made) -> Result<(), BuildError> {
        let Made { number, stored, digests: layer, .. } = made;
        let record = Record { key: self.set.key(number), layer };
        if let Some(store) = self.reuse.store.clone().filter(|_| self.set.is_recorded(number)) {
            // A host whose disk is full still pushes.
            if let Err(error) = blocking(move || store.put(&record)).await? {
                (self.on_event)(Event::Said(format!("a layer record cannot be kept: {error}")));
            }
        }
        if let Some((said, by)) = self.set.contradiction(&record) {
            return Err(BuildError::Unlike {
                by: by.clone(),
                of_commands: number == self.set.len() && self.prepared.recipe.has_commands(),
                recorded: said.layer.digest,
                made: record.layer.digest,
            });
        }
        let fate = if stored.reused { Fate::There } else { Fate::New };
        self.done.insert(number, Done { record, fate, sent: stored.sent });
        (self.on_event)(Event::Layer(self.report(number)));
        Ok(())
    }

    /// Forgets that layers are done whose blobs are no longer there.
    pub(super) async fn forget_lost(&mut self) -> Result<(), BuildError> {
        let destination = self.destination;
        let layers = self.done.iter().map(|(number, done)| (*number, done.record.layer));
        let asked = layers.map(|(number, layer)| async move {
            let there = destination.has_blob(&layer.digest, layer.size).await?;
            Ok::<_, PublishError>((!there).then_some(number))
        });
        let lost: Vec<Option<usize>> = stream::iter(asked).buffer_unordered(AT_A_TIME).try_collect().await?;
        let lost: BTreeSet<usize> = lost.into_iter().flatten().collect();
        self.done.retain(|number, _| !lost.contains(number));
        (self.on_event)(Event::Lost { layers: lost.len() });
        Ok(())
    }

    /// Layers in the order in which they are begun: those first that have to be read one after the other, then those
    /// that will take longest.
    fn in_order(&self, numbers: impl Iterator<Item = usize>) -> Vec<usize> {
        let closure = self.prepared.recipe.closure();
        let mut order: Vec<usize> = numbers.collect();
        order.sort_by_key(|number| {
            let material = self.set.material(*number);
            let in_archive = material.place_in_archive();
            (in_archive.is_none(), in_archive, Reverse(material.size(closure)))
        });
        order
    }

    fn holds(&self, number: usize, path: &StorePath) -> bool {
        self.set.material(number).paths().contains(path)
    }

    /// What became of them.
    pub(super) fn reports(&self) -> Vec<LayerReport> {
        self.done.keys().map(|number| self.report(*number)).collect()
    }

    fn report(&self, number: usize) -> LayerReport {
        let Done { record: Record { layer, .. }, fate, sent } = &self.done[&number];
        LayerReport {
            number,
            contents: self.set.material(number).summary(),
            size: layer.size,
            tar_size: layer.uncompressed_size,
            fate: *fate,
            sent: *sent,
        }
    }
}
