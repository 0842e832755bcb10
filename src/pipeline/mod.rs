//! From an image spec to a published image: the one place where the parts meet.
//!
//! [`Build::prepare`] does what needs no destination: Nix or a lock says which store paths there are, and the
//! closure is grouped into layers. [`Prepared::publish`] finds the layers that are there already, makes the
//! others while it sends them, then the configuration, the manifest and the tags. Both tell what happens
//! through [`Event`]s; nothing here prints.

mod archive;
mod commands;
mod copies;
mod description;
mod earlier;
mod error;
mod event;
mod explain;
mod files;
mod history;
mod image;
mod layer_set;
mod layered;
mod layers;
mod listing;
mod locked;
mod locking;
mod nix2container;
mod nix_image;
mod nix_images;
mod outlook;
mod packages;
mod recipe;
mod record_store;
mod references;
mod report;
mod reuse;
mod root;
mod scratch_store;
mod stores;
mod workshop;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use self::archive::ArchivePush;
pub use self::commands::CommandsFailed;
use self::copies::Copies;
pub use self::copies::is_changed_file;
pub use self::error::BuildError;
use self::event::Quota;
pub use self::event::{Event, Size};
pub use self::explain::{Explanation, Found, find_in_image};
pub use self::files::CopyError;
pub use self::locked::{LockFileError, OutdatedLock, read_lock, resolve};
pub use self::locking::{Locking, Update};
pub use self::nix_image::NixImage;
pub use self::nix_images::NixBuild;
pub use self::outlook::{Decision, Outlook, PlannedLayer};
use self::packages::Packages;
use self::recipe::{Recipe, SpecRecipe};
pub use self::record_store::RecordStore;
pub use self::references::{reuse_from, tags, usual_reuse};
pub use self::report::{Fate, LayerReport, Published, Sum, Totals};
pub use self::reuse::Reuse;
use crate::folder::Folder;
use crate::layer::{Compression, GzipLevel, LayerBudget, LayerPlan, ZstdLevel};
use crate::lock::Lock;
use crate::nix::System;
use crate::oci::{Platform, Tag};
use crate::publish::Destination;
use crate::sandbox::Sandbox;
use crate::source::binary_cache::BinaryCaches;
use crate::source::nix::Nix;
use crate::spec::{self, AttrPath, ImageSpec};
use crate::yaml::{self, KeyPath};

/// Gives the value of a `CI_…` variable.
pub type Variable<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What an image is built from.
pub struct Build<'a> {
    /// What the author asked for.
    pub spec: &'a ImageSpec,
    /// The project, for what the spec copies or evaluates of it.
    pub project: &'a Folder,
    /// Which store paths the spec means; without it, Nix is asked.
    pub lock: Option<&'a Lock>,
    /// Where the lock's store paths come from, if not from the host's store.
    pub caches: &'a Arc<BinaryCaches>,
    /// Finds, builds and downloads packages; a host with a lock needs none.
    pub nix: Option<&'a Nix>,
    /// Where the spec's commands run; a spec without commands needs none.
    pub sandbox: Option<&'a Sandbox>,
    /// A folder for garbage collector roots, to be kept until the image is published.
    pub roots: &'a Path,
    /// An empty folder that only this process and its sandbox can enter.
    pub scratch: &'a Path,
    /// The value of a `CI_…` variable.
    pub variable: &'a (dyn Fn(&str) -> Option<String> + Sync),
    /// Annotations, and labels too, where the spec has no others of the same names.
    pub annotations: BTreeMap<String, String>,
    /// When the image says it was created.
    pub created: Timestamp,
}

/// An image whose parts are known, and whose layers can be made at any time.
pub struct Prepared<'a> {
    recipe: Recipe<'a>,
    compression: Compression,
    platform: Platform,
    config: Map<String, Value>,
    annotations: BTreeMap<String, String>,
    created: String,
}

/// How much of the machine publishing takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Threads that compress; no digest depends on it.
    pub threads: NonZeroUsize,
    /// Layers that are made and sent at a time.
    pub uploads: NonZeroUsize,
    /// Bytes of a layer that are kept until they are acknowledged.
    pub chunk: usize,
}

