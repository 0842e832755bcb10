//! No bytes panic the reader of archives, and those that it takes are the only archive of their tree.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use nixlayer::nix::nar::{self, NarWriter};

fuzz_target!(|bytes: &[u8]| {
    let Ok(writer) = NarWriter::new(Vec::new()) else { return };
    let writer = RefCell::new(writer);
    if nar::read(bytes, |entry| writer.borrow_mut().append(entry)).is_ok() {
        assert_eq!(writer.into_inner().finish().ok().as_deref(), Some(bytes));
    }
});
