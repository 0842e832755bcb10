//! No bytes panic the reader of narinfo files, and what it takes for one keeps the parser's promises.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::NarInfo;

fuzz_target!(|bytes: &[u8]| {
    match NarInfo::parse(bytes) {
        Ok(narinfo) => {
            assert!(narinfo.info.nar_size > 0 && !narinfo.url.is_empty(), "{narinfo:?}");
            assert!(narinfo.fingerprint().starts_with("1;/nix/store/"), "{narinfo:?}");
            assert!(!narinfo.is_signed_by(&[]), "{narinfo:?}");
        }
        Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
    }
});
