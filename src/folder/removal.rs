//! Removes a tree that somebody else made, without following a link.

use std::io;
use std::path::Path;

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use super::FOLDER;

/// Each level of nesting holds one open file, of which a process may have 1024 by default.
const MAX_DEPTH: usize = 256;

/// Removes what is at `path`, whole, also where folders are read-only; nothing there is fine.
///
/// Links are removed, not followed, and no path below `path` is ever looked up twice, so a process
/// that swaps a folder for a link meanwhile cannot lead the removal elsewhere. Folders nested deeper
/// than the limit on open files are moved beside `path` and removed afterwards, by the next removal
/// if this one does not get that far.
pub fn remove(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The way to `path` is ours, and the admin may have made a part of it a link to another disk.
    let parent = match rustix::fs::open(parent, FOLDER.difference(OFlags::NOFOLLOW), Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let prefix = [name.as_encoded_bytes(), b".removed-"].concat();
    let left: Vec<_> = members(&parent)?.into_iter().filter(|member| member.starts_with(&prefix)).collect();
    let number = |member: &Vec<u8>| std::str::from_utf8(&member[prefix.len()..]).ok()?.parse().ok();
    let next = left.iter().filter_map(number).max().map_or(0, |last: usize| last.saturating_add(1));
    let mut removal = Removal { top: &parent, moved: left, next, prefix };
    let mut removed = removal.remove_at(&parent, name.as_encoded_bytes(), 0);
    while let Some(moved) = removal.moved.pop() {
        removed = removed.and(removal.remove_at(&parent, &moved, 0));
    }
    removed
}

struct Removal<'a> {
    top: &'a OwnedFd,
    /// What was nested too deep and is beside the tree now, still to be removed.
    moved: Vec<Vec<u8>>,
    /// The number in the name of the next that is moved there; no number is used twice.
    next: usize,
    prefix: Vec<u8>,
}

impl Removal<'_> {
    fn remove_at(&mut self, parent: &OwnedFd, name: &[u8], depth: usize) -> io::Result<()> {
        let kind = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if kind != FileType::Directory {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?);
        }
        let folder = open_writable(parent, name)?;
        if depth == MAX_DEPTH {
            let moved = [&self.prefix, self.next.to_string().as_bytes()].concat();
            self.next += 1;
            rustix::fs::renameat(parent, name, self.top, &*moved)?;
            self.moved.push(moved);
            return Ok(());
        }
        // One that cannot be removed must not keep the others.
        let mut first_error = None;
        for member in members(&folder)? {
            if let Err(error) = self.remove_at(&folder, &member, depth + 1) {
                first_error.get_or_insert(error);
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?),
        }
    }
}

fn open_writable(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    let folder = match rustix::fs::openat(parent, name, FOLDER, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // The owner may change the mode of a folder it cannot read, but only by a name; the one
            // of an `O_PATH` descriptor stays with the folder whatever happens to the tree.
            let pinned = rustix::fs::openat(
                parent,
                name,
                FOLDER.difference(OFlags::RDONLY) | OFlags::PATH,
                Mode::empty(),
            )?;
            rustix::fs::chmod(format!("/proc/self/fd/{}", pinned.as_raw_fd()), Mode::RWXU)?;
            rustix::fs::openat(parent, name, FOLDER, Mode::empty())?
        }
        opened => opened?,
    };
    rustix::fs::fchmod(&folder, Mode::RWXU)?;
    Ok(folder)
}

fn members(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = Vec::with_capacity(8192);
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use cap_std::ambient_authority;
    use cap_std::fs::Dir;

    use super::*;

    #[test]
    fn removal_takes_read_only_folders_and_leaves_what_links_lead_to() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let job = temporary.path().join("job");
        fs::create_dir_all(job.join("a/b/c")).unwrap();
        fs::write(job.join("a/b/c/file"), "x").unwrap();
        symlink(&outside, job.join("a/link")).unwrap();
        symlink("nowhere", job.join("a/b/dangling")).unwrap();
        for (folder, mode) in [("a/b/c", 0o555), ("a/b", 0o000), ("a", 0o555)] {
            fs::set_permissions(job.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }

        remove(&job).unwrap();
        remove(&job).unwrap();

        assert!(!job.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    }

    #[test]
    fn removal_takes_folders_nested_deeper_than_files_can_be_open() {
        let temporary = tempfile::tempdir().unwrap();
        let job = temporary.path().join("job");
        fs::create_dir(&job).unwrap();
        let mut folder = Dir::open_ambient_dir(&job, ambient_authority()).unwrap();
        // A path of more than 4096 bytes would upset others who look at open files, as Nix does when
        // it collects garbage.
        for _ in 0..1500 {
            folder.create_dir("d").unwrap();
            folder = folder.open_dir("d").unwrap();
        }

        remove(&job).unwrap();

        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_way_to_what_is_removed_may_be_a_link() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |path: &str| temporary.path().join(path);
        fs::create_dir_all(at("disk/job/a")).unwrap();
        symlink(at("disk"), at("builds")).unwrap();

        remove(&at("builds/job")).unwrap();

        assert!(at("disk").exists() && !at("disk/job").exists());
    }

    #[test]
    fn removal_takes_what_an_earlier_one_left_beside() {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir_all(temporary.path().join("job.removed-0/deep")).unwrap();
        fs::create_dir_all(temporary.path().join("job-2")).unwrap();

        remove(&temporary.path().join("job")).unwrap();

        let left: Vec<_> =
            fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["job-2"]);
    }
}
