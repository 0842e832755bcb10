//! Layered images of `dockerTools`: the layers as its script would write them, without the script.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::recipe::{Material, PlannedRecipe, Recipe, TarLayer, TarPlace};
use super::{BuildError, Event, Prepared};
use crate::layer::Compression;
use crate::nix::{Closure, StorePath};
use crate::oci::{DiffId, Platform};
use crate::source::archive::{ArchiveSource, Form, Select};
use crate::source::docker_tools::LayeredImage;
use crate::source::store_file;

/// 64 digits, and a line end.
const MAX_CHECKSUM: u64 = 100;

/// The image of a `conf.json`, of whose store paths `closure` tells all.
pub(super) fn prepare(
    image: LayeredImage,
    closure: Closure,
    annotations: BTreeMap<String, String>,
    now: Timestamp,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<Prepared<'static>, BuildError> {
    let named = || image.store_layers.iter().flatten().chain([&image.customisation_layer]);
    if let Some(path) = named().find(|path| closure.get(path).is_none()) {
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
    let mut config = image.config;
    let mut base = Vec::new();
    if let Some(archive) = &image.from_image {
        let from = Base::read(archive)?;
        base = from.layers;
        let variables = merged(from.variables, config.get("Env"));
        if !variables.is_empty() {
            config.insert("Env".to_owned(), json!(variables));
        }
    }
    let tar = |layer| Material::Tar(Arc::new(layer));
    let customisation = customisation_layer(&image.customisation_layer)?;
    let layers: Vec<Material> = base
        .into_iter()
        .map(tar)
        .chain(image.store_layers.into_iter().map(Material::Paths))
        .chain([tar(customisation)])
        .collect();
    on_event(Event::Realised { paths, nar_size, layers: layers.len() });
    Ok(Prepared {
        recipe: Recipe::Planned(PlannedRecipe { layers, closure, metadata: image.metadata }),
        compression: Compression::default(),
        platform: Platform { architecture: image.architecture, variant: image.variant },
        config,
        annotations,
        created,
    })
}

/// What an image has of another one.
struct Base {
    layers: Vec<TarLayer>,
    /// Its `Env`.
    variables: Vec<String>,
}

impl Base {
    /// Of the first image in the archive, as upstream's script takes it.
    fn read(archive: &Path) -> Result<Self, BuildError> {
        let name = archive.display().to_string();
        let file =
            store_file::open(archive).map_err(|source| BuildError::Base { archive: name.clone(), source })?;
        let source = Arc::new(ArchiveSource::file(&name, Form::Docker, file)?);
        let image = source.image(&Select::At(0))?;
        let configuration: Value = serde_json::from_slice(&image.config).unwrap_or_default();
        let layers = image.layers.into_iter().enumerate().map(|(index, layer)| TarLayer {
            diff_id: layer.diff_id,
            size: 0,
            history: comment(&format!("store paths: ['{}']", layer.member)),
            summary: format!("layer {} of `fromImage`", index + 1),
            place: TarPlace::Archive(Arc::clone(&source), layer),
        });
        Ok(Self { layers: layers.collect(), variables: texts(configuration["config"].get("Env")) })
    }
}

/// Variables of both; of those with the same name, the last counts, in the place of the first.
fn merged(base: Vec<String>, own: Option<&Value>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = Vec::new();
    for variable in base.into_iter().chain(texts(own)) {
        match merged.iter_mut().find(|earlier| name(earlier) == name(&variable)) {
            Some(earlier) => *earlier = variable,
            None => merged.push(variable),
        }
    }
    merged
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

fn comment(text: &str) -> Map<String, Value> {
    Map::from_iter([("comment".to_owned(), json!(text))])
}

/// The last layer, which is taken as it is.
fn customisation_layer(path: &StorePath) -> Result<TarLayer, BuildError> {
    let folder = path.to_path_buf();
    let unreadable = |source| BuildError::Unreadable { path: path.clone(), source };
    let mut checksum = String::new();
    let file = store_file::open(&folder.join("checksum")).map_err(unreadable)?;
    file.take(MAX_CHECKSUM).read_to_string(&mut checksum).map_err(unreadable)?;
    let diff_id: Result<DiffId, _> = format!("sha256:{}", checksum.trim()).parse();
    let diff_id = diff_id.map_err(|_| unreadable(io::Error::other("its `checksum` is no SHA-256")))?;
    let tar = folder.join("layer.tar");
    let size = store_file::open(&tar).and_then(|file| file.metadata()).map_err(unreadable)?.len();
    Ok(TarLayer {
        diff_id,
        place: TarPlace::File(tar),
        size,
        history: comment(&format!("store paths: ['{path}']")),
        summary: "files of the image itself".to_owned(),
    })
}
