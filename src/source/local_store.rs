//! Reads a store path from disk: the host's `/nix/store`, or a folder like it.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::ReadError;
use crate::nix::StorePath;
use crate::nix::tree::{Entry, Node};

/// Why a tree on disk was not read to its end.
#[derive(Debug)]
pub enum TreeError {
    /// It cannot be read.
    Read(io::Error),
    /// Whoever was shown the entries could not go on.
    Visit(io::Error),
}

impl TreeError {
    /// The same of a store path.
    pub(super) fn of(self, path: &StorePath) -> ReadError {
        match self {
            Self::Read(source) => ReadError::Disk { path: path.clone(), source },
            Self::Visit(error) => ReadError::Visit(error),
        }
    }
}

/// Calls `visit` for every entry of the tree at `root`, in the order of its NAR.
pub fn read(root: &Path, mut visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<(), TreeError> {
    // A stack instead of recursion: the next entry in order is always the last one pushed.
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let on_disk = root.join(std::ffi::OsStr::from_bytes(&path));
        let on_disk = if path.is_empty() { root } else { &on_disk };
        let metadata = fs::symlink_metadata(on_disk).map_err(TreeError::Read)?;
        let kind = metadata.file_type();
        let mut show = |node| visit(Entry { path: &path, node }).map_err(TreeError::Visit);
        if kind.is_dir() {
            show(Node::Directory)?;
            let members = members(on_disk).map_err(TreeError::Read)?;
            waiting.extend(members.into_iter().rev().map(|name| join(&path, &name)));
        } else if kind.is_symlink() {
            let target = fs::read_link(on_disk).map_err(TreeError::Read)?;
            show(Node::Symlink { target: target.as_os_str().as_bytes() })?;
        } else if kind.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let contents = &mut File::open(on_disk).map_err(TreeError::Read)?;
            show(Node::Regular { executable, size: metadata.len(), contents })?;
        } else {
            let message = format!("`{}` is no file, folder or link", on_disk.display());
            return Err(TreeError::Read(io::Error::other(message)));
        }
    }
    Ok(())
}

/// The names of what a folder holds, sorted by their bytes.
pub(super) fn members(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let names: io::Result<Vec<_>> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect();
    let mut names = names?;
    names.sort();
    Ok(names)
}

/// The path of a member of `folder`, which is empty at the root.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The order of a NAR: names of one folder by their bytes, each folder's contents right after it.
    #[test]
    fn entries_come_in_nar_order() {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("root");
        fs::create_dir_all(root.join("share/a")).unwrap();
        for (file, contents) in [("share/a/f", "1\n"), ("share/a-b", "2\n"), ("share/a.c", "3\n")] {
            fs::write(root.join(file), contents).unwrap();
        }
        fs::set_permissions(root.join("share/a-b"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("a-b", root.join("share/link")).unwrap();

        let mut seen = Vec::new();
        read(&root, |entry| {
            let path = String::from_utf8_lossy(entry.path).into_owned();
            seen.push(match entry.node {
                Node::Directory => format!("{path}/"),
                Node::Symlink { target } => format!("{path} -> {}", String::from_utf8_lossy(target)),
                Node::Regular { executable, size, contents } => {
                    let text = io::read_to_string(contents)?;
                    format!("{path} {size} {} {text:?}", if executable { "x" } else { "-" })
                }
            });
            Ok(())
        })
        .unwrap();

        assert_eq!(
            seen,
            [
                "/",
                "share/",
                "share/a/",
                r#"share/a/f 2 - "1\n""#,
                r#"share/a-b 2 x "2\n""#,
                r#"share/a.c 2 - "3\n""#,
                "share/link -> a-b"
            ]
        );
    }
}
