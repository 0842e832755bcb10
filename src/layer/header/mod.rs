//! The headers of one member of a tar, in the dialect of the program whose layers ours are to equal.
//!
//! What the ustar header cannot say comes before it as a pax extended header, in records of the form
//! `LENGTH key=value\n`: names that are too long or not ASCII, and numbers with too many digits. The rest
//! is habit:
//!
//! | | Python | Go |
//! |---|---|---|
//! | a folder's name | ends in `/` | does not |
//! | long ASCII names | a record | the prefix field, if they can be cut at a `/` |
//! | other characters in the ustar header | `?` | left out |
//! | device fields | empty | zeros in octal |
//! | name of the extended header | the same for all | that of the member with `PaxHeaders.0` in it |
//! | order of the records | by field | by key |
//! | length of the archive | a multiple of 10240 | a multiple of 512 |

mod go;
mod python;

use std::borrow::Cow;

use tar::{EntryType, Header};

use super::Metadata;

pub(super) const BLOCK: usize = 512;

const NAME_FIELD: usize = 100;
const OWNER_FIELD: usize = 32;
const SEVEN_DIGITS: u64 = 8u64.pow(7);
const ELEVEN_DIGITS: u64 = 8u64.pow(11);

/// Whose habits a tar has where the format leaves a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Those of `tarfile` in its pax format, with which dockerTools writes layers.
    Python,
    /// Those of `archive/tar`, with which nix2container writes layers. Names are to be clean: without
    /// empty components, `.` and `..`.
    Go,
}

/// What the headers of a member say.
pub(super) struct Described<'a> {
    pub(super) name: &'a [u8],
    pub(super) target: &'a [u8],
    pub(super) metadata: &'a Metadata<'a>,
    pub(super) kind: EntryType,
    pub(super) size: u64,
}

impl Dialect {
    /// All blocks before the contents of a member.
    pub(super) fn headers(self, member: &Described<'_>) -> Vec<u8> {
        match self {
            Self::Python => python::headers(member),
            Self::Go => go::headers(member),
        }
    }

    /// How the folder `path` is called.
    pub(super) fn folder_name(self, path: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Python if !path.ends_with(b"/") => Cow::Owned([path, b"/"].concat()),
            Self::Python | Self::Go => Cow::Borrowed(path),
        }
    }

    /// What the length of an archive is a multiple of.
    pub(super) fn unit(self) -> usize {
        match self {
            Self::Python => 20 * BLOCK,
            Self::Go => BLOCK,
        }
    }
}

/// The ustar header of a member without its texts, and the records of all that it cannot say.
fn begin(member: &Described<'_>) -> (Header, Records) {
    let metadata = member.metadata;
    let mut records = Records::default();
    records.text("path", member.name, NAME_FIELD);
    records.text("linkpath", member.target, NAME_FIELD);
    records.text("uname", metadata.uname.as_bytes(), OWNER_FIELD);
    records.text("gname", metadata.gname.as_bytes(), OWNER_FIELD);

    let mut header = Header::new_ustar();
    header.set_entry_type(member.kind);
    header.set_mode(metadata.mode & 0o7777);
    header.set_uid(records.number("uid", metadata.uid.into(), SEVEN_DIGITS));
    header.set_gid(records.number("gid", metadata.gid.into(), SEVEN_DIGITS));
    header.set_size(records.number("size", member.size, ELEVEN_DIGITS));
    header.set_mtime(records.number("mtime", metadata.mtime, ELEVEN_DIGITS));
    (header, records)
}

