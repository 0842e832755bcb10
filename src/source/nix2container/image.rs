//! Reads `image.json`.

use serde_json::{Map, Value};

use super::layer::{Archive, LayerPath, Source};
use super::options::Options;
use super::{ImageJsonError, Layer};
use crate::nix::Compression;
use crate::oci::{DiffId, Digest};
use crate::source::container::{CONFIG, HISTORY, normalised};
use crate::source::json::{Item, KeyError};

const VERSION: u64 = 1;

/// Some ten thousand store paths; the largest images have a few thousand.
const MOST_BYTES: usize = 8 << 20;

const MOST_LAYERS: usize = 1000;

/// Each takes a moment to check.
const MOST_PATTERNS: usize = 4000;

/// What nix2container says if nobody says when an image was made.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// An image that nix2container has planned.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Go's name of the architecture, such as `amd64`.
    pub architecture: String,
    /// When it was made, as RFC 3339 text.
    pub created: String,
    /// The `config` object of the image configuration, with the keys of the image specification.
    pub config: Map<String, Value>,
    /// The layers, the lowest first. One that is there twice counts twice, as what lies between may hide it.
    pub layers: Vec<Layer>,
}

impl Image {
    /// The image in `bytes`, the content of the file that messages call `file`.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, ImageJsonError> {
        let json = json(file, bytes)?;
        let image = Item::root(file, &json);
        let found = image.require("version")?.number(u64::MAX)?;
        if found != VERSION {
            return Err(ImageJsonError::Version { file: file.to_owned(), found });
        }
        Ok(Self {
            architecture: architecture(&image.require("arch")?)?,
            created: image.get("created")?.map_or(Ok(NO_TIME.to_owned()), |item| time(&item))?,
            config: match image.get("image-config")? {
                Some(config) => normalised(&config, CONFIG)?,
                None => Map::new(),
            },
            layers: image.get("layers")?.map_or(Ok(Vec::new()), |item| layers(&item))?,
        })
    }
}

/// The layers in `bytes`, as the `layers.json` of nix2container's `buildLayer` and its own tests have them.
#[cfg(test)]
pub(super) fn parse_layers(file: &str, bytes: &[u8]) -> Result<Vec<Layer>, ImageJsonError> {
    Ok(layers(&Item::root(file, &json(file, bytes)?))?)
}

fn json(file: &str, bytes: &[u8]) -> Result<Value, ImageJsonError> {
    let size = bytes.len();
    if size > MOST_BYTES {
        return Err(ImageJsonError::TooLarge { file: file.to_owned(), size, most: MOST_BYTES });
    }
    serde_json::from_slice(bytes).map_err(|source| ImageJsonError::Json { file: file.to_owned(), source })
}

fn architecture(item: &Item<'_>) -> Result<String, KeyError> {
    let name = item.text()?;
    let good = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if name.is_empty() || name.len() > 20 || !good {
        return Err(item.error("is not one of Go's names of an architecture, such as `amd64`"));
    }
    Ok(name.to_owned())
}

fn time(item: &Item<'_>) -> Result<String, KeyError> {
    item.parsed::<jiff::Timestamp>("time of RFC 3339")?;
    Ok(item.text()?.to_owned())
}

fn layers(list: &Item<'_>) -> Result<Vec<Layer>, KeyError> {
    let items = list.list()?;
    if items.len() > MOST_LAYERS {
        return Err(list.error(format_args!("has more than {MOST_LAYERS} layers")));
    }
    let mut layers = Vec::new();
    let mut patterns = 0;
    for item in &items {
        layers.push(layer(item, &mut patterns)?);
    }
    Ok(layers)
}

fn layer(layer: &Item<'_>, patterns: &mut usize) -> Result<Layer, KeyError> {
    let digest: Digest = layer.require("digest")?.parsed("digest")?;
    let id = layer.require("diff_ids")?;
    let diff_id: DiffId = id.parsed("digest")?;
    let media_type = layer.require("mediatype")?;
    let compression = compression(&media_type)?;
    if compression == Compression::None && digest.to_string() != diff_id.to_string() {
        return Err(id.error("is not the `digest` of a layer that is not compressed"));
    }
    // Layers of a base image have no size, which Go writes as 0; of a compressed one it is not the tar's.
    let size = layer.get("size")?.map_or(Ok(0), |item| item.number(i64::MAX.unsigned_abs()))?;
    let size = Some(size).filter(|size| *size > 0 && compression == Compression::None);

    let source = match (layer.get("layer-path")?, layer.get("paths")?) {
        (Some(path), _) if !path.text()?.is_empty() => Source::Archive(archive(&path, compression)?),
        (_, Some(paths)) if !paths.list()?.is_empty() => Source::Paths(layer_paths(&paths, patterns)?),
        _ => return Err(layer.error("has neither `layer-path` nor `paths`")),
    };
    let history = match layer.get("History")? {
        Some(history) => normalised(&history, HISTORY)?,
        None => Map::new(),
    };
    if history.contains_key("empty_layer") {
        return Err(layer.error("has a `History` that says there is no layer"));
    }
    Ok(Layer { digest, diff_id, size, history, source })
}

/// Image specification, "Layer Media Types"; Docker's names mean the same.
fn compression(media_type: &Item<'_>) -> Result<Compression, KeyError> {
    let text = media_type.text()?;
    let kind = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match kind {
        Some("") => Ok(Compression::None),
        Some("+gzip" | ".gzip") => Ok(Compression::Gzip),
        Some("+zstd" | ".zstd") => Ok(Compression::Zstd),
        _ => Err(media_type.error("is no media type of a layer that can be read")),
    }
}

fn archive(item: &Item<'_>, compression: Compression) -> Result<Archive, KeyError> {
    Archive::parse(item.text()?, compression)
        .ok_or_else(|| item.error("is not the path of a file in `/nix/store`"))
}

fn layer_paths(list: &Item<'_>, patterns: &mut usize) -> Result<Vec<LayerPath>, KeyError> {
    let mut paths = Vec::new();
    for item in list.list()? {
        item.knows(&["path", "options"])?;
        let path = item.require("path")?;
        let options = item.get("options")?.map(|options| Options::parse(&options)).transpose()?;
        *patterns += options.as_ref().map_or(0, Options::patterns);
        if *patterns > MOST_PATTERNS {
            return Err(item.error(format_args!("has one of more than {MOST_PATTERNS} regular expressions")));
        }
        paths.push(LayerPath { path: path.parsed("store path")?, options });
    }
    Ok(paths)
}

#[cfg(test)]
mod tests;
