//! What came of a layer the last time: records, so that nobody makes it again.
//!
//! A [`Record`] says which blob a [`LayerKey`] became. Records travel with the image: each layer's descriptor in
//! the manifest has one as annotations, so that whoever can read the registry has them, and a host that never
//! built the image builds only what changed.
//!
//! A registry is written to by many, and a wrong record would put foreign files into an image. So records are
//! believed only under a [signature](seal) over all of them and over the repository they were written for, by
//! a key that the admin trusts.

mod annotations;
mod seal;

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
