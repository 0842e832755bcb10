"""Writes a conf.json: what streamLayeredImage is told, and which store paths each layer holds.

    conf.py GRAPH...     (files of `exportReferencesGraph`; the rest comes in the environment)

The most used path gets a layer of its own, then the next, until the budget is used up; what is left shares the last.
"""

import datetime
import json
import os
import sys
import tarfile


def main():
    conf = json.load(open(os.environ["fieldsPath"]))
    for key in ("created", "mtime"):
        if key in conf:
            conf[key] = moment(conf[key])
    tag = os.environ["tag"] or os.path.basename(os.environ["out"])[:32]
    conf["repo_tag"] = f"{os.environ['imageName']}:{tag}"
    budget = int(os.environ["maxLayers"]) - 1 - layers_of(os.environ["fromImage"])
    assert budget >= 1, "the budget of layers is used up"
    paths = by_popularity(references(sys.argv[1:]))
    # They were made to find the references, and are no part of the image.
    paths = [path for path in paths if path not in os.environ["roots"].split()]
    alone, together = paths[: budget - 1], paths[budget - 1 :]
    conf["store_layers"] = [[path] for path in alone] + ([together] if together else [])
    json.dump(conf, sys.stdout)


def moment(text):
    """A time as `date -Iseconds` writes it, but for `now`, which stays what it is."""
    return text if text == "now" else datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).isoformat()


def layers_of(archive):
    """How many layers the base image has."""
    if not archive:
        return 0
    with tarfile.open(archive) as tar:
        return len(json.load(tar.extractfile("manifest.json"))[0]["Layers"])


def references(files):
    """What each store path refers to. A path has lines for itself, its deriver, a number, and as many references."""
    found = {}
    for name in files:
        # A pattern that matches no file stays as it is.
        lines = iter(open(name).read().splitlines() if os.path.exists(name) else [])
        for path in lines:
            next(lines)
            found[path] = {next(lines) for _ in range(int(next(lines)))} - {path}
    return found


def by_popularity(references):
    """The paths, those first that most others need, directly or not; among equals by name."""
    users = dict.fromkeys(references, 0)
    for path in references:
        needed, todo = set(), [path]
        while todo:
            new = references[todo.pop()] - needed
            needed |= new
            todo += new
        for used in needed:
            users[used] += 1
    return sorted(references, key=lambda path: (-users[path], path.partition("-")[2], path))


main()
