//! The images that the JSON of an archive tells of.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::contents::{Contents, parse};
use super::error::quoted;
use super::platform::{Platform, for_host};
use super::{ArchiveFault, Form, MemberName, PassedLayer, docker, layout};
use crate::oci::{Descriptor, DiffId, Tag};

/// Which image of an archive is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Select {
    /// The only one.
    #[default]
    Only,
    /// The one of this name: a `RepoTag`, or an `org.opencontainers.image.ref.name`.
    Named(String),
    /// The one in this place of the list, from 0.
    At(usize),
}

/// An image in the list of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its places in the list: one for each name in an image layout.
    pub(super) places: Vec<usize>,
    /// What it is called.
    pub names: Vec<String>,
    /// What it is for, where the list says so.
    pub(super) platform: Option<Platform>,
}

impl Listed {
    /// Its first place in the list.
    pub fn place(&self) -> usize {
        self.places.first().copied().unwrap_or_default()
    }
}

/// An image in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedImage {
    /// What it is called: repositories with tags, or tags. Those that were asked for, if some were.
    pub names: Vec<String>,
    /// Its configuration, as it is in the archive.
    pub config: Vec<u8>,
    /// Its manifest, as it is in an image layout.
    pub manifest: Option<Vec<u8>>,
    /// Its layers, the lowest first.
    pub layers: Vec<ArchivedLayer>,
}

/// A layer of an image in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedLayer {
    /// The member that has it.
    pub member: MemberName,
    /// How many layers of the archive come before it.
    pub before: usize,
    /// Bytes of the member.
    pub size: u64,
    /// What its tar should be.
    pub diff_id: DiffId,
    /// What the member should be, where an image layout says so.
    pub blob: Option<Descriptor>,
}

impl Contents {
    /// The images that there are.
    pub(super) fn list(&self, form: Form) -> Result<Vec<Listed>, ArchiveFault> {
        match self.form(form)? {
            Form::Docker => docker::list(self),
            Form::Layout | Form::Any => layout::list(self),
        }
    }

    /// The image that is wanted.
    pub(super) fn image(&self, form: Form, select: &Select) -> Result<ArchivedImage, ArchiveFault> {
        let form = self.form(form)?;
        let (at, names) = selected(self.list(form)?, select, form)?;
        let image = match form {
            Form::Docker => docker::image(self, at)?,
            Form::Layout | Form::Any => layout::image(self, at)?,
        };
        Ok(ArchivedImage { names, ..image })
    }

    /// What Docker wrote is an image layout as well by now, and what is in both is meant as Docker's.
    fn form(&self, form: Form) -> Result<Form, ArchiveFault> {
        let [docker, layout] =
            [docker::MANIFEST, layout::INDEX].map(|name| MemberName::parse(name.as_bytes()));
        let (docker, layout) = (self.document(&docker?)?.is_some(), self.document(&layout?)?.is_some());
        match form {
            Form::Docker | Form::Any if docker => Ok(Form::Docker),
            Form::Layout | Form::Any if layout => Ok(Form::Layout),
            Form::Docker => Err(ArchiveFault::NoImages("`manifest.json`")),
            Form::Layout => Err(ArchiveFault::NoImages("`index.json`")),
            Form::Any => Err(ArchiveFault::NoImages("`manifest.json`, and no `index.json`")),
        }
    }
}

