//! SHA-256 digests in the two roles that OCI images give them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// Digest of a blob as a registry stores it: of a layer, after compression.
///
/// Displayed as `sha256:<64 hex digits>` (image specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// Digest of a layer's tar before compression, as `rootfs.diff_ids` lists it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DiffId([u8; 32]);

/// The text is no SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest of the form `sha256:` and 64 lower-case hex digits")]
pub struct DigestError(String);

/// Computes a digest of the bytes written to it.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The digest of what was written, as a blob's.
    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    /// The digest of what was written, as an uncompressed layer's.
    pub fn diff_id(self) -> DiffId {
        DiffId(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits, as file names in an image layout.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(text).map(Self)
    }
}

impl FromStr for DiffId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse(text: &str) -> Result<[u8; 32], DigestError> {
    let error = || DigestError(text.to_owned());
    let digits = text.strip_prefix("sha256:").ok_or_else(error)?.as_bytes();
    if digits.len() != 64 {
        return Err(error());
    }
    let mut bytes = [0u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = digit(pair[0]).ok_or_else(error)? << 4 | digit(pair[1]).ok_or_else(error)?;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn digest_of_abc_is_that_of_the_standard() {
        let digest = Digest::of(b"abc");

        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    /// A digest becomes a file name and part of a URL, so nothing else may pass for one.
    #[test]
    fn what_is_no_digest_is_refused() {
        let good = Digest::of(b"").to_string();
        for text in [
            String::new(),
            "sha256:".to_owned(),
            good.to_uppercase(),
            good.replace("sha256:", "sha256:../"),
            good.replace("sha256", "sha512"),
            format!("{good}0"),
            good[..good.len() - 1].to_owned(),
            format!("sha256:{}", "é".repeat(32)),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text:?} passed");
        }
    }
}
