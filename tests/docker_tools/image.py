"""Makes the folder `image`: what the archive of buildImage holds.

    image.py GRAPH...    (files of `exportReferencesGraph`; the rest comes in the environment)
"""

import datetime
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

FLAGS = "--format gnu --numeric-owner --owner :0 --group :0 --hard-dereference --absolute-names --sort name"
FOLDER = pathlib.Path("image")


def main():
    FOLDER.mkdir()
    name = os.environ["imageName"]
    tag = os.environ["tag"] or os.path.basename(os.environ["out"])[:32]
    configuration = json.load(open(os.environ["baseJson"]))
    if configuration["created"] == "now":
        configuration["created"] = datetime.datetime.now(tz=datetime.timezone.utc).isoformat()
    members, diff_ids = [], []
    if os.environ["fromImage"]:
        members, diff_ids, environment = unpack_base(os.environ["fromImage"])
        config = configuration.setdefault("config", {})
        config["Env"] = environment + (config.get("Env") or [])
    layer = pathlib.Path("layer.tar")
    shutil.copyfile(f"{os.environ['layer']}/layer.tar", layer)
    append_closure(layer, store_paths(sys.argv[1:]))
    sha256 = hashlib.sha256(layer.read_bytes()).hexdigest()
    # What names a layer here is not its hash.
    identity = hashlib.sha256(f"{sha256} {members}".encode()).hexdigest()
    (FOLDER / identity).mkdir()
    layer.rename(FOLDER / identity / "layer.tar")
    (FOLDER / identity / "VERSION").write_text("1.0")
    (FOLDER / identity / "json").write_text(json.dumps(configuration | {"id": identity}))
    members.append(f"{identity}/layer.tar")
    configuration["rootfs"] = {"diff_ids": [*diff_ids, f"sha256:{sha256}"], "type": "layers"}
    configuration["history"] = [{"created": configuration["created"]} for _ in members]
    text = json.dumps(configuration).encode()
    config_name = f"{hashlib.sha256(text).hexdigest()}.json"
    (FOLDER / config_name).write_bytes(text)
    manifest = [{"Config": config_name, "RepoTags": [f"{name}:{tag}"], "Layers": members}]
    (FOLDER / "manifest.json").write_text(json.dumps(manifest))
    (FOLDER / "repositories").write_text(json.dumps({name: {tag: identity}}))


def unpack_base(archive):
    """The layers of the image below this one, their diff_ids, and its environment."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))
        image = json.load(tar.extractfile(manifest["Config"]))
        tar.extractall(FOLDER, [tar.getmember(name) for name in manifest["Layers"]])
    return manifest["Layers"], image["rootfs"]["diff_ids"], image["config"].get("Env") or []


def store_paths(graphs):
    """What the configuration and the files need: all paths of the graphs but the two that were asked about."""
    found = set()
    for graph in graphs:
        lines = iter(open(graph).read().splitlines())
        for path in lines:
            next(lines)
            for _ in range(int(next(lines))):
                next(lines)
            found.add(path)
    return sorted(found - {os.environ["layer"], os.environ["baseJson"]})


def append_closure(layer, paths):
    """Adds the folder of the store, and each path with all that is in it."""
    if not paths:
        return
    append = ["tar", "--append", "--file", str(layer), *FLAGS.split(), "--mtime", f"@{os.environ['SOURCE_DATE_EPOCH']}"]
    # Not the folder of the store itself: tar fails when that changes meanwhile.
    pathlib.Path("top/nix/store").mkdir(parents=True)
    subprocess.run([*append, "--mode", "0755", "--directory", "top", "./nix"], check=True)
    # The names begin with a dot, as those of the other files do.
    subprocess.run([*append, "--transform", "flags=r;s,^/,./,", *paths], check=True)


main()
