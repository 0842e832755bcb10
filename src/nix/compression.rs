//! How a binary cache compresses the NARs it serves.

use std::fmt;
use std::str::FromStr;

use super::shown;

/// A way of compressing a NAR, displayed and parsed as narinfo files name it.
///
/// Nix knows more; these are the ones that caches serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// `none`: the file is the NAR.
    None,
    /// `xz`: what Nix and the public cache choose.
    Xz,
    /// `zstd`, possibly in several frames.
    Zstd,
    /// `bzip2`: what a narinfo means that names no compression.
    Bzip2,
    /// `br`: Brotli.
    Brotli,
    /// `gzip`.
    Gzip,
}

/// The text names no compression that is known here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("compression `{0}` is none of `none`, `xz`, `zstd`, `bzip2`, `br` and `gzip`")]
pub struct UnknownCompression(String);

impl Compression {
    const ALL: [Self; 6] = [Self::None, Self::Xz, Self::Zstd, Self::Bzip2, Self::Brotli, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        let known = Self::ALL.into_iter().find(|compression| compression.name() == text);
        known.ok_or_else(|| UnknownCompression(shown(text)))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in files that `nix copy` of Nix 2.8.0 wrote with `?compression=NAME`.
    #[test]
    fn each_name_that_nix_writes_stands_for_its_own_compression() {
        let names = ["none", "xz", "zstd", "bzip2", "br", "gzip"];

        let parsed = names.map(|name| name.parse::<Compression>().unwrap());

        assert_eq!(parsed, Compression::ALL);
        assert_eq!(parsed.map(|compression| compression.to_string()), names);
    }

    #[test]
    fn other_names_are_refused_in_any_case() {
        for name in ["", "XZ", "lzma", "lz4", "brotli", "xz "] {
            assert_eq!(
                name.parse::<Compression>().unwrap_err().to_string(),
                format!("compression `{name}` is none of `none`, `xz`, `zstd`, `bzip2`, `br` and `gzip`")
            );
        }
    }
}
