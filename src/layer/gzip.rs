//! Compresses a layer with several threads, into the same bytes for any number of them.
//!
//! The input is cut every 512 KiB, and each block becomes a gzip member of its own; RFC 1952 §2.2
//! makes their concatenation one gzip file. A block knows nothing of its neighbours, so it does not
//! matter who compresses it or when. The bytes do depend on level, block size and libdeflate's
//! version, which is why the manifest of this crate pins the latter.
//!
//! The header that libdeflate writes holds nothing of the machine either: no name, MTIME 0, OS 255
//! (unknown), and XFL 4 for level 1, 2 from level 8 on, else 0.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, channel};

use libdeflater::{CompressionError, CompressionLvl, Compressor};

use super::Workers;

const BLOCK: usize = 512 * 1024;

/// How hard to try: 1 is fast, 12 is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

/// The number is no [`Level`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no gzip level: the number must be from 1 to 12")]
pub struct LevelError(u8);

/// Compresses what is written to it into a sink.
pub struct GzipWriter<W> {
    sink: W,
    level: Level,
    workers: Workers,
    current: Block,
    in_flight: VecDeque<Receiver<Compressed>>,
    started: bool,
    broken: bool,
}

/// A piece of the input, and room and tools to compress it; it is used again for later pieces.
struct Block {
    compressor: Compressor,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A block with the length of what it was compressed to.
type Compressed = Result<(Block, usize), CompressionError>;

#[derive(Debug, thiserror::Error)]
enum GzipError {
    #[error("a thread stopped while it compressed")]
    Worker,
    #[error("the gzip file is incomplete since an earlier write failed")]
    Broken,
}

impl Level {
    /// 1: about twice as fast as the default, and about a tenth larger.
    pub const FAST: Self = Self(1);

    /// 6: as small as what gzip makes by default, in a fraction of its time.
    pub const DEFAULT: Self = Self(6);

    /// The level of a number from 1 to 12.
    pub fn new(level: u8) -> Result<Self, LevelError> {
        // libdeflate's level 0 is no compression, so it is none of ours.
        if (1..=12).contains(&level) { Ok(Self(level)) } else { Err(LevelError(level)) }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl<W: Write> GzipWriter<W> {
    /// Compresses on the threads of `workers`, keeping two blocks more in memory than these have.
    pub fn new(sink: W, level: Level, workers: &Workers) -> Self {
        Self {
            sink,
            level,
            workers: workers.clone(),
            current: Block::new(level),
            in_flight: VecDeque::new(),
            started: false,
            broken: false,
        }
    }

    /// Compresses the rest and gives the sink back. No input at all makes one empty member.
    pub fn finish(mut self) -> io::Result<W> {
        if self.broken {
            return Err(io::Error::other(GzipError::Broken));
        }
        if !self.current.input.is_empty() || !self.started {
            self.next_block()?;
        }
        while let Some(oldest) = self.in_flight.pop_front() {
            self.collect(oldest)?;
        }
        Ok(self.sink)
    }

    /// Hands the current block over and takes another.
    fn next_block(&mut self) -> io::Result<()> {
        let next = if self.in_flight.len() > self.workers.threads()
            && let Some(oldest) = self.in_flight.pop_front()
        {
            self.collect(oldest)?
        } else {
            Block::new(self.level)
        };
        let block = mem::replace(&mut self.current, next);
        let (result, receiver) = channel();
        // Nobody waits for the result of a writer that was dropped.
        self.workers.submit(move || drop(result.send(block.compress())));
        self.in_flight.push_back(receiver);
        self.started = true;
        Ok(())
    }

    /// Waits for a block, writes it, and gives it back empty.
    fn collect(&mut self, result: Receiver<Compressed>) -> io::Result<Block> {
        let compressed = result.recv().map_err(|_| io::Error::other(GzipError::Worker))?;
        let (mut block, length) = compressed.map_err(io::Error::other)?;
        self.sink.write_all(&block.output[..length])?;
        block.input.clear();
        Ok(block)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other(GzipError::Broken));
        }
        let taken = bytes.len().min(BLOCK - self.current.input.len());
        self.current.input.extend_from_slice(&bytes[..taken]);
        if self.current.input.len() == BLOCK {
            let handed_over = self.next_block();
            self.broken = handed_over.is_err();
            handed_over?;
        }
        Ok(taken)
    }

    /// Flushes the sink only: to end a block early would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Block {
    fn new(level: Level) -> Self {
        // Every `Level` is one of libdeflate's, so there is nothing to fall back from.
        let mut compressor = Compressor::new(CompressionLvl::new(level.0.into()).unwrap_or_default());
        let output = vec![0; compressor.gzip_compress_bound(BLOCK)];
        Self { compressor, input: Vec::new(), output }
    }

