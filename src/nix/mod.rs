//! Nix's vocabulary: store paths, their hashes and references, closures, file trees; what binary
//! caches say of them, and who signs it.
//!
//! Nothing here touches the machine: the texts and bytes come from the callers, so the same types
//! describe a path of the local store and one that a binary cache offers.

pub mod cache_info;
pub mod closure;
pub mod compression;
pub mod derivation;
pub mod dump_db;
pub mod nar;
pub mod nar_hash;
pub mod narinfo;
pub mod nix32;
mod secret_key;
pub mod signature;
pub mod store_path;
pub mod system;
pub mod tree;

use std::str::FromStr;

pub use cache_info::{CacheInfo, CacheInfoError};
pub use closure::{Closure, ClosureError, PathInfo};
pub use compression::Compression;
pub use derivation::{Derivation, DerivationError};
pub use nar_hash::{FileHash, NarHash};
pub use narinfo::{NarInfo, NarInfoError};
pub use secret_key::{SecretKey, SecretKeyError};
pub use signature::{PublicKey, Signature};
pub use store_path::{STORE_DIR, StorePath};
pub use system::System;

/// `text` as an error shows it: its first 80 characters, with none that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, character) in text.chars().enumerate() {
        match character {
            _ if at == 80 => {
                shown.push('…');
                break;
            }
            _ if character.is_control() => shown.extend(character.escape_default()),
            _ => shown.push(character),
        }
    }
    shown
}

/// The number that `text` spells in digits alone; numbers would also parse a `+`.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_neither_long_texts_nor_what_a_terminal_obeys() {
        assert_eq!(shown(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(shown(&"é".repeat(81)), "é".repeat(80) + "…");
        assert_eq!(shown("a\r\u{1b}[2Jb"), "a\\r\\u{1b}[2Jb");
    }
}
