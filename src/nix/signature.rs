//! Who vouches for a store path: the public keys of binary caches, and signatures made with them.
//!
//! Both are written `name:base64`. The name only says which key to try; a [`Signature`] counts when
//! the [`PublicKey`] of that name verifies it with Ed25519 (RFC 8032).
//!
//! With `cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=` trusted, what
//! `cache.nixos.org-2` signed stays untrusted.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::shown;

/// A key whose signatures are believed, as `name:base64` of 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey {
    name: String,
    bytes: [u8; 32],
}

/// A signature, as `name:base64` of 64 bytes; nothing is known of what it signs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    key_name: String,
    bytes: [u8; 64],
}

/// Why a text is no public key.
///
/// Of the text it shows only the name, because what follows may be a secret key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a public key as `name:base64` of 32 bytes: {reason}")]
pub struct PublicKeyError {
    name: String,
    reason: Malformed,
}

/// Why a text is no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a signature as `name:base64` of 64 bytes: {reason}")]
pub struct SignatureError {
    name: String,
    reason: Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("there is no `:` after the name")]
    NoColon,
    #[error("the name is empty or has spaces")]
    Name,
    #[error("what follows the name is not base64")]
    Base64,
    #[error("what follows the name is {0} bytes long")]
    Length(usize),
    #[error("its two halves are no pair")]
    Key,
}

impl PublicKey {
    pub(super) fn new(name: String, bytes: [u8; 32]) -> Self {
        Self { name, bytes }
    }

    /// What signatures call the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the holder of this key made `signature` for exactly `message`.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.name == signature.key_name
            && UnparsedPublicKey::new(&ED25519, &self.bytes).verify(message, &signature.bytes).is_ok()
    }
}

impl Signature {
    pub(super) fn new(key_name: String, bytes: [u8; 64]) -> Self {
        Self { key_name, bytes }
    }

    /// The name of the key that it claims to be made with.
    pub fn key_name(&self) -> &str {
        &self.key_name
    }
}

impl SignatureError {
    /// Whether the text has the shape of a signature, of a length that Ed25519 does not have.
    pub fn is_of_another_algorithm(&self) -> bool {
        matches!(self.reason, Malformed::Length(_))
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        match named_bytes(text) {
            Ok((name, bytes)) => Ok(Self { name, bytes }),
            Err(reason) => Err(PublicKeyError { name: name_in(text), reason }),
        }
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        match named_bytes(text) {
            Ok((key_name, bytes)) => Ok(Self { key_name, bytes }),
            Err(reason) => Err(SignatureError { name: name_in(text), reason }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, STANDARD.encode(self.bytes))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.key_name, STANDARD.encode(self.bytes))
    }
}

pub(super) fn named_bytes<const LENGTH: usize>(text: &str) -> Result<(String, [u8; LENGTH]), Malformed> {
    let (name, base64) = text.split_once(':').ok_or(Malformed::NoColon)?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Malformed::Name);
    }
    let bytes = STANDARD.decode(base64).map_err(|_| Malformed::Base64)?;
    let bytes = bytes.try_into().map_err(|bytes: Vec<u8>| Malformed::Length(bytes.len()))?;
    Ok((name.to_owned(), bytes))
}

pub(super) fn name_in(text: &str) -> String {
    match text.split_once(':') {
        Some((name, _)) => shown(name) + ":…",
        None => shown(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// The key of the public cache, as in nix.conf(5).
    const NIXOS: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

    #[test]
    fn the_public_cache_has_a_key_that_parses() {
        let key: PublicKey = NIXOS.parse().unwrap();

        assert_eq!(key.name(), "cache.nixos.org-1");
        assert_eq!(key.to_string(), NIXOS);
    }

    /// RFC 8032, section 7.1, test 3.
    #[test]
    fn the_signature_of_the_standard_is_valid_under_the_name_of_its_key_only() {
        let key: PublicKey = "rfc:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=".parse().unwrap();
        let text = "YpHWV97sJAJIJ+acOr4BowzlSKKEdDpEXjaA19taw6wY/5tTjRbykK5n92CYTcZZSnwV6XFu0o3AJ77O6h7ECg==";
        let signature: Signature = format!("rfc:{text}").parse().unwrap();
        let renamed: Signature = format!("other:{text}").parse().unwrap();

        assert!(key.verifies(&[0xaf, 0x82], &signature));
        assert!(!key.verifies(&[0xaf, 0x82], &renamed));
        assert!(!key.verifies(&[0xaf, 0x83], &signature));
        assert_eq!((signature.key_name(), signature.to_string()), ("rfc", format!("rfc:{text}")));
    }

    #[test]
    fn a_text_that_is_no_key_says_why() {
        let secret = format!("a:{}", STANDARD.encode([7; 64]));
        for (text, shown, reason) in [
            ("", "", "there is no `:` after the name"),
            ("a", "a", "there is no `:` after the name"),
            (":", ":…", "the name is empty or has spaces"),
            ("a b:AA", "a b:…", "the name is empty or has spaces"),
            ("a:!", "a:…", "what follows the name is not base64"),
            ("a:A", "a:…", "what follows the name is not base64"),
            ("a:", "a:…", "what follows the name is 0 bytes long"),
            (&secret, "a:…", "what follows the name is 64 bytes long"),
        ] {
            assert_eq!(
                text.parse::<PublicKey>().unwrap_err().to_string(),
                format!("`{shown}` is not a public key as `name:base64` of 32 bytes: {reason}")
            );
        }
    }

    #[test]
    fn a_key_is_no_signature() {
        let error = NIXOS.parse::<Signature>().unwrap_err();

        assert!(error.is_of_another_algorithm());
        assert_eq!(
            error.to_string(),
            "`cache.nixos.org-1:…` is not a signature as `name:base64` of 64 bytes: \
             what follows the name is 32 bytes long"
        );
        assert!(!"a:!".parse::<Signature>().unwrap_err().is_of_another_algorithm());
    }

    proptest! {
        /// With one bit of message or signature turned, it is no signature of that message.
        #[test]
        fn a_signature_is_of_one_message(
            seed: [u8; 32],
            message in "[a-z/;:,-]{1,60}",
            bit in 0..8u32,
            at: prop::sample::Index,
        ) {
            let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
            let key = PublicKey { name: "k".into(), bytes: pair.public_key().as_ref().try_into().unwrap() };
            let bytes: [u8; 64] = pair.sign(message.as_bytes()).as_ref().try_into().unwrap();
            let signature = Signature { key_name: "k".into(), bytes };
            let mut other_message = message.clone().into_bytes();
            other_message[at.index(message.len())] ^= 1 << bit;
            let mut other_signature = signature.clone();
            other_signature.bytes[at.index(64)] ^= 1 << bit;

            prop_assert!(key.verifies(message.as_bytes(), &signature));
            prop_assert!(!key.verifies(&other_message, &signature));
            prop_assert!(!key.verifies(message.as_bytes(), &other_signature));
            prop_assert_eq!(key.to_string().parse(), Ok(key));
            prop_assert_eq!(signature.to_string().parse(), Ok(signature));
        }

        #[test]
        fn no_text_panics(text: String, base64 in "[A-Za-z0-9+/]{0,90}={0,2}") {
            let _ = text.parse::<PublicKey>();
            let _ = format!("a:{base64}").parse::<Signature>();
        }
    }
}
