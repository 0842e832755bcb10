//! The members of a tar, one after the other (POSIX, "pax Interchange Format" and "ustar Interchange Format"; GNU's
//! long names).
//!
//! What a member is called and how long it is decides where the next one begins, so two readers that see it
//! differently see different archives. Where headers say two things, this one says so and stops.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::extended::Extended;
use super::input::{Input, fault_of_archive};
use super::{ArchiveFault, Limits, MemberName};

const BLOCK: usize = 512;

/// The most bytes of an extended header: names are shorter.
const MOST_EXTENDED: u64 = 1 << 20;

/// The most bytes after the end, which fill up a block of a tape.
const MOST_AFTER_END: u64 = 64 << 20;

/// A member before its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: MemberName,
    pub(super) kind: Kind,
    /// Bytes of its contents.
    pub(super) size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// A name for what another member is.
    Link(MemberName),
    /// A folder, or what no image has.
    Other,
}

const PAX: &str = "its records are none";
const TWICE: &str = "a member has two names";

const SPECIAL: &str = "it gives a device or pipe contents";

/// A tar that is being read.
pub(super) struct TarReader {
    input: Input,
    limits: Limits,
    /// Bytes of the member's contents that are still to come, and those that fill up its last block.
    left: u64,
    padding: u64,
    members: usize,
    bytes: u64,
    /// The member that was read last, for errors.
    last: String,
}

impl TarReader {
    pub(super) fn new(input: Input, limits: Limits) -> Self {
        Self { input, limits, left: 0, padding: 0, members: 0, bytes: 0, last: "its first header".to_owned() }
    }

    /// The next member; what is left of the one before is passed over. None at the end.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ArchiveFault> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                self.end()?;
                return Ok(None);
            };
            self.members += 1;
            if self.members > self.limits.members {
                return Err(ArchiveFault::TooMany(self.limits.members));
            }
            let size = match header.entry_type() {
                // These have no contents, whatever their headers say.
                EntryType::Link | EntryType::Symlink | EntryType::Directory => 0,
                _ => header.entry_size().map_err(|_| self.damaged("its size is no number"))?,
            };
            if is_special(header.entry_type()) && size > 0 {
                return Err(self.damaged(SPECIAL));
            }
            match header.entry_type() {
                EntryType::XHeader => extended.add_pax(&self.extended(size)?, || self.damaged(PAX))?,
                EntryType::XGlobalHeader => {
                    let mut all = Extended::default();
                    all.add_pax(&self.extended(size)?, || self.damaged(PAX))?;
                    if all.name.is_some() || all.link.is_some() || all.size.is_some() {
                        return Err(self.damaged("it gives all members one name or size"));
                    }
                }
                EntryType::GNULongName => {
                    let name = self.extended(size)?;
                    extended.set_name(name, || self.damaged(TWICE))?;
                }
                EntryType::GNULongLink => {
                    let link = self.extended(size)?;
                    extended.set_link(link, || self.damaged(TWICE))?;
                }
                kind => return self.member(&header, kind, size, extended).map(Some),
            }
        }
    }

    /// The member of a header, given what stood before it.
    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extended: Extended,
    ) -> Result<Member, ArchiveFault> {
        let name = extended.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = MemberName::parse(&name)?;
        if extended.sparse || kind == EntryType::GNUSparse {
            return Err(ArchiveFault::Sparse(name));
        }
        let size = match extended.size {
            // Sizes that do not fit into the header are 0 there.
            Some(extended) if size == 0 || size == extended => match kind {
                kind if extended > 0 && is_special(kind) => return Err(self.damaged(SPECIAL)),
                EntryType::Link | EntryType::Symlink | EntryType::Directory if extended > 0 => {
                    return Err(ArchiveFault::Sizes { member: name, header: 0, extended });
                }
                _ => extended,
            },
            Some(extended) => return Err(ArchiveFault::Sizes { member: name, header: size, extended }),
            None => size,
        };
        let link = extended.link.or_else(|| Some(header.link_name_bytes()?.into_owned()));
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::Link(MemberName::parse(&link.unwrap_or_default())?),
            EntryType::Symlink => Kind::Link(name.follow(&link.unwrap_or_default())?),
            _ => Kind::Other,
        };
        self.last = format!("`{name}`");
        self.contents(size)?;
        Ok(Member { name, kind, size })
    }

    /// Takes note of the contents that follow.
    fn contents(&mut self, size: u64) -> Result<(), ArchiveFault> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(ArchiveFault::TooLarge { what: "it".to_owned(), most: self.limits.bytes });
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The contents of an extended header.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, ArchiveFault> {
        if size > MOST_EXTENDED {
            return Err(self.damaged("it is longer than any name"));
        }
        self.contents(size)?;
        let mut bytes = Vec::new();
        self.take(size).read_to_end(&mut bytes).map_err(fault_of_archive)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(self.truncated()) }
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<Header>, ArchiveFault> {
        let mut header = Header::new_old();
        match self.block(header.as_mut_bytes())? {
            // Some leave out the blocks that say that it ends. What is missing then is seen by who needs it.
            0 if self.members > 0 => return Ok(None),
            BLOCK => {}
            0 => return Err(ArchiveFault::Empty),
            _ if self.members == 0 => return Err(ArchiveFault::NoTar),
            _ => return Err(self.truncated()),
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        match is_header(header.as_bytes()) {
            true => Ok(Some(header)),
            false if self.members == 0 => Err(ArchiveFault::NoTar),
            false => Err(self.damaged("its checksum is that of other bytes")),
        }
    }

    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<usize, ArchiveFault> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault_of_archive(error)),
            }
        }
        Ok(filled)
    }

    /// Passes over what is left of a member.
    fn skip(&mut self) -> Result<(), ArchiveFault> {
        let rest = self.left + self.padding;
        let skipped = self.input.skip(rest).map_err(fault_of_archive)?;
        // What fills up the last block may be missing where nothing follows.
        if skipped < self.left {
            return Err(self.truncated());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Reads on to the very end, so that a program that writes it is not cut off, and a checksum at its end counts.
    fn end(&mut self) -> Result<(), ArchiveFault> {
        match self.input.skip(MOST_AFTER_END).map_err(fault_of_archive)? {
            MOST_AFTER_END => Err(ArchiveFault::Surplus),
            _ => Ok(()),
        }
    }

    fn truncated(&self) -> ArchiveFault {
        ArchiveFault::Truncated(self.last.clone())
    }

    fn damaged(&self, reason: &'static str) -> ArchiveFault {
        ArchiveFault::Header { after: self.last.clone(), reason }
    }

    /// The next of the member's bytes; an end before theirs is an error.
    pub(super) fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveFault> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.read(buffer) {
                Ok(0) => return Err(self.truncated()),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault_of_archive(error)),
            }
        }
    }
}

