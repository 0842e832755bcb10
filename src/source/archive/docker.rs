//! Archives as `docker save` writes them (Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset
//! Format").

use std::collections::BTreeMap;

use serde::Deserialize;

use super::contents::{Contents, Place, parse};
use super::image::diff_ids;
use super::{ArchiveFault, ArchivedImage, ArchivedLayer, MemberName};
use crate::oci::DiffId;

/// The list of the images.
pub(super) const MANIFEST: &str = "manifest.json";

/// Of so many images it is found out what they say of their layers before these come. A short list can name a long
/// configuration often.
const MOST_AHEAD: usize = 64;

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

/// The `RepoTags` of each image, with their tags.
pub(super) fn names(contents: &Contents) -> Result<Vec<Vec<String>>, ArchiveFault> {
    let (_, entries) = entries(contents)?;
    let names = |entry: Entry| entry.repo_tags.unwrap_or_default().into_iter().map(with_tag).collect();
    Ok(entries.into_iter().map(names).collect())
}

/// The image in place `at` of the list, of which there are more.
pub(super) fn image(contents: &Contents, at: usize) -> Result<ArchivedImage, ArchiveFault> {
    let (manifest, mut entries) = entries(contents)?;
    let Entry { config, repo_tags, layers } = entries.swap_remove(at);
    let (config_name, layers) = (MemberName::parse(config.as_bytes())?, layers.unwrap_or_default());
    let config = contents.named_document(&config_name, &manifest)?.to_vec();
    let diff_ids = diff_ids(&config_name, &config, layers.len())?;
    let layers = layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        let (member, Place { before, size }) =
            contents.layer(&MemberName::parse(layer.as_bytes())?, &manifest)?;
        Ok(ArchivedLayer { member, before, size, diff_id, blob: None })
    });
    let layers = layers.collect::<Result<_, ArchiveFault>>()?;
    Ok(ArchivedImage { names: repo_tags.unwrap_or_default(), config, manifest: None, layers })
}

/// What images say of layers that are still to come.
#[derive(Default)]
pub(super) struct Ahead {
    /// Images whose configuration has not passed by; none before the list has.
    waiting: Option<Vec<Waiting>>,
    said: BTreeMap<MemberName, DiffId>,
}

struct Waiting {
    config: MemberName,
    layers: Vec<String>,
}

impl Ahead {
    /// The diff_id of a layer, if what has passed by says it. The list and each configuration are read once.
    pub(super) fn diff_id(&mut self, layer: &MemberName, contents: &Contents) -> Option<DiffId> {
        let waiting = match &mut self.waiting {
            Some(waiting) => waiting,
            none => match entries(contents) {
                Err(ArchiveFault::Missing { .. }) => return None,
                listed => {
                    let entries = listed.map(|(_, entries)| entries).unwrap_or_default();
                    none.insert(entries.into_iter().take(MOST_AHEAD).filter_map(Waiting::of).collect())
                }
            },
        };
        let is_there = |image: &mut Waiting| matches!(contents.document(&image.config), Ok(Some(_)));
        for Waiting { config, layers } in waiting.extract_if(.., is_there) {
            let Ok(Some(text)) = contents.document(&config) else { continue };
            let diff_ids = diff_ids(&config, text, layers.len()).unwrap_or_default();
            let members = layers.iter().map(|layer| MemberName::parse(layer.as_bytes()));
            let said = members.zip(diff_ids).filter_map(|(member, diff_id)| Some((member.ok()?, diff_id)));
            self.said.extend(said);
        }
        self.said.get(layer).copied()
    }
}

impl Waiting {
    fn of(entry: Entry) -> Option<Self> {
        Some(Self { config: MemberName::parse(entry.config.as_bytes()).ok()?, layers: entry.layers? })
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
