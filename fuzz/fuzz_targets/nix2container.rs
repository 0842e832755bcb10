//! No bytes panic the reader of nix2container's images, what it takes for one stays in the store, and what is written
//! of it is a tar that stays in the image.
#![no_main]

use std::fs;
use std::path::Component;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nixlayer::source::nix2container::Image;
use tempfile::TempDir;

/// A host with the store path that the fuzzer may come to name.
static HOST: LazyLock<TempDir> = LazyLock::new(|| {
    let host = TempDir::new().unwrap();
    let app = host.path().join("nix/store/00000000000000000000000000000000-app");
    for folder in ["bin", "share"] {
        fs::create_dir_all(app.join(folder)).unwrap();
    }
    fs::write(app.join("bin/app"), "#!/bin/sh\n").unwrap();
    fs::write(app.join("share/é.txt"), "").unwrap();
    fs::write(app.join("share/layer.tar"), [0; 1024]).unwrap();
    std::os::unix::fs::symlink("bin/app", app.join("start")).unwrap();
    host
});

fuzz_target!(|bytes: &[u8]| {
    match Image::parse("image.json", bytes) {
        Ok(image) => {
            for layer in &image.layers {
                assert!(
                    layer.store_paths().all(|path| path.to_path_buf().starts_with("/nix/store")),
                    "{layer:?}"
                );
                let Ok(tar) = layer.write(HOST.path(), Vec::new()) else { continue };
                for member in tar::Archive::new(tar.as_slice()).entries().unwrap() {
                    let path = member.unwrap().path().unwrap().into_owned();
                    assert!(!path.components().any(|part| part == Component::ParentDir), "{path:?}");
                }
            }
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
});
