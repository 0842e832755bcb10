//! The thread that goes through an archive.
//!
//! It comes to the layers in the archive's order, asks what to do with each, and writes those that are to be sent into
//! a [`BlobWriter`]. Every byte is hashed, whether it is sent or not. When a registry gives an upload up, the thread
//! goes on without it: whoever sends it again reads the layer again, on another thread.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::leaving::Leaving;
use crate::layer::{Compression, LayerDigests, LayerWriter, Workers};
use crate::nix;
use crate::oci::{DiffId, Digest};
use crate::publish::BlobWriter;
use crate::source::archive::{
    ArchiveContents, ArchiveError, ArchiveFault, ArchiveSource, ArchivedImage, ArchivedLayer, Form, Layer,
    MemberName, PassedLayer,
};

/// An archive that is to be read, and how.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) source: Arc<ArchiveSource>,
    /// The layers that are wanted, if that is known before the pass.
    pub(super) wanted: Option<Arc<Wanted>>,
    pub(super) compression: Compression,
    pub(super) workers: Workers,
}

/// The layers of an image.
pub(super) struct Wanted {
    in_layout: bool,
    /// Each with its place in the image, from 1; the first one of those that are in it more than once.
    layers: BTreeMap<MemberName, (usize, ArchivedLayer)>,
}

/// How a layer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Travel {
    /// Compressed on the way.
    Compressed {
        /// What its tar should be, if something says so.
        diff_id: Option<DiffId>,
    },
    /// As it is in the archive.
    AsItIs {
        /// What it should be, if the image or its place in an image layout says so.
        digest: Option<Digest>,
        compression: nix::Compression,
    },
}

/// A layer that the thread has come to. It waits for the order.
pub(super) struct Arrival {
    pub(super) member: MemberName,
    /// Its bytes in the archive.
    pub(super) size: u64,
    pub(super) travel: Travel,
    pub(super) order: oneshot::Sender<Order>,
    /// What the layer turned out to be.
    pub(super) digests: oneshot::Receiver<LayerDigests>,
}

/// What the thread is to do with a layer.
pub(super) enum Order {
    /// Nobody wants it.
    PassOver,
    /// It is there already, or seems to be, and has to be what the archive says.
    Check,
    Send(BlobWriter),
}

/// What has passed by.
pub(super) struct Passed {
    pub(super) contents: ArchiveContents,
    pub(super) layers: BTreeMap<MemberName, PassedLayer>,
}

impl Wanted {
    pub(super) fn of(image: &ArchivedImage) -> Self {
        let mut layers = BTreeMap::new();
        for (index, layer) in image.layers.iter().enumerate() {
            layers.entry(layer.member.clone()).or_insert((index + 1, layer.clone()));
        }
        Self { in_layout: image.manifest.is_some(), layers }
    }

    /// How many there are.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// The place of a layer in the image, from 1; none if it is not in it.
    pub(super) fn place(&self, member: &MemberName) -> Option<usize> {
        self.layers.get(member).map(|(place, _)| *place)
    }
}

impl Reading {
    /// Goes through the archive, on a thread that may block.
    pub(super) fn run(&self, arrivals: &mpsc::Sender<Arrival>) -> Result<Passed, ArchiveError> {
        let mut layers = BTreeMap::new();
        let contents = self.source.pass(&mut |layer| {
            let travel = self.travel(layer);
            if layer.is_again() {
                return self.compare(layer, travel, &layers, arrivals);
            }
            let (order, ordered) = oneshot::channel();
            let (say, digests) = oneshot::channel();
            let (member, size) = (layer.member().clone(), layer.size());
            let arrival = Arrival { member: member.clone(), size, travel, order, digests };
            arrivals.blocking_send(arrival).map_err(|_| gone())?;
            let (passed, digests) = match ordered.blocking_recv().map_err(|_| gone())? {
                Order::PassOver => return Ok(()),
                Order::Check => {
                    let (passed, digests) = self.read(layer, travel, &mut Leaving::nowhere(arrivals))?;
                    let by_name = self.wanted.is_none() && layer.is_said_by_name();
                    check(&member, travel, &digests, by_name)?;
                    (passed, digests)
                }
                Order::Send(writer) => self.read(layer, travel, &mut Leaving::into(writer, arrivals))?,
            };
            layers.insert(member, passed);
            // Whoever does not wait for it needs it no more.
            let _ = say.send(digests);
            Ok(())
        })?;
        Ok(Passed { contents, layers })
    }

