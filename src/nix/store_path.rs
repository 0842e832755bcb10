//! The name of one object in the Nix store.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{nix32, shown};

/// The store folder that every released nixpkgs binary is built for, and the only one we handle.
pub const STORE_DIR: &str = "/nix/store";

const HASH_LENGTH: usize = 32;
const MAX_NAME_LENGTH: usize = 211;

/// An object of the store, as `/nix/store/<32 digits>-<name>`.
///
/// Ordered by base name, as Nix orders them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath {
    base_name: String,
}

/// Why a text is not a store path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a store path: {reason}")]
pub struct StorePathError {
    text: String,
    reason: &'static str,
}

impl StorePath {
    /// The path from its last component, `<32 digits>-<name>`.
    pub fn from_base_name(base_name: &str) -> Result<Self, StorePathError> {
        let error = |reason| StorePathError { text: shown(base_name), reason };
        let (hash, name) =
            base_name.split_once('-').ok_or_else(|| error("there is no `-` after the hash"))?;
        if hash.len() != HASH_LENGTH || !nix32::is_nix32(hash) {
            return Err(error("the part before the first `-` is not 32 digits of Nix's base-32"));
        }
        if name.is_empty() || name.len() > MAX_NAME_LENGTH {
            return Err(error("the name has no characters, or more than 211"));
        }
        if name == "." || name == ".." || name.starts_with(".-") || name.starts_with("..-") {
            return Err(error("the name is a relative folder"));
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)) {
            return Err(error("the name has a character other than letters, digits and `+-._?=`"));
        }
        Ok(Self { base_name: base_name.to_owned() })
    }

    /// `<32 digits>-<name>`.
    pub fn base_name(&self) -> &str {
        &self.base_name
    }

    /// The 32 digits.
    pub fn hash_part(&self) -> &str {
        &self.base_name[..HASH_LENGTH]
    }

    /// What follows the digits: usually name and version.
    pub fn name(&self) -> &str {
        &self.base_name[HASH_LENGTH + 1..]
    }

    /// Where the object lies on a host with a Nix store.
    pub fn to_path_buf(&self) -> PathBuf {
        Path::new(STORE_DIR).join(&self.base_name)
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        let base_name = text
            .strip_prefix(STORE_DIR)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(StorePathError { text: shown(text), reason: "it does not lie in `/nix/store`" })?;
        if base_name.contains('/') {
            return Err(StorePathError {
                text: shown(text),
                reason: "it goes on below the object; name the object itself",
            });
        }
        Self::from_base_name(base_name)
            .map_err(|error| StorePathError { text: shown(text), reason: error.reason })
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{STORE_DIR}/{}", self.base_name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_store_path_is_refused() {
        for text in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/stores/00000000000000000000000000000000-a",
            "/nix/store/00000000000000000000000000000000",
            "/nix/store/00000000000000000000000000000000-",
            "/nix/store/0000000000000000000000000000000-short",
            "/nix/store/e0000000000000000000000000000000-digit",
            "/nix/store/00000000000000000000000000000000-..",
            "/nix/store/00000000000000000000000000000000-a/bin",
            "/nix/store/00000000000000000000000000000000-a\nb",
        ] {
            assert!(text.parse::<StorePath>().is_err(), "{text:?} passed");
        }
    }

    proptest! {
        #[test]
        fn displaying_undoes_parsing(text in "/nix/store/[0-9a-df-np-sv-z]{32}-[a-zA-Z0-9+_?=][a-zA-Z0-9+._?=-]{0,50}") {
            prop_assert_eq!(text.parse::<StorePath>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<StorePath>();
            let _ = format!("/nix/store/{text}").parse::<StorePath>();
        }
    }
}
