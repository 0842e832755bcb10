//! Images that are finished already, in an archive: read in one pass, and never unpacked.
//!
//! An archive is what `docker save` and `skopeo copy … docker-archive:` write, or an image layout, as a tar or as a
//! folder. A tar may be compressed as a whole. What passes by is JSON, which is kept, and layers, which are shown to
//! whoever reads and are gone then; which layers an image has stands in the JSON, and that may come first or last.
//!
//! Whoever made the archive may mean harm. Nothing of it is written anywhere, names and links stay in it, and memory
//! and time are bounded by limits; what is wrong with it is told by name.
//!
//! 1. [`ArchiveSource::survey`] finds out what is in it, where it can be read again.
//! 2. [`ArchiveSource::pass`] shows every layer.
//! 3. [`ArchiveContents::image`] tells of one image, and [`ArchivedImage::check`] whether its layers are those that
//!    passed by.
//!
//! Of an archive in a file, [`ArchiveSource::image`] tells of an image without reading its layers, and
//! [`ArchiveSource::copy_layer`] gives one of these.

mod contents;
mod docker;
mod error;
mod extended;
mod folder;
mod image;
mod input;
mod layer;
mod layout;
mod name;
mod platform;
mod resting;
mod tar;

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cap_std::fs::Dir;

use self::contents::{Contents, HEAD, read_some};
pub use self::error::{ArchiveError, ArchiveFault, JsonError};
use self::folder::FolderReader;
pub use self::image::{ArchivedImage, ArchivedLayer, Listed, Select};
use self::input::Input;
use self::layer::layer_in;
pub use self::layer::{Layer, PassedLayer};
pub use self::name::MemberName;
use self::resting::Resting;
use self::tar::{Kind, Member, TarReader};
use crate::layer::Hashing;
use crate::nix::Compression;
use crate::source::copy::{MOST_BYTES, Room};

/// How an archive tells of its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// As Docker does, if it does, and else as an image layout.
    #[default]
    Any,
    /// With `manifest.json`, as `docker save` writes it.
    Docker,
    /// With `index.json`, as image layouts have it.
    Layout,
}

/// What an archive may have at most.
#[derive(Clone, Copy, Debug)]
struct Limits {
    members: usize,
    /// Bytes of one JSON file.
    document: u64,
    /// Bytes of all that is kept of it.
    documents: u64,
    /// Bytes of its members, and of all layers that are read, once they are decompressed.
    bytes: u64,
}

/// Far beyond any image: registries take manifests of 4 MiB, and no runtime more than some hundred layers.
const LIMITS: Limits = Limits { members: 100_000, document: 8 << 20, documents: 64 << 20, bytes: MOST_BYTES };

/// Whether what begins so, with 512 bytes or all that it has, can be an archive.
pub fn begins_so(head: &[u8]) -> bool {
    !head.is_empty() && layer_in(head).is_some()
}

/// An archive of images, and how to read it.
pub struct ArchiveSource {
    name: String,
    form: Form,
    from: From,
    /// What is in it, once somebody has asked.
    surveyed: OnceLock<ArchiveContents>,
    resting: Resting,
}

enum From {
    File(Arc<File>, Compression),
    Folder(Arc<Dir>),
    /// Gone once somebody reads it.
    Stream(Mutex<Option<Box<dyn Read + Send>>>),
}

/// What is in an archive, as far as it has passed by.
#[derive(Debug)]
pub struct ArchiveContents {
    name: String,
    form: Form,
    contents: Contents,
}

impl ArchiveSource {
    /// The archive in `file`. A pipe can be read once, as [`stream`](Self::stream) says.
    pub fn file(name: &str, form: Form, file: File) -> Result<Self, ArchiveError> {
        let metadata = file.metadata().map_err(|error| named(name, ArchiveFault::Read(error)))?;
        if !metadata.is_file() {
            return Ok(Self::stream(name, form, Box::new(file)));
        }
        let compression = input::compression_of_file(&file).map_err(|fault| named(name, fault))?;
        Ok(Self::new(name, form, From::File(Arc::new(file), compression)))
    }

    /// The image layout in a folder. No link in it may lead out of it.
    pub fn folder(name: &str, folder: Dir) -> Self {
        Self::new(name, Form::Layout, From::Folder(Arc::new(folder)))
    }

    /// What can be read once: standard input, or the output of a program. Its error at the end, such as that
    /// the program failed, is one of the archive.
    pub fn stream(name: &str, form: Form, stream: Box<dyn Read + Send>) -> Self {
        Self::new(name, form, From::Stream(Mutex::new(Some(stream))))
    }

    fn new(name: &str, form: Form, from: From) -> Self {
        Self { name: name.to_owned(), form, from, surveyed: OnceLock::new(), resting: Resting::default() }
    }

    /// Whether it can be read more than once.
    pub fn is_lasting(&self) -> bool {
        !matches!(self.from, From::Stream(_))
    }

    /// Whether its layers are best read in the order in which they are there: it cannot be entered in the middle, as a
    /// stream or one that is compressed as a whole.
    pub fn has_order(&self) -> bool {
        !matches!(self.from, From::File(_, Compression::None) | From::Folder(_))
    }

    /// How it is said to tell of its images.
    pub fn form(&self) -> Form {
        self.form
    }

    /// What is in it; none of what can be read once alone. Layers are passed over, but an archive that is compressed is
    /// decompressed for that, the first time.
    pub fn survey(&self) -> Result<Option<&ArchiveContents>, ArchiveError> {
        if !self.is_lasting() {
            return Ok(None);
        }
        if let Some(contents) = self.surveyed.get() {
            return Ok(Some(contents));
        }
        let contents = self.pass(&mut |_| Ok(()))?;
        Ok(Some(self.surveyed.get_or_init(|| contents)))
    }

