//! Layered images of `dockerTools`: the layers as its script would write them, without the script.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::recipe::{Material, PlannedRecipe, Recipe, TarLayer, TarPlace};
use super::{BuildError, Event, Prepared, history};
use crate::layer::Compression;
use crate::nix::{Closure, STORE_DIR, StorePath};
use crate::oci::{DiffId, Platform};
use crate::source::archive::{ArchiveSource, Form, Select};
use crate::source::docker_tools::LayeredImage;
use crate::source::store_file;

/// 64 digits, and a line end.
const MAX_CHECKSUM: u64 = 100;

/// The image of a `conf.json`, and all that had to be read for it.
pub(super) struct Layered {
    image: LayeredImage,
    base: Vec<TarLayer>,
    customisation: TarLayer,
    closure: Closure,
}

impl Layered {
    /// Reads what `image` names, of whose store paths `closure` tells all. It may block.
    pub(super) fn read(mut image: LayeredImage, closure: Closure) -> Result<Self, BuildError> {
        let base = image.from_image.as_deref().and_then(object);
        let named = || image.store_layers.iter().flatten().chain([&image.customisation_layer]).chain(&base);
        if let Some(path) = named().find(|path| closure.get(path).is_none()) {
            return Err(BuildError::NotReferred { path: path.clone() });
        }
        let customisation = customisation_layer(&image.customisation_layer)?;
        let mut base = Vec::new();
        if let Some(archive) = &image.from_image {
            let from = Base::read(archive)?;
            base = from.layers;
            let variables = merged(from.variables, image.config.get("Env"));
            if !variables.is_empty() {
                image.config.insert("Env".to_owned(), json!(variables));
            }
        }
        Ok(Self { image, base, customisation, closure })
    }

    /// What the image is called.
    pub(super) fn name(&self) -> &str {
        &self.image.name
    }

    /// Its own tag, as it says.
    pub(super) fn tag(&self) -> &str {
        &self.image.tag
    }

    /// When it says it was created.
    pub(super) fn created(&self, now: Timestamp) -> String {
        self.image.created.to_text(now)
    }

    /// The layers from the base to the image's own files.
    pub(super) fn prepare(
        self,
        annotations: BTreeMap<String, String>,
        now: Timestamp,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Prepared<'static> {
        let created = self.created(now);
        let Self { image, base, customisation, closure } = self;
        if image.mtime_is_now {
            on_event(Event::Said(
                "files of the layers get a constant time instead of the time of this build, so that unchanged layers \
                 stay the same; with the script of this nixpkgs they would not"
                    .to_owned(),
            ));
        }
        let paths = image.store_layers.iter().map(Vec::len).sum();
        let nar_size = |path| closure.get(path).map_or(0, |info| info.nar_size);
        let nar_size = image.store_layers.iter().flatten().map(nar_size).sum();
        let tar = |layer| Material::Tar(Arc::new(layer));
        let layers: Vec<Material> = base
            .into_iter()
            .map(tar)
            .chain(image.store_layers.into_iter().map(Material::Paths))
            .chain([tar(customisation)])
            .collect();
        on_event(Event::Realised { paths, nar_size, layers: layers.len() });
        Prepared {
            recipe: Recipe::Planned(PlannedRecipe { layers, closure, metadata: image.metadata }),
            compression: Compression::default(),
            platform: Platform { architecture: image.architecture, variant: image.variant },
            config: image.config,
            annotations,
            created,
        }
    }
}

/// The object of the store that a file is in.
fn object(file: &Path) -> Option<StorePath> {
    let below = file.strip_prefix(STORE_DIR).ok()?;
    StorePath::from_base_name(below.components().next()?.as_os_str().to_str()?).ok()
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
            size: layer.size,
            history: said(&format!("store paths: ['{}']", layer.member)),
            summary: format!("layer {} of `fromImage`", index + 1),
            place: TarPlace::Archive(Arc::clone(&source), layer),
        });
        Ok(Self { layers: layers.collect(), variables: texts(configuration["config"].get("Env")) })
    }
}

/// Variables of both; of those with the same name, the last counts, in the place of the first.
fn merged(base: Vec<String>, own: Option<&Value>) -> Vec<String> {
    let mut places = BTreeMap::new();
    let mut merged: Vec<String> = Vec::new();
    for variable in base.into_iter().chain(texts(own)) {
        let name = variable.split('=').next().unwrap_or_default().to_owned();
        match places.get(&name) {
            Some(place) => merged[*place] = variable,
            None => {
                places.insert(name, merged.len());
                merged.push(variable);
            }
        }
    }
    merged
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|text| Some(text.as_str()?.to_owned())).collect()
}

fn said(text: &str) -> Map<String, Value> {
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
        history: said(&history::comment(std::slice::from_ref(path))),
        summary: "files of the image itself".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_base_are_replaced_in_their_place() {
        let base = ["A=1", "B=2", "PATH=/bin"].map(str::to_owned).to_vec();

        assert_eq!(merged(base.clone(), Some(&json!(["B=3", "C=4"]))), ["A=1", "B=3", "PATH=/bin", "C=4"]);
        assert_eq!(merged(base.clone(), None), base);
    }
}
