"""Makes the files of nix2container from what its functions are told: `layers` the list of layers, `image` the image.

    nix2container.py layers GRAPH...    (files of `exportReferencesGraph`; the rest comes in the environment)
    nix2container.py image
"""

import hashlib
import json
import os
import sys

from go_tar import write_layer

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


def main():
    arguments = json.load(open(os.environ["argumentsPath"]))
    out = os.environ["out"]
    if sys.argv[1] == "image":
        known = [layer for folder in arguments["layers"] for layer in read(folder)]
        image = {"version": 1, "image-config": arguments["config"], "layers": known}
        write(out, image | {"arch": arguments["arch"], "created": arguments["created"]})
    else:
        write(f"{out}/layers.json", layers(arguments, out, sys.argv[2:]))


def read(folder):
    return json.load(open(f"{folder}/layers.json"))


def write(file, value):
    with open(file, "w") as output:
        json.dump(value, output, indent=2)


def layers(arguments, folder, graphs):
    """One layer of all paths that no layer below it has in the same form; none if there are none."""
    below = [path for folder in arguments["layers"] for layer in read(folder) for path in layer["paths"]]
    paths = [described(path, arguments) for path in store_paths(graphs) if path != arguments["ignore"]]
    paths = [path for path in paths if path not in below]
    if not paths:
        return []
    file = f"{folder}/layer.tar"
    with open(file, "wb") as tar:
        write_layer(tar, paths)
    contents = open(file, "rb").read()
    sha256 = hashlib.sha256(contents).hexdigest()
    found = {"digest": f"sha256:{sha256}", "size": len(contents), "diff_ids": f"sha256:{sha256}", "paths": paths}
    found |= {"mediatype": LAYER_TYPE, "History": {"created_by": "nix2container"}}
    if arguments["reproducible"]:
        os.remove(file)
        return [found]
    # A tar that would not be the same the next time stays.
    os.rename(file, f"{folder}/{sha256}.tar")
    return [found | {"layer-path": f"{folder}/{sha256}.tar"}]


def described(path, arguments):
    options = {}
    if path in arguments["copyToRoot"]:
        options["rewrite"] = {"regex": f"^{path}", "repl": ""}
    if perms := [perm for perm in arguments["perms"] if perm["path"] == path]:
        options["perms"] = [{key: perm[key] for key in perm if key != "path"} for perm in perms]
    return {"path": path} | ({"options": options} if options else {})


def store_paths(graphs):
    """The paths of all graphs. A path has lines for itself, its deriver, a number, and as many references."""
    found = set()
    for graph in graphs:
        lines = iter(open(graph).read().splitlines() if os.path.exists(graph) else [])
        for path in lines:
            next(lines)
            for _ in range(int(next(lines))):
                next(lines)
            found.add(path)
    return sorted(found)


main()
