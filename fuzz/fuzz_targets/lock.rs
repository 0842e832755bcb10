//! No bytes panic the reader of lock files, and what it reads is what it would write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nixlayer::lock::Lock;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(lock) = Lock::parse("image.lock.json", bytes) {
        let written = Lock::parse("image.lock.json", lock.to_json().as_bytes());
        assert_eq!(written.ok(), Some(lock));
    }
});
