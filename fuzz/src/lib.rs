//! Archives out of what a fuzzer can guess: checksums and digests, which it cannot, are put in here.
//!
//! The first byte says what the others are: `1` to `4` how the archive is compressed, and with `8`, members with `0xff`
//! between them, of which the last comes first with `16`. Each is
//!
//! ```text
//! KIND NAME \n CONTENTS
//! ```
//!
//! A kind is a type of POSIX or GNU, and the contents of a link are its target; or `T`, a tar of one file of these
//! contents, `G` and `Z`, such a tar with gzip and zstd. A name that ends with `/` goes on with the digest of the member.
//! In names and contents, `@3b` is the digest of the fourth member, `@3t` that of its tar, and `@3s` its size; `@` reaches
//! the first ten. Without `8`, the others are an archive, whose headers get right checksums.

use std::io::Write;

use nixlayer::oci::Digest;
use tar::{EntryType, Header};

/// How the archive is compressed.
const COMPRESSION: u8 = 7;
const PARTS: u8 = 8;
/// The last of the parts comes first.
const BACKWARDS: u8 = 16;

const BLOCK: usize = 512;

/// The archive that `bytes` say.
pub fn archive(bytes: &[u8]) -> Vec<u8> {
    let Some((how, bytes)) = bytes.split_first() else { return Vec::new() };
    let tar = if how & PARTS == 0 { mended(bytes) } else { of_parts(bytes, how & BACKWARDS != 0) };
    match how & COMPRESSION {
        1 => gzip(&tar),
        2 => zstd::encode_all(tar.as_slice(), 1).unwrap(),
        3 => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        4 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        _ => tar,
    }
}

fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    for block in tar.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
        let mut header = Header::from_byte_slice(block).clone();
        header.set_cksum();
        // The same sum can be written in several ways.
        if header.cksum().ok() != Header::from_byte_slice(block).cksum().ok() {
            block.copy_from_slice(header.as_bytes());
        }
    }
    tar
}

struct Part {
    blob: Vec<u8>,
    tar: Vec<u8>,
}

fn of_parts(bytes: &[u8], backwards: bool) -> Vec<u8> {
    let (mut parts, mut members) = (Vec::new(), Vec::new());
    for part in bytes.split(|byte| *byte == 0xff) {
        let Some((kind, rest)) = part.split_first() else { continue };
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let mut name = filled(&rest[..end], &parts);
        let contents = filled(rest.get(end + 1..).unwrap_or_default(), &parts);
        let (kind, tar, blob) = match kind {
            b'T' | b'G' | b'Z' => {
                let tar = [member(b'0', b"etc/motd", &contents), vec![0; 2 * BLOCK]].concat();
                let blob = match kind {
                    b'G' => gzip(&tar),
                    b'Z' => zstd::encode_all(tar.as_slice(), 1).unwrap(),
                    _ => tar.clone(),
                };
                (b'0', tar, blob)
            }
            kind => (*kind, contents.clone(), contents),
        };
        if name.ends_with(b"/") && kind == b'0' {
            name.extend_from_slice(Digest::of(&blob).hex().as_bytes());
        }
        members.push(member(kind, &name, &blob));
        parts.push(Part { blob, tar });
    }
    if backwards {
        members.reverse();
    }
    [members.concat(), vec![0; 2 * BLOCK]].concat()
}

/// `text` with what it says of earlier parts.
fn filled(text: &[u8], parts: &[Part]) -> Vec<u8> {
    let mut pieces = text.split(|byte| *byte == b'@');
    let mut filled = pieces.next().unwrap_or_default().to_vec();
    for piece in pieces {
        let said = match piece {
            [at @ b'0'..=b'9', what, ..] => parts.get(usize::from(at - b'0')).and_then(|part| match what {
                b'b' => Some(Digest::of(&part.blob).hex()),
                b't' => Some(Digest::of(&part.tar).hex()),
                b's' => Some(part.blob.len().to_string()),
                _ => None,
            }),
            _ => None,
        };
        let (said, rest) = said.map_or(("@".to_owned(), piece), |said| (said, &piece[2..]));
        filled.extend_from_slice(said.as_bytes());
        filled.extend_from_slice(rest);
    }
    filled
}

fn member(kind: u8, name: &[u8], contents: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let is_link = matches!(kind, b'1' | b'2');
    let (target, contents) = if is_link { (contents, &[][..]) } else { (&[][..], contents) };
    for (field, text) in [(0..100, name), (157..257, target)] {
        let length = text.len().min(field.len());
        header.as_mut_bytes()[field][..length].copy_from_slice(&text[..length]);
    }
    header.set_entry_type(EntryType::new(kind));
    header.set_size(contents.len() as u64);
    header.set_cksum();
    let mut member = [header.as_bytes(), contents].concat();
    member.resize(member.len().next_multiple_of(BLOCK), 0);
    member
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
