//! Compresses a layer with several threads, into the same bytes for any number of them.
//!
//! The input is cut into blocks of one size, and each becomes a whole file of its format, whose
//! concatenation is one again. A block knows nothing of its neighbours, so it does not matter who
//! compresses it or when. The bytes do depend on [`Compression::id`].

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::mpsc::{Receiver, channel};

use super::workers::Room;
use super::{Compression, Workers};

/// Compresses one block after the other. What becomes of one depends on nothing that came before it.
pub(super) trait Encoder: Send {
    /// The most bytes that `length` bytes become.
    fn bound(&mut self, length: usize) -> usize;

    /// Compresses `block` into the front of `output`, and gives the length of what it became.
    fn encode(&mut self, block: &[u8], output: &mut [u8]) -> io::Result<usize>;
}

/// Compresses what is written to it into a sink.
pub struct BlockWriter<W> {
    sink: W,
    compression: Compression,
    workers: Workers,
    current: Block,
    /// The oldest first; all but one have room of their own.
    in_flight: VecDeque<(Receiver<Compressed>, Option<Room>)>,
    started: bool,
    broken: bool,
}

/// A piece of the input, and room for what it becomes; it is used again for later pieces.
struct Block {
    compression: Compression,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A block with the length of what it was compressed to.
type Compressed = io::Result<(Block, usize)>;

#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error("a thread stopped while it compressed")]
    Worker,
    #[error("the compressed file is incomplete since an earlier write failed")]
    Broken,
}

impl<W: Write> BlockWriter<W> {
    /// Compresses on the threads of `workers`, keeping two blocks in memory, and more as far as these have room.
    pub fn new(sink: W, compression: Compression, workers: &Workers) -> Self {
        Self {
            sink,
            compression,
            workers: workers.clone(),
            current: Block::new(compression),
            in_flight: VecDeque::new(),
            started: false,
            broken: false,
        }
    }

    /// Compresses the rest and gives the sink back. No input at all makes one empty block.
    pub fn finish(mut self) -> io::Result<W> {
        if self.broken {
            return Err(io::Error::other(BlockError::Broken));
        }
        if !self.current.input.is_empty() || !self.started {
            self.next_block()?;
        }
        while let Some((oldest, _room)) = self.in_flight.pop_front() {
            self.collect(oldest)?;
        }
        Ok(self.sink)
    }

    /// Hands the current block over and takes another.
    fn next_block(&mut self) -> io::Result<()> {
        let mut room = self.workers.try_room().filter(|_| !self.in_flight.is_empty());
        let oldest = if room.is_none() { self.in_flight.pop_front() } else { None };
        let next = match oldest {
            Some((oldest, freed)) => {
                room = freed;
                self.collect(oldest)?
            }
            None => Block::new(self.compression),
        };
        let block = mem::replace(&mut self.current, next);
        let (result, receiver) = channel();
        // Nobody waits for the result of a writer that was dropped.
        self.workers.submit(move || drop(result.send(block.compress())));
        self.in_flight.push_back((receiver, room));
        self.started = true;
        Ok(())
    }

    /// Waits for a block, writes it, and gives it back empty.
    fn collect(&mut self, result: Receiver<Compressed>) -> io::Result<Block> {
        let compressed = result.recv().map_err(|_| io::Error::other(BlockError::Worker))?;
        let (mut block, length) = compressed?;
        self.sink.write_all(&block.output[..length])?;
        block.input.clear();
        Ok(block)
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::Error::other(BlockError::Broken));
        }
        let room = self.compression.block_size() - self.current.input.len();
        let taken = bytes.len().min(room);
        self.current.input.extend_from_slice(&bytes[..taken]);
        if taken == room {
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
    fn new(compression: Compression) -> Self {
        Self { compression, input: Vec::new(), output: Vec::new() }
    }

    fn compress(mut self) -> Compressed {
        let mut encoder = self.compression.idle_encoder();
        if self.output.is_empty() {
            // Zeroed by the system, so what is never written to takes no memory.
            self.output = vec![0; encoder.bound(self.compression.block_size())];
        }
        let length = encoder.encode(&self.input, &mut self.output)?;
        IDLE.set(Some((self.compression, encoder)));
        Ok((self, length))
    }
}

