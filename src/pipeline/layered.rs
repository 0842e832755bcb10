//! Layered images of `dockerTools`: the layers as its script would write them, without the script.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, json};

use super::recipe::{Material, PlannedRecipe, Recipe, TarLayer, TarPlace};
use super::{BuildError, Event, Prepared};
use crate::layer::Compression;
use crate::nix::{Closure, StorePath};
use crate::oci::{DiffId, Platform};
use crate::source::docker_tools::LayeredImage;

/// The image of a `conf.json`, of whose store paths `closure` tells all.
pub(super) fn prepare(
    image: LayeredImage,
    closure: Closure,
    annotations: BTreeMap<String, String>,
    now: Timestamp,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Prepared<'static>, BuildError> {
    if let Some(path) = image.store_layers.iter().flatten().find(|path| closure.get(path).is_none()) {
        return Err(BuildError::NotReferred { path: path.clone() });
    }
    if image.mtime_is_now {
        on_event(Event::Said(
            "files of the layers get a constant time instead of the time of this build, so that unchanged layers stay \
             the same; with the script of this nixpkgs they would not"
                .to_owned(),
        ));
    }
    let created = image.created.to_text(now);
    let paths = image.store_layers.iter().map(Vec::len).sum();
    let nar_size = |path| closure.get(path).map_or(0, |info| info.nar_size);
    let nar_size = image.store_layers.iter().flatten().map(nar_size).sum();
    let layers = image.store_layers.into_iter().map(Material::Paths);
    let customisation = customisation_layer(&image.customisation_layer)?;
    let layers: Vec<Material> = layers.chain([Material::Tar(Arc::new(customisation))]).collect();
    on_event(Event::Realised { paths, nar_size, layers: layers.len() });
    Ok(Prepared {
        recipe: Recipe::Planned(PlannedRecipe { layers, closure, metadata: image.metadata }),
        compression: Compression::default(),
        platform: Platform { architecture: image.architecture, variant: image.variant },
        config: image.config,
        annotations,
        created,
    })
}

/// The last layer, which is taken as it is.
fn customisation_layer(path: &StorePath) -> Result<TarLayer, BuildError> {
    let folder = path.to_path_buf();
    let unreadable = |source| BuildError::Unreadable { path: path.clone(), source };
    let checksum = fs::read_to_string(folder.join("checksum")).map_err(unreadable)?;
    let diff_id: DiffId = format!("sha256:{}", checksum.trim())
        .parse()
        .map_err(|error| unreadable(std::io::Error::other(error)))?;
    let tar = folder.join("layer.tar");
    let size = fs::metadata(&tar).map_err(unreadable)?.len();
    let comment = format!("store paths: ['{path}']");
    Ok(TarLayer {
        diff_id,
        place: TarPlace::File(tar),
        size,
        history: Map::from_iter([("comment".to_owned(), json!(comment))]),
        summary: "files of the image itself".to_owned(),
    })
}
