//! Readers of an archive that is compressed as a whole, which rest where a layer has ended.
//!
//! To read one layer of such an archive takes decompressing all before it. Whoever reads several, in the order in which
//! they are there, goes on where another has stopped, so that the archive is decompressed once per reader at work, and
//! not once for each layer.

use std::sync::{Mutex, PoisonError};

use super::Members;

/// So many may rest: each keeps the window of its decoder, which can have 128 MiB.
const MOST: usize = 8;

/// Readers that nobody uses.
#[derive(Default)]
pub(super) struct Resting(Mutex<Vec<Rest>>);

struct Rest {
    members: Members,
    /// How many layers it has passed.
    passed: usize,
}

impl Resting {
    /// The reader that is nearest to the layer behind `before` others, and not beyond.
    pub(super) fn take(&self, before: usize) -> Option<Members> {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let candidates = readers.iter().enumerate().filter(|(_, reader)| reader.passed <= before);
        let (nearest, _) = candidates.max_by_key(|(_, reader)| reader.passed)?;
        Some(readers.remove(nearest).members)
    }

    /// Lets a reader rest that has passed so many of all layers. Of too many, the one that has passed the most is let go:
    /// it is of use to the fewest layers, as one that has passed all is to none.
    pub(super) fn put(&self, members: Members, passed: usize, of: usize) {
        if passed == of {
            return;
        }
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.push(Rest { members, passed });
        readers.sort_by_key(|reader| reader.passed);
        readers.truncate(MOST);
    }
}
