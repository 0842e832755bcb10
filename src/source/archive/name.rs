//! Names of members: only those that stay in the archive.

use std::fmt;

use super::ArchiveFault;
use crate::oci::Digest;

/// The longest name: that of a path in Linux.
const MOST_BYTES: usize = 4096;

/// The place of a member in its archive: relative, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberName(String);

impl MemberName {
    /// The place that a header or an image names. The archive's own folder has the empty name.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ArchiveFault> {
        Self::below(&[], bytes)
    }

    /// Where a symbolic link in the place of this member leads.
    pub(super) fn follow(&self, target: &[u8]) -> Result<Self, ArchiveFault> {
        let mut folder: Vec<&str> = self.0.split('/').collect();
        folder.pop();
        Self::below(&folder, target)
    }

    fn below(folder: &[&str], bytes: &[u8]) -> Result<Self, ArchiveFault> {
        let wrong = || ArchiveFault::Name(shown(bytes));
        let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
        if text.starts_with('/') || text.len() > MOST_BYTES || text.contains('\0') {
            return Err(wrong());
        }
        let mut parts = folder.to_vec();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop().ok_or_else(wrong)?),
                part => parts.push(part),
            }
        }
        let name = parts.join("/");
        // A link adds its target to its folder.
        if name.len() > MOST_BYTES { Err(wrong()) } else { Ok(Self(name)) }
    }

    /// The place of a blob of an image layout (image specification, "OCI Image Layout").
    pub(super) fn of_blob(hex: &str) -> Self {
        Self(format!("blobs/sha256/{hex}"))
    }

    /// The name, its parts parted by `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits that the name has for a digest, as `HEX/layer.tar`, `HEX.tar`, `HEX.tar.gz` and
    /// `blobs/sha256/HEX` do.
    pub fn hex(&self) -> Option<&str> {
        let name = self.0.strip_prefix("blobs/sha256/").unwrap_or(&self.0);
        let endings = ["/layer.tar", ".tar", ".tar.gz"];
        let name = endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (name.len() == 64 && name.bytes().all(is_digit)).then_some(name)
    }

    /// The digest in the name: that of the member, of its tar, or of something else.
    pub fn digest(&self) -> Option<Digest> {
        format!("sha256:{}", self.hex()?).parse().ok()
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&shown(self.0.as_bytes()))
    }
}

/// What somebody else wrote, cut to what an error has room for.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|char| !char.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_archive_are_refused() {
        for name in ["/etc/passwd", "../x", "a/../../x", "..", "a\0b", &"a/".repeat(3000)] {
            assert!(matches!(MemberName::parse(name.as_bytes()), Err(ArchiveFault::Name(_))), "{name}");
        }
        assert!(MemberName::parse(b"\xff").is_err());
    }

    #[test]
    fn ways_of_writing_one_name_are_one() {
        for name in ["a/b", "./a/b", "a//b/", "a/./b", "x/../a/b"] {
            assert_eq!(MemberName::parse(name.as_bytes()).unwrap().as_str(), "a/b", "{name}");
        }
    }

    #[test]
    fn a_link_leads_from_its_folder() {
        let link = MemberName::parse(b"a/layer.tar").unwrap();

        assert_eq!(link.follow(b"../b/layer.tar").unwrap().as_str(), "b/layer.tar");
        assert_eq!(link.follow(b"other.tar").unwrap().as_str(), "a/other.tar");
        for target in ["../../x", "/b/layer.tar", &"a".repeat(4095)] {
            assert!(link.follow(target.as_bytes()).is_err(), "{target}");
        }
    }

    #[test]
    fn a_digest_is_found_in_the_names_that_have_one() {
        let hex = "0123456789abcdef".repeat(4);
        let names = [
            "{hex}/layer.tar",
            "{hex}.tar",
            "{hex}.tar.gz",
            "blobs/sha256/{hex}",
            "blobs/sha256/{hex}.tar.gz",
        ];
        for name in names.map(|name| name.replace("{hex}", &hex)) {
            assert_eq!(MemberName::parse(name.as_bytes()).unwrap().hex(), Some(hex.as_str()), "{name}");
        }
        for name in ["layer.tar".to_owned(), format!("{}/layer.tar", &hex[1..]), format!("a/{hex}.tar")] {
            assert_eq!(MemberName::parse(name.as_bytes()).unwrap().hex(), None, "{name}");
        }
    }
}
