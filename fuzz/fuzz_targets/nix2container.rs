//! No bytes panic the reader of nix2container's images, and what it takes for one stays in the store.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use nixlayer::source::nix2container::Image;

fuzz_target!(|bytes: &[u8]| {
    match Image::parse("image.json", bytes) {
        Ok(image) => {
            for layer in &image.layers {
                assert!(layer.store_paths().all(|path| path.to_path_buf().starts_with("/nix/store")), "{layer:?}");
                // No path of the layer is on such a host.
                assert!(layer.write(Path::new("/dev/null"), std::io::sink()).is_err(), "{layer:?}");
            }
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
});
