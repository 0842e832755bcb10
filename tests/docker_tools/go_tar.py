"""Writes layers as Go's `archive/tar` does when nix2container calls it."""

import os
import re
import stat

BLOCK = 512
TYPES = {stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFDIR: b"5"}


def write_layer(sink, paths):
    """Writes the tree of all `paths`, each `{path, options?}` with `rewrite` and `perms`."""
    members = {}
    for described in paths:
        options = described.get("options", {})
        for source in below(described["path"]):
            place = source
            if "rewrite" in options:
                place = re.sub(options["rewrite"]["regex"], options["rewrite"]["repl"], source)
            # What is moved to nowhere is left out: `/` is made, and not the store path that becomes it.
            if place:
                members[place] = (source, permissions(source, options.get("perms", [])))
    for place in list(members):
        while place != "/":
            place = os.path.dirname(place)
            members.setdefault(place, (None, {}))
    for place in sorted(members, key=lambda place: place.strip("/").encode().split(b"/") if place != "/" else []):
        write_member(sink, place, *members[place])
    sink.write(bytes(2 * BLOCK))


def below(path):
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            yield from below(f"{path}/{name}")


def permissions(source, perms):
    """What the rules say of a file. Each that matches sets the owner, and else what it names."""
    found = {}
    for perm in perms:
        if re.search(perm["regex"], source):
            found |= {"uid": perm.get("uid", 0), "gid": perm.get("gid", 0)}
            found |= {key: perm[key] for key in ("mode", "uname", "gname") if perm.get(key)}
    return found


def write_member(sink, place, source, perms):
    mode = stat.S_IFDIR | 0o755 if source is None else os.lstat(source).st_mode
    kind = stat.S_IFMT(mode)
    mode = 0o777 if kind == stat.S_IFLNK else stat.S_IMODE(mode)
    mode = int(perms["mode"], 8) if "mode" in perms else mode
    target = os.readlink(source) if kind == stat.S_IFLNK else ""
    size = os.lstat(source).st_size if kind == stat.S_IFREG else 0
    fields = {"mode": mode, "size": size, "mtime": 1, "type": TYPES[kind]}
    fields |= {"uid": perms.get("uid", 0), "gid": perms.get("gid", 0)}
    fields |= {"uname": perms.get("uname", "root"), "gname": perms.get("gname", "root")}
    records = {}
    prefix, name = split(place)
    if name is None:
        records["path"] = place
        prefix, name = "", place
    if not target.isascii() or len(target) > 100:
        records["linkpath"] = target
    if records:
        text = b"".join(record(key, records[key]) for key in sorted(records))
        folder, base = os.path.split(place)
        extension = os.path.join(folder, "PaxHeaders.0", base)
        zero = dict.fromkeys(("mode", "uid", "gid", "mtime"), 0) | {"uname": "", "gname": ""}
        # A name of other letters alone leaves a slash at the end, which Go takes away.
        sink.write(header("", ascii(extension).rstrip("/"), "", zero | {"size": len(text), "type": b"x"}))
        write_padded(sink, [text])
    sink.write(header(prefix, ascii(name), ascii(target), fields))
    if size:
        with open(source, "rb") as contents:
            write_padded(sink, iter(lambda: contents.read(1 << 20), b""))


def split(place):
    """A name in two fields, the first of at most 155 bytes; none if it does not fit or has other letters."""
    if not place.isascii():
        return "", None
    if len(place) <= 100:
        return "", place
    # Go takes the last slash that leaves a first part of 155 bytes, and does not look at others.
    cut = place.rfind("/", 0, min(len(place), 156))
    if cut <= 0 or not 0 < len(place) - cut - 1 <= 100:
        return "", None
    return place[:cut], place[cut + 1 :]


def ascii(text):
    return "".join(letter for letter in text if letter.isascii())[:100]


def record(key, value):
    """A line that begins with its own length in bytes."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def header(prefix, name, target, fields):
    def text(value, length):
        return value.encode().ljust(length, b"\0")

    def number(value, length):
        return f"{value:0{length - 1}o}\0".encode()

    block = text(name, 100) + b"".join(number(fields[key], 8) for key in ("mode", "uid", "gid"))
    block += number(fields["size"], 12) + number(fields["mtime"], 12) + b" " * 8 + fields["type"] + text(target, 100)
    block += b"ustar\x0000" + text(fields["uname"], 32) + text(fields["gname"], 32)
    # A header of a header is about no device.
    block += bytes(16) if fields["type"] == b"x" else number(0, 8) * 2
    block += text(prefix, 155)
    block = block.ljust(BLOCK, b"\0")
    checksum = f"{sum(block):06o}\0 ".encode()
    return block[:148] + checksum + block[156:]


def write_padded(sink, pieces):
    length = 0
    for piece in pieces:
        sink.write(piece)
        length += len(piece)
    sink.write(bytes(-length % BLOCK))
