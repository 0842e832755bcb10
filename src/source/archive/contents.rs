//! What is kept of an archive that has passed by: its JSON, and where its layers were.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};

use serde::de::{DeserializeOwned, IgnoredAny};

use super::docker::Ahead;
use super::layer::layer_in;
use super::tar::Kind;
use super::{ArchiveFault, LIMITS, Layer, Limits, MemberName, Members};
use crate::source::copy::Room;

/// So many links may stand one behind the other.
const MOST_LINKS: usize = 40;

/// As much as tells whether a member can be a layer.
pub(super) const HEAD: u64 = 512;

/// What is kept of an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    documents: BTreeMap<MemberName, Vec<u8>>,
    layers: BTreeMap<MemberName, Place>,
    links: BTreeMap<MemberName, MemberName>,
    others: BTreeSet<MemberName>,
}

/// Where a layer is in an archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// How many layers come before it.
    pub(super) before: usize,
    /// How long it is, in bytes.
    pub(super) size: u64,
}

impl Contents {
    /// Goes through an archive, and shows `visit` each layer. It may read the layer or not.
    pub(super) fn read(
        members: &mut Members,
        limits: Limits,
        visit: &mut dyn FnMut(&mut Layer<'_>) -> Result<(), ArchiveFault>,
    ) -> Result<Self, ArchiveFault> {
        let mut contents = Self::default();
        let (mut kept, mut room, mut ahead) = (0, Room::new(limits.bytes), Ahead::default());
        let mut keep = |length: usize| {
            kept += length as u64;
            let what = || "all JSON in it, with the names,".to_owned();
            let too_large = || ArchiveFault::TooLarge { what: what(), most: limits.documents };
            (kept <= limits.documents).then_some(()).ok_or_else(too_large)
        };
        while let Some(member) = members.next()? {
            let name = member.name;
            match member.kind {
                Kind::Other => continue,
                Kind::Link(target) => {
                    contents.check_new(&name)?;
                    keep(name.as_str().len() + target.as_str().len())?;
                    contents.links.insert(name, target);
                    continue;
                }
                Kind::File => {}
            }
            keep(name.as_str().len())?;
            let mut head = read_some(members, HEAD.min(member.size))?;
            if let Some(document) = document(members, &name, member.size, &mut head, limits)? {
                contents.check_new(&name)?;
                keep(document.len())?;
                contents.documents.insert(name.clone(), document);
                ahead.note(&name, &contents.documents);
                continue;
            }
            let Some(compression) = layer_in(&head) else {
                contents.check_new(&name)?;
                contents.others.insert(name);
                continue;
            };
            let again = contents.layers.get(&name).is_some_and(|place| place.size == member.size);
            if !again {
                contents.check_new(&name)?;
                let place = Place { before: contents.layers.len(), size: member.size };
                contents.layers.insert(name.clone(), place);
            }
            let (size, room) = (member.size, &mut room);
            let said = ahead.diff_id(&name);
            visit(&mut Layer { name, size, compression, said, again, head, members, room })?;
        }
        Ok(contents)
    }

    fn check_new(&self, name: &MemberName) -> Result<(), ArchiveFault> {
        let there = self.documents.contains_key(name)
            || self.layers.contains_key(name)
            || self.links.contains_key(name)
            || self.others.contains(name);
        if there { Err(ArchiveFault::Duplicate(name.clone())) } else { Ok(()) }
    }

    /// The member that `name` stands for.
    fn resolve<'a>(&'a self, name: &'a MemberName) -> Result<&'a MemberName, ArchiveFault> {
        let mut end = name;
        for _ in 0..=MOST_LINKS {
            match self.links.get(end) {
                Some(target) => end = target,
                None => return Ok(end),
            }
        }
        Err(ArchiveFault::Circle(name.clone()))
    }

    /// A JSON file, if there is one of this name, or what is called as if it were one.
    pub(super) fn document(&self, name: &MemberName) -> Result<Option<&[u8]>, ArchiveFault> {
        let member = self.resolve(name)?;
        let document = self.documents.get(member);
        let is_there = || self.others.contains(member) || self.layers.contains_key(member);
        // What is called so is kept, unless it is too large.
        if document.is_none() && is_named_so(member) && is_there() {
            return Err(ArchiveFault::TooLarge { what: format!("`{member}`"), most: LIMITS.document });
        }
        Ok(document.map(Vec::as_slice))
    }

    /// The JSON file that `by` names.
    pub(super) fn named_document(&self, name: &MemberName, by: &MemberName) -> Result<&[u8], ArchiveFault> {
        let missing = || ArchiveFault::Missing { member: name.clone(), by: by.clone() };
        self.document(name)?.ok_or_else(missing)
    }

    /// How many layers there are.
    pub(super) fn count(&self) -> usize {
        self.layers.len()
    }

    /// Where a layer is.
    pub(super) fn place(&self, layer: &MemberName) -> Option<Place> {
        self.layers.get(layer).copied()
    }

    /// The layer that `by` names: the name that it has in the archive, and where it is there.
    pub(super) fn layer(
        &self,
        name: &MemberName,
        by: &MemberName,
    ) -> Result<(MemberName, Place), ArchiveFault> {
        let member = self.resolve(name)?;
        if let Some(place) = self.layers.get(member) {
            Ok((member.clone(), *place))
        } else if self.others.contains(member) || self.documents.contains_key(member) {
            Err(ArchiveFault::NoLayer(member.clone()))
        } else {
            Err(ArchiveFault::Missing { member: name.clone(), by: by.clone() })
        }
    }
}

/// What the JSON of `member` says.
pub(super) fn parse<T: DeserializeOwned>(member: &MemberName, bytes: &[u8]) -> Result<T, ArchiveFault> {
    serde_json::from_slice(bytes)
        .map_err(|error| ArchiveFault::Json { member: member.clone(), source: error.into() })
}

/// The rest of a member that is JSON. Of another one, what was read of it is in `head`.
fn document(
    members: &mut Members,
    name: &MemberName,
    size: u64,
    head: &mut Vec<u8>,
    limits: Limits,
) -> Result<Option<Vec<u8>>, ArchiveFault> {
    let begins_so =
        head.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| b"{[".contains(byte));
    // The name of the first file in a tar may begin like JSON.
    if !(is_named_so(name) || begins_so) || size > limits.document {
        return Ok(None);
    }
    head.append(&mut read_some(members, size - head.len() as u64)?);
    // What is called so may be no JSON, which matters to whoever asks for it.
    let is_document = is_named_so(name) || serde_json::from_slice::<IgnoredAny>(head).is_ok();
    Ok(is_document.then(|| std::mem::take(head)))
}

fn is_named_so(name: &MemberName) -> bool {
    matches!(name.as_str(), "oci-layout" | "repositories") || name.as_str().ends_with(".json")
}

/// The next `count` bytes of a member, which has as many.
pub(super) fn read_some(members: &mut Members, count: u64) -> Result<Vec<u8>, ArchiveFault> {
    let (mut bytes, mut fault) = (Vec::new(), None);
    let source = FromMembers { members, fault: &mut fault };
    let read = source.take(count).read_to_end(&mut bytes);
    match (fault, read) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(ArchiveFault::Read(error)),
        (None, Ok(_)) => Ok(bytes),
    }
}

struct FromMembers<'a> {
    members: &'a mut Members,
    fault: &'a mut Option<ArchiveFault>,
}

impl io::Read for FromMembers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.members.read_contents(buffer).map_err(|fault| {
            *self.fault = Some(fault);
            io::ErrorKind::Other.into()
        })
    }
}