    fn compress(mut self) -> Compressed {
        let length = self.compressor.gzip_compress(&self.input, &mut self.output)?;
        Ok((self, length))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;

    /// Bytes that compress somewhat, and differ from block to block.
    fn input(length: usize) -> Vec<u8> {
        (0..length as u64).map(|place| ((place * place) >> 11) as u8 & 0x3f).collect()
    }

    fn compress(input: &[u8], level: Level, threads: usize) -> Vec<u8> {
        let mut gzip = GzipWriter::new(Vec::new(), level, &Workers::new(threads));
        gzip.write_all(input).unwrap();
        gzip.finish().unwrap()
    }

    fn decompress(bytes: &[u8]) -> Vec<u8> {
        let mut decoded = Vec::new();
        MultiGzDecoder::new(bytes).read_to_end(&mut decoded).unwrap();
        decoded
    }

    /// Takes `left` bytes, then fails.
    struct Full {
        left: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match bytes.len().min(self.left) {
                0 => Err(io::ErrorKind::StorageFull.into()),
                taken => {
                    self.left -= taken;
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        let input = input(9 * BLOCK + 12345);

        let alone = compress(&input, Level::DEFAULT, 0);

        assert!(alone.len() < input.len());
        for threads in [1, 2, 5] {
            assert!(compress(&input, Level::DEFAULT, threads) == alone, "differs with {threads} threads");
        }
    }

    #[test]
    fn writers_that_share_workers_do_not_mix() {
        let workers = Workers::new(2);
        let inputs = [input(3 * BLOCK), vec![7; 4 * BLOCK + 1], input(100)];
        let expected: Vec<_> = inputs.iter().map(|input| compress(input, Level::FAST, 0)).collect();

        let outputs: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = inputs
                .iter()
                .map(|input| {
                    let mut gzip = GzipWriter::new(Vec::new(), Level::FAST, &workers);
                    scope.spawn(move || {
                        gzip.write_all(input).unwrap();
                        gzip.finish().unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(outputs == expected);
    }

    /// RFC 1952 §2.3: magic, method 8, no flags, no time, the level's XFL, unknown OS.
    #[test]
    fn a_header_holds_nothing_of_the_machine() {
        for (level, xfl) in [(1, 4), (6, 0), (12, 2)] {
            let bytes = compress(b"x", Level::new(level).unwrap(), 1);
            assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, xfl, 255], "level {level}");
        }
    }

    #[test]
    fn no_input_makes_one_empty_member() {
        let bytes = compress(b"", Level::DEFAULT, 2);

        assert_eq!(decompress(&bytes), b"");
        assert_eq!(bytes.windows(3).filter(|bytes| bytes == b"\x1f\x8b\x08").count(), 1);
    }

    #[test]
    fn whole_blocks_get_no_empty_member_behind_them() {
        let bytes = compress(&vec![0; 2 * BLOCK], Level::DEFAULT, 2);

        assert_eq!(bytes.windows(3).filter(|bytes| bytes == b"\x1f\x8b\x08").count(), 2);
    }

    #[test]
    fn a_failing_sink_fails_the_writer_for_good() {
        for threads in [0, 1, 2] {
            let workers = Workers::new(threads);
            let mut gzip = GzipWriter::new(Full { left: 5 }, Level::FAST, &workers);

            let error = gzip.write_all(&input(20 * BLOCK)).unwrap_err();

            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(gzip.write_all(b"more").is_err());
            assert!(gzip.finish().is_err());
        }
    }

    #[test]
    fn a_sink_that_fails_at_the_end_fails_the_writer() {
        let mut gzip = GzipWriter::new(Full { left: 5 }, Level::FAST, &Workers::new(1));
        gzip.write_all(b"short").unwrap();

        assert_eq!(gzip.finish().err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }

    #[test]
    fn a_dropped_writer_leaves_the_workers_to_others() {
        let workers = Workers::new(1);
        let mut dropped = GzipWriter::new(Vec::new(), Level::FAST, &workers);
        dropped.write_all(&input(4 * BLOCK)).unwrap();
        drop(dropped);

        let mut gzip = GzipWriter::new(Vec::new(), Level::FAST, &workers);
        gzip.write_all(b"still here").unwrap();

        assert_eq!(decompress(&gzip.finish().unwrap()), b"still here");
    }

    #[test]
    fn a_block_that_got_lost_fails_the_writer() {
        let mut gzip = GzipWriter::new(Vec::new(), Level::FAST, &Workers::new(1));
        let (panicked, receiver) = channel();
        drop(panicked);
        gzip.in_flight.push_back(receiver);

        assert!(gzip.finish().is_err());
    }

    #[test]
    fn a_level_outside_the_range_is_refused() {
        assert_eq!(Level::new(0), Err(LevelError(0)));
        assert_eq!(Level::new(13), Err(LevelError(13)));
        assert_eq!(Level::new(6), Ok(Level::DEFAULT));
        assert_eq!(Level::new(1), Ok(Level::FAST));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However it is cut into writes, the output decodes to the input.
        #[test]
        fn decompressing_undoes_compressing(
            blocks in 0..4usize, around in -3..=3isize, chunk in 1..=(BLOCK + BLOCK / 2), threads in 0..4usize,
        ) {
            let input = input((blocks * BLOCK).saturating_add_signed(around));
            let mut gzip = GzipWriter::new(Vec::new(), Level::FAST, &Workers::new(threads));

            for piece in input.chunks(chunk) {
                gzip.write_all(piece).unwrap();
            }
            let bytes = gzip.finish().unwrap();

            prop_assert!(decompress(&bytes) == input);
            prop_assert!(bytes == compress(&input, Level::FAST, 0));
        }
    }
}
