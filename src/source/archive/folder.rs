//! The files of an image layout in a folder, one after the other, as if they were members of an archive.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;

use super::tar::{Kind, Member};
use super::{ArchiveFault, Limits, MemberName};

const BLOBS: &str = "blobs/sha256";

/// A folder that is being read. Links in it may not lead out of it.
pub(super) struct FolderReader {
    dir: Arc<Dir>,
    waiting: VecDeque<String>,
    file: Option<File>,
    left: u64,
    last: String,
}

impl FolderReader {
    pub(super) fn new(dir: &Arc<Dir>, limits: Limits) -> Result<Self, ArchiveFault> {
        let mut names = Vec::new();
        match dir.read_dir(BLOBS) {
            Ok(entries) => {
                for entry in entries {
                    let name = entry.map_err(ArchiveFault::Read)?.file_name();
                    names.push(format!("{BLOBS}/{}", name.to_string_lossy()));
                    if names.len() > limits.members {
                        return Err(ArchiveFault::TooMany(limits.members));
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ArchiveFault::Read(error)),
        }
        names.sort();
        let waiting = ["oci-layout", "index.json"].map(str::to_owned).into_iter().chain(names).collect();
        Ok(Self { dir: Arc::clone(dir), waiting, file: None, left: 0, last: String::new() })
    }

    /// The next file; None after the last.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ArchiveFault> {
        // Without the flag, a pipe without a writer would be waited for.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        while let Some(path) = self.waiting.pop_front() {
            let file = match self.dir.open_with(&path, &options) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file.map_err(ArchiveFault::Read)?,
            };
            let metadata = file.metadata().map_err(ArchiveFault::Read)?;
            let name = MemberName::parse(path.as_bytes())?;
            let (kind, size) =
                if metadata.is_file() { (Kind::File, metadata.len()) } else { (Kind::Other, 0) };
            (self.file, self.left, self.last) = (Some(file), size, path);
            return Ok(Some(Member { name, kind, size }));
        }
        Ok(None)
    }

    /// The next of the file's bytes; an end before theirs is an error.
    pub(super) fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveFault> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(file) = self.file.as_mut().filter(|_| most > 0) else { return Ok(0) };
        loop {
            match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(ArchiveFault::Truncated(format!("`{}`", self.last))),
                Ok(read) => {
                    self.left -= read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveFault::Read(error)),
            }
        }
    }
}
