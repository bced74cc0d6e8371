#!/usr/bin/env python3
"""How fast `vlmd pull` is beside curl: one large file from this machine, by sendfile, in turns; and the memory it takes.
usage: bench/bench_pull.py build/vlmd [MIB]     (1024 MiB; needs as much disk twice, in the temporary folder)"""
import hashlib
import json
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

COMMIT = "1" * 40


class Server:
    """Just enough of the Hub for one file."""

    def __init__(self, path, digest, size):
        self.path, self.digest, self.size = path, digest, size
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        config = hashlib.sha1(b"blob 2\0{}").hexdigest()
        api = json.dumps({"sha": COMMIT, "siblings": [
            {"rfilename": "config.json", "size": 2, "blobId": config},
            {"rfilename": "model.safetensors", "size": self.size, "lfs": {"sha256": self.digest, "size": self.size}}]})
        with connection, connection.makefile("rb") as reader, open(self.path, "rb") as file:
            while line := reader.readline():
                target, fields = line.split()[1].decode(), {}
                while (field := reader.readline().strip()):
                    name, _, value = field.partition(b":")
                    fields[name.lower()] = value.strip().decode()
                if not target.endswith("model.safetensors"):
                    body = (api if "/api/" in target else "{}").encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    continue
                begin, end, head = 0, self.size, b"HTTP/1.1 200 OK\r\n"
                if b"range" in fields:
                    first, last = re.match(r"bytes=(\d+)-(\d*)", fields[b"range"]).groups()
                    begin, end = int(first), min(int(last) + 1 if last else self.size, self.size)
                    head = b"HTTP/1.1 206 Partial\r\nContent-Range: bytes %d-%d/%d\r\n" % (begin, end - 1, self.size)
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (end - begin))
                while begin < end:
                    begin += os.sendfile(connection.fileno(), file.fileno(), begin, end - begin)


def timed(command, **more):
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - start, usage.ru_maxrss


def main():
    program, mib = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1024
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path, digest = os.path.join(folder, "file"), hashlib.sha256()
        with open(path, "wb") as f:
            for i in range(mib):
                piece = hashlib.sha256(str(i).encode()).digest() * (1 << 15)
                digest.update(piece)
                f.write(piece)
        server = Server(path, digest.hexdigest(), mib << 20)
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0"}
        for i in range(3):
            cache = os.path.join(folder, "cache")
            seconds, _ = timed(["curl", "-s", "-o", os.path.join(folder, "copy"), server.url + "/model.safetensors"])
            os.unlink(os.path.join(folder, "copy"))
            ours, kib = timed([program, "pull", "org/name"], env={**environment, "HF_HUB_CACHE": cache})
            subprocess.run(["rm", "-r", cache], check=True)
            print(f"curl {mib * 1.048576 / seconds:.0f} MB/s, vlmd pull {mib * 1.048576 / ours:.0f} MB/s "
                  f"({seconds / ours:.0%}), with the digest; {kib / 1024:.0f} MiB of memory")


if __name__ == "__main__":
    main()
