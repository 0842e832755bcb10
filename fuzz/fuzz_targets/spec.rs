//! No bytes panic the reader of specs, and every complaint points into the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::spec::ImageSpec;

fuzz_target!(|bytes: &[u8]| {
    if let Err(error) = ImageSpec::parse("image.yaml", bytes) {
        let lines = bytes.split(|byte| *byte == b'\n').count();
        // Unicode knows line ends besides `\n`, which YAML counts too.
        if bytes.is_ascii() && !bytes.contains(&b'\r') {
            assert!((1..=lines + 1).contains(&error.line()), "{error} in {lines} lines");
        }
        assert!(!error.reason().is_empty() && !error.fix().is_empty(), "{error:?}");
    }
});
