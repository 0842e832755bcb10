//! No bytes panic the reader of `nix-cache-info`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::CacheInfo;

fuzz_target!(|bytes: &[u8]| {
    let _ = CacheInfo::parse(bytes);
});
