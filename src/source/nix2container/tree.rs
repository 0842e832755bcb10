//! The files of a layer: where they lie on the host, where in the image, and whose they are there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use regex::bytes::Regex;

use super::LayerError;
use super::layer::on_host;
use super::options::{LONGEST_PATH, Options, Permissions, Rewrite};
use super::pattern::replace_all;
use super::place::Place;
use crate::layer::{Dialect, Member, Metadata, TarWriter};
use crate::source::local_store;

/// What a layer will hold. Only names are in memory; contents are read when it is written.
pub(super) struct LayerTree<'a> {
    host: &'a Path,
    /// Folders that no store path has put there are `None`.
    nodes: BTreeMap<Place, Option<Node<'a>>>,
}

/// A file, folder or link on the host.
struct Node<'a> {
    /// Its absolute path there.
    name: Vec<u8>,
    kind: Kind,
    /// Kind and permissions on the host.
    host_mode: u32,
    /// If its path has options.
    permissions: Option<&'a [Permissions]>,
    metadata: Metadata<'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Regular { size: u64 },
    Symlink,
}

impl<'a> LayerTree<'a> {
    /// Nothing, of a host whose root is `host`.
    pub(super) fn new(host: &'a Path) -> Self {
        Self { host, nodes: BTreeMap::new() }
    }

    /// Adds all that lies at and below an absolute path of the host.
    pub(super) fn add(&mut self, path: &str, options: Option<&'a Options>) -> Result<(), LayerError> {
        let change = options.map_or(Ok(Change::default()), Change::new)?;
        // A stack instead of recursion: the next in order is always the last one pushed.
        let mut waiting = vec![path.as_bytes().to_vec()];
        while let Some(name) = waiting.pop() {
            let on_host = on_host(self.host, &name);
            let read = |source| LayerError::Read { path: on_host.display().to_string(), source };
            let metadata = fs::symlink_metadata(&on_host).map_err(read)?;
            let kind = Kind::of(&metadata).ok_or_else(|| LayerError::Kind(text(&name)))?;
            if kind == Kind::Directory {
                let members = local_store::members(&on_host).map_err(read)?;
                waiting.extend(members.into_iter().rev().map(|member| local_store::join(&name, &member)));
            }
            if let Some(place) = change.place(&name)? {
                let host_mode = metadata.mode();
                let metadata = change.metadata(&name, kind, host_mode);
                let permissions = options.map(|options| options.permissions.as_slice());
                self.insert(place, Node { name, kind, host_mode, permissions, metadata })?;
            }
        }
        Ok(())
    }

    /// Of two files at one place the later counts, but they must look alike: nobody compares their contents.
    fn insert(&mut self, place: Place, node: Node<'a>) -> Result<(), LayerError> {
        if let Some(Some(first)) = self.nodes.get(&place)
            && let Some(difference) = first.difference(&node)
        {
            return Err(LayerError::Conflict {
                place: place.to_string(),
                first: text(&first.name),
                second: text(&node.name),
                difference,
            });
        }
        for parent in place.parents() {
            self.nodes.entry(parent).or_insert(None);
        }
        self.nodes.insert(place, Some(node));
        Ok(())
    }

    /// Writes the tar, and gives the sink back.
    pub(super) fn write<W: Write>(&self, sink: W) -> Result<W, LayerError> {
        self.check()?;
        let mut tar = TarWriter::in_dialect(sink, Dialect::Go);
        for (place, node) in &self.nodes {
            match node {
                None => tar
                    .append(place.bytes(), &Metadata::of_root(0o755), Member::Directory)
                    .map_err(LayerError::Write)?,
                Some(node) => node.write(place, &on_host(self.host, &node.name), &mut tar)?,
            }
        }
        tar.finish().map_err(LayerError::Write)
    }

    /// Only folders may hold something.
    fn check(&self) -> Result<(), LayerError> {
        let mut leaf: Option<&Place> = None;
        for (place, node) in &self.nodes {
            if let Some(parent) = leaf.filter(|leaf| place.is_below(leaf)) {
                return Err(LayerError::Below { path: place.to_string(), parent: parent.to_string() });
            }
            leaf = node.as_ref().is_some_and(|node| node.kind != Kind::Directory).then_some(place);
        }
        Ok(())
    }
}

