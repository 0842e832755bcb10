//! What came of a layer the last time: records, so that nobody makes it again.
//!
//! A [`Record`] says which blob a [`LayerKey`] became. Records travel with the image: each layer's descriptor in
//! the manifest has one as annotations, so that whoever can read the registry has them, and a host that never
//! built the image builds only what changed.
//!
//! A registry is written to by many, and a wrong record would put foreign files into an image. So records are
//! believed only under a [signature](Trust) over all of them and over the repository they were written for, by
//! a key that the admin trusts.

mod annotations;
mod seal;

use std::fmt;
use std::str::FromStr;

pub use self::annotations::{annotate, records_in, without_records};
pub use self::seal::{Distrust, Trust};
use crate::layer::{LayerDigests, LayerKey};

/// Which blob a layer became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it was made of.
    pub key: LayerKey,
    /// What came of it.
    pub layer: LayerDigests,
}

/// A text is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no record of a layer")]
pub struct RecordError;

/// `KEY DIFF-ID DIGEST SIZE UNCOMPRESSED-SIZE`, as signatures and files have it.
impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LayerDigests { diff_id, digest, size, uncompressed_size } = self.layer;
        write!(formatter, "{} {diff_id} {digest} {size} {uncompressed_size}", self.key)
    }
}

impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let words: Vec<&str> = text.split(' ').collect();
        let [key, diff_id, digest, size, uncompressed_size] = words[..] else { return Err(RecordError) };
        let layer = LayerDigests {
            diff_id: diff_id.parse().map_err(|_| RecordError)?,
            digest: digest.parse().map_err(|_| RecordError)?,
            size: size.parse().map_err(|_| RecordError)?,
            uncompressed_size: uncompressed_size.parse().map_err(|_| RecordError)?,
        };
        Ok(Self { key: key.parse().map_err(|_| RecordError)?, layer })
    }
}