    fn travel(&self, layer: &Layer<'_>) -> Travel {
        let said = self.wanted.as_ref().and_then(|wanted| wanted.layers.get(layer.member()));
        let said = said.map(|(_, said)| said);
        let in_layout = match &self.wanted {
            Some(wanted) => wanted.in_layout,
            None => self.source.form() == Form::Layout,
        };
        match layer.compression() {
            nix::Compression::Gzip | nix::Compression::Zstd => {}
            _ if in_layout => {}
            _ => {
                let diff_id = said.map(|said| said.diff_id);
                return Travel::Compressed { diff_id: diff_id.or_else(|| layer.said_diff_id()) };
            }
        }
        let digest = match &self.wanted {
            Some(_) => said.and_then(|said| Some(said.blob.as_ref()?.digest)),
            None => self.in_layout_as(layer.member()),
        };
        Travel::AsItIs { digest, compression: layer.compression() }
    }

    /// What a member of a stream should be, by its place in an image layout. Docker's names say nothing for sure.
    fn in_layout_as(&self, member: &MemberName) -> Option<Digest> {
        let is_blob = self.source.form() != Form::Docker && member.as_str().starts_with("blobs/sha256/");
        member.digest().filter(|_| is_blob)
    }

    /// Reads a layer, and writes it into `leaving` as it travels.
    pub(super) fn read(
        &self,
        layer: &mut Layer<'_>,
        travel: Travel,
        leaving: &mut Leaving<'_>,
    ) -> Result<(PassedLayer, LayerDigests), ArchiveFault> {
        match travel {
            Travel::Compressed { .. } if leaving.writer.is_some() => {
                let mut writer = LayerWriter::new(leaving, self.compression, &self.workers);
                layer.copy_tar(&mut writer)?;
                let (leaving, digests) = writer.finish().map_err(ArchiveFault::Sink)?;
                leaving.finish(digests.digest);
                let LayerDigests { diff_id, uncompressed_size: tar_size, .. } = digests;
                Ok((PassedLayer { diff_id, tar_size, blob: None }, digests))
            }
            Travel::Compressed { .. } | Travel::AsItIs { .. } => {
                let passed = layer.copy_blob(leaving)?;
                let PassedLayer { diff_id, tar_size, blob } = passed;
                let (digest, size) = blob.ok_or_else(gone)?;
                leaving.finish(digest);
                let digests = LayerDigests { diff_id, digest, size, uncompressed_size: tar_size };
                let as_it_is = matches!(travel, Travel::AsItIs { .. });
                Ok((PassedLayer { blob: blob.filter(|_| as_it_is), ..passed }, digests))
            }
        }
    }

    /// Reads a second layer of one name, which has to be the first.
    fn compare(
        &self,
        layer: &mut Layer<'_>,
        travel: Travel,
        layers: &BTreeMap<MemberName, PassedLayer>,
        arrivals: &mpsc::Sender<Arrival>,
    ) -> Result<(), ArchiveFault> {
        let Some(first) = layers.get(layer.member()) else { return Ok(()) };
        let (second, _) = self.read(layer, travel, &mut Leaving::nowhere(arrivals))?;
        if second == *first { Ok(()) } else { Err(ArchiveFault::Duplicate(layer.member().clone())) }
    }
}

/// Checks that a layer that was not sent is the one that is there. What it should be may be known by its name alone.
fn check(
    member: &MemberName,
    travel: Travel,
    found: &LayerDigests,
    by_name: bool,
) -> Result<(), ArchiveFault> {
    let member = member.clone();
    match travel {
        Travel::Compressed { diff_id: Some(name) } if by_name && name != found.diff_id => {
            Err(ArchiveFault::OtherName { member, found: found.diff_id, name })
        }
        Travel::Compressed { diff_id: Some(said) } if said != found.diff_id => {
            Err(ArchiveFault::DiffId { member, found: found.diff_id, said })
        }
        Travel::AsItIs { digest: Some(said), .. } if said != found.digest => Err(ArchiveFault::Blob {
            member,
            found: found.digest,
            found_size: found.size,
            said,
            said_size: found.size,
        }),
        Travel::Compressed { .. } | Travel::AsItIs { .. } => Ok(()),
    }
}

fn gone() -> ArchiveFault {
    ArchiveFault::Sink(io::ErrorKind::BrokenPipe.into())
}
