//! Images that nix2container has planned: its layers, with the digests that it has written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::recipe::{Material, PlannedRecipe, Recipe, TarLayer, TarPlace, summary};
use super::{BuildError, Event, Prepared};
use crate::layer::{Compression, StoreMetadata};
use crate::nix::{Closure, StorePath};
use crate::oci::Platform;
use crate::source::nix2container::{Image, Layer};

/// The image of an `image.json`, of whose store paths `closure` tells all.
pub(super) fn prepare(
    image: Image,
    closure: Closure,
    annotations: BTreeMap<String, String>,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Prepared<'static>, BuildError> {
    let unknown = |path: &&StorePath| closure.get(path).is_none();
    if let Some(path) = image.layers.iter().flat_map(Layer::store_paths).find(unknown) {
        return Err(BuildError::NotReferred { path: path.clone() });
    }
    on_event(Event::Realised {
        paths: closure.len(),
        nar_size: closure.nar_size(),
        layers: image.layers.len(),
    });
    let layers = image.layers.into_iter().map(|layer| {
        Material::Tar(Arc::new(TarLayer {
            diff_id: layer.diff_id,
            size: layer.size.unwrap_or_default(),
            history: layer.history.clone(),
            summary: summary(layer.store_paths()),
            place: TarPlace::Nix2Container(layer),
        }))
    });
    Ok(Prepared {
        recipe: Recipe::Planned(PlannedRecipe {
            layers: layers.collect(),
            closure,
            metadata: StoreMetadata::default(),
        }),
        compression: Compression::default(),
        platform: Platform { architecture: image.architecture, variant: None },
        config: image.config,
        annotations,
        created: image.created,
    })
}
