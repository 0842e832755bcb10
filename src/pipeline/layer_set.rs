//! The layers of an image before any is made: what is in each, its key, and what is known of it.

use super::earlier::Earlier;
use super::reuse::{KnownLayers, Whereabouts};
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
    known: KnownLayers,
    /// Whether the key of the last layer says all that it was made of.
    root_is_recorded: bool,
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
        let root_is_recorded = prepared.root_is_recorded();
        let recorded = if root_is_recorded { &keys } else { &keys[..keys.len() - 1] };
        let known = KnownLayers::find(earlier, recorded).await?;
        Ok(Self { compression, plan, keys, known, root_is_recorded })
    }

    /// How they are compressed.
    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// How many there are, which is the number of the last one.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of layer `number`.
    pub(super) fn key(&self, number: usize) -> LayerKey {
        self.keys[number - 1]
    }

    /// What layer `number` is made of.
    pub(super) fn material(&self, number: usize) -> Material<'_> {
        self.plan.layers().get(number - 1).map_or(Material::Root, |paths| Material::Paths(paths))
    }

    /// Whether layer `number` is what its key says, so that a record of it may be kept.
    pub(super) fn is_recorded(&self, number: usize) -> bool {
        self.root_is_recorded || number < self.len()
    }

    /// What is known of the layers that somebody made before.
    pub(super) fn known(&mut self) -> &mut KnownLayers {
        &mut self.known
    }

    /// The record of layer `number`, and where its blob is.
    pub(super) fn record(&self, number: usize) -> Option<(Record, &Whereabouts)> {
        self.known.record(&self.key(number))
    }

    /// A record that says something else of a layer than `made`, and whose it is.
    pub(super) fn contradiction(&self, made: &Record) -> Option<&(Record, String)> {
        self.known.contradiction(made)
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

    /// Commands may see another store than the hashes in their key say, where other builders can write to it.
    fn root_is_recorded(&self) -> bool {
        let shared = self.build.nix.is_none_or(|nix| nix.has_daemon() || !nix.is_installed());
        shared || !self.build.spec.has_commands()
    }

    async fn stable_plan(&self, previous: Vec<Vec<StorePath>>) -> Result<LayerPlan, BuildError> {
        let (closure, budget) = (self.packages.closure.clone(), budget(self.build.spec));
        blocking(move || LayerPlan::stable(&closure, budget, &previous)).await
    }
}
