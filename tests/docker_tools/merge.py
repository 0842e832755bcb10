"""Writes one docker-archive of several to standard output.

    merge.py ARCHIVE...
"""

import io
import json
import sys
import tarfile


def main():
    manifest, names = [], set()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as merged:
        for file in sys.argv[1:]:
            with tarfile.open(file) as archive:
                images = json.load(archive.extractfile("manifest.json"))
                manifest += images
                for name in [name for image in images for name in [*image["Layers"], image["Config"]]]:
                    # Images share layers.
                    if name not in names:
                        names.add(name)
                        merged.addfile(archive.getmember(name), archive.extractfile(name))
        text = json.dumps(manifest).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(text)
        merged.addfile(member, io.BytesIO(text))


main()
