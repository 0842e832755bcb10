//! Archives as `docker save` writes them (Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset
//! Format").

use std::collections::BTreeMap;

use serde::Deserialize;

use super::contents::{Contents, Place, parse};
use super::image::diff_ids;
use super::{ArchiveFault, ArchivedImage, ArchivedLayer, Listed, MemberName};
use crate::oci::DiffId;

/// The list of the images.
pub(super) const MANIFEST: &str = "manifest.json";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn entries(contents: &Contents) -> Result<(MemberName, Vec<Entry>), ArchiveFault> {
    let manifest = MemberName::parse(MANIFEST.as_bytes())?;
    let entries = parse(&manifest, contents.named_document(&manifest, &manifest)?)?;
    Ok((manifest, entries))
}

/// The images, each with its `RepoTags`, with their tags.
pub(super) fn list(contents: &Contents) -> Result<Vec<Listed>, ArchiveFault> {
    let (_, entries) = entries(contents)?;
    let listed = |(place, entry): (usize, Entry)| {
        let names = entry.repo_tags.unwrap_or_default().into_iter().map(with_tag).collect();
        Listed { places: vec![place], names, platform: None }
    };
    Ok(entries.into_iter().enumerate().map(listed).collect())
}

/// The image in place `at` of the list, of which there are more.
pub(super) fn image(contents: &Contents, at: usize) -> Result<ArchivedImage, ArchiveFault> {
    let (manifest, mut entries) = entries(contents)?;
    let Entry { config, layers, .. } = entries.swap_remove(at);
    let (config_name, layers) = (MemberName::parse(config.as_bytes())?, layers.unwrap_or_default());
    let config = contents.named_document(&config_name, &manifest)?.to_vec();
    let diff_ids = diff_ids(&config_name, &config, layers.len())?;
    let layers = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        let (member, Place { before, size }) =
            contents.layer(&MemberName::parse(layer.as_bytes())?, &manifest)?;
        Ok(ArchivedLayer { member, before, size, diff_id, blob: None })
    });
    let layers = layers.collect::<Result<_, ArchiveFault>>()?;
    Ok(ArchivedImage { names: Vec::new(), config, manifest: None, layers })
}

/// What images say of layers that are still to come. Links are not followed: that could take long.
#[derive(Default)]
pub(super) struct Ahead {
    /// The layers of each image, by its configuration; none before the list has passed by.
    listed: BTreeMap<MemberName, Vec<String>>,
    said: BTreeMap<MemberName, DiffId>,
}

impl Ahead {
    /// Takes note of a JSON file that has come to those that have passed by. The list and each configuration are read
    /// once.
    pub(super) fn note(&mut self, name: &MemberName, documents: &BTreeMap<MemberName, Vec<u8>>) {
        let Self { listed, said } = self;
        let mut learn = |config: &MemberName, layers: &[String]| {
            let Some(text) = documents.get(config) else { return };
            let diff_ids = diff_ids(config, text, layers.len()).unwrap_or_default();
            let members = layers.iter().map(|layer| MemberName::parse(layer.as_bytes()));
            said.extend(members.zip(diff_ids).filter_map(|(member, diff_id)| Some((member.ok()?, diff_id))));
        };
        if name.as_str() == MANIFEST {
            let entries: Vec<Entry> =
                documents.get(name).and_then(|list| parse(name, list).ok()).unwrap_or_default();
            let layers =
                |entry: Entry| Some((MemberName::parse(entry.config.as_bytes()).ok()?, entry.layers?));
            *listed = entries.into_iter().filter_map(layers).collect();
            listed.iter().for_each(|(config, layers)| learn(config, layers));
        } else if let Some(layers) = listed.get(name) {
            learn(name, layers);
        }
    }

    /// The diff_id of a layer, if what has passed by says it.
    pub(super) fn diff_id(&self, layer: &MemberName) -> Option<DiffId> {
        self.said.get(layer).copied()
    }
}

/// A name with all that Docker leaves out (distribution's `reference` package).
pub(super) fn full(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    with_tag(name.strip_prefix("library/").unwrap_or(name).to_owned())
}

fn with_tag(name: String) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag || name.is_empty() { name } else { format!("{name}:latest") }
}