/// Writes the checksum, unlike the other numbers, as six digits, a NUL and a space.
fn set_checksum(header: &mut Header) {
    header.as_old_mut().cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().map(|&byte| u32::from(byte)).sum();
    header.as_old_mut().cksum[..7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Pax records, in the order in which they were added.
#[derive(Default)]
struct Records(Vec<(&'static str, Vec<u8>)>);

impl Records {
    fn text(&mut self, key: &'static str, value: &[u8], field: usize) {
        if value.len() > field || !value.is_ascii() {
            self.0.push((key, value.to_owned()));
        }
    }

    /// What the header's field holds instead: the value, or 0 when it has too many digits.
    fn number(&mut self, key: &'static str, value: u64, limit: u64) -> u64 {
        if value < limit {
            return value;
        }
        self.0.push((key, value.to_string().into_bytes()));
        0
    }

    fn append_to(&self, contents: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            contents.extend_from_slice(format!("{} {key}=", record_length(key, value)).as_bytes());
            contents.extend_from_slice(value);
            contents.push(b'\n');
        }
    }
}

/// An extended header of this name, and its contents.
fn extended(name: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(contents.len() as u64);
    copy(&mut header.as_old_mut().name, name);
    set_checksum(&mut header);

    let mut blocks = header.as_bytes().to_vec();
    blocks.extend_from_slice(contents);
    blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    blocks
}

/// Puts as much of `value` into a header field as it takes.
fn copy(field: &mut [u8], value: &[u8]) {
    for (place, byte) in field.iter_mut().zip(value) {
        *place = *byte;
    }
}

/// The length of `LENGTH key=value\n`, its own digits included.
fn record_length(key: &str, value: &[u8]) -> usize {
    let rest = " =\n".len() + key.len() + value.len();
    let mut length = rest;
    loop {
        let longer = rest + length.to_string().len();
        if longer == length {
            return length;
        }
        length = longer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_FIELD: std::ops::Range<usize> = 124..136;
    const BOTH: [Dialect; 2] = [Dialect::Python, Dialect::Go];

    fn headers(dialect: Dialect, metadata: &Metadata<'_>, size: u64) -> Vec<u8> {
        dialect.headers(&Described { name: b"/f", target: b"", metadata, kind: EntryType::Regular, size })
    }

    /// 8^11 bytes are the first size of twelve octal digits: a record says it, and the field 0.
    #[test]
    fn a_size_of_eight_gibibytes_moves_to_a_record() {
        for dialect in BOTH {
            let of_size = |size| headers(dialect, &Metadata::of_root(0o444), size);

            let fits = of_size(8 * 1024 * 1024 * 1024 - 1);
            assert_eq!(fits.len(), 512);
            assert_eq!(&fits[SIZE_FIELD], b"77777777777\0");

            let too_large = of_size(8 * 1024 * 1024 * 1024);
            assert_eq!(too_large.len(), 3 * 512);
            assert_eq!(&too_large[SIZE_FIELD], b"00000000023\0");
            assert_eq!(&too_large[512..512 + 19], b"19 size=8589934592\n");
            assert!(too_large[512 + 19..1024].iter().all(|&byte| byte == 0));
            assert_eq!(&too_large[1024..][SIZE_FIELD], b"00000000000\0");
        }
    }

    /// 8^7 is the first number of eight octal digits.
    #[test]
    fn an_owner_of_eight_digits_moves_to_a_record() {
        let of_owner = |dialect, uid, gid| {
            let metadata = Metadata { uid, gid, ..Metadata::of_root(0o444) };
            headers(dialect, &metadata, 0)
        };

        for dialect in BOTH {
            let fits = of_owner(dialect, 2_097_151, 2_097_151);
            assert_eq!(fits.len(), 512);
            assert_eq!(&fits[108..124], b"7777777\x007777777\0");

            let too_large = of_owner(dialect, 2_097_152, 4_294_967_295);
            assert_eq!(&too_large[1024 + 108..1024 + 124], b"0000000\x000000000\0");
        }
        let python = of_owner(Dialect::Python, 2_097_152, 4_294_967_295);
        assert_eq!(&python[512..512 + 34], b"15 uid=2097152\n18 gid=4294967295\n\0");
        let go = of_owner(Dialect::Go, 2_097_152, 4_294_967_295);
        assert_eq!(&go[512..512 + 34], b"18 gid=4294967295\n15 uid=2097152\n\0");
    }

    /// A record of 9, 99 or 999 bytes without its length needs a digit more than one would think.
    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value, length) in [(1, 6), (4, 9), (5, 11), (93, 99), (94, 101), (992, 999), (993, 1001)] {
            assert_eq!(record_length("k", &vec![b'v'; value]), length, "value of {value} bytes");
        }
    }
}
