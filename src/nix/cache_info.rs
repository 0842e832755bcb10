//! What a binary cache says of itself, in `nix-cache-info`.
//!
//! ```text
//! StoreDir: /nix/store
//! WantMassQuery: 1
//! Priority: 40
//! ```

use super::{STORE_DIR, decimal, shown};

/// What a binary cache says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheInfo {
    /// The place among other caches that it asks for: the lower, the earlier.
    pub priority: Option<u32>,
    /// Whether it welcomes many questions about paths at a time.
    pub want_mass_query: bool,
}

/// Why bytes do not describe a cache that is of use here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheInfoError {
    /// There are more than [`CacheInfo::MAX_BYTES`].
    #[error("`nix-cache-info` has {0} bytes, more than {max}", max = CacheInfo::MAX_BYTES)]
    TooLong(usize),
    /// They are no text.
    #[error("`nix-cache-info` is not UTF-8")]
    NotUtf8,
    /// What the cache holds was built for another store folder, whose name is in its bytes.
    #[error("the cache is for the store `{0}`, not `{STORE_DIR}`")]
    OtherStore(String),
    /// A value is not what its key calls for.
    #[error("`{key}` of `nix-cache-info` is `{value}`, not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value, or its beginning.
        value: String,
        /// What a value of this key is.
        expected: &'static str,
    },
}

impl CacheInfo {
    /// How long the file may be.
    pub const MAX_BYTES: usize = 64 << 10;

    /// Reads the bytes of a `nix-cache-info` file.
    ///
    /// As in Nix, a line without a colon and an unknown key say nothing, and of two lines with the
    /// same key the later one counts.
    pub fn parse(text: &[u8]) -> Result<Self, CacheInfoError> {
        if text.len() > Self::MAX_BYTES {
            return Err(CacheInfoError::TooLong(text.len()));
        }
        let text = std::str::from_utf8(text).map_err(|_| CacheInfoError::NotUtf8)?;
        let mut info = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let error = |key, expected| Err(CacheInfoError::Value { key, value: shown(value), expected });
            match key {
                "StoreDir" if value != STORE_DIR => return Err(CacheInfoError::OtherStore(shown(value))),
                "WantMassQuery" => match value {
                    "0" => info.want_mass_query = false,
                    "1" => info.want_mass_query = true,
                    _ => return error("WantMassQuery", "`0` or `1`"),
                },
                "Priority" => match decimal(value) {
                    Some(priority) => info.priority = Some(priority),
                    None => return error("Priority", "a number below 2^32"),
                },
                _ => {}
            }
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> CacheInfo {
        CacheInfo::parse(text.as_bytes()).unwrap()
    }

    /// Printed by Nix 2.8.0 into a cache that `nix copy --to file:///…` made.
    #[test]
    fn a_cache_made_by_nix_asks_for_nothing() {
        let info = parse("StoreDir: /nix/store\n");

        assert_eq!(info, CacheInfo { priority: None, want_mass_query: false });
    }

    /// What `https://cache.nixos.org/nix-cache-info` answers.
    #[test]
    fn the_public_cache_has_a_priority_and_welcomes_mass_queries() {
        let info = parse("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n");

        assert_eq!(info, CacheInfo { priority: Some(40), want_mass_query: true });
    }

    #[test]
    fn what_says_nothing_of_a_cache_is_passed_over() {
        let plain = CacheInfo::default();
        for text in
            ["", "\n\n", "no colon\n", "Unknown: key", "priority: 1", "#Priority: 1", "WantMassQuery: 0"]
        {
            assert_eq!(parse(text), plain, "{text:?}");
        }
        for text in ["Priority:30", "Priority:  30 \r\n", "Priority: 40\nStoreDir:/nix/store\nPriority: 30"] {
            assert_eq!(parse(text).priority, Some(30), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let long = format!("StoreDir: /{}", "x".repeat(80));
        let cut = format!("the cache is for the store `/{}…`, not `/nix/store`", "x".repeat(79));
        let too_long = "\n".repeat(65_537);
        for (text, error) in [
            ("StoreDir: /gnu/store", "the cache is for the store `/gnu/store`, not `/nix/store`"),
            ("StoreDir: /nix/store/", "the cache is for the store `/nix/store/`, not `/nix/store`"),
            ("StoreDir:", "the cache is for the store ``, not `/nix/store`"),
            (&long, &cut),
            ("WantMassQuery: yes", "`WantMassQuery` of `nix-cache-info` is `yes`, not `0` or `1`"),
            ("Priority: high", "`Priority` of `nix-cache-info` is `high`, not a number below 2^32"),
            ("Priority:", "`Priority` of `nix-cache-info` is ``, not a number below 2^32"),
            ("Priority: +1", "`Priority` of `nix-cache-info` is `+1`, not a number below 2^32"),
            (
                "Priority: 4294967296",
                "`Priority` of `nix-cache-info` is `4294967296`, not a number below 2^32",
            ),
            (&too_long, "`nix-cache-info` has 65537 bytes, more than 65536"),
        ] {
            assert_eq!(CacheInfo::parse(text.as_bytes()).unwrap_err().to_string(), error);
        }
        let error = CacheInfo::parse(b"\xff").unwrap_err();
        assert_eq!(error.to_string(), "`nix-cache-info` is not UTF-8");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, lines in "((StoreDir|WantMassQuery|Priority):.{0,20}\n){0,4}") {
            let _ = CacheInfo::parse(&bytes);
            let _ = CacheInfo::parse(lines.as_bytes());
        }
    }
}
