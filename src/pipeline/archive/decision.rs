//! Which layers of an archive are there already.

use super::reading::{Arrival, Travel};
use super::transfer::Transfer;
use crate::layer::{LayerDigests, LayerKey};
use crate::oci::DiffId;
use crate::pipeline::reuse::{KnownLayers, Whereabouts};
use crate::pipeline::{BuildError, Fate};
use crate::publish::{Mount, OpenUpload};
use crate::record::Record;
use crate::source::archive::MemberName;

/// What is done with a layer.
pub(super) enum Decision {
    /// It is there: what it is, if that cannot be seen from its bytes in the archive.
    There {
        fate: Fate,
        layer: Option<LayerDigests>,
    },
    Send(Option<OpenUpload>),
}

impl Transfer<'_, '_> {
    /// What is to be done with a layer.
    pub(super) async fn decide(&mut self, arrival: &Arrival) -> Result<Decision, BuildError> {
        match arrival.travel {
            Travel::AsItIs { digest: Some(digest), .. } => {
                let there = self.destination.has_blob(&digest, arrival.size).await?;
                Ok(match there {
                    true => Decision::There { fate: Fate::Reused, layer: None },
                    false => Decision::Send(None),
                })
            }
            Travel::Compressed { diff_id: Some(diff_id) } => self.look_up(&arrival.member, diff_id).await,
            Travel::AsItIs { digest: None, .. } | Travel::Compressed { diff_id: None } => {
                Ok(Decision::Send(None))
            }
        }
    }

    /// Looks for a layer that somebody made before.
    async fn look_up(&mut self, member: &MemberName, diff_id: DiffId) -> Result<Decision, BuildError> {
        let key = LayerKey::of_tar(&self.compression.id(), &diff_id);
        let mut known = KnownLayers::find(self.earlier, &[key]).await?;
        if self.earlier.reuse().verify {
            self.known.insert(member.clone(), known);
            return Ok(Decision::Send(None));
        }
        let there = |fate, layer| Decision::There { fate, layer: Some(layer) };
        let record = known.record(&key).filter(|(record, _)| record.layer.diff_id == diff_id);
        Ok(match record {
            None => Decision::Send(None),
            Some((Record { layer, .. }, Whereabouts::Present)) => {
                let there_still = !self.lost || self.destination.has_blob(&layer.digest, layer.size).await?;
                if there_still { there(Fate::Reused, layer) } else { Decision::Send(None) }
            }
            Some((Record { layer, .. }, _)) => match known.mount(self.destination).await.remove(&key) {
                Some(Mount::Done) => there(Fate::Mounted, layer),
                Some(Mount::Open(session)) => Decision::Send(Some(session)),
                Some(Mount::Refused) | None => Decision::Send(None),
            },
        })
    }
}
