//! The SHA-256 of a store path's NAR serialisation, and of the file that a cache keeps the NAR in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{nix32, shown};

/// The SHA-256 over the NAR of a store path: equal hashes mean equal contents.
///
/// Displayed as Nix's databases and caches do, `sha256:<52 digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NarHash([u8; 32]);

/// The SHA-256 over the file of a NAR as a cache serves it, which is usually compressed.
///
/// Displayed like a [`NarHash`], which it equals only where nothing is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileHash([u8; 32]);

/// The text is no SHA-256 in any of Nix's spellings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 as `sha256:<base-32>`, `sha256:<hex>` or `sha256-<base64>`")]
pub struct NarHashError(String);

impl NarHash {
    /// The hash from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FileHash {
    /// The hash from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for NarHash {
    type Err = NarHashError;

    /// Reads the four spellings that Nix's tools print: `sha256:` with base-32 or hex digits, an
    /// SRI `sha256-`, and the bare hex of `nix-store --dump-db`.
    fn from_str(text: &str) -> Result<Self, NarHashError> {
        sha256(text).map(Self)
    }
}

impl FromStr for FileHash {
    type Err = NarHashError;

    /// Reads the spellings of a [`NarHash`].
    fn from_str(text: &str) -> Result<Self, NarHashError> {
        sha256(text).map(Self)
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", nix32::encode(&self.0))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&NarHash(self.0), formatter)
    }
}

impl fmt::Debug for FileHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn sha256(text: &str) -> Result<[u8; 32], NarHashError> {
    let bytes = if let Some(base64) = text.strip_prefix("sha256-") {
        STANDARD.decode(base64).ok().and_then(|bytes| bytes.try_into().ok())
    } else {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        match digits.len() {
            64 => hex(digits),
            _ => nix32::decode_sha256(digits),
        }
    };
    bytes.ok_or_else(|| NarHashError(shown(text)))
}

fn hex(digits: &str) -> Option<[u8; 32]> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The NAR vector of one small tree, in the spellings that Nix's tools print.
    #[test]
    fn the_spellings_of_one_hash_are_equal() {
        let nix32 = "sha256:0pzw0r9c75a3v5yclm0gdk03vslfbw4w9n7qfzbml85alcq7iabj";
        let sri = "sha256-cql4MKOqIFrXd/jYxAlfjuo9wGwPVMp82UOVw1IG/F8=";
        let hex = "72a97830a3aa205ad777f8d8c4095f8eea3dc06c0f54ca7cd94395c35206fc5f";

        let parsed: NarHash = nix32.parse().unwrap();

        assert_eq!(parsed.to_string(), nix32);
        assert_eq!(sri.parse(), Ok(parsed));
        assert_eq!(hex.parse(), Ok(parsed));
        assert_eq!(format!("sha256:{hex}").parse(), Ok(parsed));
        assert_eq!(sri.parse::<FileHash>().unwrap().to_string(), nix32);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "sha256:", "sha512:00", "sha256-AAAA", "md5:00", &"+0".repeat(32), &"é".repeat(32)]
        {
            assert!(text.parse::<NarHash>().is_err(), "{text:?} passed");
        }
    }
}