impl Kind {
    fn of(metadata: &fs::Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        if kind.is_dir() {
            Some(Self::Directory)
        } else if kind.is_symlink() {
            Some(Self::Symlink)
        } else {
            kind.is_file().then_some(Self::Regular { size: metadata.len() })
        }
    }
}

impl Node<'_> {
    /// In what another node differs that is to be at the same place.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.host_mode != other.host_mode {
            Some("kind or mode")
        } else if self.kind != other.kind {
            Some("size")
        } else if self.permissions.is_some_and(|permissions| permissions != other.permissions.unwrap_or(&[]))
        {
            Some("`perms`")
        } else {
            None
        }
    }

    fn write<W: Write>(&self, place: &Place, path: &Path, tar: &mut TarWriter<W>) -> Result<(), LayerError> {
        let read = |source| LayerError::Read { path: path.display().to_string(), source };
        let mut append =
            |member| tar.append(place.bytes(), &self.metadata, member).map_err(LayerError::Write);
        match self.kind {
            Kind::Directory => append(Member::Directory),
            Kind::Symlink => {
                let target = fs::read_link(path).map_err(read)?;
                append(Member::Symlink { target: target.as_os_str().as_bytes() })
            }
            Kind::Regular { size } => {
                let mut contents = Contents { file: File::open(path).map_err(read)?, fault: None };
                let appended = append(Member::Regular { size, contents: &mut contents });
                contents.fault.map_or(appended, |source| Err(read(source)))
            }
        }
    }
}

/// A file that remembers why it cannot be read, so that this is not taken for a fault of the tar.
struct Contents {
    file: File,
    fault: Option<io::Error>,
}

impl Read for Contents {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.fault = error.raw_os_error().map(io::Error::from_raw_os_error);
            }
        })
    }
}

/// The options of a path, ready for use.
#[derive(Default)]
struct Change<'a> {
    rewrite: Option<(&'a Rewrite, Regex)>,
    permissions: Vec<(&'a Permissions, Regex)>,
}

impl<'a> Change<'a> {
    fn new(options: &'a Options) -> Result<Self, LayerError> {
        let rewrite = options.rewrite.as_ref().map(|rewrite| Ok((rewrite, rewrite.pattern.compile()?)));
        let permissions = options.permissions.iter().map(|entry| Ok((entry, entry.pattern.compile()?)));
        Ok(Self { rewrite: rewrite.transpose()?, permissions: permissions.collect::<Result<_, _>>()? })
    }

    /// Where a file of the host is to be in the image; what is moved to the empty path is left out.
    fn place(&self, name: &[u8]) -> Result<Option<Place>, LayerError> {
        let Some((rewrite, regex)) = &self.rewrite else { return Ok(Some(Place::clean(name))) };
        let to = replace_all(regex, name, &rewrite.replacement, LONGEST_PATH)
            .ok_or_else(|| LayerError::TooLong { path: text(name), most: LONGEST_PATH })?;
        if to.contains(&0) || to.split(|&byte| byte == b'/').any(|part| part == b"..") {
            return Err(LayerError::Place { path: text(name), to: text(&to) });
        }
        Ok((!to.is_empty()).then(|| Place::clean(&to)))
    }

    /// Whose a file is in the image; all that match count, the last for most.
    fn metadata(&self, name: &[u8], kind: Kind, host_mode: u32) -> Metadata<'a> {
        let mode = if kind == Kind::Symlink { 0o777 } else { host_mode & 0o7777 };
        let mut metadata = Metadata::of_root(mode);
        for (entry, regex) in &self.permissions {
            if regex.is_match(name) {
                (metadata.uid, metadata.gid) = (entry.uid, entry.gid);
                metadata.uname = entry.uname.as_deref().unwrap_or(metadata.uname);
                metadata.gname = entry.gname.as_deref().unwrap_or(metadata.gname);
                metadata.mode = entry.mode.unwrap_or(metadata.mode);
            }
        }
        metadata
    }
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

#[cfg(test)]
mod tests;
