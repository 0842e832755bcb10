//! The layers of an image before any is made: what is in each, its key, and what is known of it.

use super::earlier::Earlier;
use super::recipe::{Material, Recipe, SpecRecipe};
use super::reuse::{KnownLayers, Whereabouts};
use super::{BuildError, Prepared, blocking, budget};
use crate::layer::{Compression, LayerKey, LayerPlan};
use crate::nix::StorePath;
use crate::record::Record;
use crate::spec::Strategy;

/// The layers of an image; the last one of a spec's holds what is in no store path.
pub(super) struct LayerSet {
    compression: Compression,
    materials: Vec<Material>,
    keys: Vec<LayerKey>,
    known: KnownLayers,
    /// Whether the key of the last layer says all that it was made of.
    root_is_recorded: bool,
}

impl LayerSet {
    /// Plans the layers, as the image before them wants it if the spec wants so, and finds what is known of them.
    pub(super) async fn plan(
        prepared: &Prepared<'_>,
        compression: Compression,
        earlier: &mut Earlier<'_>,
    ) -> Result<Self, BuildError> {
        let recipe = &prepared.recipe;
        let materials = recipe.materials(earlier).await?;
        let keys: Vec<LayerKey> =
            materials.iter().map(|material| recipe.key(material, compression)).collect();
        let root_is_recorded = recipe.root_is_recorded();
        let recorded = if root_is_recorded { &keys } else { &keys[..keys.len() - 1] };
        let known = KnownLayers::find(earlier, recorded).await?;
        Ok(Self { compression, materials, keys, known, root_is_recorded })
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
    pub(super) fn material(&self, number: usize) -> &Material {
        &self.materials[number - 1]
    }

    /// Whether layer `number` is what its key says, so that a record of it may be kept. Of equal layers, one has it.
    pub(super) fn is_recorded(&self, number: usize) -> bool {
        let is_known = self.root_is_recorded || number < self.len();
        is_known && !self.keys[..number - 1].contains(&self.key(number))
    }

    /// What is known of the layers that somebody made before.
    pub(super) fn known(&mut self) -> &mut KnownLayers {
        &mut self.known
    }

    /// The record of layer `number`, and where its blob is.
    pub(super) fn record(&self, number: usize) -> Option<(Record, &Whereabouts)> {
        let known = self.known.record(&self.key(number))?;
        // What an image says of a tar goes before what a record says of it.
        match self.material(number) {
            Material::Tar(tar) if tar.diff_id != known.0.layer.diff_id => None,
            Material::Tar(_) | Material::Paths(_) | Material::Root => Some(known),
        }
    }

    /// A record that says something else of a layer than `made`, and whose it is.
    pub(super) fn contradiction(&self, made: &Record) -> Option<&(Record, String)> {
        self.known.contradiction(made)
    }
}

impl Recipe<'_> {
    /// The layers, as the image before them wants them if the spec wants so.
    async fn materials(&self, earlier: &mut Earlier<'_>) -> Result<Vec<Material>, BuildError> {
        let spec = match self {
            Self::Spec(spec) => spec,
            Self::Planned(planned) => return Ok(planned.layers.clone()),
        };
        let plan = match spec.build.spec.layers.strategy {
            Strategy::Auto => spec.plan.clone(),
            Strategy::Stable => spec.stable_plan(earlier.groups().await?).await?,
        };
        let layers = plan.layers().iter().cloned().map(Material::Paths);
        Ok(layers.chain([Material::Root]).collect())
    }

    fn key(&self, material: &Material, compression: Compression) -> LayerKey {
        let compression = compression.id();
        match material {
            // Only specs have files of their own.
            Material::Root => {
                let description = self.spec().map_or(&[][..], |spec| &spec.description);
                LayerKey::of_root(&compression, description)
            }
            Material::Tar(tar) => LayerKey::of_tar(&compression, &tar.diff_id),
            Material::Paths(paths) => {
                let infos = paths.iter().filter_map(|path| self.closure().get(path));
                let hashes = infos.map(|info| (&info.path, info.nar_hash));
                LayerKey::of_store_paths(&compression, &self.metadata(), hashes)
            }
        }
    }

    /// Commands may see another store than the hashes in their key say, where other builders can write to it.
    fn root_is_recorded(&self) -> bool {
        let Some(SpecRecipe { build, .. }) = self.spec() else { return true };
        let shared = build.nix.is_none_or(|nix| nix.has_daemon() || !nix.is_installed());
        shared || !build.spec.has_commands()
    }
}

impl SpecRecipe<'_> {
    async fn stable_plan(&self, previous: Vec<Vec<StorePath>>) -> Result<LayerPlan, BuildError> {
        let (closure, budget) = (self.packages.closure.clone(), budget(self.build.spec));
        blocking(move || LayerPlan::stable(&closure, budget, &previous)).await
    }
}
