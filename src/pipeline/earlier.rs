//! The images that are under the tags to be written, and near them, as far as somebody has looked.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::{BuildError, Event, Reuse, history};
use crate::layer::Compression;
use crate::nix::StorePath;
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::publish::{Destination, Standing};
use crate::record::{Distrust, Trust, without_records};

/// The manifest's annotation that tells which media type of layers the registry did not take.
pub(super) const REFUSED: &str = "dev.nixlayer.layers.refused";

/// What stands at a destination and near it.
pub(super) struct Earlier<'a> {
    destination: Option<&'a Destination>,
    reuse: &'a Reuse,
    on_event: &'a (dyn Fn(Event) + Sync),
    waiting: VecDeque<Place>,
    seen: Vec<Seen>,
    /// Blobs that the repository has.
    present: BTreeSet<Digest>,
    standing: Standing,
}

/// Where an image may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) repository: Repository,
    pub(super) tag: Tag,
    /// Whether the tag is to be written.
    target: bool,
}

/// An image that is there.
pub(super) struct Seen {
    pub(super) place: Place,
    pub(super) manifest: Manifest,
    bytes: Bytes,
}

impl<'a> Earlier<'a> {
    /// Nothing has been looked at yet. Without a destination, there is nothing to look at.
    pub(super) fn new(
        destination: Option<&'a Destination>,
        tags: &[Tag],
        reuse: &'a Reuse,
        on_event: &'a (dyn Fn(Event) + Sync),
    ) -> Self {
        let mut waiting = VecDeque::new();
        if let Some(Destination::Registry { repository, .. }) = destination {
            let place = |repository: &Repository, tag: &Tag, target| {
                let (repository, tag) = (repository.clone(), tag.clone());
                Place { repository, tag, target }
            };
            waiting.extend(tags.iter().map(|tag| place(repository, tag, true)));
            let near = reuse.from.iter().filter(|(near, tag)| near != repository || !tags.contains(tag));
            waiting.extend(near.map(|(near, tag)| place(near, tag, false)));
        }
        Self {
            destination,
            reuse,
            on_event,
            waiting,
            seen: Vec::new(),
            present: BTreeSet::new(),
            standing: Standing::new(),
        }
    }

    /// Where the image goes.
    pub(super) fn destination(&self) -> Option<&'a Destination> {
        self.destination
    }

    /// What may spare it layers.
    pub(super) fn reuse(&self) -> &'a Reuse {
        self.reuse
    }

    /// Who watches.
    pub(super) fn on_event(&self) -> &'a (dyn Fn(Event) + Sync) {
        self.on_event
    }

    /// Tells whoever watches.
    pub(super) fn say(&self, line: String) {
        (self.on_event)(Event::Said(line));
    }

    /// What the tags that were looked at name.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The images that were found, in the order of looking.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Whether the repository has a blob, by the word of an image under a tag to be written.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.present.contains(digest)
    }

    /// Whether an image is in the repository that is written to.
    pub(super) fn is_ours(&self, place: &Place) -> bool {
        match self.destination {
            Some(Destination::Registry { repository, .. }) => *repository == place.repository,
            Some(Destination::OciLayout(_)) | None => false,
        }
    }

    /// Looks at the tags to be written until one is found to name an image.
    pub(super) async fn look_at_targets(&mut self) -> Result<(), BuildError> {
        let found = |seen: &Seen| seen.place.target;
        while !self.seen.iter().any(found) && self.waiting.front().is_some_and(|place| place.target) {
            self.look().await?;
        }
        Ok(())
    }

    /// Looks at the next image; false if there is none left.
    pub(super) async fn look(&mut self) -> Result<bool, BuildError> {
        let (Some(Destination::Registry { registry, .. }), Some(place)) =
            (self.destination, self.waiting.pop_front())
        else {
            return Ok(false);
        };
        let ours = self.is_ours(&place);
        let found = match registry.manifest(&place.repository, &place.tag, ours).await {
            // Whatever is wrong with an image that is not to be written, the build goes on without it.
            Err(error) if !place.target => {
                self.say(format!("the layers of `{place}` are not used: {error}"));
                None
            }
            found => found?,
        };
        if place.target {
            self.standing.insert(place.tag.clone(), found.as_ref().map(|bytes| Digest::of(bytes)));
        }
        let Some(bytes) = found else { return Ok(true) };
        // An index, or something that is no image, has no layers of ours.
        if let Ok(manifest) = Manifest::parse(&bytes) {
            if place.target {
                self.present.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
            self.seen.push(Seen { place, manifest, bytes });
        }
        Ok(true)
    }

    /// The layers of this many bytes in the nearest image of the repository that has some.
    pub(super) async fn layers_of_size(&mut self, size: u64) -> Result<Vec<Digest>, BuildError> {
        self.look_at_targets().await?;
        loop {
            for seen in self.seen.iter().filter(|seen| self.is_ours(&seen.place)) {
                let alike = seen.manifest.layers.iter().filter(|layer| layer.size == size);
                let alike: Vec<Digest> = alike.map(|layer| layer.digest).collect();
                if !alike.is_empty() {
                    return Ok(alike);
                }
            }
            if !self.look().await? {
                return Ok(Vec::new());
            }
        }
    }

    /// The manifest of an image that differs from `manifest` in its records only, if a tag to be written names one.
    ///
    /// Records that say nothing to anybody are no reason to leave a manifest alone if ours would say more.
    pub(super) fn same_image(&self, manifest: &[u8]) -> Option<&Bytes> {
        let ours = without_records(manifest)?;
        let trust = &self.reuse.trust;
        let stays = |seen: &&Seen| {
            seen.place.target
                && is_of_use(trust, seen)
                && without_records(&seen.bytes).as_ref() == Some(&ours)
        };
        self.seen.iter().find(stays).map(|seen| &seen.bytes)
    }

    /// The store paths in the layers of the nearest image, as its history tells them; none if there is no image, or
    /// it does not tell.
    pub(super) async fn groups(&mut self) -> Result<Vec<Vec<StorePath>>, BuildError> {
        while self.seen.is_empty() && self.look().await? {}
        let (Some(Destination::Registry { registry, .. }), Some(seen)) =
            (self.destination, self.seen.first())
        else {
            return Ok(Vec::new());
        };
        let Seen { place, manifest, .. } = seen;
        match registry.blob(&place.repository, &manifest.config.digest, self.is_ours(place)).await {
            Ok(config) => Ok(config.map(|config| history::store_paths(&config)).unwrap_or_default()),
            Err(error) => {
                self.say(format!("the layers of `{place}` are no model for these: {error}"));
                Ok(Vec::new())
            }
        }
    }

    /// Whether the registry has not taken layers that were compressed like this, by the word of an image there.
    pub(super) fn has_refused(&self, compression: Compression) -> bool {
        let targets = self.seen.iter().filter(|seen| seen.place.target);
        let mut refused = targets.filter_map(|seen| seen.manifest.annotations.get(REFUSED));
        refused.any(|media_type| media_type == compression.media_type())
    }
}

/// Whether the records of an image are of use to somebody: to us, or to those who know a key that we do not. Who
/// cannot sign has nothing better.
fn is_of_use(trust: &Trust, seen: &Seen) -> bool {
    trust.signer.is_none()
        || match trust.believe(&seen.manifest, &seen.place.repository) {
            Ok(_) | Err(Distrust::Stranger(_)) => true,
            Err(Distrust::Unsigned | Distrust::NoSignature | Distrust::Altered(_)) => false,
        }
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.repository.with_tag(&self.tag))
    }
}
