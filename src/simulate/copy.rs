//! Copies folders whose contents a job has made up.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Copies folders, files and links from `from` to `to`.
///
/// Links are copied as links, and what is in a file's place goes first, so that nothing is written
/// through a link that an earlier job left in `to`. Sockets, pipes and devices stay behind.
pub(super) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if target.symlink_metadata().is_ok_and(|present| !(present.is_dir() && kind.is_dir())) {
            remove(&target)?;
        }
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("from/folder")).unwrap();
        fs::write(at("from/folder/file"), "new").unwrap();
        fs::write(at("from/file"), "new").unwrap();
        symlink("file", at("from/link")).unwrap();
        fs::create_dir_all(at("victim")).unwrap();
        fs::write(at("victim/file"), "old").unwrap();
        fs::create_dir(at("to")).unwrap();
        symlink(at("victim"), at("to/folder")).unwrap();
        symlink(at("victim/file"), at("to/file")).unwrap();

        copy_tree(&at("from"), &at("to")).unwrap();

        assert_eq!(fs::read_to_string(at("victim/file")).unwrap(), "old");
        assert_eq!(fs::read_to_string(at("to/folder/file")).unwrap(), "new");
        assert_eq!(fs::read_link(at("to/link")).unwrap(), Path::new("file"));
        assert!(!at("to/file").is_symlink());
    }

    #[test]
    fn copying_again_replaces() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        symlink("x", from.join("link")).unwrap();

        copy_tree(&from, &to).unwrap();
        fs::remove_file(from.join("link")).unwrap();
        fs::create_dir(from.join("link")).unwrap();
        copy_tree(&from, &to).unwrap();

        assert!(to.join("link").is_dir() && !to.join("link").is_symlink());
    }
}
