//! A layer while it passes by.

use std::io::{self, Read, Write};

use super::input::fault_of;
use super::tar::is_header;
use super::{ArchiveFault, MemberName, Members};
use crate::layer::Hashing;
use crate::nix::Compression;
use crate::oci::{DiffId, Digest, Hasher};
use crate::source::copy::{CopyError, PIECE, Room};
use crate::source::decoder::{Decoder, compression_of};

/// What is limited in all layers together.
const TOGETHER: &str = "the sum of its layers, decompressed,";

/// A layer while it passes by: a tar, or one that is compressed.
pub struct Layer<'a> {
    pub(super) name: MemberName,
    pub(super) size: u64,
    pub(super) compression: Compression,
    /// The diff_id that the image says, if that has passed by already.
    pub(super) said: Option<DiffId>,
    /// Whether a member of this name has passed by already.
    pub(super) again: bool,
    /// What has been read of it, and is to be read first.
    pub(super) head: Vec<u8>,
    pub(super) members: &'a mut Members,
    /// For what decoders give, in all layers of a pass together.
    pub(super) room: &'a mut Room,
}

/// What a layer turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedLayer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Length of its tar.
    pub tar_size: u64,
    /// Digest and length of the blob that was passed on as it is, if it was.
    pub blob: Option<(Digest, u64)>,
}

impl Layer<'_> {
    /// The member that it is.
    pub fn member(&self) -> &MemberName {
        &self.name
    }

    /// Its bytes in the archive.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The digest that its tar should have, by what has passed by already or by its name. A name may be the digest of
    /// something else.
    pub fn said_diff_id(&self) -> Option<DiffId> {
        self.said.or_else(|| format!("sha256:{}", self.name.hex()?).parse().ok())
    }

    /// Whether only its name says what its tar should be, as far as anything has passed by.
    pub fn is_said_by_name(&self) -> bool {
        self.said.is_none()
    }

    /// How it is compressed in the archive.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Whether a member of the same name has passed by before, which the same bytes make harmless.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Writes the layer's tar, decompressed, into `sink`. Gives its length.
    pub fn copy_tar(&mut self, sink: &mut dyn Write) -> Result<u64, ArchiveFault> {
        self.decompress(&mut io::sink(), sink)
    }

    /// Writes the layer into `sink` as it is in the archive, and finds out what it is.
    pub fn copy_blob(&mut self, sink: &mut dyn Write) -> Result<PassedLayer, ArchiveFault> {
        let mut blob = Hashing::new(sink);
        if self.compression == Compression::None {
            let tar_size = self.copy_tar(&mut blob)?;
            let hasher = blob.hasher;
            let (diff_id, digest) = (hasher.clone().diff_id(), hasher.digest());
            return Ok(PassedLayer { diff_id, tar_size, blob: Some((digest, tar_size)) });
        }
        let mut tar = Hasher::default();
        let tar_size = self.decompress(&mut blob, &mut tar)?;
        let blob = Some((blob.hasher.digest(), blob.length));
        Ok(PassedLayer { diff_id: tar.diff_id(), tar_size, blob })
    }

    /// Reads to the end, and writes all of it as it is into `raw` and decompressed into `tar`.
    fn decompress(&mut self, raw: &mut dyn Write, tar: &mut dyn Write) -> Result<u64, ArchiveFault> {
        let compression = self.compression;
        let what = format!("`{}`", self.name);
        let Self { head, members, room, .. } = self;
        let mut tee = Tee { head, members, raw, fault: None };
        let copied = {
            let mut decoder = Decoder::new(compression, &mut tee).map_err(ArchiveFault::Read)?;
            room.copy(&mut decoder, tar)
        };
        let copied = match (tee.fault.take(), copied) {
            (Some(fault), _) => return Err(fault),
            (None, Err(CopyError::Read(error))) => return Err(fault_of(error, || what)),
            (None, Err(CopyError::Write(error))) => return Err(ArchiveFault::Sink(error)),
            (None, Err(CopyError::TooLarge(most))) => {
                return Err(ArchiveFault::TooLarge { what: TOGETHER.to_owned(), most });
            }
            (None, Ok(copied)) => copied,
        };
        // A decoder stops where its format ends, and the blob is all there is.
        let (mut rest, mut buffer) = (0, vec![0; PIECE]);
        loop {
            match (tee.read(&mut buffer), tee.fault.take()) {
                (_, Some(fault)) => return Err(fault),
                (Ok(0), None) => break,
                (Ok(read), None) => rest += read,
                (Err(error), None) => return Err(fault_of(error, || what)),
            }
        }
        if rest > 0 {
            let source = io::Error::new(io::ErrorKind::InvalidData, "it goes on after its end");
            return Err(ArchiveFault::Compressed { what, source });
        }
        Ok(copied)
    }
}

/// How the contents of a member that begins so are compressed, if they can be a layer's.
pub(super) fn layer_in(head: &[u8]) -> Option<Compression> {
    match compression_of(head) {
        Compression::None => {
            // An empty tar is but zeros, or nothing at all.
            let is_tar = match head.first_chunk() {
                Some(block) => is_header(block) || block.iter().all(|byte| *byte == 0),
                None => head.is_empty(),
            };
            is_tar.then_some(Compression::None)
        }
        compression => Some(compression),
    }
}

/// Reads a layer, and writes what it reads into `raw`. What went wrong is kept: a decoder would say less of it.
struct Tee<'a> {
    head: &'a mut Vec<u8>,
    members: &'a mut Members,
    raw: &'a mut dyn Write,
    fault: Option<ArchiveFault>,
}

impl Tee<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveFault> {
        if self.head.is_empty() {
            return self.members.read_contents(buffer);
        }
        let taken = buffer.len().min(self.head.len());
        buffer[..taken].copy_from_slice(&self.head[..taken]);
        self.head.drain(..taken);
        Ok(taken)
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let passed = self.next(buffer).and_then(|read| {
            self.raw.write_all(&buffer[..read]).map_err(ArchiveFault::Sink)?;
            Ok(read)
        });
        passed.map_err(|fault| {
            self.fault = Some(fault);
            io::ErrorKind::Other.into()
        })
    }
}
