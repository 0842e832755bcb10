#!/usr/bin/python3
"""Writes the image of a conf.json to standard output, as a docker-archive.

    stream CONF [--repo_tag NAME:TAG]

A member's size comes before its bytes, so each layer is made twice: to be measured, and to be written.
"""

import argparse
import datetime
import hashlib
import io
import json
import os
import stat
import sys
import tarfile

NIX_MODE = 0o0755


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("conf")
    arguments.add_argument("--repo_tag", "-t")
    options = arguments.parse_args()
    with open(options.conf) as file:
        conf = json.load(file)
    now = datetime.datetime.now(tz=datetime.timezone.utc)
    created = moment(conf["created"], now)
    mtime = int(moment(conf.get("mtime", conf["created"]), now).timestamp())
    owner = [int(conf.get("uid", 0)), int(conf.get("gid", 0)), conf.get("uname", "root"), conf.get("gname", "root")]
    archive = Archive(sys.stdout.buffer, mtime)
    config = conf["config"]
    if conf.get("from_image"):
        config = archive.add_base(conf["from_image"], config)
    for paths in conf["store_layers"]:
        archive.add_layer(paths, lambda sink, paths=paths: write_layer(sink, paths, mtime, owner))
    archive.add_finished(conf["customisation_layer"])
    layers = archive.layers
    image = {
        "created": created.isoformat(),
        "architecture": conf["architecture"],
        "os": "linux",
        "config": config,
        "rootfs": {"diff_ids": [f"sha256:{layer['sha256']}" for layer in layers], "type": "layers"},
        "history": [{"created": created.isoformat(), "comment": f"store paths: {layer['paths']}"} for layer in layers],
    }
    text = json.dumps(image, indent=4).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    archive.add_file(config_name, text)
    tag = options.repo_tag or conf["repo_tag"]
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": [layer["member"] for layer in layers]}]
    archive.add_file("manifest.json", json.dumps(manifest, indent=4).encode())
    archive.tar.close()


def moment(text, now):
    return now if text == "now" else datetime.datetime.fromisoformat(text)


class Archive:
    """The outer tar, and the layers in it so far."""

    def __init__(self, sink, mtime):
        self.tar, self.mtime, self.layers = tarfile.open(fileobj=sink, mode="w|"), mtime, []

    def add_base(self, file, config):
        """Adds the layers of an image that is there; gives `config` with that image's environment below its own."""
        with tarfile.open(file) as base:
            manifest = json.load(base.extractfile("manifest.json"))[0]
            image = json.load(base.extractfile(manifest["Config"]))
            for name, diff_id in zip(manifest["Layers"], image["rootfs"]["diff_ids"]):
                self.tar.addfile(base.getmember(name), base.extractfile(name))
                self.layers.append({"member": name, "sha256": diff_id.partition(":")[2], "paths": [name]})
        entries = (image["config"].get("Env") or []) + (config.get("Env") or [])
        environment = {entry.partition("=")[0]: entry for entry in entries}
        return config | ({"Env": list(environment.values())} if environment else {})

    def add_layer(self, paths, write):
        measure = Measure()
        write(measure)
        self.start_layer(measure.hash.hexdigest(), measure.size, paths)
        # What `addfile` would do, without a file to read from.
        write(self.tar.fileobj)
        padding = -measure.size % tarfile.BLOCKSIZE
        self.tar.fileobj.write(bytes(padding))
        self.tar.offset += measure.size + padding

    def add_finished(self, folder):
        with open(f"{folder}/checksum") as checksum, open(f"{folder}/layer.tar", "rb") as layer:
            size = os.fstat(layer.fileno()).st_size
            self.start_layer(checksum.read().strip(), size, [folder], layer)

    def start_layer(self, sha256, size, paths, contents=None):
        member = f"{sha256}/layer.tar"
        self.layers.append({"member": member, "sha256": sha256, "paths": paths})
        self.tar.addfile(self.header(member, size), contents)

    def add_file(self, name, text):
        self.tar.addfile(self.header(name, len(text)), io.BytesIO(text))

    def header(self, name, size):
        header = tarfile.TarInfo(name)
        header.size, header.mtime = size, self.mtime
        return header


class Measure:
    """A file whose size and hash stay."""

    def __init__(self):
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)


def write_layer(sink, paths, mtime, owner):
    with tarfile.open(fileobj=sink, mode="w|") as tar:
        for folder in ("/nix", "/nix/store"):
            add(tar, folder, stat.S_IFDIR | NIX_MODE, mtime, owner)
        for path in paths:
            for name in below(path):
                add(tar, name, os.lstat(name).st_mode, mtime, owner)


def below(path):
    """The path and all that is in it, each folder before its members, these by name."""
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from below(f"{path}/{name}")


def add(tar, name, mode, mtime, owner):
    header = tarfile.TarInfo(name)
    header.mode, header.mtime = stat.S_IMODE(mode), mtime
    header.uid, header.gid, header.uname, header.gname = owner
    if stat.S_ISDIR(mode):
        header.type = tarfile.DIRTYPE
        tar.addfile(header)
    elif stat.S_ISLNK(mode):
        header.type, header.linkname = tarfile.SYMTYPE, os.readlink(name)
        tar.addfile(header)
    else:
        with open(name, "rb") as contents:
            header.size = os.fstat(contents.fileno()).st_size
            tar.addfile(header, contents)


main()
