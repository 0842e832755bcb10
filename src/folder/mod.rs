//! Folders that a job can write to: entered, read, written and removed without following a link.
//!
//! A job may leave links anywhere in its folders, also while the driver is looking. So every file
//! of a job is opened beneath its folder by [`cap_std`], which asks the kernel to refuse any way out
//! (`openat2` with `RESOLVE_BENEATH`), and a tree is removed through open folders, never by path.
//!
//! Folders of our own get files that are whole, or none ([`NewFile`]).

mod new_file;
mod private;
mod removal;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

pub use self::new_file::NewFile;
pub use self::private::make_private;
pub use self::removal::remove;

/// How a folder is opened: never through a link.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder whose contents somebody else may control.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    path: PathBuf,
}

/// Why a file of a folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such file.
    #[error("there is no `{file}` in `{folder}`")]
    Missing {
        /// The file, from the folder down.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// There is no such folder.
    #[error("there is no folder `{0}`")]
    NoFolder(PathBuf),
    /// It is a folder, a pipe or a device.
    #[error("`{file}` in `{folder}` is no regular file")]
    NoFile {
        /// The file, from the folder down.
        file: String,
        /// The folder.
        folder: PathBuf,
    },
    /// The file is larger than its kind ever is.
    #[error("`{file}` is larger than {limit} bytes")]
    TooLarge {
        /// The file, from the folder down.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The operating system refused; also where a link leads out of the folder.
    #[error("`{file}` in `{folder}` cannot be used")]
    Io {
        /// The file, from the folder down.
        file: String,
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Folder {
    /// The folder at `path`, which nobody but its owner may change the way to.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        Self::open_beneath(path, Path::new(""))
    }

    /// The folder `relative` beneath `base`, with no link on the way from `base` on: a job that owns
    /// what is in `base` may have put links there.
    pub fn open_beneath(base: &Path, relative: &Path) -> Result<Self, FolderError> {
        let path = if relative == Path::new("") { base.to_owned() } else { base.join(relative) };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => FolderError::NoFolder(path.clone()),
            _ => {
                let file = relative.display().to_string();
                FolderError::Io { file, folder: base.to_owned(), source }
            }
        };
        let mut dir = Dir::open_ambient_dir(base, ambient_authority()).map_err(failed)?;
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(failed(io::ErrorKind::InvalidInput.into()));
            };
            let folder = rustix::fs::openat(&dir, name, FOLDER, Mode::empty());
            dir = Dir::from_std_file(File::from(folder.map_err(|errno| failed(errno.into()))?));
        }
        Ok(Self { dir, path })
    }

    /// Where the folder lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder, for walking it.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Whether there is a regular file at `file`.
    pub fn has_file(&self, file: &str) -> bool {
        self.dir.metadata(file).is_ok_and(|metadata| metadata.is_file())
    }

    /// Whether a link leads out of the folder on the way to `file`.
    pub fn leads_out(&self, file: impl AsRef<Path>) -> bool {
        // `cap_std` says so itself; what the system refuses has a number.
        let is_own = |error: io::Error| error.raw_os_error().is_none();
        self.dir
            .metadata(file)
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied && is_own(error))
    }

    /// The bytes of `file`, of which there may be `limit`.
    pub fn read(&self, file: &str, limit: u64) -> Result<Vec<u8>, FolderError> {
        let failed = |source| self.failed(file, source);
        // Without the flag, a pipe without a writer would be waited for.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let opened = self.dir.open_with(file, &options).map_err(failed)?;
        if !opened.metadata().map_err(failed)?.is_file() {
            return Err(FolderError::NoFile { file: file.to_owned(), folder: self.path.clone() });
        }
        let mut bytes = Vec::new();
        opened.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(FolderError::TooLarge { file: file.to_owned(), limit });
        }
        Ok(bytes)
    }

    /// Puts `bytes` at `file`, making its folders; whoever reads sees the old file or the new one.
    pub fn write(&self, file: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let failed = |source| self.failed(file, source);
        if let Some(parent) = Path::new(file).parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            self.dir.create_dir_with(parent, builder.recursive(true).mode(0o755)).map_err(failed)?;
        }
        let new = format!("{file}.new");
        // Whatever a job left under this name is not written to.
        match self.dir.remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let opened = self.dir.open_with(&new, OpenOptions::new().write(true).create_new(true));
        opened.and_then(|mut opened| opened.write_all(bytes)).map_err(failed)?;
        self.dir.rename(&new, &self.dir, file).map_err(failed)
    }

    fn failed(&self, file: &str, source: io::Error) -> FolderError {
        let (file, folder) = (file.to_owned(), self.path.clone());
        if source.kind() == io::ErrorKind::NotFound {
            FolderError::Missing { file, folder }
        } else {
            FolderError::Io { file, folder, source }
        }
    }
}

