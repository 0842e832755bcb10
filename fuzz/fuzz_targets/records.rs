//! No manifest and no configuration panics those who look for layers in it, and no records are believed that nobody
//! has signed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::oci::Manifest;
use nixlayer::pipeline::find_in_image;
use nixlayer::record::{Trust, records_in, without_records};

fuzz_target!(|bytes: (&[u8], &[u8])| {
    let (manifest, configuration) = bytes;
    let _ = find_in_image(manifest, configuration, "a");
    let plain = without_records(manifest);
    assert_eq!(plain.as_deref().and_then(without_records), plain);
    if let Ok(read) = Manifest::parse(manifest) {
        let believed = Trust::default().believe(&read, &"registry.example/a".parse().unwrap());
        assert!(believed.is_err());
        for record in records_in(&read) {
            assert_eq!(record.to_string().parse(), Ok(record));
        }
    }
});
