//! The binary caches that the admin lists.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ClientFiles;
use super::values::{absolute_path, client_files, read_absolute_path};
use crate::http::Url;
use crate::nix::PublicKey;
use crate::yaml::{Error, Value};

/// What the admin says of one binary cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheConfig {
    /// The keys whose signatures are believed.
    pub public_keys: Vec<PublicKey>,
    /// Lower ones are asked first; the cache's own if none is given.
    pub priority: Option<u32>,
    /// A netrc file with the user and password for its host.
    pub netrc_file: Option<PathBuf>,
    /// A file whose content is the token that it wants to see.
    pub token_file: Option<PathBuf>,
    /// Certificates trusted for its host beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The files of what is shown to its host where that wants to know who asks.
    pub client_certificate: Option<ClientFiles>,
    /// For which specs it is asked.
    pub used: CacheUse,
}

/// For which specs a cache is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// For all.
    #[default]
    Always,
    /// For those that name it.
    OnRequest,
}

/// Reads the caches by their URLs, which have no `/` at the end.
pub(super) fn read(value: &Value<'_>) -> Result<BTreeMap<String, CacheConfig>, Error> {
    let mut caches = BTreeMap::new();
    for (url, cache) in value.entries()? {
        let http = Url::parse(url).is_ok_and(|parsed| matches!(parsed.scheme(), "http" | "https"));
        let folder = url.strip_prefix("file:///").is_some_and(|folder| !folder.trim_matches('/').is_empty());
        if !(http || folder) || url.contains(['@', '?', '#', ' ']) {
            return Err(cache.key_error(
                format!("`{url}` is not the URL of a binary cache"),
                "write `https://HOST/PATH` or `file:///FOLDER`, with credentials in `netrc_file` or `token_file`",
            ));
        }
        let read = CacheConfig::read(&cache)?;
        if !http && (read.netrc_file.is_some() || read.token_file.is_some()) {
            return Err(cache.key_error("a folder asks for no credentials", "remove them"));
        }
        if caches.insert(url.trim_end_matches('/').to_owned(), read).is_some() {
            return Err(cache.key_error(format!("`{url}` is there twice"), "remove one of the two"));
        }
    }
    Ok(caches)
}

impl CacheConfig {
    fn read(value: &Value<'_>) -> Result<Self, Error> {
        if value.is_null() {
            return Ok(Self::default());
        }
        let fields = value.fields(&[
            "public_keys",
            "priority",
            "netrc_file",
            "token_file",
            "ca_file",
            "client_certificate",
            "client_key",
            "use",
        ])?;
        let mut public_keys = Vec::new();
        if let Some(keys) = fields.get("public_keys") {
            for key in keys.list_or_one()? {
                public_keys.push(key.parse("copy the key as the cache's owner shows it, `NAME:BASE64`")?);
            }
        }
        let uses = [("always", CacheUse::Always), ("on_request", CacheUse::OnRequest)];
        let token_file = fields.get("token_file");
        if let (Some(token_file), Some(_)) = (token_file, fields.get("netrc_file")) {
            return Err(token_file.error("there is a `netrc_file` as well", "remove one of the two"));
        }
        Ok(Self {
            public_keys,
            priority: fields.get("priority").map(|value| value.integer(0..=u32::MAX)).transpose()?,
            netrc_file: absolute_path(&fields, "netrc_file")?,
            token_file: token_file.map(read_absolute_path).transpose()?,
            ca_file: absolute_path(&fields, "ca_file")?,
            client_certificate: client_files(&fields)?,
            used: fields.get("use").map(|value| value.word(&uses)).transpose()?.unwrap_or_default(),
        })
    }
}