    /// Goes through it, and shows every layer to `visit`, which may read it or not. What it fails with ends the pass.
    pub fn pass(
        &self,
        visit: &mut dyn FnMut(&mut Layer<'_>) -> Result<(), ArchiveFault>,
    ) -> Result<ArchiveContents, ArchiveError> {
        let contents = self.named(|| Contents::read(&mut self.open()?, LIMITS, visit))?;
        Ok(ArchiveContents { name: self.name.clone(), form: self.form, contents })
    }

    /// One of its images. A stream is gone then.
    pub fn image(&self, select: &Select) -> Result<ArchivedImage, ArchiveError> {
        match self.survey()? {
            Some(contents) => contents.image(select),
            None => self.pass(&mut |_| Ok(()))?.image(select),
        }
    }

    /// The images in it. A stream is gone then.
    pub fn list(&self) -> Result<Vec<Listed>, ArchiveError> {
        match self.survey()? {
            Some(contents) => contents.list(),
            None => self.pass(&mut |_| Ok(()))?.list(),
        }
    }

    /// Shows `visit` the layer `member` alone, and gives what it says.
    pub fn visit_layer<T>(
        &self,
        member: &MemberName,
        visit: impl FnOnce(&mut Layer<'_>) -> Result<T, ArchiveFault>,
    ) -> Result<T, ArchiveError> {
        let contents = self.surveyed.get().map(|surveyed| &surveyed.contents).filter(|_| self.has_order());
        let place = contents.and_then(|contents| contents.place(member));
        let rested = place.and_then(|place| self.resting.take(place.before));
        self.named(|| {
            let mut members = rested.map_or_else(|| self.open(), Ok)?;
            let changed = || ArchiveFault::Changed(member.clone());
            let Member { name, size, .. } = members.file(member)?.ok_or_else(changed)?;
            let head = read_some(&mut members, HEAD.min(size))?;
            let compression = layer_in(&head).ok_or_else(changed)?;
            let (said, again, room) = (None, false, &mut Room::new(LIMITS.bytes));
            let reader = &mut members;
            let mut layer = Layer { name, size, compression, said, again, head, members: reader, room };
            let visited = visit(&mut layer)?;
            if let (Some(contents), Some(place)) = (contents, place) {
                self.resting.put(members, place.before + 1, contents.count());
            }
            Ok(visited)
        })
    }

    /// Writes the tar of one layer into `sink`, decompressed if it is compressed. Fails if it is not what the image
    /// says, so nothing may count before this has succeeded. Gives the length of the tar in bytes.
    ///
    /// An archive that is compressed as a whole is decompressed up to the layer, from where a layer before has ended that
    /// was read so.
    pub fn copy_layer(&self, layer: &ArchivedLayer, sink: &mut dyn Write) -> Result<u64, ArchiveError> {
        let mut tar = Hashing::new(sink);
        let size = self.visit_layer(&layer.member, |found| found.copy_tar(&mut tar))?;
        let (found, said, member) = (tar.hasher.diff_id(), layer.diff_id, layer.member.clone());
        match found == said {
            true => Ok(size),
            false => Err(self.error(ArchiveFault::DiffId { member, found, said })),
        }
    }

    /// An error of this archive.
    pub fn error(&self, fault: ArchiveFault) -> ArchiveError {
        named(&self.name, fault)
    }

    fn named<T>(&self, work: impl FnOnce() -> Result<T, ArchiveFault>) -> Result<T, ArchiveError> {
        work().map_err(|fault| self.error(fault))
    }

    fn open(&self) -> Result<Members, ArchiveFault> {
        let input = match &self.from {
            From::Folder(dir) => return FolderReader::new(dir, LIMITS).map(Members::Folder),
            From::File(file, compression) => Input::file(file, *compression)?,
            From::Stream(stream) => {
                let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
                Input::stream(stream.ok_or(ArchiveFault::Gone)?)?
            }
        };
        Ok(Members::Tar(TarReader::new(input, LIMITS)))
    }
}

impl ArchiveContents {
    /// The images in it.
    pub fn list(&self) -> Result<Vec<Listed>, ArchiveError> {
        self.contents.list(self.form).map_err(|fault| named(&self.name, fault))
    }

    /// One of its images.
    pub fn image(&self, select: &Select) -> Result<ArchivedImage, ArchiveError> {
        self.contents.image(self.form, select).map_err(|fault| named(&self.name, fault))
    }
}

fn named(name: &str, fault: ArchiveFault) -> ArchiveError {
    ArchiveError { archive: name.to_owned(), fault: Box::new(fault) }
}

/// The members of an archive or the files of a folder, one after the other.
enum Members {
    Tar(TarReader),
    Folder(FolderReader),
}

impl Members {
    fn next(&mut self) -> Result<Option<Member>, ArchiveFault> {
        match self {
            Self::Tar(tar) => tar.next(),
            Self::Folder(folder) => folder.next(),
        }
    }

    /// The next file of this name.
    fn file(&mut self, name: &MemberName) -> Result<Option<Member>, ArchiveFault> {
        while let Some(member) = self.next()? {
            if member.name == *name && member.kind == Kind::File {
                return Ok(Some(member));
            }
        }
        Ok(None)
    }

    /// The next bytes of the member that came last.
    fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveFault> {
        match self {
            Self::Tar(tar) => tar.read_contents(buffer),
            Self::Folder(folder) => folder.read_contents(buffer),
        }
    }
}

#[cfg(test)]
mod tests;
