//! The layers of an image before any is made: what is in each, its key, and what is known of it.

use std::collections::BTreeMap;

use super::reuse::{Earlier, Known};
use super::{BuildError, Prepared, blocking, budget, history};
use crate::layer::{Compression, LayerKey, LayerPlan};
use crate::nix::StorePath;
use crate::record::Record;
use crate::spec::Strategy;

/// The layers of an image; the last one holds what is in no store path.
pub(super) struct LayerSet {
    compression: Compression,
    plan: LayerPlan,
    keys: Vec<LayerKey>,
    known: BTreeMap<LayerKey, Known>,
}

/// What a layer is made of.
#[derive(Clone, Copy)]
pub(super) enum Material<'a> {
    Paths(&'a [StorePath]),
    Root,
}

impl LayerSet {
    /// Plans the layers, as the image before them wants it if the spec wants so, and finds what is known of them.
    pub(super) async fn plan(
        prepared: &Prepared<'_>,
        compression: Compression,
        earlier: &mut Earlier<'_>,
    ) -> Result<Self, BuildError> {
        let plan = match prepared.build.spec.layers.strategy {
            Strategy::Auto => prepared.plan.clone(),
            Strategy::Stable => prepared.stable_plan(earlier.groups().await?).await?,
        };
        let keys = plan.layers().iter().map(|paths| prepared.key(Material::Paths(paths), compression));
        let keys: Vec<LayerKey> = keys.chain([prepared.key(Material::Root, compression)]).collect();
        let known = earlier.find(&keys).await?;
        Ok(Self { compression, plan, keys, known })
    }

    /// How they are compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// How many there are, which is the number of the last one.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Their numbers, from 1, with their keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = (usize, LayerKey)> {
        self.keys.iter().enumerate().map(|(index, key)| (index + 1, *key))
    }

    /// The key of layer `number`.
    pub(super) fn key(&self, number: usize) -> LayerKey {
        self.keys[number - 1]
    }

    /// What layer `number` is made of.
    pub(super) fn material(&self, number: usize) -> Material<'_> {
        self.plan.layers().get(number - 1).map_or(Material::Root, |paths| Material::Paths(paths))
    }

    /// What is known of the layers that somebody made before.
    pub(super) fn known(&self) -> &BTreeMap<LayerKey, Known> {
        &self.known
    }

    /// What came of a key the last time.
    pub(super) fn record(&self, key: &LayerKey) -> Option<&Record> {
        self.known.get(key).map(|known| &known.record)
    }
}

impl<'a> Material<'a> {
    /// The store paths in the layer.
    pub(super) fn paths(self) -> &'a [StorePath] {
        match self {
            Self::Paths(paths) => paths,
            Self::Root => &[],
        }
    }

    /// A few words for the log.
    pub(super) fn summary(self) -> String {
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
    pub(super) fn comment(self) -> String {
        match self {
            Self::Root => "customisation layer".to_owned(),
            Self::Paths(paths) => history::comment(paths),
        }
    }
}

impl Prepared<'_> {
    fn key(&self, material: Material<'_>, compression: Compression) -> LayerKey {
        let compression = compression.id();
        match material {
            Material::Root => LayerKey::of_root(&compression, &self.description),
            Material::Paths(paths) => {
                let infos = paths.iter().filter_map(|path| self.packages.closure.get(path));
                LayerKey::of_store_paths(&compression, infos.map(|info| (&info.path, info.nar_hash)))
            }
        }
    }

    async fn stable_plan(&self, previous: Vec<Vec<StorePath>>) -> Result<LayerPlan, BuildError> {
        let (closure, budget) = (self.packages.closure.clone(), budget(self.build.spec));
        blocking(move || LayerPlan::stable(&closure, budget, &previous)).await
    }
}
