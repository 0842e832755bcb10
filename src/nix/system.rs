//! What a package runs on, in Nix's words.

use std::fmt;
use std::str::FromStr;

/// A Nix system that container images can be of, such as `x86_64-linux`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct System(&'static str);

/// The text is no [`System`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a system that images can be of")]
pub struct SystemError(String);

/// All of them, the usual ones first.
const SYSTEMS: [&str; 10] = [
    "x86_64-linux",
    "aarch64-linux",
    "i686-linux",
    "armv7l-linux",
    "armv6l-linux",
    "riscv64-linux",
    "powerpc64le-linux",
    "s390x-linux",
    "loongarch64-linux",
    "mips64el-linux",
];

impl System {
    /// The system of this machine; images are of Linux, whatever makes them.
    pub const HOST: Self = Self(match std::env::consts::ARCH.as_bytes() {
        b"aarch64" => "aarch64-linux",
        b"x86" => "i686-linux",
        b"arm" => "armv7l-linux",
        b"riscv64" => "riscv64-linux",
        b"powerpc64" => "powerpc64le-linux",
        b"s390x" => "s390x-linux",
        b"loongarch64" => "loongarch64-linux",
        b"mips64" => "mips64el-linux",
        _ => "x86_64-linux",
    });

    /// The architecture as Go and container images call it, and its variant.
    pub fn go_architecture(self) -> (&'static str, Option<&'static str>) {
        match self.0.trim_end_matches("-linux") {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "i686" => ("386", None),
            "armv7l" => ("arm", Some("v7")),
            "armv6l" => ("arm", Some("v6")),
            "powerpc64le" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            "mips64el" => ("mips64le", None),
            other => (other, None),
        }
    }

    /// As Nix writes it.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl FromStr for System {
    type Err = SystemError;

    fn from_str(text: &str) -> Result<Self, SystemError> {
        let known = SYSTEMS.into_iter().find(|known| *known == text);
        known.map(Self).ok_or_else(|| SystemError(text.to_owned()))
    }
}

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl fmt::Debug for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_system_is_among_the_known_ones() {
        assert_eq!(System::HOST.to_string().parse(), Ok(System::HOST));
    }

    #[test]
    fn other_words_for_an_architecture_are_refused() {
        for text in ["", "amd64", "arm64", "x86_64", "x86_64-darwin", "aarch64-linux "] {
            assert!(text.parse::<System>().is_err(), "{text:?} passed");
        }
    }
}
