"""The least that layers take: hashes what comes in, compresses it on all cores, and hashes what comes of it.

    tar … | floor.py gzip|zstd LEVEL

The libraries are those that nixlayer has built in, as Debian packs them (libdeflate0, libzstd1); blocks have the sizes
that it uses, too. The work is done by them and by OpenSSL, without Python's lock; nothing is kept or sent.
"""

import collections
import concurrent.futures
import ctypes
import fcntl
import hashlib
import os
import sys
import threading

F_SETPIPE_SZ = 1031
BLOCK = {"gzip": 512 << 10, "zstd": 2 << 20}


def main():
    format, level = sys.argv[1], int(sys.argv[2])
    cores = len(os.sched_getaffinity(0))
    fcntl.fcntl(0, F_SETPIPE_SZ, 1 << 20)
    tar, blob, size = hashlib.sha256(), hashlib.sha256(), 0
    encoder = Encoder(format, level)
    with concurrent.futures.ThreadPoolExecutor(cores) as pool, open(0, "rb", buffering=0) as source:
        under_way, room = collections.deque(), [bytearray(BLOCK[format]) for _ in range(cores + 2)]
        while True:
            if not room:
                block, output = under_way.popleft().result()
                blob.update(output)
                size += len(output)
                room.append(block)
            block = room.pop()
            length = fill(source, block)
            if length == 0:
                break
            tar.update(memoryview(block)[:length])
            under_way.append(pool.submit(encoder.encode, block, length))
        for result in under_way:
            output = result.result()[1]
            blob.update(output)
            size += len(output)
    print(tar.hexdigest(), blob.hexdigest(), size)


def fill(source, block):
    view, length = memoryview(block), 0
    while length < len(block) and (got := source.readinto(view[length:])):
        length += got
    return length


class Encoder:
    def __init__(self, format, level):
        self.format, self.level, self.local = format, level, threading.local()
        if format == "gzip":
            self.library = library = ctypes.CDLL("libdeflate.so.0")
            self.make = lambda: library.libdeflate_alloc_compressor(level)
            library.libdeflate_alloc_compressor.restype = ctypes.c_void_p
            self.call = library.libdeflate_gzip_compress
            self.call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        else:
            self.library = library = ctypes.CDLL("libzstd.so.1")
            self.make = library.ZSTD_createCCtx
            self.make.restype = ctypes.c_void_p
            self.call = library.ZSTD_compressCCtx
            sizes = [ctypes.c_void_p, ctypes.c_size_t]
            self.call.argtypes = [ctypes.c_void_p, *sizes, *sizes, ctypes.c_int]
        self.call.restype = ctypes.c_size_t

    def encode(self, block, length):
        """Each thread keeps its tables and its room."""
        local = self.local
        if not hasattr(local, "room"):
            local.tables, local.room = self.make(), ctypes.create_string_buffer(len(block) + (64 << 10))
        source = ctypes.addressof(ctypes.c_char.from_buffer(block))
        target = ctypes.addressof(local.room)
        if self.format == "gzip":
            size = self.call(local.tables, source, length, target, len(local.room))
        else:
            size = self.call(local.tables, target, len(local.room), source, length, self.level)
        assert 0 < size <= len(local.room)
        return block, ctypes.string_at(target, size)


main()
