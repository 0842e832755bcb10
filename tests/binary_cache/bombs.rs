//! Small files that would become large ones, on disk or in memory.

use std::iter;

use nixlayer::nix::tree::Node;
use nixlayer::source::ReadError;
use nixlayer::source::binary_cache::{BinaryCacheError, CacheFault};

use crate::cache::{COMPRESSIONS, FolderCache, Item, compress, files};
use crate::reading::{RUNTIME, assert_right, caches, fault, read, store};
use crate::server::{Fault, Server};
use crate::trees::{file, vector};

const GIBIBYTE: u64 = 1 << 30;

/// The beginning of the NAR of a file of `size` bytes: all that comes before its contents.
fn head_of_a_file(size: u64) -> Vec<u8> {
    let mut nar = crate::trees::nar(&file(""));
    // Its end is `)`, a length and padding; before that comes the length of the contents.
    nar.truncate(nar.len() - 24);
    nar.extend(size.to_le_bytes());
    nar
}

/// The NAR of a file of zeros, of a GiB, in pieces that are compressed each for itself.
fn bomb(compression: &str) -> Vec<u8> {
    let piece = compress(&vec![0; 1 << 22], compression);
    let pieces = iter::repeat_n(piece, (GIBIBYTE >> 22) as usize);
    iter::once(compress(&head_of_a_file(GIBIBYTE), compression)).chain(pieces).flatten().collect()
}

#[test]
fn a_bomb_is_left_where_the_announced_size_is_reached() {
    for compression in ["xz", "zstd", "zstd-frames", "bzip2", "gzip"] {
        // Pinned is a NAR of about 1 KiB, of a file whose length is that of the bomb.
        let item = Item::new(1, file(vec![0; 900]), compression).with_file(bomb(compression));
        assert!(item.file.len() < 16 << 20, "{compression}: {} bytes", item.file.len());
        let cache = FolderCache::new(&files([&item]));
        let store = store([&item], &caches(vec![cache.settings("bomb")]));
        let _in_runtime = RUNTIME.enter();
        let mut seen = 0;

        let tree = store.upcoming(std::slice::from_ref(&item.path)).next().unwrap();
        let read = tree.read(|entry| {
            let Node::Regular { contents, size, .. } = entry.node else { panic!("no file") };
            assert_eq!(size, GIBIBYTE);
            let mut buffer = [0; 512];
            loop {
                match contents.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => seen += read,
                }
            }
        });

        assert!(seen <= item.nar.len(), "{compression}: {seen} bytes were shown");
        let Err(ReadError::BinaryCache(BinaryCacheError::Fault { fault, .. })) = read else {
            panic!("{read:?}")
        };
        let CacheFault::TooLarge { announced, .. } = *fault else { panic!("{fault:?}") };
        assert_eq!(announced, item.nar.len() as u64);
    }
}

/// A frame of one raw block, and a window of 2^`log` bytes (RFC 8878, section 3.1.1).
fn zstd_frame(contents: &[u8], log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    frame.extend(&((contents.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend(contents);
    frame
}

/// A stream whose block announces a dictionary of the size that `code` stands for (xz format, section 5.3.1).
fn xz_stream(contents: &[u8], code: u8) -> Vec<u8> {
    let mut stream = compress(contents, "xz");
    // After 12 bytes of stream header: size, flags, filter id, size of its properties, those, padding, CRC32.
    assert_eq!(stream[12..16], [2, 0, 0x21, 1]);
    stream[16] = code;
    let mut crc = flate2::Crc::new();
    crc.update(&stream[12..20]);
    stream[20..24].copy_from_slice(&crc.sum().to_le_bytes());
    stream
}

/// Bytes as they are, and a window of 2^`log` bytes as "large window Brotli" writes it.
fn brotli_with_a_large_window(contents: &[u8], log: u64) -> Vec<u8> {
    // From the lowest bit: 1 000 100 0, the logarithm in 6 bits, then a header as in RFC 7932, section 9.2.
    let header = 0x11 | log << 8 | (contents.len() as u64 - 1) << 17 | 1 << 33;
    let mut stream = header.to_le_bytes()[..5].to_vec();
    stream.extend(contents);
    stream.push(0b11);
    stream
}

#[test]
fn a_file_that_wants_much_memory_is_refused() {
    let nar = crate::trees::nar(&vector());
    let item = |compression, file| Item::new(1, vector(), compression).with_file(file);
    for (item, reads) in [
        (item("zstd", zstd_frame(&nar, 27)), true),
        (item("zstd", zstd_frame(&nar, 28)), false),
        (item("zstd", zstd_frame(&nar, 30)), false),
        // 64 MiB, as `xz -9` has it; 128 MiB; 4 GiB.
        (item("xz", xz_stream(&nar, 28)), true),
        (item("xz", xz_stream(&nar, 30)), false),
        (item("xz", xz_stream(&nar, 40)), false),
        (item("br", brotli_with_a_large_window(&nar, 30)), false),
        (item("br", brotli_with_a_large_window(&nar, 25)), false),
    ] {
        let cache = FolderCache::new(&files([&item]));
        let read = read(&item, &caches(vec![cache.settings("greedy")]));
        if reads {
            assert_right(read, &item, item.compression);
            continue;
        }

        let fault = fault(read, &item, "greedy");

        assert!(matches!(fault, CacheFault::Compressed { .. }), "{}: {fault:?}", item.compression);
    }
}

/// What comes after the NAR may be well-formed and still mean nothing: padding, empty members.
#[test]
fn a_body_without_end_comes_to_an_end() {
    for compression in COMPRESSIONS {
        let item = Item::new(1, vector(), compression);
        let empty = match compression {
            "none" | "br" | "xz" => vec![0; 4096],
            "zstd-frames" => compress(b"", "zstd"),
            _ => compress(b"", compression),
        };
        for more in [item.file.clone(), empty.repeat(100)] {
            for item in [item.clone(), item.clone().unannounced()] {
                let server = Server::start(files([&item]));
                server.fault(".nar", Fault::Endless(more.clone()), usize::MAX);

                let fault = fault(read(&item, &caches(vec![server.settings("server")])), &item, "server");

                let typed = match fault {
                    CacheFault::FileSize { .. } => true,
                    CacheFault::TooLarge { .. }
                    | CacheFault::Compressed { .. }
                    | CacheFault::Surplus { .. } => !item.file_is_announced || compression == "none",
                    _ => false,
                };
                assert!(typed, "{compression}, announced: {}: {fault:?}", item.file_is_announced);
            }
        }
    }
}
