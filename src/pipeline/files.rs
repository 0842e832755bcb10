//! The image's own files on disk: a tree made for commands and read back, and files of the project.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, PermissionsExt as _};

use crate::folder::Folder;
use crate::layer::root::Open;
use crate::layer::{Contents, RootKind, RootNode, RootTree};
use crate::nix::NarHash;
use crate::nix::nar::{NarHasher, NarWriter};
use crate::nix::tree::{Entry, Node};
use crate::spec::ProjectPath;

/// Makes `tree` at `folder`, which does not exist yet and which nobody else may enter.
pub(super) fn write(tree: &RootTree, folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Without the group bit that a folder may pass on to what is made in it.
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for (path, node) in tree.iter() {
        let path = folder.join(OsStr::from_bytes(path));
        match &node.kind {
            RootKind::Directory => fs::create_dir(&path)?,
            RootKind::Symlink(target) => symlink(OsStr::from_bytes(target), &path)?,
            RootKind::Regular(contents) => {
                io::copy(&mut contents.open()?.1, &mut File::create_new(&path)?)?;
            }
        }
        if !matches!(node.kind, RootKind::Symlink(_)) {
            fs::set_permissions(&path, Permissions::from_mode(node.mode))?;
        }
    }
    Ok(())
}

/// The tree at `folder`, with root as the owner of everything.
pub(super) fn read(folder: &Path) -> io::Result<RootTree> {
    let mut tree = RootTree::default();
    read_below(folder, b"", &mut tree)?;
    Ok(tree)
}

fn read_below(folder: &Path, path: &[u8], tree: &mut RootTree) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let on_disk = entry?.path();
        let name = on_disk.file_name().unwrap_or_default().as_bytes();
        let path = join(path, name);
        let metadata = fs::symlink_metadata(&on_disk)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let kind = metadata.file_type();
        let node = if kind.is_dir() {
            RootNode::directory(mode)
        } else if kind.is_symlink() {
            RootNode::symlink(fs::read_link(&on_disk)?.as_os_str().as_bytes())
        } else if kind.is_file() {
            let file = on_disk.clone();
            let open: Open = Arc::new(move || Ok(Box::new(File::open(&file)?)));
            RootNode::file(mode, Contents::Reader { size: metadata.size(), open })
        } else {
            let path = String::from_utf8_lossy(&path).into_owned();
            return Err(io::Error::other(format!(
                "the commands made `/{path}`, which is no file, folder or link"
            )));
        };
        tree.insert(&path, node).map_err(io::Error::other)?;
        if kind.is_dir() {
            read_below(&on_disk, &path, tree)?;
        }
    }
    Ok(())
}

/// Why a file of the project is not in the image.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is not there.
    #[error("there is no `{0}` in the project")]
    Missing(String),
    /// The way to it leads out of the project.
    #[error("`{0}` is not in the project: a link on the way leads out of it")]
    Outside(String),
    /// It could not be read.
    #[error("`{source_path}` cannot be read: {cause}")]
    Read {
        /// The file.
        source_path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It is what is always left out.
    #[error("`{0}` is not for images: the settings of a clone may hold the job's token")]
    LeftOut(String),
    /// It is a device, a socket or a pipe.
    #[error("`{0}` is no file, folder or link")]
    Kind(String),
}

/// A file or folder of the project and what is in it, each with the way from `source` to it, and
/// with the modes that Git keeps: 0755 for folders and what may be executed, 0644 for other files.
pub(super) fn copy(project: &Folder, source: &ProjectPath) -> Result<Vec<(Vec<u8>, RootNode)>, CopyError> {
    if source.as_str().split('/').any(is_left_out) {
        return Err(CopyError::LeftOut(source.to_string()));
    }
    let mut copied = Vec::new();
    let dir =
        project.dir().try_clone().map_err(|cause| CopyError::Read { source_path: ".".to_owned(), cause })?;
    copy_at(&Arc::new(dir), Path::new(source.as_str()), b"", &mut copied)?;
    Ok(copied)
}

