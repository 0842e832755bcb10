//! Files that are there whole or not at all, also after a process that was killed.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::{Builder, NamedTempFile};

/// A file on its way into a folder, for its owner alone until somebody changes that.
///
/// It has no name while it is written (`O_TMPFILE`, open(2)), so that nothing stays of it if nobody [keeps](Self::keep)
/// it. Where a file system knows none without a name, it has one that begins with `.tmp`, which a process that is killed
/// leaves behind.
#[derive(Debug)]
pub struct NewFile(Kind);

#[derive(Debug)]
enum Kind {
    Nameless(File),
    Named(NamedTempFile),
}

/// Where the kernel shows what a process has open, and with it files without a name.
const OPEN_FILES: &str = "/proc/self/fd";

impl NewFile {
    /// A new file of the file system of `folder`.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) if Path::new(OPEN_FILES).exists() => Ok(Self(Kind::Nameless(file.into()))),
            Ok(_) | Err(_) => Ok(Self(Kind::Named(NamedTempFile::new_in(folder)?))),
        }
    }

    /// The file, to change whom it is for, or to have it on the disk before it is kept.
    pub fn as_file(&self) -> &File {
        match &self.0 {
            Kind::Nameless(file) => file,
            Kind::Named(file) => file.as_file(),
        }
    }

    /// Puts the file at `path`, of the same file system, in the place of another.
    pub fn keep(self, path: &Path) -> io::Result<()> {
        let file = match self.0 {
            Kind::Nameless(file) => file,
            Kind::Named(file) => return Ok(file.persist(path).map(drop)?),
        };
        let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
        let link = |name: &Path| {
            rustix::fs::linkat(CWD, &open, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        };
        match link(path) {
            // Only what has a name takes the place of another.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                Ok(Builder::new().make_in(folder, link)?.into_temp_path().persist(path)?)
            }
            done => done,
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_file().flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A file of the kind that a folder's file system can have, and one with a name.
    fn files(folder: &Path) -> [NewFile; 2] {
        [NewFile::create_in(folder).unwrap(), NewFile(Kind::Named(NamedTempFile::new_in(folder).unwrap()))]
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_is_there_under_its_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for before in [None, Some("old")] {
            for mut file in files(folder.path()) {
                match before {
                    Some(text) => fs::write(&path, text).unwrap(),
                    None => drop(fs::remove_file(&path)),
                }
                file.write_all(b"new").unwrap();

                file.keep(&path).unwrap();

                assert_eq!(fs::read_to_string(&path).unwrap(), "new");
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn what_is_not_kept_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for mut file in files(folder.path()) {
            file.write_all(b"new").unwrap();
            let missing = file.keep(&folder.path().join("missing/file")).unwrap_err();
            assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        }
        drop(files(folder.path()));

        assert_eq!(names(folder.path()), [""; 0]);
        assert_eq!(
            NewFile::create_in(&folder.path().join("missing")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    /// As a process that is killed leaves it.
    #[test]
    fn a_file_that_is_being_written_has_no_name() {
        let folder = tempfile::tempdir().unwrap();

        let mut file = NewFile::create_in(folder.path()).unwrap();
        file.write_all(b"new").unwrap();

        // Not all file systems can.
        let can = rustix::fs::open(folder.path(), OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR).is_ok();
        assert_eq!(matches!(file.0, Kind::Nameless(_)), can, "{file:?}");
        assert_eq!(names(folder.path()).is_empty(), can);
    }
}
