"""Writes an image as a docker-archive: what comes before `docker load` and `skopeo copy docker-archive:` with Nix.

    archive.py IMAGE

IMAGE is a JSON file: `config` is the image's configuration, `layers` has the store paths of each layer and, for the
last one, the name of a finished tar. As for any archive whose members say their size first, each layer is made twice:
once to learn its size and hash, once to be written.
"""

import hashlib
import io
import json
import os
import sys
import tarfile


def main():
    image = json.load(open(sys.argv[1]))
    out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.PAX_FORMAT)
    names, diff_ids = [], []
    for layer in image["layers"]:
        measured = Measured()
        write_layer(layer, measured)
        digest = measured.hash.hexdigest()
        names.append(f"{digest}/layer.tar")
        diff_ids.append(f"sha256:{digest}")
        out.addfile(member(names[-1], measured.size))
        # The layer goes straight into the archive, without a copy in between.
        write_layer(layer, out.fileobj)
        padding = -measured.size % tarfile.BLOCKSIZE
        out.fileobj.write(bytes(padding))
        out.offset += measured.size + padding
    # An archive of other bytes than ours would be no peer.
    assert diff_ids == image["config"]["rootfs"]["diff_ids"], "the layers differ"
    config = json.dumps(image["config"]).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": ["bench:latest"], "Layers": names}]).encode()
    for name, text in [(config_name, config), ("manifest.json", manifest)]:
        out.addfile(member(name, len(text)), io.BytesIO(text))
    out.close()


class Measured:
    def __init__(self):
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)


def member(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def write_layer(layer, sink):
    if isinstance(layer, str):
        with open(layer, "rb") as finished:
            while data := finished.read(1 << 20):
                sink.write(data)
        return
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for folder in ["/nix", "/nix/store"]:
            info = tar.gettarinfo(folder)
            info.mode = 0o755
            add(tar, info, folder)
        for path in layer:
            for entry in walk(path):
                add(tar, tar.gettarinfo(entry), entry)


def add(tar, info, path):
    # Two files that share an inode in the store are two files.
    tar.inodes.clear()
    info.name = path
    info.mtime, info.uid, info.gid, info.uname, info.gname = 1, 0, 0, "root", "root"
    if info.isreg():
        with open(path, "rb") as contents:
            tar.addfile(info, contents)
    else:
        tar.addfile(info)


def walk(path):
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from walk(f"{path}/{name}")


main()
