//! The habits of Python's `tarfile`, which writes the layers of dockerTools.

use super::{Described, begin, extended, set_checksum};

pub(super) fn headers(member: &Described<'_>) -> Vec<u8> {
    let (mut header, records) = begin(member);
    if let Some(ustar) = header.as_ustar_mut() {
        fill(&mut ustar.name, member.name);
        fill(&mut ustar.linkname, member.target);
        fill(&mut ustar.uname, member.metadata.uname.as_bytes());
        fill(&mut ustar.gname, member.metadata.gname.as_bytes());
    }
    set_checksum(&mut header);

    let mut blocks = Vec::new();
    if !records.0.is_empty() {
        let mut contents = Vec::new();
        if records.0.iter().any(|(_, value)| std::str::from_utf8(value).is_err()) {
            contents.extend_from_slice(b"21 hdrcharset=BINARY\n");
        }
        records.append_to(&mut contents);
        blocks = extended(b"././@PaxHeader", &contents);
    }
    blocks.extend_from_slice(header.as_bytes());
    blocks
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
