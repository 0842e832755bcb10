"""A registry of its own for each push, and a proxy that counts the bytes of one."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

ACCESS = re.compile(rb'^127\.0\.0\.1 - \S+ \[[^]]*\] "', re.MULTILINE)
LISTENING = re.compile(rb"listening on 127\.0\.0\.1:(\d+)")


class Registry:
    """Debian's docker-registry on loopback, on a port of the system's choice, empty, with its storage in memory."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="push-registry-", dir="/dev/shm"))
        config = self.folder / "config.yml"
        storage = {"filesystem": {"rootdirectory": str(self.folder / "data")}, "cache": {"blobdescriptor": "inmemory"}}
        config.write_text(json.dumps({"version": "0.1", "storage": storage, "http": {"addr": "127.0.0.1:0"}}))
        self.log = self.folder / "log"
        with self.log.open("wb") as log:
            command = ["docker-registry", "serve", str(config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        while not (listening := LISTENING.search(self.log.read_bytes())):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)
        self.port = int(listening[1])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)

    def requests(self):
        """How many it has answered."""
        time.sleep(0.05)  # The log comes after the answer.
        return len(ACCESS.findall(self.log.read_bytes()))

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Counter:
    """Stands before a registry and counts what it is sent, HTTP's heads included."""

    def __init__(self, registry):
        self.target, self.sent, self.lock = registry.port, 0, threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self.pass_on, args=(client, server, self.count), daemon=True).start()
                threading.Thread(target=self.pass_on, args=(server, client, lambda _: None), daemon=True).start()

    def count(self, size):
        with self.lock:
            self.sent += size

    @staticmethod
    def pass_on(source, sink, count):
        with contextlib.suppress(OSError):
            while data := source.recv(256 << 10):
                count(len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
