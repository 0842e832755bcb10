//! Which of an image's platforms is this host's (image specification, "Image Index").

use std::fmt;

use serde::Deserialize;

use crate::nix::System;

/// What an image is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// What is as good as this host can have it of all that is for it, by places.
pub(super) fn for_host<'a>(platforms: impl IntoIterator<Item = Option<&'a Platform>>) -> Vec<usize> {
    let (architecture, variant) = System::HOST.go_architecture();
    let (mut best, mut places) = (None, Vec::new());
    for (at, platform) in platforms.into_iter().enumerate() {
        let Some(platform) = platform.filter(|it| it.os == "linux" && it.architecture == architecture) else {
            continue;
        };
        let rank = rank(platform.variant.as_deref(), architecture, variant);
        if best.is_none_or(|best| rank < best) {
            (best, places) = (Some(rank), Vec::new());
        }
        if best == Some(rank) {
            places.push(at);
        }
    }
    places
}

/// How this host is called.
pub(super) fn host() -> String {
    format!("linux/{}", System::HOST.go_architecture().0)
}

/// The smaller, the better: first what every machine of the architecture has, or else this one, then what is below, and
/// then what only some have, from the lowest on.
fn rank(variant: Option<&str>, architecture: &str, own: Option<&str>) -> (u8, u32) {
    let plain = own.unwrap_or(if architecture == "arm64" { "v8" } else { "v1" });
    let variant = variant.filter(|variant| !variant.is_empty()).unwrap_or(plain);
    match (number(variant), number(plain)) {
        (Some(variant), Some(plain)) if variant <= plain => (0, plain - variant),
        (Some(variant), _) => (1, variant),
        (None, _) => (2, 0),
    }
}

/// Of `v8` 8000, and of `v8.2` 8002.
fn number(variant: &str) -> Option<u32> {
    let number = variant.strip_prefix('v')?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let (major, minor): (u16, u16) = (major.parse().ok()?, minor.parse().ok()?);
    Some(u32::from(major) * 1000 + u32::from(minor))
}

impl Platform {
    /// Whether it is none: what BuildKit says of an image stands beside it so.
    pub(super) fn is_unknown(&self) -> bool {
        self.os == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(formatter, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_more_machines_can_run_comes_first() {
        for (architecture, own, order) in [
            ("amd64", None, [None, Some("v2"), Some("v3"), Some("v4"), Some("new")].as_slice()),
            ("arm64", None, &[None, Some("v8.2"), Some("v9")]),
            ("arm", Some("v7"), &[None, Some("v6"), Some("v5"), Some("v8")]),
            ("arm", Some("v6"), &[None, Some("v5"), Some("v7"), Some("v8")]),
            ("riscv64", None, &[None, Some("rva22u64")]),
        ] {
            let ranks: Vec<_> = order.iter().map(|variant| rank(*variant, architecture, own)).collect();
            assert!(ranks.is_sorted_by(|one, two| one < two), "{architecture}: {ranks:?}");
        }
        for (architecture, own, plain) in
            [("amd64", None, "v1"), ("arm64", None, "v8"), ("arm64", None, ""), ("arm", Some("v7"), "v7")]
        {
            let [none, some] = [None, Some(plain)].map(|variant| rank(variant, architecture, own));
            assert_eq!(none, some, "{architecture}");
        }
    }
}
