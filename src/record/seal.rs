//! Who vouches for the records of a manifest.
//!
//! What is signed is a text: a first line that says what it is, the repository with its registry, and the
//! records in the order of their keys. So a signature holds for no other repository than the one it was made
//! for, for no other set of records, and for nothing that another program signs with the same key.
//!
//! ```text
//! nixlayer layer records 1
//! registry.example.com/group/project
//! KEY DIFF-ID DIGEST SIZE UNCOMPRESSED-SIZE
//! …
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use super::{Record, records_in};
use crate::nix::{PublicKey, SecretKey, Signature};
use crate::oci::{Manifest, Repository};

/// The manifest's annotation that holds the signature.
pub(super) const SIGNATURE: &str = "dev.nixlayer.records.signature";

/// Whose records are believed, and who signs ours.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Signs what this host pushes; its own signatures are believed.
    pub signer: Option<Arc<SecretKey>>,
    /// Believed beside it.
    pub public_keys: Vec<PublicKey>,
}

/// Why the records of a manifest are not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Nobody signed them.
    #[error("they are not signed; hosts that are to believe each other need keys (`nixlayer keygen`)")]
    Unsigned,
    /// What stands for a signature is none.
    #[error("their signature is none")]
    NoSignature,
    /// A key signed them that nobody named.
    #[error("their key `{0}` is not trusted here")]
    Stranger(String),
    /// The signature is not that of these records in this repository.
    #[error("they are not what `{0}` has signed for this repository")]
    Altered(String),
}

impl Trust {
    /// The annotation that lets others believe `records` in `repository`; none without a key.
    pub fn seal(&self, repository: &Repository, records: &[Record]) -> Option<(String, String)> {
        let signature = self.signer.as_ref()?.sign(message(repository, records).as_bytes());
        Some((SIGNATURE.to_owned(), signature.to_string()))
    }

    /// The records in a manifest that came from `repository`, if they are to be believed.
    pub fn believe(&self, manifest: &Manifest, repository: &Repository) -> Result<Vec<Record>, Distrust> {
        let text = manifest.annotations.get(SIGNATURE).ok_or(Distrust::Unsigned)?;
        let signature: Signature = text.parse().map_err(|_| Distrust::NoSignature)?;
        let own = self.signer.iter().map(|signer| signer.public_key());
        let mut named =
            own.chain(&self.public_keys).filter(|key| key.name() == signature.key_name()).peekable();
        let name = || signature.key_name().chars().take(80).collect();
        if named.peek().is_none() {
            return Err(Distrust::Stranger(name()));
        }
        let records = records_in(manifest);
        // Of two for one key, the signature could be of either.
        let unique: BTreeSet<_> = records.iter().map(|record| record.key).collect();
        let message = message(repository, &records);
        if unique.len() == records.len() && named.any(|key| key.verifies(message.as_bytes(), &signature)) {
            Ok(records)
        } else {
            Err(Distrust::Altered(name()))
        }
    }
}