impl Build<'_> {
    /// Finds everything that the image needs; without a lock, Nix builds or fetches it.
    pub async fn prepare(&self, on_event: &(dyn Fn(Event) + Sync)) -> Result<Prepared<'_>, BuildError> {
        // Before Nix, which may take long.
        check_variables(self.spec, self.variable).map_err(BuildError::Spec)?;
        let copies = Copies::find(self).await?;
        let quota = Quota::new(on_event);
        let packages = match self.lock {
            Some(lock) => locked::find(self, lock)?,
            None => Packages::realise(self, &quota).await?,
        };
        let (closure, budget) = (packages.closure.clone(), budget(self.spec));
        let plan = blocking(move || LayerPlan::auto(&closure, budget)).await?;
        on_event(Event::Realised {
            paths: packages.closure.len(),
            nar_size: packages.closure.nar_size(),
            layers: plan.layers().len() + 1,
        });
        let config = self.config(&packages)?;
        let description = description::describe(self, &packages, &copies)?;
        let root = OnceLock::new();
        let spec = SpecRecipe { build: self, packages, plan, copies, description, root };
        Ok(Prepared {
            recipe: Recipe::Spec(Box::new(spec)),
            compression: compression(self.spec.compression),
            platform: platform(self.spec.system.unwrap_or(System::HOST)),
            config,
            annotations: self.annotations()?,
            created: self.created.to_string(),
        })
    }

    fn config(&self, packages: &Packages) -> Result<Map<String, Value>, BuildError> {
        let rendered = config(self.spec, &|package| packages.store_path(package), self.variable);
        let Value::Object(mut config) = rendered.map_err(BuildError::Spec)? else { return Ok(Map::new()) };
        let labels = config.entry("Labels").or_insert_with(|| json!({}));
        if let Value::Object(labels) = labels {
            for (name, value) in &self.annotations {
                labels.entry(name).or_insert_with(|| json!(value));
            }
            if labels.is_empty() {
                config.remove("Labels");
            }
        }
        Ok(config)
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, BuildError> {
        let mut all = self.annotations.clone();
        all.extend(annotations(self.spec, self.variable).map_err(BuildError::Spec)?);
        Ok(all)
    }
}

impl Prepared<'_> {
    /// What [`publish`](Self::publish) would do; without a destination, what there would be to do.
    pub async fn outlook(
        &self,
        against: Option<(&Destination, &[Tag])>,
        reuse: &Reuse,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Outlook, BuildError> {
        outlook::outlook(self, against, reuse, on_event).await
    }

    /// Makes the layers that are not there while sending them, then lets `tags` name the image.
    pub async fn publish(
        &self,
        destination: &Destination,
        tags: &[Tag],
        effort: Effort,
        reuse: &Reuse,
        on_event: &(dyn Fn(Event) + Sync),
    ) -> Result<Published, BuildError> {
        image::publish(self, destination, tags, effort, reuse, on_event).await
    }
}

/// Does work on files on a thread of its own, so that whoever waits can still be told to stop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| BuildError::Thread)
}

/// Checks that the labels and annotations of `spec` name no variable that is not set.
pub fn check_variables(spec: &ImageSpec, variable: &Variable<'_>) -> Result<(), yaml::Error> {
    config(spec, &|_| Some(String::new()), variable)?;
    annotations(spec, variable).map(drop)
}

fn config(
    spec: &ImageSpec,
    store_path: &dyn Fn(&AttrPath) -> Option<String>,
    variable: &Variable<'_>,
) -> Result<Value, yaml::Error> {
    spec.config.render(store_path, variable).map_err(|error| {
        let fix = "name a variable that this job has, or leave the label out";
        spec.error_at(&error.key, error.cause.to_string(), fix)
    })
}

fn annotations(spec: &ImageSpec, variable: &Variable<'_>) -> Result<BTreeMap<String, String>, yaml::Error> {
    let expanded = spec.annotations.iter().map(|(name, text)| {
        let value = text.expand(variable).map_err(|unset| {
            let fix = "name a variable that this job has, or leave the annotation out";
            spec.error_at(&KeyPath::root().key("annotations").key(name), unset.to_string(), fix)
        })?;
        Ok((name.clone(), value))
    });
    expanded.collect()
}

/// How many layers the spec allows; its numbers are those that there are.
fn budget(spec: &ImageSpec) -> LayerBudget {
    LayerBudget::new(usize::from(spec.layers.max)).unwrap_or_default()
}

/// The compression that the spec asks for; its levels are those that there are.
fn compression(asked: spec::Compression) -> Compression {
    match asked {
        spec::Compression::Gzip { level } => Compression::Gzip(GzipLevel::new(level).unwrap_or_default()),
        spec::Compression::Zstd { level } => Compression::Zstd(ZstdLevel::new(level).unwrap_or_default()),
    }
}

/// The platform in OCI's words, which are Go's (`GOARCH`, `GOARM`).
fn platform(system: System) -> Platform {
    let (architecture, variant) = system.go_architecture();
    Platform { architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
}