/// The hash that Nix gives the folder or file `source`, as [`copy`] sees it, and without `spec` and all locks: what
/// these say of the folder must not change it.
pub(super) fn nar_hash(project: &Folder, source: &ProjectPath, spec: &str) -> Result<NarHash, CopyError> {
    // Where the name is a link, what counts is what it leads to.
    let failed = |cause| CopyError::Read { source_path: source.to_string(), cause };
    let there = match source.as_str() {
        "." => source.clone(),
        name => {
            let there = project.dir().canonicalize(name).map_err(failed)?;
            there.to_string_lossy().parse().map_err(|cause| failed(io::Error::other(cause)))?
        }
    };
    let copied = copy(project, &there)?.into_iter().filter(|(below, _)| {
        let file = Path::new(there.as_str()).join(OsStr::from_bytes(below));
        let file = file.strip_prefix(".").unwrap_or(&file);
        file != Path::new(spec) && !file.to_string_lossy().ends_with(".lock.json")
    });
    // An archive has the names of each folder in order, which is the order of paths as lists of names.
    let names = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let sorted: BTreeMap<_, _> = copied.map(|(path, node)| (names(&path), (path, node))).collect();
    let mut nar = NarWriter::new(NarHasher::default()).map_err(failed)?;
    for (path, node) in sorted.values() {
        append(&mut nar, path, node).map_err(failed)?;
    }
    Ok(nar.finish().map_err(failed)?.hash())
}

fn append(nar: &mut NarWriter<NarHasher>, path: &[u8], node: &RootNode) -> io::Result<()> {
    match &node.kind {
        RootKind::Directory => nar.append(Entry { path, node: Node::Directory }),
        RootKind::Symlink(target) => nar.append(Entry { path, node: Node::Symlink { target } }),
        RootKind::Regular(contents) => {
            let (size, mut contents) = contents.open()?;
            let executable = node.mode & 0o100 != 0;
            nar.append(Entry { path, node: Node::Regular { executable, size, contents: &mut contents } })
        }
    }
}

/// Git's own files, among them the clone's settings with the job's token, and our report.
fn is_left_out(name: &str) -> bool {
    name == ".git" || name == "nixlayer-report"
}

/// Everything is opened by its whole path beneath the project, now and when the layer is written, so
/// that a link which takes a folder's place meanwhile leads nowhere else.
fn copy_at(
    project: &Arc<Dir>,
    source: &Path,
    below: &[u8],
    copied: &mut Vec<(Vec<u8>, RootNode)>,
) -> Result<(), CopyError> {
    let failed = |cause: io::Error| {
        let source_path = source.display().to_string();
        match (cause.kind(), cause.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => CopyError::Missing(source_path),
            // A refusal of the library's own.
            (io::ErrorKind::PermissionDenied, None) => CopyError::Outside(source_path),
            _ => CopyError::Read { source_path, cause },
        }
    };
    let metadata = project.symlink_metadata(source).map_err(failed)?;
    if metadata.is_dir() {
        copied.push((below.to_vec(), RootNode::directory(0o755)));
        for entry in project.read_dir(source).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name.to_str().is_some_and(is_left_out) {
                continue;
            }
            copy_at(project, &source.join(&name), &join(below, name.as_bytes()), copied)?;
        }
        return Ok(());
    }
    let node = if metadata.is_symlink() {
        RootNode::symlink(project.read_link_contents(source).map_err(failed)?.as_os_str().as_bytes())
    } else if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o100 != 0;
        let (project, source) = (Arc::clone(project), source.to_owned());
        let open: Open = Arc::new(move || Ok(Box::new(project.open(&source)?)));
        let contents = Contents::Reader { size: metadata.len(), open };
        RootNode::file(if executable { 0o755 } else { 0o644 }, contents)
    } else {
        return Err(CopyError::Kind(source.display().to_string()));
    };
    copied.push((below.to_vec(), node));
    Ok(())
}