/// The place of the image that is wanted, and those of its names that are.
fn selected(
    mut list: Vec<Listed>,
    select: &Select,
    form: Form,
) -> Result<(usize, Vec<String>), ArchiveFault> {
    if list.is_empty() {
        return Err(ArchiveFault::NoImages("image in its list"));
    }
    let is_it = |name: &String, wanted: &str| match form {
        Form::Docker => docker::full(name) == docker::full(wanted),
        Form::Layout | Form::Any => name == wanted,
    };
    match select {
        Select::Only => {}
        Select::At(at) if list.iter().any(|listed| listed.places.contains(at)) => {
            list.retain(|listed| listed.places.contains(at));
        }
        Select::Named(wanted) if list.iter().flat_map(|listed| &listed.names).any(|it| is_it(it, wanted)) => {
            list.retain_mut(|listed| {
                listed.names.retain(|name| is_it(name, wanted));
                !listed.names.is_empty()
            });
        }
        Select::At(at) => return Err(ArchiveFault::NoSuch { wanted: format!("@{at}"), images: list }),
        Select::Named(wanted) => return Err(ArchiveFault::NoSuch { wanted: wanted.clone(), images: list }),
    }
    let is_known = |listed: &Listed| listed.platform.as_ref().is_none_or(|platform| !platform.is_unknown());
    if list.iter().any(is_known) {
        list.retain(is_known);
    }
    // One name may stand for several platforms.
    let for_host = match list.iter().all(|listed| listed.names == list[0].names) {
        true => for_host(list.iter().map(|listed| listed.platform.as_ref())),
        false => Vec::new(),
    };
    let at = match (list.as_slice(), for_host.as_slice()) {
        ([_], _) => 0,
        (_, [at]) => *at,
        _ => return Err(ArchiveFault::Several(list)),
    };
    let image = list.swap_remove(at);
    Ok((image.place(), image.names))
}

impl ArchivedImage {
    /// The tags in its names, each once.
    pub fn tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.names.iter().filter_map(|name| tag_in(name)).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    /// Those of its names that give it no tag, as a log shows them; none if there are none.
    pub fn others(&self) -> Option<String> {
        let others: Vec<&String> = self.names.iter().filter(|name| tag_in(name).is_none()).collect();
        (!others.is_empty()).then(|| quoted(&others))
    }

    /// Checks that its layers are what it says of them, given what passed by.
    pub fn check(&self, passed: &BTreeMap<MemberName, PassedLayer>) -> Result<(), ArchiveFault> {
        for layer in &self.layers {
            let member = layer.member.clone();
            let found = passed.get(&member).ok_or_else(|| ArchiveFault::Changed(member.clone()))?;
            if let Some(said) = &layer.blob {
                match found.blob {
                    None => return Err(ArchiveFault::LateLayout(member)),
                    Some((digest, size)) if (digest, size) != (said.digest, said.size) => {
                        return Err(ArchiveFault::Blob {
                            member,
                            found: digest,
                            found_size: size,
                            said: said.digest,
                            said_size: said.size,
                        });
                    }
                    Some(_) => {}
                }
            }
            if found.diff_id != layer.diff_id {
                return Err(ArchiveFault::DiffId { member, found: found.diff_id, said: layer.diff_id });
            }
        }
        Ok(())
    }
}

/// The tag in a name. One in an image layout may be the tag alone; a digest is none.
fn tag_in(name: &str) -> Option<Tag> {
    let (name, has_digest) = name.split_once('@').map_or((name, false), |(name, _)| (name, true));
    match name.rsplit('/').next().unwrap_or(name).rsplit_once(':') {
        Some((_, tag)) => tag.parse().ok(),
        None if has_digest => None,
        None => name.parse().ok(),
    }
}

/// An image configuration, as far as it matters here.
#[derive(Deserialize)]
struct Configuration {
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// What the configuration in `member` says of `layers` layers.
pub(super) fn diff_ids(
    member: &MemberName,
    config: &[u8],
    layers: usize,
) -> Result<Vec<DiffId>, ArchiveFault> {
    let Some(rootfs) = parse::<Configuration>(member, config)?.rootfs else {
        return Err(ArchiveFault::NoConfig(member.clone()));
    };
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != layers {
        return Err(ArchiveFault::Count { layers, diff_ids: diff_ids.len() });
    }
    let parsed = diff_ids.iter().map(|text| text.parse().map_err(|_| no_digest(member, text)));
    parsed.collect()
}

pub(super) fn no_digest(by: &MemberName, text: &str) -> ArchiveFault {
    let (by, shown) = (by.clone(), super::name::shown(text.as_bytes()));
    match text.split_once(':') {
        Some((algorithm, hex))
            if algorithm != "sha256"
                && !hex.is_empty()
                && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            ArchiveFault::OtherDigest { by, text: shown }
        }
        _ => ArchiveFault::NoDigest { by, text: shown },
    }
}
