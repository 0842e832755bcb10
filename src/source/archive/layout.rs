//! Image layouts (image specification, "OCI Image Layout").

use std::collections::BTreeMap;

use serde::Deserialize;

use super::contents::{Contents, Place, parse};
use super::image::{diff_ids, no_digest};
use super::platform::{self, Platform, for_host};
use super::{ArchiveFault, ArchivedImage, ArchivedLayer, Listed, MemberName};
use crate::oci::{Digest, Manifest, ManifestError, REF_NAME, media_type};

/// The list of the images.
pub(super) const INDEX: &str = "index.json";

/// What says that it is a layout.
const LAYOUT: &str = "oci-layout";

/// The same list as Docker calls it.
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// So many lists may stand one in the other.
const MOST_LISTS: usize = 4;

#[derive(Deserialize)]
struct Layout {
    #[serde(default, rename = "imageLayoutVersion")]
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    #[serde(default)]
    media_type: Option<String>,
}

fn entries(contents: &Contents) -> Result<(MemberName, Vec<Entry>), ArchiveFault> {
    let layout = MemberName::parse(LAYOUT.as_bytes())?;
    let version = contents.document(&layout)?.map(|text| parse::<Layout>(&layout, text)).transpose()?;
    // Of what is to come, the image specification says nothing yet.
    if let Some(version) = version.and_then(|layout| layout.version).filter(|it| !it.starts_with("1.")) {
        return Err(ArchiveFault::LayoutVersion(version));
    }
    let index = MemberName::parse(INDEX.as_bytes())?;
    let entries = parse::<Index>(&index, contents.named_document(&index, &index)?)?.manifests;
    Ok((index, entries))
}

/// The images, each with its reference names; some have none. Entries of one digest are one image.
pub(super) fn list(contents: &Contents) -> Result<Vec<Listed>, ArchiveFault> {
    let (_, entries) = entries(contents)?;
    let (mut list, mut seen) = (Vec::<Listed>::new(), BTreeMap::new());
    for (place, entry) in entries.into_iter().enumerate() {
        let at = *seen.entry(entry.digest).or_insert(list.len());
        if at == list.len() {
            list.push(Listed::default());
        }
        let listed = &mut list[at];
        listed.places.push(place);
        listed.names.extend(entry.annotations.and_then(|mut annotations| annotations.remove(REF_NAME)));
        listed.platform = listed.platform.take().or(entry.platform);
    }
    Ok(list)
}

/// The image in place `at` of the list, of which there are more; of several platforms, the one for this host, or the
/// only one.
pub(super) fn image(contents: &Contents, at: usize) -> Result<ArchivedImage, ArchiveFault> {
    let (mut by, mut entries) = entries(contents)?;
    let mut entry = entries.swap_remove(at);
    let mut lists = 0;
    while matches!(entry.media_type.as_str(), media_type::INDEX | DOCKER_LIST) && lists < MOST_LISTS {
        lists += 1;
        let (name, bytes) = blob(contents, &entry.digest, entry.size, &by)?;
        entry = of_platforms(parse::<Index>(&name, bytes)?.manifests)?;
        by = name;
    }
    let (name, bytes) = blob(contents, &entry.digest, entry.size, &by)?;
    let media_type = parse::<Typed>(&name, bytes)?.media_type;
    let media_type = media_type.or((!entry.media_type.is_empty()).then_some(entry.media_type));
    if let Some(media_type) = media_type.filter(|media_type| media_type != media_type::of_manifest(bytes)) {
        return Err(ArchiveFault::MediaType { member: name, media_type });
    }
    let manifest = Manifest::parse(bytes).map_err(|error| match error {
        ManifestError::Json(error) => ArchiveFault::Json { member: name.clone(), source: error.into() },
        ManifestError::Descriptor(text) => no_digest(&name, &text),
    })?;
    let config_digest = manifest.config.digest.to_string();
    let (config_name, config) = blob(contents, &config_digest, manifest.config.size, &name)?;
    let diff_ids = diff_ids(&config_name, config, manifest.layers.len())?;
    let layers = manifest.layers.into_iter().zip(diff_ids).map(|(descriptor, diff_id)| {
        let member = MemberName::of_blob(&descriptor.digest.hex());
        let (member, Place { before, size }) = contents.layer(&member, &name)?;
        Ok(ArchivedLayer { member, before, size, diff_id, blob: Some(descriptor) })
    });
    let layers = layers.collect::<Result<_, ArchiveFault>>()?;
    Ok(ArchivedImage { names: Vec::new(), config: config.to_vec(), manifest: Some(bytes.to_vec()), layers })
}

/// A blob that is JSON, given that it is what its descriptor says.
fn blob<'a>(
    contents: &'a Contents,
    digest: &str,
    size: u64,
    by: &MemberName,
) -> Result<(MemberName, &'a [u8]), ArchiveFault> {
    // A digest becomes a name, so it has to be one.
    let said: Digest = digest.parse().map_err(|_| no_digest(by, digest))?;
    let member = MemberName::of_blob(&said.hex());
    let bytes = contents.named_document(&member, by)?;
    let (found, found_size) = (Digest::of(bytes), bytes.len() as u64);
    if (found, found_size) != (said, size) {
        return Err(ArchiveFault::Blob { member, found, found_size, said, said_size: size });
    }
    Ok((member, bytes))
}

/// The image for this host, the first if there are several, or the only one that there is.
fn of_platforms(mut entries: Vec<Entry>) -> Result<Entry, ArchiveFault> {
    entries.retain(|entry| entry.platform.as_ref().is_none_or(|platform| !platform.is_unknown()));
    match for_host(entries.iter().map(|entry| entry.platform.as_ref())).first() {
        Some(at) => Ok(entries.swap_remove(*at)),
        None if entries.len() == 1 => Ok(entries.swap_remove(0)),
        None => Err(ArchiveFault::Platform {
            wanted: platform::host(),
            platforms: entries
                .iter()
                .filter_map(|entry| Some(entry.platform.as_ref()?.to_string()))
                .collect(),
        }),
    }
}
