"""An image that lies in a folder."""

import contextlib
import json
import os
import shutil
import subprocess


class Layout:
    """An image in an OCI layout."""

    def __init__(self, folder):
        self.folder = folder
        (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
        self.manifest = json.loads(self.blob(entry["digest"]).read_text())
        self.config = json.loads(self.blob(self.manifest["config"]["digest"]).read_text())

    def blob(self, digest):
        return self.folder / "blobs" / digest.replace(":", "/")

    def write_plain(self, folder, earlier):
        """Writes it as skopeo's `dir:` with uncompressed layers, and gives the file of the last one."""
        folder.mkdir()
        (folder / "version").write_text("Directory Transport Version: 1.1\n")
        config = self.blob(self.manifest["config"]["digest"])
        shutil.copy(config, folder / config.name)
        layers = []
        for layer, diff_id in zip(self.manifest["layers"], self.config["rootfs"]["diff_ids"]):
            file = folder / diff_id.removeprefix("sha256:")
            with contextlib.suppress(FileNotFoundError):
                os.link(earlier / file.name, file)
            if not file.exists():
                # Not in this process, whose memory is the least that `memory` can be.
                with file.open("wb") as tar:
                    subprocess.run(["gzip", "--decompress", "--stdout", self.blob(layer["digest"])], check=True, stdout=tar)
            tar_type = "application/vnd.oci.image.layer.v1.tar"
            layers.append({"mediaType": tar_type, "digest": diff_id, "size": file.stat().st_size})
        (folder / "manifest.json").write_text(json.dumps(self.manifest | {"layers": layers}))
        return file
