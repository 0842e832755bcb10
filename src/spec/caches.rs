//! The binary caches that a spec wants beside those of the machine.

use std::fmt;
use std::str::FromStr;

use super::project_path::{ProjectPath, ProjectPathError};

/// One item of `caches`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheName {
    /// A folder of the project that holds a binary cache.
    Folder(ProjectPath),
    /// The URL of a cache that the admin of the machine has listed; without a `/` at its end.
    Url(String),
}

/// Why a text names no binary cache.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a binary cache: {reason}")]
pub struct CacheNameError {
    text: String,
    reason: &'static str,
}

impl FromStr for CacheName {
    type Err = CacheNameError;

    fn from_str(text: &str) -> Result<Self, CacheNameError> {
        let error = |reason| CacheNameError { text: text.to_owned(), reason };
        if text.starts_with("https://") || text.starts_with("http://") {
            let url = text.trim_end_matches('/');
            if url.contains('@') {
                return Err(error("credentials do not belong into a spec"));
            }
            return Ok(Self::Url(url.to_owned()));
        }
        if text.contains(':') {
            return Err(error("it is neither a folder nor an address that begins with `https://`"));
        }
        if text != "." && !text.starts_with("./") {
            return Err(error("a folder of the project begins with `./`"));
        }
        text.parse().map(Self::Folder).map_err(|cause: ProjectPathError| error(cause.reason()))
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(formatter, "./{folder}"),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_a_folder_of_the_project_or_a_url() {
        assert_eq!("./cache".parse(), Ok(CacheName::Folder("cache".parse().unwrap())));
        assert_eq!(
            "https://cache.example.org/".parse(),
            Ok(CacheName::Url("https://cache.example.org".to_owned()))
        );
    }

    #[test]
    fn what_leads_out_of_the_project_or_holds_secrets_is_refused() {
        for text in
            ["", "cache", "/srv/cache", "./../cache", "file:///srv/cache", "s3://bucket", "https://u:p@host"]
        {
            assert!(text.parse::<CacheName>().is_err(), "{text:?} passed");
        }
    }
}
