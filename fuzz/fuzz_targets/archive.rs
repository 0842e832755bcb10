//! No archive panics its reader, what that says of one is short, and the layers of an image are what they are said to
//! be, whichever way they are read.
#![no_main]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{Cursor, Seek, Write};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::Compression;
use nixlayer::oci::Hasher;
use nixlayer::source::archive::{ArchiveError, ArchiveFault, ArchiveSource, Form, Listed, Select};

/// Longer than any error is: twenty names of 80 characters, each of them escaped.
const MOST_CHARACTERS: usize = 15_000;

static FILE: LazyLock<File> = LazyLock::new(|| tempfile::tempfile().unwrap());

fuzz_target!(|bytes: &[u8]| {
    let bytes = nixlayer_fuzz::archive(bytes);
    let mut file = FILE.try_clone().unwrap();
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&bytes)).unwrap();
    for form in [Form::Any, Form::Layout] {
        let stream = ArchiveSource::stream("fuzz", form, Box::new(Cursor::new(bytes.clone())));
        let file = ArchiveSource::file("fuzz", form, file.try_clone().unwrap()).unwrap();
        let _ = read(&stream, &file).map_err(check);
    }
});

fn read(stream: &ArchiveSource, file: &ArchiveSource) -> Result<(), ArchiveError> {
    let (mut passed, mut written) = (BTreeMap::new(), BTreeMap::new());
    let contents = stream.pass(&mut |layer| {
        let mut hasher = Hasher::default();
        let found = layer.copy_blob(&mut hasher)?;
        written.insert(layer.member().clone(), (layer.compression(), hasher.digest()));
        match passed.insert(layer.member().clone(), found) {
            Some(before) if before != found => Err(ArchiveFault::Duplicate(layer.member().clone())),
            _ => Ok(()),
        }
    })?;
    for at in contents.list()?.iter().take(3).map(Listed::place) {
        let image = match contents.image(&Select::At(at)) {
            Ok(image) => image,
            Err(error) => {
                check(error);
                continue;
            }
        };
        if let Err(fault) = image.check(&passed) {
            check(stream.error(fault));
            continue;
        }
        assert_eq!(file.image(&Select::At(at)).unwrap(), image);
        for layer in &image.layers {
            let (compression, digest) = written[&layer.member];
            if let Some(blob) = &layer.blob {
                assert_eq!((blob.digest, blob.size), (digest, layer.size));
            }
            let mut tar = Hasher::default();
            let size = file.copy_layer(layer, &mut tar).unwrap();
            assert_eq!((tar.diff_id(), size), (layer.diff_id, passed[&layer.member].tar_size));
            if compression == Compression::None {
                assert_eq!(layer.diff_id.to_string(), digest.to_string());
            }
        }
    }
    Ok(())
}

/// An error and its causes have no room for what somebody else wrote.
fn check(error: ArchiveError) {
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        assert!(error.to_string().chars().count() < MOST_CHARACTERS);
        cause = error.source();
    }
}
