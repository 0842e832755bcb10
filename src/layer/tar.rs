//! Writes tar archives, byte for byte as another program would: see [`Dialect`].
//!
//! A member is its headers (the format is POSIX.1-2017's, `pax`, "ustar Interchange Format" and "pax
//! Header Block"), its contents, and zeros to a whole block of 512 bytes. The archive ends with two
//! blocks of zeros, and in Python's dialect more of them to a multiple of 10240 bytes.
//!
//! ```
//! use nixlayer::layer::{Member, Metadata, TarWriter};
//!
//! let mut tar = TarWriter::new(Vec::new());
//! tar.append(b"/etc", &Metadata::of_root(0o755), Member::Directory)?;
//! let member = Member::Regular { size: 3, contents: &mut b"hi\n".as_slice() };
//! tar.append(b"/etc/motd", &Metadata::of_root(0o644), member)?;
//!
//! assert_eq!(tar.finish()?.len(), 10240);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io::{self, Read, Write};

use tar::EntryType;

use super::header::{BLOCK, Described, Dialect};

const BUFFER: usize = 64 * 1024;
static ZEROS: [u8; 20 * BLOCK] = [0; 20 * BLOCK];

/// Writes members into a tar archive.
pub struct TarWriter<W> {
    sink: W,
    dialect: Dialect,
    written: u64,
    buffer: Vec<u8>,
    broken: bool,
}

/// What a tar says of a member beside its name and contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// The permission bits, 07777; other bits are dropped.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Last change, in seconds since 1970.
    pub mtime: u64,
    /// Name of the owner; it counts before the number where it is known. May be empty.
    pub uname: &'a str,
    /// Name of the group, likewise.
    pub gname: &'a str,
}

/// What a member is.
pub enum Member<'a> {
    /// A folder.
    Directory,
    /// A file.
    Regular {
        /// Its length in bytes.
        size: u64,
        /// Its bytes: exactly `size` of them.
        contents: &'a mut dyn Read,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link.
        target: &'a [u8],
    },
}

/// Why a member cannot be written; comes inside an [`io::Error`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// A name or link target has no bytes, or a NUL among them.
    #[error("`{0}` cannot be a name or link target in a tar")]
    Name(String),
    /// The reader ended before the size was reached.
    #[error("`{path}` ended after {read} of {size} bytes")]
    Short {
        /// The member.
        path: String,
        /// The size that was announced.
        size: u64,
        /// How many bytes there were.
        read: u64,
    },
    /// The reader goes on after the size was reached.
    #[error("`{path}` has more than its {size} bytes")]
    Long {
        /// The member.
        path: String,
        /// The size that was announced.
        size: u64,
    },
    /// An earlier member failed, perhaps halfway.
    #[error("the tar is incomplete since an earlier member failed")]
    Broken,
}

impl Metadata<'static> {
    /// Of a member that belongs to root, with the mtime 1 that Nix gives every file.
    pub fn of_root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, mtime: 1, uname: "root", gname: "root" }
    }
}

impl<W: Write> TarWriter<W> {
    /// An empty archive in Python's dialect.
    pub fn new(sink: W) -> Self {
        Self::in_dialect(sink, Dialect::Python)
    }

    /// An empty archive.
    pub fn in_dialect(sink: W, dialect: Dialect) -> Self {
        Self { sink, dialect, written: 0, buffer: vec![0; BUFFER], broken: false }
    }

    /// Adds a member. Its name is written as it is, but in Python's dialect a folder's gets a `/` at its end.
    ///
    /// After an error the archive cannot be finished, and what the sink has got of it is useless.
    pub fn append(&mut self, path: &[u8], metadata: &Metadata<'_>, member: Member<'_>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(TarError::Broken));
        }
        self.broken = true;
        match member {
            Member::Directory => {
                let name = self.dialect.folder_name(path);
                self.head(&name, b"", metadata, EntryType::Directory, 0)?;
            }
            Member::Symlink { target } => {
                check_name(target)?;
                self.head(path, target, metadata, EntryType::Symlink, 0)?;
            }
            Member::Regular { size, contents } => {
                self.head(path, b"", metadata, EntryType::Regular, size)?;
                self.body(path, size, contents)?;
            }
        }
        self.broken = false;
        Ok(())
    }

    /// Ends the archive and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        if self.broken {
            return Err(io::Error::other(TarError::Broken));
        }
        self.write(&[0; 2 * BLOCK])?;
        self.pad(self.dialect.unit())?;
        Ok(self.sink)
    }

    fn head(
        &mut self,
        name: &[u8],
        target: &[u8],
        metadata: &Metadata<'_>,
        kind: EntryType,
        size: u64,
    ) -> io::Result<()> {
        check_name(name)?;
        let headers = self.dialect.headers(&Described { name, target, metadata, kind, size });
        self.write(&headers)
    }

    fn body(&mut self, path: &[u8], size: u64, contents: &mut dyn Read) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let got = read_some(contents, &mut self.buffer[..wanted])?;
            if got == 0 {
                let error = TarError::Short { path: text(path), size, read: size - left };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, error));
            }
            self.sink.write_all(&self.buffer[..got])?;
            self.written += got as u64;
            left -= got as u64;
        }
        if read_some(contents, &mut [0])? > 0 {
            let error = TarError::Long { path: text(path), size };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.pad(BLOCK)
    }

    fn pad(&mut self, unit: usize) -> io::Result<()> {
        let missing = (unit as u64 - self.written % unit as u64) % unit as u64;
        self.write(&ZEROS[..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn check_name(name: &[u8]) -> io::Result<()> {
    if name.is_empty() || name.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, TarError::Name(text(name))));
    }
    Ok(())
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn read_some(contents: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match contents.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, contents: &[u8]) -> io::Result<()> {
        let mut tar = TarWriter::new(io::sink());
        let member = Member::Regular { size, contents: &mut &contents[..] };
        let appended = tar.append(b"/f", &Metadata::of_root(0o644), member);
        assert_eq!(tar.finish().is_ok(), appended.is_ok());
        appended
    }

    fn cause(result: io::Result<()>) -> TarError {
        let error = result.unwrap_err();
        error.get_ref().unwrap().downcast_ref::<TarError>().unwrap().clone()
    }

    #[test]
    fn a_file_of_another_size_than_announced_is_an_error() {
        assert!(file(3, b"abc").is_ok());
        assert_eq!(cause(file(4, b"abc")), TarError::Short { path: "/f".into(), size: 4, read: 3 });
        assert_eq!(cause(file(2, b"abc")), TarError::Long { path: "/f".into(), size: 2 });
        assert_eq!(cause(file(0, b"abc")), TarError::Long { path: "/f".into(), size: 0 });
    }

    #[test]
    fn a_name_or_target_that_tar_cannot_hold_is_an_error() {
        let metadata = Metadata::of_root(0o777);
        for (path, target) in [(&b""[..], &b"t"[..]), (b"/a\0b", b"t"), (b"/a", b""), (b"/a", b"t\0")] {
            let mut tar = TarWriter::new(io::sink());
            assert!(matches!(
                cause(tar.append(path, &metadata, Member::Symlink { target })),
                TarError::Name(_)
            ));
            assert_eq!(cause(tar.append(b"/next", &metadata, Member::Directory)), TarError::Broken);
        }
    }
}