thread_local! {
    /// The encoder that this thread used last: the tables of some are larger than a block.
    static IDLE: Cell<Option<(Compression, Box<dyn Encoder>)>> = const { Cell::new(None) };
}

impl Compression {
    fn idle_encoder(self) -> Box<dyn Encoder> {
        match IDLE.take() {
            Some((compression, encoder)) if compression == self => encoder,
            _ => self.encoder(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;
    use proptest::prelude::*;

    use super::*;
    use crate::layer::{GzipLevel, ZstdLevel};
    use crate::oci::Digest;

    const GZIP: Compression = Compression::Gzip(GzipLevel::FAST);
    const ZSTD: Compression = Compression::Zstd(ZstdLevel::DEFAULT);
    const BOTH: [Compression; 2] = [GZIP, ZSTD];

    /// Bytes that compress somewhat, and differ from block to block.
    fn input(length: usize) -> Vec<u8> {
        (0..length as u64).map(|place| ((place * place) >> 11) as u8 & 0x3f).collect()
    }

    fn compress(input: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
        let mut blocks = BlockWriter::new(Vec::new(), compression, &Workers::new(threads));
        blocks.write_all(input).unwrap();
        blocks.finish().unwrap()
    }

    fn decompress(bytes: &[u8], compression: Compression) -> Vec<u8> {
        let mut decoded = Vec::new();
        match compression {
            Compression::Gzip(_) => MultiGzDecoder::new(bytes).read_to_end(&mut decoded).unwrap(),
            Compression::Zstd(_) => {
                ::zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut decoded).unwrap()
            }
        };
        decoded
    }

    /// How many members or frames there are, by the first bytes of each.
    fn count(bytes: &[u8], compression: Compression) -> usize {
        let magic: &[u8] = match compression {
            Compression::Gzip(_) => b"\x1f\x8b\x08",
            Compression::Zstd(_) => b"\x28\xb5\x2f\xfd",
        };
        bytes.windows(magic.len()).filter(|bytes| *bytes == magic).count()
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
        for compression in [Compression::default(), ZSTD] {
            let input = input(9 * compression.block_size() + 12345);

            let alone = compress(&input, compression, 0);

            assert!(alone.len() < input.len());
            for threads in [1, 2, 5] {
                let shared = compress(&input, compression, threads);
                assert!(shared == alone, "{compression:?} differs with {threads} threads");
            }
        }
    }

    /// Made with libdeflate 1.26.1 and libzstd 1.5.7. Where one of these changes, so does every layer: registries
    /// get all of them again.
    #[test]
    fn the_bytes_are_those_of_earlier_releases() {
        let gzip = |level| Compression::Gzip(GzipLevel::new(level).unwrap());
        let zstd = |level| Compression::Zstd(ZstdLevel::new(level).unwrap());
        for (compression, digest) in [
            (gzip(1), "a78c94fa2f18a53d9809914d000deab5786e673323b6e24b40109f965a260d5f"),
            (gzip(6), "ea93d32ac607ac84527f41be6e84633d8af8c79faa2b12158274519808160270"),
            (gzip(12), "4bca995ca7f71ec3f3c470e61de676496b4fc3e149bbdd5fcaa213d4e31fba2b"),
            (zstd(1), "5f33a1fff92e91b70a29b2284e304366ecaec9848a79f87e43aaec4b36b918cc"),
            (zstd(3), "cec5acf1e2e80b74a6a83a3465f8e59549e57aeb97eb741db693325d93561383"),
            (zstd(19), "278015a16ceae9b63a971070e8cfd1cf4ae8417baf8d56ea81ba79fc979da732"),
        ] {
            let bytes = compress(&input(compression.block_size() + 100_000), compression, 1);

            assert_eq!(Digest::of(&bytes).to_string(), format!("sha256:{digest}"), "{compression:?}");
        }
    }

    #[test]
    fn writers_that_share_workers_do_not_mix() {
        let workers = Workers::new(2);
        let works = [
            (input(3 << 20), GZIP),
            (vec![7; (4 << 20) + 1], ZSTD),
            (input(100), GZIP),
            (input(7 << 20), ZSTD),
        ];
        let expected: Vec<_> =
            works.iter().map(|(input, compression)| compress(input, *compression, 0)).collect();

        let outputs: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = works
                .iter()
                .map(|(input, compression)| {
                    let mut blocks = BlockWriter::new(Vec::new(), *compression, &workers);
                    scope.spawn(move || {
                        blocks.write_all(input).unwrap();
                        blocks.finish().unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(outputs == expected);
    }

    #[test]
    fn no_input_makes_one_empty_block() {
        for compression in BOTH {
            let bytes = compress(b"", compression, 2);

            assert_eq!(decompress(&bytes, compression), b"");
            assert_eq!(count(&bytes, compression), 1, "{compression:?}");
        }
    }

    #[test]
    fn whole_blocks_get_no_empty_one_behind_them() {
        for compression in BOTH {
            let bytes = compress(&vec![0; 2 * compression.block_size()], compression, 2);

            assert_eq!(count(&bytes, compression), 2, "{compression:?}");
        }
    }

    #[test]
    fn a_failing_sink_fails_the_writer_for_good() {
        for (compression, threads) in
            BOTH.into_iter().flat_map(|both| [0, 1, 2].map(|threads| (both, threads)))
        {
            let mut blocks = BlockWriter::new(Full { left: 5 }, compression, &Workers::new(threads));

            let error = blocks.write_all(&input(8 * compression.block_size())).unwrap_err();

            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(blocks.write_all(b"more").is_err());
            assert!(blocks.finish().is_err());
        }
    }

    #[test]
    fn a_sink_that_fails_at_the_end_fails_the_writer() {
        for compression in BOTH {
            let mut blocks = BlockWriter::new(Full { left: 5 }, compression, &Workers::new(1));
            blocks.write_all(b"short").unwrap();

            assert_eq!(blocks.finish().err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
        }
    }

    #[test]
    fn a_dropped_writer_leaves_the_workers_to_others() {
        let workers = Workers::new(1);
        let mut dropped = BlockWriter::new(Vec::new(), GZIP, &workers);
        dropped.write_all(&input(4 * GZIP.block_size())).unwrap();
        drop(dropped);

        let mut blocks = BlockWriter::new(Vec::new(), GZIP, &workers);
        blocks.write_all(b"still here").unwrap();

        assert_eq!(decompress(&blocks.finish().unwrap(), GZIP), b"still here");
    }

    #[test]
    fn a_block_that_got_lost_fails_the_writer() {
        let mut blocks = BlockWriter::new(Vec::new(), GZIP, &Workers::new(1));
        let (panicked, receiver) = channel();
        drop(panicked);
        blocks.in_flight.push_back((receiver, None));

        assert!(blocks.finish().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// However it is cut into writes, the output decodes to the input.
        #[test]
        fn decompressing_undoes_compressing(
            compression in prop::sample::select(&BOTH[..]),
            blocks in 0..4usize, around in -3..=3isize, chunk in 0.0..1.5f64, threads in 0..4usize,
        ) {
            let block = compression.block_size();
            let input = input((blocks * block).saturating_add_signed(around));
            let mut writer = BlockWriter::new(Vec::new(), compression, &Workers::new(threads));

            for piece in input.chunks((block as f64 * chunk) as usize + 1) {
                writer.write_all(piece).unwrap();
            }
            let bytes = writer.finish().unwrap();

            prop_assert!(decompress(&bytes, compression) == input);
            prop_assert!(bytes == compress(&input, compression, 0));
        }
    }
}
