//! Which layer records are believed, and who signs them.

use std::path::PathBuf;

use super::values::absolute_path;
use crate::nix::PublicKey;
use crate::yaml::{Error, Value};

/// What stands under the key `records`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordsConfig {
    /// The file of the secret key that signs the records of what this host pushes; its own are believed.
    pub key_file: Option<PathBuf>,
    /// Keys of other hosts whose records are believed.
    pub public_keys: Vec<PublicKey>,
}

impl RecordsConfig {
    pub(super) fn read(value: &Value<'_>) -> Result<Self, Error> {
        let fields = value.fields(&["key_file", "public_keys"])?;
        let key = |key: &Value<'_>| key.parse("copy the line that `nixlayer keygen` printed, `NAME:BASE64`");
        let keys = fields.get("public_keys").map(Value::list_or_one).transpose()?.unwrap_or_default();
        Ok(Self {
            key_file: absolute_path(&fields, "key_file")?,
            public_keys: keys.iter().map(key).collect::<Result<_, _>>()?,
        })
    }
}
