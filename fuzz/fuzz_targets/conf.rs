//! No bytes panic the reader of `conf.json`, and what it takes for one stays in the store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::source::docker_tools::LayeredImage;

fuzz_target!(|bytes: &[u8]| {
    match LayeredImage::parse(bytes, None) {
        Ok(image) => {
            let base = image.from_image.iter();
            assert!(base.clone().all(|path| path.starts_with("/nix/store")), "{image:?}");
            assert!(
                base.flat_map(|path| path.components()).all(|part| part.as_os_str() != ".."),
                "{image:?}"
            );
            let created = image.created.to_text("1970-01-01T00:00:00Z".parse().unwrap());
            assert!(created.ends_with("+00:00"), "{image:?}");
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
});
