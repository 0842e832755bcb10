//! No bytes panic the reader of image archives, and a layer that passes by is what it is said to be.
#![no_main]

use std::collections::BTreeMap;
use std::io::{self, Cursor};

use libfuzzer_sys::fuzz_target;
use nixlayer::source::archive::{ArchiveSource, Form, Select};

fuzz_target!(|bytes: &[u8]| {
    for form in [Form::Any, Form::Layout] {
        let source = ArchiveSource::stream("fuzz", form, Box::new(Cursor::new(bytes.to_vec())));
        let mut passed = BTreeMap::new();
        let contents = source.pass(&mut |layer| {
            let found = layer.copy_blob(&mut io::sink())?;
            passed.insert(layer.member().clone(), found);
            Ok(())
        });
        let Ok(contents) = contents else { continue };
        let _ = contents.names();
        for at in 0..3 {
            let Ok(image) = contents.image(&Select::At(at)) else { break };
            if image.check(&passed).is_ok() {
                assert!(image.layers.iter().all(|layer| passed[&layer.member].diff_id == layer.diff_id));
            }
        }
    }
});