fn message(repository: &Repository, records: &[Record]) -> String {
    let mut message = format!("nixlayer layer records 1\n{repository}\n");
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.key);
    for record in sorted {
        // A string takes every text.
        let _ = writeln!(message, "{record}");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::annotations::tests::{manifest, record_of};

    fn trust(name: &str) -> Trust {
        Trust {
            signer: Some(Arc::new(SecretKey::from_seed(name, &[7; 32]).unwrap())),
            public_keys: Vec::new(),
        }
    }

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    /// What a host that has `trust` would push.
    fn signed(trust: &Trust, repository: &Repository, records: &[Record]) -> Manifest {
        let (name, value) = trust.seal(repository, records).unwrap();
        Manifest::parse(&manifest(records, &[(&name, &value)])).unwrap()
    }

    #[test]
    fn records_are_believed_under_the_key_of_the_host_or_one_that_the_admin_named() {
        let (records, app) = ([record_of("a"), record_of("b")], repository("r.example/app"));
        let signer = trust("k");
        let manifest = signed(&signer, &app, &records);
        let reader =
            Trust { signer: None, public_keys: vec![signer.signer.as_ref().unwrap().public_key().clone()] };

        assert_eq!(signer.believe(&manifest, &app), Ok(records.to_vec()));
        assert_eq!(reader.believe(&manifest, &app), Ok(records.to_vec()));
        assert_eq!(reader.seal(&app, &records), None);
    }

    #[test]
    fn whatever_was_not_signed_just_so_is_not_believed() {
        let (records, app) = ([record_of("a"), record_of("b")], repository("r.example/app"));
        let signer = trust("k");
        let good = signed(&signer, &app, &records);
        let altered = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = good.clone();
            change(&mut manifest);
            signer.believe(&manifest, &app)
        };
        let note = |name: &str, value: &str| {
            altered(&|manifest| {
                manifest.layers[1].annotations.insert(name.to_owned(), value.to_owned());
            })
        };
        let not_so = Err(Distrust::Altered("k".to_owned()));

        assert_eq!(altered(&|manifest| manifest.layers[0].digest = manifest.layers[1].digest), not_so);
        assert_eq!(altered(&|manifest| manifest.layers[0].size += 1), not_so);
        assert_eq!(altered(&|manifest| drop(manifest.layers.remove(0))), not_so);
        assert_eq!(note("dev.nixlayer.layer.key", &record_of("c").key.to_string()), not_so);
        assert_eq!(note("dev.nixlayer.layer.diff-id", &record_of("c").layer.diff_id.to_string()), not_so);
        assert_eq!(note("dev.nixlayer.layer.uncompressed-size", "10241"), not_so);
        assert_eq!(altered(&|manifest| manifest.annotations.clear()), Err(Distrust::Unsigned));
        let replaced = |text: &str| {
            altered(&|manifest| drop(manifest.annotations.insert(SIGNATURE.to_owned(), text.to_owned())))
        };
        assert_eq!(replaced("k"), Err(Distrust::NoSignature));
        assert_eq!(replaced(&format!("k:{}==", "A".repeat(86))), not_so);
        for other in ["r.example/app/base", "other.example/app", "r.example:443/app"] {
            assert_eq!(signer.believe(&good, &repository(other)), not_so, "{other}");
        }
        let stranger = Err(Distrust::Stranger("k".to_owned()));
        assert_eq!(trust("other").believe(&good, &app), stranger);
        assert_eq!(Trust::default().believe(&good, &app), stranger);
        // Somebody else's key of the same name.
        let other = SecretKey::from_seed("k", &[8; 32]).unwrap().public_key().clone();
        assert_eq!(Trust { signer: None, public_keys: vec![other] }.believe(&good, &app), not_so);
    }

    /// Under the signature of one record, a second one for the same key would bring another blob.
    #[test]
    fn a_key_with_two_records_is_not_believed() {
        let (a, b, app) = (record_of("a"), record_of("b"), repository("r.example/app"));
        let signer = trust("k");
        let (name, value) = signer.seal(&app, &[a]).unwrap();
        let evil = Record { key: a.key, ..b };
        for records in [[evil, a], [a, evil], [a, a]] {
            let manifest = Manifest::parse(&manifest(&records, &[(&name, &value)])).unwrap();
            assert_eq!(signer.believe(&manifest, &app), Err(Distrust::Altered("k".to_owned())));
            // Not even if all of it was signed.
            let all = signed(&signer, &app, &records);
            assert!(signer.believe(&all, &app).is_err());
        }
    }

    #[test]
    fn the_order_of_layers_is_not_signed() {
        let (records, app) = ([record_of("a"), record_of("b")], repository("r.example/app"));
        let signer = trust("k");

        assert_eq!(signer.seal(&app, &records), signer.seal(&app, &[records[1], records[0]]));
    }
}
