//! No manifest and no configuration, with a NUL between them, panics those who look for layers in it, and records are
//! believed if and only if a trusted key has signed them.
#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::SecretKey;
use nixlayer::oci::{Manifest, Repository};
use nixlayer::pipeline::find_in_image;
use nixlayer::record::{Trust, records_in, without_records};

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let signer = SecretKey::from_seed("fuzz-1", &[7; 32]).unwrap();
    Trust { signer: Some(Arc::new(signer)), public_keys: Vec::new() }
});

static REPOSITORY: LazyLock<Repository> = LazyLock::new(|| "registry.example/a".parse().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (manifest, configuration) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let _ = find_in_image(manifest, configuration, "a");
    let plain = without_records(manifest);
    assert_eq!(plain.as_deref().and_then(without_records), plain);
    let Ok(mut read) = Manifest::parse(manifest) else { return };
    let records = records_in(&read);
    for record in &records {
        assert_eq!(record.to_string().parse().as_ref(), Ok(record));
    }
    let unsigned = TRUST.believe(&read, &REPOSITORY);
    assert!(unsigned.is_err() || records.is_empty(), "{unsigned:?}");
    read.annotations.extend(TRUST.seal(&REPOSITORY, &records));
    let keys: BTreeSet<_> = records.iter().map(|record| record.key).collect();
    let believed = TRUST.believe(&read, &REPOSITORY).ok();
    assert_eq!(believed, (keys.len() == records.len()).then_some(records));
    assert!(Trust::default().believe(&read, &REPOSITORY).is_err());
});
