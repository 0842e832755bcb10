//! What nixpkgs' `dockerTools` leaves of a layered image before any layer is made: `conf.json`, the input of the
//! script that `streamLayeredImage` wraps and `buildLayeredImage` runs.
//!
//! It names the store paths of every layer, so an image can be made without that script, its Python and its archive.
//! nixpkgs has changed the file a few times since 20.09, and says nowhere which form it is: keys that an older form
//! lacks have the meaning that the script of their time gave them.

mod error;
mod time;

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::error::ConfError;
pub use self::time::Time;
use crate::layer::StoreMetadata;
use crate::nix::{STORE_DIR, StorePath};
use crate::source::container;
use crate::source::json::Item;

/// More than the closure of any image takes: some 100 bytes for a path.
pub const MAX_CONF: u64 = 16 << 20;

/// Far beyond what any runtime mounts.
const MOST_LAYERS: usize = 1000;

/// A layered image of `dockerTools`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayeredImage {
    /// The name, which may begin with a registry.
    pub name: String,
    /// What it says is its tag, which counts if nobody gives it another.
    pub tag: String,
    /// Go's name of the architecture.
    pub architecture: String,
    /// The variant of the architecture.
    pub variant: Option<String>,
    /// The `config` of the image, as the expression has it.
    pub config: Map<String, Value>,
    /// When it says it was created.
    pub created: Time,
    /// The docker-archive whose layers come first.
    pub from_image: Option<PathBuf>,
    /// The store paths of each layer, in the order of its tar.
    pub store_layers: Vec<Vec<StorePath>>,
    /// A folder with `layer.tar`, which is the last layer, and its SHA-256 in `checksum`.
    pub customisation_layer: StorePath,
    /// How members of the store layers are marked.
    pub metadata: StoreMetadata,
    /// Whether upstream's script would mark them with the time at which it runs; `metadata` has a constant one.
    pub mtime_is_now: bool,
}

#[derive(Deserialize)]
struct Conf {
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Option<Value>,
    os: Option<String>,
    store_dir: Option<String>,
    from_image: Option<String>,
    store_layers: Vec<Vec<String>>,
    customisation_layer: String,
    repo_tag: String,
    created: String,
    mtime: Option<String>,
    uid: Option<Number>,
    gid: Option<Number>,
    uname: Option<String>,
    gname: Option<String>,
}

/// A number, which nixpkgs writes as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u32),
}

impl LayeredImage {
    /// Reads `conf.json`. `store_mode` is the mode that the script beside it gives `/nix` and `/nix/store`, if that
    /// is known.
    pub fn parse(bytes: &[u8], store_mode: Option<u32>) -> Result<Self, ConfError> {
        let conf: Conf = serde_json::from_slice(bytes)?;
        if let Some(os) = conf.os.filter(|os| os != "linux") {
            return Err(ConfError::new("os", &os, "images are made for `linux`"));
        }
        if let Some(folder) = conf.store_dir.filter(|folder| folder != STORE_DIR) {
            return Err(ConfError::new("store_dir", &folder, "the store is `/nix/store`"));
        }
        if conf.store_layers.len() > MOST_LAYERS {
            let layers = conf.store_layers.len().to_string();
            return Err(ConfError::new("store_layers", &layers, "it has more than 1000 layers"));
        }
        let (name, tag) = name_and_tag(&conf.repo_tag);
        // Its own spelling stays, as upstream's does.
        let config = match conf.config.unwrap_or_default() {
            Value::Null => Map::new(),
            config => {
                container::normalised(&Item::at("conf.json", "config", &config), container::CONFIG)?;
                serde_json::from_value(config)?
            }
        };
        let layer = |paths: &Vec<String>| paths.iter().map(|path| store_path("store_layers", path)).collect();
        let created = Time::parse("created", &conf.created)?;
        // Before there was an `mtime`, `created` was it.
        let mtime = conf.mtime.as_deref().map_or(Ok(created), |text| Time::parse("mtime", text))?;
        // The scripts of that time did not yet let others write to the folders.
        let store_mode = store_mode.unwrap_or(if conf.mtime.is_some() { 0o755 } else { 0o555 });
        let usual = StoreMetadata::default();
        let metadata = StoreMetadata {
            store_mode,
            mtime: mtime.seconds("mtime")?.unwrap_or(usual.mtime),
            uid: number("uid", conf.uid)?,
            gid: number("gid", conf.gid)?,
            uname: conf.uname.unwrap_or(usual.uname),
            gname: conf.gname.unwrap_or(usual.gname),
        };
        Ok(Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            architecture: conf.architecture,
            variant: conf.variant.filter(|variant| !variant.is_empty()),
            config,
            created,
            from_image: conf.from_image.as_deref().map(in_store).transpose()?,
            store_layers: conf.store_layers.iter().map(layer).collect::<Result<_, _>>()?,
            customisation_layer: store_path("customisation_layer", &conf.customisation_layer)?,
            metadata,
            mtime_is_now: mtime == Time::Now,
        })
    }
}

/// What an image is called, and its tag, which anything may stand in: only what comes before the first `/` is a host,
/// whose port has a colon before it, too.
fn name_and_tag(called: &str) -> (&str, &str) {
    let host = called.split_once('/').map_or("", |(host, _)| host);
    let port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let from = if port { host.len() } else { 0 };
    match called[from..].find(':') {
        Some(at) => (&called[..from + at], &called[from + at + 1..]),
        None => (called, "latest"),
    }
}

/// The mode that a script gives `/nix` and `/nix/store`, by its text.
pub fn store_mode(script: &str) -> u32 {
    if script.contains("0o0555") || script.contains("0o555") { 0o555 } else { 0o755 }
}

fn store_path(key: &'static str, text: &str) -> Result<StorePath, ConfError> {
    text.parse().map_err(|_| ConfError::new(key, text, "it is no store path"))
}

/// A store path, or a file in one.
fn in_store(text: &str) -> Result<PathBuf, ConfError> {
    let error = || ConfError::new("from_image", text, "it is no file of the store");
    let below = text.strip_prefix(STORE_DIR).and_then(|rest| rest.strip_prefix('/')).ok_or_else(error)?;
    let mut names = below.split('/');
    let first = names.next().unwrap_or_default();
    let plain =
        StorePath::from_base_name(first).is_ok() && names.all(|name| !matches!(name, "" | "." | ".."));
    if plain { Ok(text.into()) } else { Err(error()) }
}

fn number(key: &'static str, number: Option<Number>) -> Result<u32, ConfError> {
    match number {
        None => Ok(0),
        Some(Number::Number(number)) => Ok(number),
        Some(Number::Text(text)) => text.parse().map_err(|_| ConfError::new(key, &text, "it is no number")),
    }
}

#[cfg(test)]
mod tests;
