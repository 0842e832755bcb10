//! Reads a store path from the host's `/nix/store`.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::nix::StorePath;
use crate::nix::tree::{Entry, Node};

/// Calls `visit` for every entry of `path`, in the order of its NAR.
pub fn read(path: &StorePath, mut visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> io::Result<()> {
    read_tree(&path.to_path_buf(), &mut visit)
}

fn read_tree(root: &Path, visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>) -> io::Result<()> {
    // A stack instead of recursion: the next entry in order is always the last one pushed.
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let on_disk = root.join(std::ffi::OsStr::from_bytes(&path));
        let on_disk = if path.is_empty() { root } else { &on_disk };
        let metadata = fs::symlink_metadata(on_disk)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            visit(Entry { path: &path, node: Node::Directory })?;
            waiting.extend(members(on_disk)?.into_iter().rev().map(|name| join(&path, &name)));
        } else if kind.is_symlink() {
            let target = fs::read_link(on_disk)?;
            visit(Entry { path: &path, node: Node::Symlink { target: target.as_os_str().as_bytes() } })?;
        } else if kind.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let contents = &mut File::open(on_disk)?;
            visit(Entry { path: &path, node: Node::Regular { executable, size: metadata.len(), contents } })?;
        } else {
            return Err(io::Error::other(format!("`{}` is no file, folder or link", on_disk.display())));
        }
    }
    Ok(())
}

fn members(folder: &Path) -> io::Result<Vec<Vec<u8>>> {
    let names: io::Result<Vec<_>> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect();
    let mut names = names?;
    names.sort();
    Ok(names)
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
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
        read_tree(&root, &mut |entry| {
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
