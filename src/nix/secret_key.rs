//! Vouches for something: a secret key as `nix-store --generate-binary-cache-key` writes it, and the signatures
//! that it makes.
//!
//! The text is `name:base64` of 64 bytes, the seed of RFC 8032 and the public key behind it, as libsodium keeps
//! them. One kind of key for caches and for whatever else is to be believed spares the admin another tool.
//!
//! ```
//! use nixlayer::nix::SecretKey;
//!
//! let key = SecretKey::from_seed("runner-1", &[7; 32])?;
//! let signature = key.sign(b"message");
//!
//! assert!(key.public_key().verifies(b"message", &signature));
//! assert_eq!(key.to_text().parse::<SecretKey>()?.public_key(), key.public_key());
//! # Ok::<(), nixlayer::nix::SecretKeyError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

use super::signature::{Malformed, name_in, named_bytes};
use super::{PublicKey, Signature};

/// A key that signs. It is never shown but by [`SecretKey::to_text`].
pub struct SecretKey {
    public: PublicKey,
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// Why a text is no secret key; of the text it shows only the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a secret key as `name:base64` of 64 bytes: {reason}")]
pub struct SecretKeyError {
    name: String,
    reason: Malformed,
}

impl SecretKey {
    /// The key of this name that follows from 32 random bytes.
    ///
    /// Fails if the name could not stand before a `:`.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, SecretKeyError> {
        let error = |reason| SecretKeyError { name: name.to_owned(), reason };
        if name.contains(':') {
            return Err(error(Malformed::Name));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| error(Malformed::Key))?;
        let public = format!("{name}:{}", STANDARD.encode(pair.public_key()));
        let (name, bytes) = named_bytes(&public).map_err(error)?;
        Ok(Self { public: PublicKey::new(name, bytes), seed: Zeroizing::new(*seed), pair })
    }

    /// What believes the signatures of this key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// The signature of exactly `message`. It is the same every time (RFC 8032, section 5.1.6).
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        // Ed25519 signatures have 64 bytes.
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature::new(self.public.name().to_owned(), bytes)
    }

    /// The secret itself, for the file that keeps it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let both = Zeroizing::new([self.seed.as_slice(), self.pair.public_key().as_ref()].concat());
        Zeroizing::new(format!("{}:{}", self.public.name(), STANDARD.encode(&*both)))
    }
}

impl FromStr for SecretKey {
    type Err = SecretKeyError;

    fn from_str(text: &str) -> Result<Self, SecretKeyError> {
        let error = |reason| SecretKeyError { name: name_in(text), reason };
        let (name, bytes) = named_bytes::<64>(text).map_err(error)?;
        let bytes = Zeroizing::new(bytes);
        let mut seed = Zeroizing::new([0; 32]);
        seed.copy_from_slice(&bytes[..32]);
        let key = Self::from_seed(&name, &seed)?;
        if key.pair.public_key().as_ref() == &bytes[32..] { Ok(key) } else { Err(error(Malformed::Key)) }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SecretKey({}:[redacted])", self.public.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 3: secret key, public key, message and signature.
    #[test]
    fn the_key_of_the_standard_makes_the_signature_of_the_standard() {
        let seed = [
            0xc5, 0xaa, 0x8d, 0xf4, 0x3f, 0x9f, 0x83, 0x7b, 0xed, 0xb7, 0x44, 0x2f, 0x31, 0xdc, 0xb7, 0xb1,
            0x66, 0xd3, 0x85, 0x35, 0x07, 0x6f, 0x09, 0x4b, 0x85, 0xce, 0x3a, 0x2e, 0x0b, 0x44, 0x58, 0xf7,
        ];

        let key = SecretKey::from_seed("rfc", &seed).unwrap();

        assert_eq!(key.public_key().to_string(), "rfc:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=");
        assert_eq!(
            key.sign(&[0xaf, 0x82]).to_string(),
            "rfc:YpHWV97sJAJIJ+acOr4BowzlSKKEdDpEXjaA19taw6wY/5tTjRbykK5n92CYTcZZSnwV6XFu0o3AJ77O6h7ECg=="
        );
    }

    #[test]
    fn a_text_that_is_no_secret_key_says_why_without_showing_it() {
        let good = SecretKey::from_seed("k", &[7; 32]).unwrap().to_text();
        let swapped = format!("k:{}", STANDARD.encode([[7; 32], [8; 32]].concat()));
        for (text, shown, reason) in [
            ("k", "k", "there is no `:` after the name"),
            ("k:AA==", "k:…", "what follows the name is 1 bytes long"),
            (&swapped, "k:…", "its two halves are no pair"),
            (&format!(" {}", *good), " k:…", "the name is empty or has spaces"),
        ] {
            let error = text.parse::<SecretKey>().unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{shown}` is not a secret key as `name:base64` of 64 bytes: {reason}")
            );
        }
        assert!(SecretKey::from_seed("a:b", &[7; 32]).is_err());
        assert!(SecretKey::from_seed("", &[7; 32]).is_err());
    }

    #[test]
    fn debug_output_does_not_show_it() {
        let key = SecretKey::from_seed("k", &[7; 32]).unwrap();

        assert_eq!(format!("{key:?}"), "SecretKey(k:[redacted])");
    }
}
