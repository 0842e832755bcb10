//! A narinfo: what a binary cache says of one store path, in `<32 digits>.narinfo`.
//!
//! Anybody may run a cache, so a narinfo is worth what signs it. A signature covers the path, the
//! hash and size of its NAR, and its references, in the form of [`NarInfo::fingerprint`]; it does
//! not cover where the NAR lies and how it is compressed, which the NAR's hash checks in the end.
//!
//! ```text
//! StorePath: /nix/store/430rksy9dxpyl50zs25x2fd6w89wfddx-a
//! URL: nar/0kwnzfnhkydqkdls2rc7ag3w795w1ffd9m2vl1ys33y5hsg961lz.nar.xz
//! Compression: xz
//! NarHash: sha256:11hap619k9yv29jfxdq44d7fxwks93qsw8w8iwbgdjwxni9zsxlj
//! NarSize: 120
//! References:
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::closure::MOST_NAR_SIZE;
use super::compression::UnknownCompression;
use super::signature::SignatureError;
use super::{Compression, FileHash, PathInfo, PublicKey, Signature, StorePath, decimal, shown};

/// What a binary cache says of one store path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NarInfo {
    /// What the cache says of the path; to be believed once the narinfo [is signed](Self::is_signed_by).
    pub info: PathInfo,
    /// Where the file of the NAR lies: relative to the root of the cache, or a URL of its own.
    pub url: String,
    /// How that file is compressed.
    pub compression: Compression,
    /// The SHA-256 of that file.
    pub file_hash: Option<FileHash>,
    /// The length of that file in bytes.
    pub file_size: Option<u64>,
    /// The signatures of a kind known here, all of them claims.
    pub signatures: Vec<Signature>,
}

/// Why bytes are no narinfo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NarInfoError {
    /// There are more than [`NarInfo::MAX_BYTES`].
    #[error("the narinfo has {0} bytes, more than {max}", max = NarInfo::MAX_BYTES)]
    TooLong(usize),
    /// They are no text.
    #[error("the narinfo is not UTF-8")]
    NotUtf8,
    /// A line has no key.
    #[error("line {line} of the narinfo is `{text}`, not `Key: value`")]
    NoKey {
        /// The number of the line, from 1.
        line: usize,
        /// The line, or its beginning.
        text: String,
    },
    /// A key is missing.
    #[error("the narinfo has no `{0}`")]
    Missing(&'static str),
    /// A key that may stand once stands twice.
    #[error("the narinfo has `{0}` twice")]
    Repeated(&'static str),
    /// A value is not what its key calls for.
    #[error("`{key}` of the narinfo is `{value}`, not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, or its beginning.
        value: String,
        /// What a value of this key is.
        expected: &'static str,
    },
    /// The NAR is compressed in a way not known here.
    #[error("the NAR cannot be decompressed")]
    Compression(#[source] UnknownCompression),
    /// A signature does not have the shape of one.
    #[error("`Sig` of the narinfo is malformed")]
    Signature(#[source] SignatureError),
}

impl NarInfo {
    /// How long a narinfo may be: one with ten thousand references of usual length is shorter.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Reads the bytes of a `.narinfo` file.
    ///
    /// Keys that are unknown or of no use here are passed over, and so are signatures of a length
    /// that Ed25519 does not have.
    pub fn parse(text: &[u8]) -> Result<Self, NarInfoError> {
        let fields = Fields::parse(text)?;
        Ok(Self {
            info: PathInfo {
                path: fields.required("StorePath", "a path in `/nix/store`", |text| text.parse().ok())?,
                nar_hash: fields.required("NarHash", "a SHA-256", |text| text.parse().ok())?,
                nar_size: fields.required("NarSize", "a number of bytes above 0", |text| {
                    decimal(text).filter(|size| (1..=MOST_NAR_SIZE).contains(size))
                })?,
                references: fields
                    .optional("References", "base names of store paths", references)?
                    .unwrap_or_default(),
            },
            url: fields.required("URL", "an address without spaces", url)?,
            compression: match fields.single.get("Compression") {
                None | Some(&"") => Compression::Bzip2,
                Some(name) => name.parse().map_err(NarInfoError::Compression)?,
            },
            file_hash: fields.optional("FileHash", "a SHA-256", |text| text.parse().ok())?,
            // Nix writes 0 for a length that it does not know.
            file_size: fields.optional("FileSize", "a number of bytes", decimal)?.filter(|size| *size > 0),
            signatures: fields.signatures()?,
        })
    }

    /// What a signature of this narinfo signs.
    pub fn fingerprint(&self) -> String {
        let PathInfo { path, nar_hash, nar_size, references } = &self.info;
        let references: Vec<String> = references.iter().map(StorePath::to_string).collect();
        format!("1;{path};{nar_hash};{nar_size};{}", references.join(","))
    }

    /// Whether the holder of at least one of `keys` signed this narinfo.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let message = self.fingerprint();
        keys.iter().any(|key| self.signatures.iter().any(|sig| key.verifies(message.as_bytes(), sig)))
    }
}

/// The values of a narinfo by their keys.
struct Fields<'a> {
    single: BTreeMap<&'static str, &'a str>,
    signatures: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    const SINGLE: [&'static str; 8] =
        ["StorePath", "URL", "Compression", "FileHash", "FileSize", "NarHash", "NarSize", "References"];

    fn parse(text: &'a [u8]) -> Result<Self, NarInfoError> {
        if text.len() > NarInfo::MAX_BYTES {
            return Err(NarInfoError::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|_| NarInfoError::NotUtf8)?;
        let mut fields = Self { single: BTreeMap::new(), signatures: Vec::new() };
        for (index, line) in text.split('\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            // An empty value may have lost the space before it.
            let field = line.split_once(": ").or_else(|| Some((line.strip_suffix(':')?, "")));
            let (key, value) =
                field.ok_or_else(|| NarInfoError::NoKey { line: index + 1, text: shown(line) })?;
            if key == "Sig" {
                fields.signatures.push(value);
            } else if let Some(key) = Self::SINGLE.into_iter().find(|known| *known == key)
                && fields.single.insert(key, value).is_some()
            {
                return Err(NarInfoError::Repeated(key));
            }
        }
        Ok(fields)
    }

    fn required<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, NarInfoError> {
        self.optional(key, expected, parse)?.ok_or(NarInfoError::Missing(key))
    }

    fn optional<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, NarInfoError> {
        let Some(value) = self.single.get(key) else { return Ok(None) };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(NarInfoError::Value { key, value: shown(value), expected }),
        }
    }

    fn signatures(&self) -> Result<Vec<Signature>, NarInfoError> {
        let mut signatures = Vec::new();
        for text in &self.signatures {
            match text.parse::<Signature>() {
                Ok(signature) => signatures.push(signature),
                Err(error) if error.is_of_another_algorithm() => {}
                Err(error) => return Err(NarInfoError::Signature(error)),
            }
        }
        Ok(signatures)
    }
}

fn references(text: &str) -> Option<BTreeSet<StorePath>> {
    let names = text.split(' ').filter(|name| !name.is_empty());
    names.map(|name| StorePath::from_base_name(name).ok()).collect()
}

fn url(text: &str) -> Option<String> {
    let fits = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
