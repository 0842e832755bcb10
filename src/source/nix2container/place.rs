//! Where something lies in an image.

use std::cmp::Ordering;
use std::fmt;

/// Names joined by `/`, ordered as lists of names. Most begin with `/`; what is moved may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place(Vec<u8>);

impl Place {
    /// `path` without empty names and `.`, as Go's `filepath.Clean` gives it where there is no `..` to resolve.
    pub(super) fn clean(path: &[u8]) -> Self {
        let names: Vec<&[u8]> =
            path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
        let root: &[u8] = if path.starts_with(b"/") { b"/" } else { b"" };
        let clean = [root, &names.join(&b'/')].concat();
        Self(if clean.is_empty() { b".".to_vec() } else { clean })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The folders it lies in, from the top down.
    pub(super) fn parents(&self) -> impl Iterator<Item = Self> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let parents = slashes.map(|(at, _)| Self(self.0[..at.max(1)].to_owned()));
        parents.filter(move |parent| parent != self)
    }

    /// Whether it lies somewhere in `folder`.
    pub(super) fn is_below(&self, folder: &Self) -> bool {
        let rest = self.0.strip_prefix(folder.0.as_slice());
        rest.is_some_and(|rest| rest.starts_with(b"/") || (folder.0 == b"/" && !rest.is_empty()))
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.split(|&byte| byte == b'/').cmp(other.0.split(|&byte| byte == b'/'))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_clean_and_know_what_they_lie_in() {
        for (path, clean, parents) in [
            ("/", "/", vec![]),
            ("//", "/", vec![]),
            ("/nix/store", "/nix/store", vec!["/", "/nix"]),
            ("//etc/./passwd/", "/etc/passwd", vec!["/", "/etc"]),
            ("bin/sh", "bin/sh", vec!["bin"]),
            ("./", ".", vec![]),
            ("../data/f", "../data/f", vec!["..", "../data"]),
        ] {
            let place = Place::clean(path.as_bytes());

            assert_eq!(place.to_string(), clean);
            assert_eq!(place.parents().map(|parent| parent.to_string()).collect::<Vec<_>>(), parents);
            assert!(place.parents().all(|parent| place.is_below(&parent) && !parent.is_below(&place)));
        }
        assert!(!Place::clean(b"/a-b").is_below(&Place::clean(b"/a")));
    }
}