/// Makes the folders of `relative` beneath `base`, in the place of whatever else is on the way.
pub fn make_way(base: &Path, relative: &Path) -> io::Result<()> {
    let mut folder = rustix::fs::open(base, FOLDER, Mode::empty())?;
    for name in relative {
        folder = match rustix::fs::openat(&folder, name, FOLDER, Mode::empty()) {
            Ok(found) => found,
            Err(error) => {
                if error != Errno::NOENT {
                    rustix::fs::unlinkat(&folder, name, AtFlags::empty())?;
                }
                rustix::fs::mkdirat(&folder, name, Mode::RWXU)?;
                rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?
            }
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let job = temporary.path().join("job");
        fs::create_dir(&job).unwrap();
        fs::write(temporary.path().join("secret"), "canary").unwrap();
        symlink("../secret", job.join("relative")).unwrap();
        symlink(temporary.path().join("secret"), job.join("absolute")).unwrap();
        symlink("..", job.join("up")).unwrap();
        let folder = Folder::open(&job).unwrap();

        for file in ["relative", "absolute", "up/secret", "../secret", "/etc/passwd"] {
            assert!(matches!(folder.read(file, 100), Err(FolderError::Io { .. })), "{file} was read");
            assert!(folder.write(&format!("{file}/x"), b"y").is_err(), "{file} was written");
        }
        assert_eq!(fs::read(temporary.path().join("secret")).unwrap(), b"canary");
    }

    #[test]
    fn a_folder_that_nobody_may_enter_leads_nowhere() {
        let temporary = tempfile::tempdir().unwrap();
        let closed = temporary.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        symlink("..", temporary.path().join("up")).unwrap();
        symlink("circle", temporary.path().join("circle")).unwrap();
        let folder = Folder::open(temporary.path()).unwrap();

        for file in ["up", "up/file", "../file", "/etc/passwd"] {
            assert!(folder.leads_out(file), "{file}");
        }
        // Root may enter it, and finds nothing.
        for file in ["closed/file", "circle", "missing"] {
            assert!(!folder.leads_out(file), "{file}");
        }
    }

    #[test]
    fn a_link_on_the_way_to_the_folder_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir_all(temporary.path().join("builds/real/project")).unwrap();
        fs::create_dir_all(temporary.path().join("home/project")).unwrap();
        symlink("../home", temporary.path().join("builds/team")).unwrap();
        symlink("../../home/project", temporary.path().join("builds/real/link")).unwrap();
        let builds = temporary.path().join("builds");

        let open = |relative: &str| Folder::open_beneath(&builds, Path::new(relative));

        assert!(open("real/project").is_ok());
        for link in ["team/project", "real/link", "../home/project", "/etc"] {
            assert!(matches!(open(link), Err(FolderError::Io { .. })), "{link} was opened");
        }
        assert!(matches!(open("gone/project"), Err(FolderError::NoFolder(_))));
    }

    #[test]
    fn a_pipe_is_neither_read_nor_written_to() {
        let temporary = tempfile::tempdir().unwrap();
        for pipe in ["image.yaml", "image.env.new"] {
            let path = temporary.path().join(pipe);
            rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, 0o644.into(), 0).unwrap();
        }
        let folder = Folder::open(temporary.path()).unwrap();

        assert!(matches!(folder.read("image.yaml", 100), Err(FolderError::NoFile { .. })));
        folder.write("image.env", b"x").unwrap();
        assert_eq!(folder.read("image.env", 100).unwrap(), b"x");
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        folder.write("deep/er/file", b"12345").unwrap();

        assert_eq!(folder.read("deep/er/file", 5).unwrap(), b"12345");
        assert!(matches!(folder.read("deep/er/file", 4), Err(FolderError::TooLarge { limit: 4, .. })));
        assert!(matches!(folder.read("deep/other", 4), Err(FolderError::Missing { .. })));
    }

    #[test]
    fn a_way_is_made_through_links_and_files() {
        let temporary = tempfile::tempdir().unwrap();
        let (base, outside) = (temporary.path().join("base"), temporary.path().join("outside"));
        fs::create_dir_all(base.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, base.join("a/link")).unwrap();
        fs::write(base.join("file"), "").unwrap();

        make_way(&base, Path::new("a/link/deep")).unwrap();
        make_way(&base, Path::new("a/link/deep")).unwrap();
        make_way(&base, Path::new("file/x")).unwrap();

        assert!(fs::symlink_metadata(base.join("a/link")).unwrap().is_dir());
        assert!(base.join("a/link/deep").is_dir() && base.join("file/x").is_dir());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
