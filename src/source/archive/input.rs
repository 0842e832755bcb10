//! The bytes of an archive, wherever they come from.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::ArchiveFault;
use crate::nix::Compression;
use crate::source::decoder::{Decoder, compression_of};

/// More than any compression needs to be told by.
const HEAD: usize = 6;

/// An archive that is being read, decompressed.
pub(super) enum Input {
    /// An archive as it is in its file.
    File(Positioned),
    Stream(Box<dyn Read + Send>),
}

/// A file with a place in it of its own, so that it can be read at several places at a time.
pub(super) struct Positioned {
    file: Arc<File>,
    at: u64,
}

impl Input {
    /// The archive in a regular file, which is compressed so.
    pub(super) fn file(file: &Arc<File>, compression: Compression) -> Result<Self, ArchiveFault> {
        let positioned = Positioned { file: Arc::clone(file), at: 0 };
        match compression {
            Compression::None => Ok(Self::File(positioned)),
            compression => decoded(compression, positioned),
        }
    }

    /// The archive that a pipe or a program gives.
    pub(super) fn stream(stream: Box<dyn Read + Send>) -> Result<Self, ArchiveFault> {
        let mut stream = Raw(stream);
        let mut head = Vec::new();
        (&mut stream).take(HEAD as u64).read_to_end(&mut head).map_err(fault_of_archive)?;
        let compression = compression_of(&head);
        decoded(compression, Cursor::new(head).chain(stream))
    }

    /// Passes over `count` bytes. Gives how many there were.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<u64> {
        match self {
            Self::File(file) => {
                let left = file.file.metadata()?.len().saturating_sub(file.at).min(count);
                file.at += left;
                Ok(left)
            }
            Self::Stream(stream) => io::copy(&mut stream.take(count), &mut io::sink()),
        }
    }
}

/// How the archive in a regular file is compressed as a whole.
pub(super) fn compression_of_file(file: &File) -> Result<Compression, ArchiveFault> {
    let mut head = [0; HEAD];
    let read = file.read_at(&mut head, 0).map_err(ArchiveFault::Read)?;
    Ok(compression_of(&head[..read]))
}

fn decoded(compression: Compression, compressed: impl Read + Send + 'static) -> Result<Input, ArchiveFault> {
    let decoder = Decoder::new(compression, compressed).map_err(ArchiveFault::Read)?;
    Ok(Input::Stream(Box::new(decoder)))
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

impl Read for Positioned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at).map_err(unreadable)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A stream whose own errors can be told from those of a decoder that reads it.
struct Raw(Box<dyn Read + Send>);

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(unreadable)
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Unreadable(io::Error);

fn unreadable(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Interrupted => error,
        kind => io::Error::new(kind, Unreadable(error)),
    }
}

/// Why an archive was not read.
pub(super) fn fault_of_archive(error: io::Error) -> ArchiveFault {
    fault_of(error, || "it".to_owned())
}

/// Why `what`, which is compressed, was not read.
pub(super) fn fault_of(error: io::Error, what: impl FnOnce() -> String) -> ArchiveFault {
    match error.downcast::<Unreadable>() {
        Ok(Unreadable(error)) => ArchiveFault::Read(error),
        Err(source) => ArchiveFault::Compressed { what: what(), source },
    }
}
