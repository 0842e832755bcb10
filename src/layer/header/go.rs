//! The habits of Go's `archive/tar`, which writes the layers of nix2container.

use super::{Described, NAME_FIELD, begin, copy, extended, set_checksum};

const PREFIX_FIELD: usize = 155;

pub(super) fn headers(member: &Described<'_>) -> Vec<u8> {
    let (mut header, mut records) = begin(member);
    // The prefix field spares a record only where no other is needed.
    let only_the_name = records.0.iter().all(|(key, _)| *key == "path");
    let (prefix, name) = match split(member.name) {
        Some(parts) if only_the_name => {
            records.0.clear();
            parts
        }
        _ => (&b""[..], member.name),
    };
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
        fill(&mut ustar.prefix, prefix);
        fill(&mut ustar.name, name);
        fill(&mut ustar.linkname, member.target);
        fill(&mut ustar.uname, member.metadata.uname.as_bytes());
        fill(&mut ustar.gname, member.metadata.gname.as_bytes());
    }
    set_checksum(&mut header);

    let mut blocks = Vec::new();
    if !records.0.is_empty() {
        records.0.sort();
        let mut contents = Vec::new();
        records.append_to(&mut contents);
        blocks = extended(&extended_name(member.name), &contents);
    }
    blocks.extend_from_slice(header.as_bytes());
    blocks
}

/// The two parts of a long ASCII name, for prefix and name field: the first is as long as it can be.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME_FIELD || !name.is_ascii() {
        return None;
    }
    // A `/` at the very end is not one to cut at.
    let reach = (name.len() - 1).min(PREFIX_FIELD + 1);
    let slash = name[..reach].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (!prefix.is_empty() && rest.len() <= NAME_FIELD).then_some((prefix, rest))
}

/// What `dir/base` is called as an extended header.
fn extended_name(name: &[u8]) -> Vec<u8> {
    let base = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, base) = name.split_at(base);
    let mut extended = ascii(&[folder, b"PaxHeaders.0/", base].concat());
    extended.truncate(NAME_FIELD);
    while extended.last() == Some(&b'/') {
        extended.pop();
    }
    extended
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Puts as much of the ASCII characters of `value` into a header field as it takes.
fn fill(field: &mut [u8], value: &[u8]) {
    let value = ascii(value);
    copy(field, &value);
    // Cut after a `/`, a file would look like a folder to those who do not read the records.
    if value.len() > field.len() && field.last() == Some(&b'/') {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Dialect, Member, Metadata, TarWriter};
    use crate::oci::Digest;

    fn tar(name: &[u8], target: &[u8], uid: u32, uname: &str) -> Vec<u8> {
        let metadata = Metadata { uid, uname, ..Metadata::of_root(0o555) };
        let member = if target.is_empty() { Member::Directory } else { Member::Symlink { target } };
        let mut tar = TarWriter::in_dialect(Vec::new(), Dialect::Go);
        tar.append(name, &metadata, member).unwrap();
        tar.finish().unwrap()
    }

    /// Written by `archive/tar` of Go 1.19.8: for each case `tar.NewWriter`, `WriteHeader` with a `tar.Header`
    /// of these fields (`Mode: 0555`, `ModTime: time.Unix(1, 0)`, `Gname: "root"`, a folder where there is no
    /// target), and `Close`.
    #[test]
    fn headers_equal_those_of_go() {
        let n = |length: usize| format!("/{}", "n".repeat(length - 1));
        let deep = |folder, file| format!("/{}/{}", "d".repeat(folder), "f".repeat(file));
        let slash_at_100 = format!("/{}/éb", "a".repeat(98));
        let long_after_e = format!("/é/{}", "n".repeat(120));
        let cases = [
            ("/", "", 0, "0a3a415f3904655041eb28b94a15e17a394eacba7b0441c697e18eca25a3711e"),
            (&n(100), "", 0, "636339132284e96f9e677bf75f99ac355a765795e30bac8845914a474b95f99e"),
            (&n(101), "", 0, "de61dbecbe6627d9c39c8ee330028abe7750abbf20100cb2d3b38c886731675c"),
            (&deep(60, 90), "", 0, "d60e65d1f8956a3ae5727066f1c831463395a0dce5d1bfc02dfb20c172ee7ae2"),
            (&deep(154, 100), "", 0, "c40c5f5292bc67e27b1ae57aab90721c0977a812222b9873b2f7faa874e203ec"),
            (&deep(155, 1), "", 0, "33db50ebafacc90219d9f94d550b7d769b826fa5ce18a4f1b0f6c7afc9cb0f67"),
            (&deep(1, 101), "", 0, "d87063dff6ecd68f6817cd8640cd8fa75167b5db5a61a4de6ca4c1004674d719"),
            (
                &deep(60, 90),
                &"t".repeat(101),
                0,
                "6c2413bbed6c14d61e6bc1c46711b8e63ef075afc95ff55b74074a8272f359e5",
            ),
            (
                &deep(60, 90),
                "",
                2_097_152,
                "8ce4fc0fdf1ac3c8e3fcd94567bcff730f3a78c6cc39f3c743a89febcfb65b68",
            ),
            (&slash_at_100, "", 0, "b1f9fec26d5e62b44a163b543e744f2eee0b80cfaad8f2d5909bb422515c82e3"),
            (&long_after_e, "", 0, "1d231fb48a496177159e1a45ff0d1d380a89b55f558ceb9d362e99f6e8a33582"),
            ("/l", "ü", 0, "1d6ebea306c8a1cdeff39b0723b17aca2d6bd9d78672c2a181c5f530bbeab674"),
        ];

        for (name, target, uid, digest) in cases {
            let tar = tar(name.as_bytes(), target.as_bytes(), uid, "root");
            assert_eq!(Digest::of(&tar).hex(), digest, "{name}");
        }
        let no_text = Digest::of(&tar(b"/\xff\xc3", b"", 0, "root"));
        assert_eq!(no_text.hex(), "1be9ca4ff40629205185ee4236682092c2d6fb97e3cc92cadfee533047129c67");
        let owner = Digest::of(&tar(b"/f", b"", u32::MAX, "ünï"));
        assert_eq!(owner.hex(), "2d3df9a4e187208d28cfb87b01f091eecb9f01f13fc5b2764a41895dda7a7504");
    }

    #[test]
    fn an_archive_ends_with_two_blocks_and_no_more() {
        assert_eq!(TarWriter::in_dialect(Vec::new(), Dialect::Go).finish().unwrap(), [0; 1024]);
    }

    #[test]
    fn a_long_name_is_cut_at_the_last_slash_that_leaves_both_parts_room() {
        let name = format!("/{}/b/{}", "a".repeat(100), "c".repeat(60));
        let prefix = format!("/{}/b", "a".repeat(100));
        assert_eq!(split(name.as_bytes()), Some((prefix.as_bytes(), &name.as_bytes()[prefix.len() + 1..])));

        let name = format!("/a/{}", "c".repeat(101));
        assert_eq!(split(name.as_bytes()), None);
        assert_eq!(extended_name("/share/é.txt".as_bytes()), b"/share/PaxHeaders.0/.txt");
    }
}
