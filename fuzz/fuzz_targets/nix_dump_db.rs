//! No text panics the reader of `nix-store --dump-db`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::dump_db;

fuzz_target!(|text: &str| {
    let _ = dump_db::parse(text);
});
