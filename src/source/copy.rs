//! Copies what may have been compressed, up to a limit: a few bytes can become very many.

use std::io::{self, Read, Write};

/// Far beyond any image.
pub(super) const MOST_BYTES: u64 = 1 << 40;

/// How much is passed on at a time.
pub(super) const PIECE: usize = 128 << 10;

/// How many bytes may still come, of all that is copied with it together.
pub(super) struct Room {
    most: u64,
    left: u64,
}

/// Why a copy has not come to its end.
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
    /// There is more than this.
    TooLarge(u64),
}

impl Room {
    /// For `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { most, left: most }
    }

    /// Copies all of `source`, as far as there is room. Gives its length.
    pub(super) fn copy(
        &mut self,
        source: &mut impl Read,
        sink: &mut (impl Write + ?Sized),
    ) -> Result<u64, CopyError> {
        let (mut copied, mut buffer) = (0, vec![0; PIECE]);
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            copied += read as u64;
            let left = self.left.checked_sub(read as u64);
            self.left = left.unwrap_or_default();
            if left.is_none() {
                return Err(CopyError::TooLarge(self.most));
            }
            sink.write_all(&buffer[..read]).map_err(CopyError::Write)?;
        }
    }
}
