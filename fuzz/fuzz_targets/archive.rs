//! No bytes panic the reader of image archives, what it says of them is short, and a layer that passes by is what it
//! is said to be.
#![no_main]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::Compression;
use nixlayer::oci::Digest;
use nixlayer::source::archive::{ArchiveError, ArchiveSource, Form, Select};

/// Longer than any error is: twenty names of 80 characters, each of them escaped.
const MOST_CHARACTERS: usize = 15_000;

fuzz_target!(|bytes: &[u8]| {
    for form in [Form::Any, Form::Layout] {
        let source = ArchiveSource::stream("fuzz", form, Box::new(Cursor::new(bytes.to_vec())));
        let (mut passed, mut copied) = (BTreeMap::new(), BTreeMap::new());
        let contents = source.pass(&mut |layer| {
            let mut copy = Vec::new();
            let found = layer.copy_blob(&mut copy)?;
            passed.insert(layer.member().clone(), found);
            copied.insert(layer.member().clone(), (layer.compression(), copy));
            Ok(())
        });
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) => {
                check(error);
                continue;
            }
        };
        let _ = contents.names().map_err(check);
        for at in 0..3 {
            let Ok(image) = contents.image(&Select::At(at)).map_err(check) else { break };
            if let Err(fault) = image.check(&passed) {
                check(source.error(fault));
                continue;
            }
            for layer in &image.layers {
                let (compression, copy) = &copied[&layer.member];
                let digest = Digest::of(copy);
                if let Some(blob) = &layer.blob {
                    assert_eq!((blob.digest, blob.size), (digest, copy.len() as u64));
                }
                if *compression == Compression::None {
                    assert_eq!(layer.diff_id.to_string(), digest.to_string());
                }
            }
        }
    }
});

/// An error and its causes have no room for what somebody else wrote.
fn check(error: ArchiveError) {
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        assert!(error.to_string().chars().count() < MOST_CHARACTERS);
        cause = error.source();
    }
}
