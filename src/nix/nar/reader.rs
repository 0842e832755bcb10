//! From the bytes of an archive to the entries of its tree.

use std::io::{self, BufReader, Read};

use super::{MAGIC, MAX_NAME, MAX_PATH, NarError, NarFault, padding};
use crate::nix::tree::{Entry, Node};

/// The longest word of the grammar has 13 bytes; one byte more tells a longer one apart.
const MAX_WORD: usize = 14;

const BUFFER: usize = 64 * 1024;

/// Calls `visit` for every entry of the tree in `nar`, in order.
///
/// What `visit` leaves of a file's contents is skipped. The archive counts only when this returns: what
/// `visit` was shown before an error may be wrong as well.
pub fn read(nar: impl Read, mut visit: impl FnMut(Entry<'_>) -> io::Result<()>) -> Result<(), NarError> {
    let mut strings = Strings { nar: BufReader::with_capacity(BUFFER, nar), offset: 0 };
    strings.expect(MAGIC, "`nix-archive-1`")?;
    let mut path = Vec::new();
    let mut open: Vec<Folder> = Vec::new();
    loop {
        if strings.object(&path, &mut visit)? {
            open.push(Folder { path_length: path.len(), previous: None });
        }
        // Folders that end here, up to the one that goes on.
        loop {
            let Some(folder) = open.last_mut() else { return strings.end() };
            path.truncate(folder.path_length);
            if strings.is_entry()? {
                let name = strings.name(folder.previous.take())?;
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
                folder.previous = Some(name);
                if path.len() as u64 > MAX_PATH {
                    return Err(strings.wrong(NarFault::Depth(path.len() as u64)));
                }
                break;
            }
            open.pop();
            if !open.is_empty() {
                strings.expect(")", "the end of an entry")?;
            }
        }
    }
}

/// A folder whose end has not come yet.
struct Folder {
    path_length: usize,
    /// The name of its last entry so far.
    previous: Option<Vec<u8>>,
}

/// The archive as the sequence of strings that it is.
struct Strings<R> {
    nar: BufReader<R>,
    offset: u64,
}

impl<R: Read> Strings<R> {
    /// Reads an object and shows it to `visit`, a folder but not what is in it. Whether it is a folder.
    fn object(
        &mut self,
        path: &[u8],
        visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
    ) -> Result<bool, NarError> {
        self.expect("(", "`(`")?;
        self.expect("type", "`type`")?;
        let kind = self.word()?;
        match kind.as_slice() {
            b"directory" => {
                visit(Entry { path, node: Node::Directory }).map_err(NarError::Visit)?;
                return Ok(true);
            }
            b"symlink" => {
                self.expect("target", "`target`")?;
                let target = self.bytes("target of a link", MAX_PATH)?;
                if target.contains(&0) {
                    return Err(self.wrong(NarFault::Target(shown(&target))));
                }
                visit(Entry { path, node: Node::Symlink { target: &target } }).map_err(NarError::Visit)?;
            }
            b"regular" => self.regular(path, visit)?,
            _ => return Err(self.unexpected(&kind, "`regular`, `symlink` or `directory`")),
        }
        self.expect(")", "`)`")?;
        // An entry of a folder has a `)` of its own; the root of the tree has none.
        if !path.is_empty() {
            self.expect(")", "the end of an entry")?;
        }
        Ok(false)
    }

    fn regular(
        &mut self,
        path: &[u8],
        visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
    ) -> Result<(), NarError> {
        let word = self.word()?;
        let executable = word == b"executable";
        if executable {
            let marker = self.word()?;
            if !marker.is_empty() {
                return Err(self.unexpected(&marker, "an empty string"));
            }
            self.expect("contents", "`contents`")?;
        } else if word != b"contents" {
            return Err(self.unexpected(&word, "`executable` or `contents`"));
        }
        let size = self.length()?;
        let mut contents = Contents { strings: self, left: size, failed: None };
        let visited =
            visit(Entry { path, node: Node::Regular { executable, size, contents: &mut contents } });
        // Whoever was shown the contents may have met an error in them, which then is ours.
        if let Some(error) = contents.failed.take() {
            return Err(error);
        }
        visited.map_err(NarError::Visit)?;
        contents.skip()?;
        self.pad(size)
    }

    /// Whether an entry follows in a folder, or else the folder's end; both are read.
    fn is_entry(&mut self) -> Result<bool, NarError> {
        let word = self.word()?;
        match word.as_slice() {
            b"entry" => Ok(true),
            b")" => Ok(false),
            _ => Err(self.unexpected(&word, "`entry` or `)`")),
        }
    }

    /// The name of an entry, up to where its object begins.
    fn name(&mut self, previous: Option<Vec<u8>>) -> Result<Vec<u8>, NarError> {
        self.expect("(", "`(`")?;
        self.expect("name", "`name`")?;
        let name = self.bytes("name", MAX_NAME)?;
        if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return Err(self.wrong(NarFault::Name(shown(&name))));
        }
        if let Some(previous) = previous.filter(|previous| *previous >= name) {
            return Err(self.wrong(NarFault::Order { name: shown(&name), previous: shown(&previous) }));
        }
        self.expect("node", "`node`")?;
        Ok(name)
    }

    /// Nothing may follow.
    fn end(&mut self) -> Result<(), NarError> {
        match self.some(&mut [0])? {
            0 => Ok(()),
            _ => Err(self.wrong(NarFault::Trailing)),
        }
    }

    fn expect(&mut self, word: &str, expected: &'static str) -> Result<(), NarError> {
        let found = self.word()?;
        if found == word.as_bytes() { Ok(()) } else { Err(self.unexpected(&found, expected)) }
    }

    /// A word of the grammar; of a longer string, the start, which is no word.
    fn word(&mut self) -> Result<Vec<u8>, NarError> {
        let length = self.length()?;
        let mut word = vec![0; usize::try_from(length).unwrap_or(MAX_WORD).min(MAX_WORD)];
        self.exact(&mut word)?;
        if word.len() as u64 == length {
            self.pad(length)?;
        }
        Ok(word)
    }

    fn bytes(&mut self, kind: &'static str, most: u64) -> Result<Vec<u8>, NarError> {
        let length = self.length()?;
        if length == 0 || length > most {
            return Err(self.wrong(NarFault::Length { kind, length, most }));
        }
        let mut bytes = vec![0; length as usize];
        self.exact(&mut bytes)?;
        self.pad(length)?;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<u64, NarError> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn pad(&mut self, length: u64) -> Result<(), NarError> {
        let mut bytes = [0; 8];
        let padding = &mut bytes[..padding(length)];
        self.exact(padding)?;
        if padding.iter().any(|byte| *byte != 0) { Err(self.wrong(NarFault::Padding)) } else { Ok(()) }
    }

    fn exact(&mut self, mut buffer: &mut [u8]) -> Result<(), NarError> {
        while !buffer.is_empty() {
            match self.some(buffer)? {
                0 => return Err(self.wrong(NarFault::End)),
                read => buffer = &mut buffer[read..],
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, NarError> {
        loop {
            match self.nar.read(buffer) {
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NarError::Read(error)),
            }
        }
    }

    fn unexpected(&self, found: &[u8], expected: &'static str) -> NarError {
        self.wrong(NarFault::Word { found: shown(found), expected })
    }

    fn wrong(&self, fault: NarFault) -> NarError {
        NarError::Malformed { offset: self.offset, fault }
    }
}

/// The contents of one file of an archive.
struct Contents<'a, R> {
    strings: &'a mut Strings<R>,
    left: u64,
    /// Why reading stopped early.
    failed: Option<NarError>,
}

impl<R: Read> Contents<'_, R> {
    fn skip(&mut self) -> Result<(), NarError> {
        let mut buffer = [0; 8192];
        while self.left > 0 {
            self.some(&mut buffer)?;
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, NarError> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        match self.strings.some(&mut buffer[..wanted])? {
            0 => Err(self.strings.wrong(NarFault::End)),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}

impl<R: Read> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.some(buffer).map_err(|error| {
            self.failed = Some(error);
            io::ErrorKind::UnexpectedEof.into()
        })
    }
}

/// Bytes for people, not too many of them.
fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).escape_debug().to_string();
    if bytes.len() > MOST { format!("{text}…") } else { text }
}
