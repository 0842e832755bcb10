//! Which layers of an archive are there already.
//!
//! What is compressed on the way is found by its [record](crate::record), which says what it was compressed to. What
//! stays as it is has no record, as another archive may have the same tar compressed in another way: it is found by its
//! digest, if the archive says that or names it so, or by its length. Only its bytes tell whether it really was that.

use super::reading::{Arrival, Travel};
use crate::layer::{Compression, LayerDigests, LayerKey};
use crate::oci::{DiffId, Digest};
use crate::pipeline::earlier::Earlier;
use crate::pipeline::reuse::{KnownLayers, Whereabouts};
use crate::pipeline::{BuildError, Fate};
use crate::publish::{Destination, Mount, OpenUpload};
use crate::record::Record;

/// What is done with a layer.
pub(super) enum Decision {
    /// It is there, as this layer.
    There { fate: Fate, layer: LayerDigests },
    /// It is there if it is one of these blobs, as it seems.
    Likely(Vec<Digest>),
    Send {
        open: Option<OpenUpload>,
        /// What the layer is compared with.
        known: KnownLayers,
    },
}

impl Decision {
    fn send(open: Option<OpenUpload>) -> Self {
        Self::Send { open, known: KnownLayers::default() }
    }
}

/// What tells which layers are there.
pub(super) struct Lookup<'a, 'e> {
    pub(super) destination: &'a Destination,
    pub(super) earlier: &'a mut Earlier<'e>,
    pub(super) compression: Compression,
    /// Whether the registry has lost what its images name.
    pub(super) lost: bool,
    /// Whether a layer can be read again if it is not what it seemed to be.
    pub(super) lasting: bool,
}

impl Lookup<'_, '_> {
    /// What is to be done with a layer.
    pub(super) async fn decide(&mut self, arrival: &Arrival) -> Result<Decision, BuildError> {
        match arrival.travel {
            Travel::Compressed { diff_id: Some(diff_id) } => self.recorded(diff_id).await,
            Travel::Compressed { diff_id: None } => Ok(Decision::send(None)),
            Travel::AsItIs { digest, .. } => {
                let likely = self.likely(arrival, digest).await?;
                Ok(if likely.is_empty() { Decision::send(None) } else { Decision::Likely(likely) })
            }
        }
    }

    /// The blobs that are there and that a layer seems to be, which travels as it is.
    async fn likely(&mut self, arrival: &Arrival, said: Option<Digest>) -> Result<Vec<Digest>, BuildError> {
        if let Some(digest) = said.or_else(|| arrival.member.digest())
            && self.destination.has_blob(&digest, arrival.size).await?
        {
            return Ok(vec![digest]);
        }
        if said.is_some() || !self.lasting {
            return Ok(Vec::new());
        }
        let mut likely = Vec::new();
        for digest in self.earlier.layers_of_size(arrival.size).await? {
            let named = !self.lost && self.earlier.has(&digest);
            if named || self.destination.has_blob(&digest, arrival.size).await? {
                likely.push(digest);
            }
        }
        Ok(likely)
    }

    /// Looks for a layer that somebody made before.
    async fn recorded(&mut self, diff_id: DiffId) -> Result<Decision, BuildError> {
        let key = LayerKey::of_tar(&self.compression.id(), &diff_id);
        let mut known = KnownLayers::find(self.earlier, &[key]).await?;
        if self.earlier.reuse().verify {
            return Ok(Decision::Send { open: None, known });
        }
        let there = |fate, layer| Decision::There { fate, layer };
        let record = known.record(&key).filter(|(record, _)| record.layer.diff_id == diff_id);
        Ok(match record {
            None => Decision::send(None),
            Some((Record { layer, .. }, Whereabouts::Present)) => {
                let there_still = !self.lost || self.destination.has_blob(&layer.digest, layer.size).await?;
                if there_still { there(Fate::Reused, layer) } else { Decision::send(None) }
            }
            Some((Record { layer, .. }, _)) => match known.mount(self.destination).await?.remove(&key) {
                Some(Mount::Done) => there(Fate::Mounted, layer),
                Some(Mount::Open(session)) => Decision::send(Some(session)),
                Some(Mount::Refused) | None => Decision::send(None),
            },
        })
    }
}