/// The contents of the member.
impl Read for TarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Whether a member has no contents, and some readers take what its header says of them for true, and some do not.
fn is_special(kind: EntryType) -> bool {
    matches!(kind, EntryType::Char | EntryType::Block | EntryType::Fifo)
}

/// Whether a block is a header, by its checksum; some programs have summed up signed bytes.
pub(super) fn is_header(block: &[u8; BLOCK]) -> bool {
    let Ok(said) = Header::from_byte_slice(block).cksum() else { return false };
    let field = 148..156;
    let bytes =
        block.iter().enumerate().map(|(place, byte)| if field.contains(&place) { b' ' } else { *byte });
    let unsigned: u32 = bytes.clone().map(u32::from).sum();
    let signed: i64 = bytes.map(|byte| i64::from(byte.cast_signed())).sum();
    said == unsigned || i64::from(said) == signed
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const LIMITS: Limits = Limits { members: 10, document: 100, documents: 1000, bytes: 1 << 20 };

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        header
    }

    fn part(kind: EntryType, name: &str, size: u64, contents: &[u8]) -> Vec<u8> {
        let mut bytes = [header(kind, name, size).as_bytes().as_slice(), contents].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn file(name: &str, contents: &[u8]) -> Vec<u8> {
        part(EntryType::Regular, name, contents.len() as u64, contents)
    }

    fn pax(records: &str) -> Vec<u8> {
        part(EntryType::XHeader, "pax", records.len() as u64, records.as_bytes())
    }

    fn read(parts: &[Vec<u8>]) -> Result<Vec<(String, Vec<u8>)>, ArchiveFault> {
        let input = Input::stream(Box::new(Cursor::new(parts.concat())))?;
        let mut reader = TarReader::new(input, LIMITS);
        let mut members = Vec::new();
        while let Some(member) = reader.next()? {
            let mut contents = Vec::new();
            let mut buffer = [0; 7];
            loop {
                match reader.read_contents(&mut buffer)? {
                    0 => break,
                    read => contents.extend_from_slice(&buffer[..read]),
                }
            }
            members.push((member.name.as_str().to_owned(), contents));
        }
        Ok(members)
    }

    fn end() -> Vec<u8> {
        vec![0; 2 * BLOCK]
    }

    #[test]
    fn members_come_with_their_contents() {
        let long = "d/".repeat(80) + "x";
        let gnu = part(EntryType::GNULongName, "././@LongLink", 162, format!("{long}\0").as_bytes());
        let parts =
            [file("a", b"one"), gnu, file("cut", b"two"), pax("14 path=new/b\n"), file("b", b""), end()];

        let members = read(&parts).unwrap();

        let expected = [("a", "one"), (long.as_str(), "two"), ("new/b", "")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        assert_eq!(members, expected);
    }

    #[test]
    fn a_size_that_only_pax_says_counts() {
        let big = part(EntryType::Regular, "a", 0, b"");
        let parts = [pax("10 size=3\n"), big, b"one".to_vec(), vec![0; BLOCK - 3], file("b", b"x"), end()];

        assert_eq!(
            read(&parts).unwrap(),
            [("a".to_owned(), b"one".to_vec()), ("b".to_owned(), b"x".to_vec())]
        );
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let cases = [
            (
                vec![pax("10 size=9\n"), file("a", b"one"), end()],
                "`a` has 3 bytes by one header, and 9 by another",
            ),
            (
                vec![pax("10 size=9\n"), part(EntryType::Directory, "a", 0, b""), end()],
                "`a` has 0 bytes by one header, and 9 by another",
            ),
            (
                vec![part(EntryType::Fifo, "a", 512, &[0; 512]), end()],
                "a header after its first header is damaged: it gives a device or pipe contents",
            ),
            (
                vec![pax("12 size=512\n"), part(EntryType::Char, "a", 0, b""), end()],
                "a header after its first header is damaged: it gives a device or pipe contents",
            ),
            (
                vec![pax("9 path=x\n9 path=y\n"), file("a", b""), end()],
                "a header after its first header is damaged: its records are none",
            ),
            (
                vec![pax("11 path=x\n"), file("a", b""), end()],
                "a header after its first header is damaged: its records are none",
            ),
            (vec![pax("21 GNU.sparse.major=1\n"), file("a", b""), end()], "a header after"),
            (vec![pax("22 GNU.sparse.major=1\n"), file("a", b""), end()], "`a` is a sparse file"),
            (vec![part(EntryType::GNUSparse, "a", 0, b""), end()], "`a` is a sparse file"),
            (
                vec![part(EntryType::XGlobalHeader, "g", 9, b"9 path=x\n"), file("a", b""), end()],
                "a header after its first header is damaged: it gives all members one name or size",
            ),
            (
                vec![part(EntryType::GNULongName, "l", u64::from(u32::MAX), b""), file("a", b""), end()],
                "a header after its first header is damaged: it is longer than any name",
            ),
        ];
        for (parts, message) in cases {
            let error = read(&parts).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn an_archive_that_ends_early_or_late_is_refused() {
        let whole = [file("a", b"one"), file("b", &[1; 600]), end()].concat();
        for length in [1, BLOCK, BLOCK + 1, 2 * BLOCK + 5, 3 * BLOCK, 4 * BLOCK - 1] {
            let error = read(&[whole[..length].to_vec()]).unwrap_err();
            assert!(matches!(error, ArchiveFault::Truncated(_) | ArchiveFault::NoTar), "{length}: {error}");
        }
        assert!(matches!(read(&[vec![7; 2000]]), Err(ArchiveFault::NoTar)));
        assert!(matches!(read(&[Vec::new()]), Err(ArchiveFault::Empty)));
        let mut damaged = whole.clone();
        damaged[2 * BLOCK] = b'c';
        assert!(matches!(read(&[damaged]), Err(ArchiveFault::Header { .. })));
        let surplus = vec![0; 65 << 20];
        assert!(matches!(read(&[whole, surplus]), Err(ArchiveFault::Surplus)));
    }

    #[test]
    fn limits_hold() {
        let many: Vec<Vec<u8>> = (0..11).map(|number| file(&number.to_string(), b"")).collect();
        assert!(matches!(read(&many), Err(ArchiveFault::TooMany(10))));
        let large = part(EntryType::Regular, "a", 1 << 21, b"");
        assert!(matches!(read(&[large]), Err(ArchiveFault::TooLarge { .. })));
    }
}
