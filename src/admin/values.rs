//! Kinds of values that several keys have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ClientFiles;
use crate::yaml::{Error, Fields, Value};

/// A number of MiB.
pub(super) fn chunk(value: &Value<'_>) -> Result<usize, Error> {
    Ok(value.integer::<usize>(1..=1024)? << 20)
}

pub(super) fn absolute_path(fields: &Fields<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    fields.get(key).map(read_absolute_path).transpose()
}

pub(super) fn read_absolute_path(value: &Value<'_>) -> Result<PathBuf, Error> {
    let path = Path::new(value.text()?);
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Err(value.error(format!("`{}` is not an absolute path", path.display()), "begin it with `/`"))
    }
}

/// `client_certificate` and `client_key`: both, or neither.
pub(super) fn client_files(fields: &Fields<'_>) -> Result<Option<ClientFiles>, Error> {
    match (fields.get("client_certificate"), fields.get("client_key")) {
        (Some(certificate), Some(key)) => Ok(Some(ClientFiles {
            certificate: read_absolute_path(certificate)?,
            key: read_absolute_path(key)?,
        })),
        (Some(alone), None) => Err(alone.error("there is no `client_key`", "say where its key is")),
        (None, Some(alone)) => Err(alone.error("there is no `client_certificate`", "say whose key it is")),
        (None, None) => Ok(None),
    }
}

/// A list of hosts, each with its port if it has one.
pub(super) fn hosts(fields: &Fields<'_>, key: &str) -> Result<BTreeSet<String>, Error> {
    let Some(value) = fields.get(key) else { return Ok(BTreeSet::new()) };
    let host = |value: &Value<'_>| {
        let host = value.text()?;
        if host.is_empty() || host.contains(['/', '@', '*']) || host.contains(char::is_whitespace) {
            return Err(value.error(format!("`{host}` is not a host"), "write `HOST` or `HOST:PORT`"));
        }
        Ok(host.to_owned())
    };
    value.list()?.iter().map(host).collect()
}

pub(super) fn texts(fields: &Fields<'_>, key: &str) -> Result<BTreeMap<String, String>, Error> {
    let Some(value) = fields.get(key) else { return Ok(BTreeMap::new()) };
    let mut texts = BTreeMap::new();
    for (name, value) in value.entries()? {
        let text = value.text()?;
        if text.contains('\n') {
            return Err(value.error("the text has more than one line", "write it in one line"));
        }
        texts.insert(name.to_owned(), text.to_owned());
    }
    Ok(texts)
}
