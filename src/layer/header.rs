//! The headers of one member of a tar, as Python's `tarfile` writes them in its pax format.
//!
//! What the ustar header cannot say comes before it as a pax extended header: names that are longer
//! than 100 bytes or not ASCII, and numbers with too many digits. In three habits other programs'
//! headers for the same files differ: the prefix field is never used, the device fields hold no
//! digits, and the extended header has a name and a time that say nothing of the member.

use tar::{EntryType, Header};

use super::Metadata;

pub(super) const BLOCK: usize = 512;

const NAME_FIELD: usize = 100;
const OWNER_FIELD: usize = 32;
const SEVEN_DIGITS: u64 = 8u64.pow(7);
const ELEVEN_DIGITS: u64 = 8u64.pow(11);

/// All blocks before the contents of a member.
pub(super) fn headers(
    name: &[u8],
    target: &[u8],
    metadata: &Metadata<'_>,
    kind: EntryType,
    size: u64,
) -> Vec<u8> {
    let mut pax = PaxRecords::default();
    pax.text("path", name, NAME_FIELD);
    pax.text("linkpath", target, NAME_FIELD);
    pax.text("uname", metadata.uname.as_bytes(), OWNER_FIELD);
    pax.text("gname", metadata.gname.as_bytes(), OWNER_FIELD);

    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(metadata.mode & 0o7777);
    header.set_uid(pax.number("uid", metadata.uid.into(), SEVEN_DIGITS));
    header.set_gid(pax.number("gid", metadata.gid.into(), SEVEN_DIGITS));
    header.set_size(pax.number("size", size, ELEVEN_DIGITS));
    header.set_mtime(pax.number("mtime", metadata.mtime, ELEVEN_DIGITS));
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.name, name);
        fill(&mut ustar.linkname, target);
        fill(&mut ustar.uname, metadata.uname.as_bytes());
        fill(&mut ustar.gname, metadata.gname.as_bytes());
    }
    set_checksum(&mut header);

    let mut blocks = pax.into_blocks();
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// Writes the checksum, unlike the other numbers, as six digits, a NUL and a space.
fn set_checksum(header: &mut Header) {
    header.as_old_mut().cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().map(|&byte| u32::from(byte)).sum();
    header.as_old_mut().cksum[..7].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

/// Puts as much of `value` into a header field as it takes, one `?` for each character that is not ASCII.
fn fill(field: &mut [u8], value: &[u8]) {
    // Python decodes a byte that is not UTF-8 into a character of its own.
    let characters = value.utf8_chunks().flat_map(|chunk| {
        chunk.valid().chars().chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER))
    });
    for (place, character) in field.iter_mut().zip(characters) {
        *place = if character.is_ascii() { character as u8 } else { b'?' };
    }
}

/// What the ustar header cannot say of a member, in the order it is written.
#[derive(Default)]
struct PaxRecords {
    records: Vec<(&'static str, Vec<u8>)>,
}

impl PaxRecords {
    fn text(&mut self, key: &'static str, value: &[u8], field: usize) {
        if value.len() > field || !value.is_ascii() {
            self.records.push((key, value.to_owned()));
        }
    }

    /// What the header's field holds instead: the value, or 0 when it has too many digits.
    fn number(&mut self, key: &'static str, value: u64, limit: u64) -> u64 {
        if value < limit {
            return value;
        }
        self.records.push((key, value.to_string().into_bytes()));
        0
    }

    /// The extended header with its contents, or nothing.
    fn into_blocks(self) -> Vec<u8> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let mut contents = Vec::new();
        if self.records.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            contents.extend_from_slice(b"21 hdrcharset=BINARY\n");
        }
        for (key, value) in &self.records {
            contents.extend_from_slice(format!("{} {key}=", record_length(key, value)).as_bytes());
            contents.extend_from_slice(value);
            contents.push(b'\n');
        }

        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(contents.len() as u64);
        fill(&mut header.as_old_mut().name, b"././@PaxHeader");
        set_checksum(&mut header);

        let mut blocks = header.as_bytes().to_vec();
        blocks.append(&mut contents);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        blocks
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

    /// 8^11 bytes are the first size of twelve octal digits: a record says it, and the field 0.
    #[test]
    fn a_size_of_eight_gibibytes_moves_to_a_record() {
        let of_size = |size| headers(b"/f", b"", &Metadata::of_root(0o444), EntryType::Regular, size);

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

    /// 8^7 is the first number of eight octal digits.
    #[test]
    fn an_owner_of_eight_digits_moves_to_a_record() {
        let of_owner = |uid, gid| {
            let metadata = Metadata { uid, gid, ..Metadata::of_root(0o444) };
            headers(b"/f", b"", &metadata, EntryType::Regular, 0)
        };

        let fits = of_owner(2_097_151, 2_097_151);
        assert_eq!(fits.len(), 512);
        assert_eq!(&fits[108..124], b"7777777\x007777777\0");

        let too_large = of_owner(2_097_152, 4_294_967_295);
        assert_eq!(&too_large[512..512 + 34], b"15 uid=2097152\n18 gid=4294967295\n\0");
        assert_eq!(&too_large[1024 + 108..1024 + 124], b"0000000\x000000000\0");
    }

    /// A record of 9, 99 or 999 bytes without its length needs a digit more than one would think.
    #[test]
    fn a_record_counts_the_digits_of_its_own_length() {
        for (value, length) in [(1, 6), (4, 9), (5, 11), (93, 99), (94, 101), (992, 999), (993, 1001)] {
            assert_eq!(record_length("k", &vec![b'v'; value]), length, "value of {value} bytes");
        }
    }
}
