//! The job's log, as far as it is ours: GitLab sections, lines, and foreign text made harmless.

use std::io::Write;
use std::sync::Mutex;

use crate::job::log::{Fold, sanitise, section_end, section_start};

/// Where lines for the job's author go.
pub struct Log {
    out: Mutex<Box<dyn Write + Send>>,
    clock: fn() -> u64,
}

/// A part of the log that folds; it ends when this is dropped.
pub struct Section<'a> {
    log: &'a Log,
    name: &'static str,
}

impl Log {
    /// A log that is written to `out`; `clock` tells the seconds since 1970 that sections carry.
    pub fn new(out: Box<dyn Write + Send>, clock: fn() -> u64) -> Self {
        Self { out: Mutex::new(out), clock }
    }

    /// One line, or several.
    pub fn line(&self, text: impl AsRef<str>) {
        self.write(&format!("{}\n", sanitise(text.as_ref())));
    }

    /// Begins a section that is shown unfolded.
    pub fn section(&self, name: &'static str, title: &str) -> Section<'_> {
        self.write(&section_start(name, title, (self.clock)(), Fold::Open));
        Section { log: self, name }
    }

    fn write(&self, text: &str) {
        if let Ok(mut out) = self.out.lock() {
            // A runner that is gone reads no log, and the job goes on to its end all the same.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.log.write(&section_end(self.name, (self.log.clock)()));
    }
}