/// Two parts of a path; either may be empty.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder, name) {
        (folder, b"") | (b"", folder) => folder.to_vec(),
        (folder, name) => [folder, b"/", name].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tree: &RootTree) -> Vec<String> {
        let line = |(path, node): (&[u8], &RootNode)| {
            let path = String::from_utf8_lossy(path);
            match &node.kind {
                RootKind::Directory => format!("{path}/ {:o}", node.mode),
                RootKind::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
                RootKind::Regular(contents) => {
                    let text = io::read_to_string(contents.open().unwrap().1).unwrap();
                    format!("{path} {:o} {text:?}", node.mode)
                }
            }
        };
        tree.iter().map(line).collect()
    }

    #[test]
    fn a_tree_comes_back_from_disk_as_it_was() {
        let temporary = tempfile::tempdir().unwrap();
        let mut tree = RootTree::new();
        tree.insert(b"tmp", RootNode::directory(0o1777)).unwrap();
        tree.insert(b"bin/tool", RootNode::symlink("/nix/store/x/bin/tool")).unwrap();
        tree.insert(b"etc/secret", RootNode::file(0o600, Contents::Bytes(b"x".to_vec()))).unwrap();
        tree.insert(b"bin/su", RootNode::file(0o4755, Contents::Bytes(vec![]))).unwrap();

        write(&tree, &temporary.path().join("tree")).unwrap();
        let back = read(&temporary.path().join("tree")).unwrap();

        assert_eq!(shown(&back), shown(&tree));
        let scratch = fs::metadata(temporary.path().join("tree")).unwrap();
        assert_eq!(scratch.permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_device_or_pipe_that_commands_made_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let pipe = temporary.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();

        let error = read(temporary.path()).unwrap_err();

        assert_eq!(error.to_string(), "the commands made `/pipe`, which is no file, folder or link");
    }

    /// Git keeps no other modes, so a checkout by another umask gives the same image.
    #[test]
    fn what_is_copied_from_the_project_has_gits_modes() {
        let temporary = tempfile::tempdir().unwrap();
        let source = temporary.path().join("public/sub");
        fs::create_dir_all(&source).unwrap();
        for (name, mode) in [("run", 0o700), ("data", 0o640)] {
            fs::write(source.join(name), name).unwrap();
            fs::set_permissions(source.join(name), Permissions::from_mode(mode)).unwrap();
        }
        symlink("/etc/passwd", temporary.path().join("public/link")).unwrap();
        fs::create_dir(source.join(".git")).unwrap();
        fs::write(source.join(".git/config"), "canary").unwrap();
        let project = Folder::open(temporary.path()).unwrap();

        let mut tree = RootTree::new();
        for (below, node) in copy(&project, &"public".parse().unwrap()).unwrap() {
            tree.insert(&join(b"srv/www", &below), node).unwrap();
        }

        assert_eq!(
            shown(&tree),
            [
                "srv/ 755",
                "srv/www/ 755",
                "srv/www/link -> /etc/passwd",
                "srv/www/sub/ 755",
                "srv/www/sub/data 644 \"data\"",
                "srv/www/sub/run 755 \"run\""
            ]
        );
    }

    #[test]
    fn nothing_outside_of_the_project_is_copied() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = temporary.path().join("outside");
        fs::create_dir_all(outside.join("deep")).unwrap();
        fs::write(outside.join("deep/secret"), "canary").unwrap();
        let project = temporary.path().join("project");
        fs::create_dir(&project).unwrap();
        symlink(&outside, project.join("link")).unwrap();
        let project = Folder::open(&project).unwrap();

        assert!(matches!(copy(&project, &"link/deep".parse().unwrap()), Err(CopyError::Outside(_))));
        assert!(matches!(copy(&project, &"link/deep/secret".parse().unwrap()), Err(CopyError::Outside(_))));
        assert!(matches!(copy(&project, &".git/config".parse().unwrap()), Err(CopyError::LeftOut(_))));
    }
}
