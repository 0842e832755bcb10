//! From the entries of a tree to the bytes of its archive.

use std::io::{self, Read, Write};

use super::{MAGIC, padding};
use crate::nix::tree::{Entry, Node};

/// Writes the archive of a tree, entry by entry.
pub struct NarWriter<W> {
    sink: W,
    /// The folders that have not ended yet, each by its path; the root's is empty.
    open: Vec<Vec<u8>>,
}

impl<W: Write> NarWriter<W> {
    /// An archive of which the tree is still to come.
    pub fn new(sink: W) -> io::Result<Self> {
        let mut writer = Self { sink, open: Vec::new() };
        writer.string(MAGIC.as_bytes())?;
        Ok(writer)
    }

    /// Adds the next entry, in the order of [`crate::nix::tree`]: the tree's root first.
    pub fn append(&mut self, entry: Entry<'_>) -> io::Result<()> {
        self.pass(entry, |_| Ok(()))
    }

    /// Adds the next entry, and shows it to `visit` on its way. What this leaves unread of a file is read after it.
    pub fn pass(
        &mut self,
        entry: Entry<'_>,
        visit: impl FnOnce(Entry<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let parent_length = entry.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let parent = &entry.path[..parent_length];
        if !entry.path.is_empty() {
            while self.open.last().is_some_and(|folder| folder != parent) {
                self.close()?;
            }
            if self.open.is_empty() {
                let path = String::from_utf8_lossy(entry.path);
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("`{path}` comes before its folder"),
                ));
            }
            let name = if parent.is_empty() { entry.path } else { &entry.path[parent_length + 1..] };
            self.words(&["entry", "(", "name"])?;
            self.string(name)?;
            self.words(&["node"])?;
        }
        self.words(&["(", "type"])?;
        match entry.node {
            Node::Directory => {
                self.open.push(entry.path.to_vec());
                self.words(&["directory"])?;
                return visit(entry);
            }
            Node::Symlink { target } => {
                self.words(&["symlink", "target"])?;
                self.string(target)?;
                visit(Entry { path: entry.path, node: Node::Symlink { target } })?;
            }
            Node::Regular { executable, size, contents } => {
                self.words(&["regular"])?;
                if executable {
                    self.words(&["executable", ""])?;
                }
                self.words(&["contents"])?;
                self.sink.write_all(&size.to_le_bytes())?;
                let mut passing = Passing { contents, sink: &mut self.sink, left: size };
                let node = Node::Regular { executable, size, contents: &mut passing };
                visit(Entry { path: entry.path, node })?;
                let left = passing.left;
                io::copy(&mut Read::take(&mut passing, left), &mut io::sink())?;
                if passing.left > 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.pad(size)?;
            }
        }
        self.words(&[")"])?;
        if entry.path.is_empty() { Ok(()) } else { self.words(&[")"]) }
    }

    /// Ends the archive and gives the sink back.
    pub fn finish(mut self) -> io::Result<W> {
        while !self.open.is_empty() {
            self.close()?;
        }
        Ok(self.sink)
    }

    /// Ends the innermost folder, and the entry that it is, unless it is the root.
    fn close(&mut self) -> io::Result<()> {
        self.open.pop();
        self.words(&[")"])?;
        if self.open.is_empty() { Ok(()) } else { self.words(&[")"]) }
    }

    fn words(&mut self, words: &[&str]) -> io::Result<()> {
        words.iter().try_for_each(|word| self.string(word.as_bytes()))
    }

    fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(&(bytes.len() as u64).to_le_bytes())?;
        self.sink.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        self.sink.write_all(&[0; 8][..padding(length)])
    }
}

/// The contents of a file, which go into an archive as they are read.
struct Passing<'a, W> {
    contents: &'a mut dyn Read,
    sink: &'a mut W,
    /// How many bytes the archive still takes.
    left: u64,
}

impl<W: Write> Read for Passing<'_, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.contents.read(buffer)?;
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(length);
        self.sink.write_all(&buffer[..taken])?;
        self.left -= taken as u64;
        Ok(length)
    }
}
