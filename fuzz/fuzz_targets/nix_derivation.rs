//! No bytes panic the reader of derivations.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::Derivation;

fuzz_target!(|text: &[u8]| {
    let _ = Derivation::parse(text);
});
