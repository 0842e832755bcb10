//! What the layers of an image are made of.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};

use super::copies::Copies;
use super::packages::Packages;
use super::{Build, BuildError, history};
use crate::layer::{LayerDigests, LayerPlan, RootTree, StoreMetadata};
use crate::nix::{Closure, StorePath};
use crate::oci::DiffId;
use crate::source::archive::{ArchiveSource, ArchivedLayer};
use crate::source::{nix2container, store_file};

/// Who says what is in the layers of an image.
pub(super) enum Recipe<'a> {
    /// A spec: its packages, planned by us, and its own files.
    Spec(Box<SpecRecipe<'a>>),
    /// An expression, which has planned them itself.
    Planned(PlannedRecipe),
}

/// The image of a spec.
pub(super) struct SpecRecipe<'a> {
    pub(super) build: &'a Build<'a>,
    pub(super) packages: Packages,
    pub(super) plan: LayerPlan,
    pub(super) copies: Copies,
    /// Everything that can change the last layer.
    pub(super) description: Vec<u8>,
    /// The tree of the last layer, once somebody has needed it.
    pub(super) root: OnceLock<Arc<RootTree>>,
}

/// An image whose layers are planned.
pub(super) struct PlannedRecipe {
    /// The lowest first.
    pub(super) layers: Vec<Material>,
    /// The store paths that they are made of, all of them in the host's store.
    pub(super) closure: Closure,
    /// How members of layers of store paths are marked.
    pub(super) metadata: StoreMetadata,
}

/// What a layer is made of.
#[derive(Clone)]
pub(super) enum Material {
    /// Store paths, in the order of the tar.
    Paths(Vec<StorePath>),
    /// The files of a spec that are in no store path.
    Root,
    /// A tar that is there.
    Tar(Arc<TarLayer>),
}

/// A layer whose tar is there already.
pub(super) struct TarLayer {
    /// What it must be.
    pub(super) diff_id: DiffId,
    /// Where it is.
    pub(super) place: TarPlace,
    /// Its length in bytes, as far as known.
    pub(super) size: u64,
    /// What the image's history says of it.
    pub(super) history: Map<String, Value>,
    /// A few words for the log.
    pub(super) summary: String,
}

/// Where the tar of a layer is.
pub(super) enum TarPlace {
    /// In a file of its own.
    File(PathBuf),
    /// In the archive of another image.
    Archive(Arc<ArchiveSource>, ArchivedLayer),
    /// In store paths, as nix2container arranges them.
    Nix2Container(nix2container::Layer),
}

impl TarLayer {
    /// Writes the tar.
    pub(super) fn write<W: Write>(&self, mut sink: W) -> Result<W, BuildError> {
        let written = match &self.place {
            TarPlace::File(path) => {
                store_file::open(path).and_then(|mut file| io::copy(&mut file, &mut sink))
            }
            TarPlace::Archive(archive, layer) => {
                archive.copy_layer(layer, &mut sink)?;
                return Ok(sink);
            }
            TarPlace::Nix2Container(layer) => return Ok(layer.write(Path::new("/"), sink)?),
        };
        written.map_err(|source| BuildError::Tar { layer: self.summary.clone(), source })?;
        Ok(sink)
    }

    /// Checks that what was written is what the image names.
    pub(super) fn check(&self, written: &LayerDigests) -> Result<(), BuildError> {
        let found = written.diff_id;
        if found == self.diff_id {
            return Ok(());
        }
        Err(BuildError::OtherTar { layer: self.summary.clone(), named: self.diff_id, found })
    }
}

impl Recipe<'_> {
    /// The spec, if it is one's.
    pub(super) fn spec(&self) -> Option<&SpecRecipe<'_>> {
        match self {
            Self::Spec(spec) => Some(spec),
            Self::Planned(_) => None,
        }
    }

    /// What is known of the store paths in the layers.
    pub(super) fn closure(&self) -> &Closure {
        match self {
            Self::Spec(spec) => &spec.packages.closure,
            Self::Planned(planned) => &planned.closure,
        }
    }

    /// How members of layers of store paths are marked.
    pub(super) fn metadata(&self) -> StoreMetadata {
        match self {
            Self::Spec(_) => StoreMetadata::default(),
            Self::Planned(planned) => planned.metadata.clone(),
        }
    }

    /// Whether the spec has commands, which need not make the same every time.
    pub(super) fn has_commands(&self) -> bool {
        self.spec().is_some_and(|spec| spec.build.spec.has_commands())
    }

    /// What the image's history says of a layer, in the words of `dockerTools`.
    pub(super) fn history(&self, material: &Material) -> Map<String, Value> {
        let comment = match material {
            Material::Tar(tar) => return tar.history.clone(),
            Material::Paths(paths) => history::comment(paths),
            Material::Root => "customisation layer".to_owned(),
        };
        let mut history = Map::from_iter([("comment".to_owned(), json!(comment))]);
        if let Self::Spec(_) = self {
            history.insert("created_by".to_owned(), json!("nixlayer"));
        }
        history
    }
}

impl Material {
    /// The store paths in the layer.
    pub(super) fn paths(&self) -> &[StorePath] {
        match self {
            Self::Paths(paths) => paths,
            Self::Root | Self::Tar(_) => &[],
        }
    }

    /// How many others come before it in an archive whose layers are best read in their order.
    pub(super) fn place_in_archive(&self) -> Option<usize> {
        match self {
            Self::Tar(tar) => match &tar.place {
                TarPlace::Archive(archive, layer) => archive.has_order().then_some(layer.before),
                TarPlace::File(_) | TarPlace::Nix2Container(_) => None,
            },
            Self::Paths(_) | Self::Root => None,
        }
    }

    /// How many bytes go into the layer, as far as it is known.
    pub(super) fn size(&self, closure: &Closure) -> u64 {
        match self {
            Self::Paths(paths) => {
                paths.iter().map(|path| closure.get(path).map_or(0, |info| info.nar_size)).sum()
            }
            Self::Root => 0,
            Self::Tar(tar) => tar.size,
        }
    }

    /// A few words for the log.
    pub(super) fn summary(&self) -> String {
        match self {
            Self::Root => "files of the image itself".to_owned(),
            Self::Tar(tar) => tar.summary.clone(),
            Self::Paths(paths) => summary(paths.iter()),
        }
    }
}

/// A few words for the log: the path in front stands for the others.
pub(super) fn summary<'a>(mut paths: impl Iterator<Item = &'a StorePath>) -> String {
    let first = paths.next().map(|path| path.name().to_owned()).unwrap_or_default();
    match paths.count() {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
