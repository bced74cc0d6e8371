"""clients.py - servers under the same four clients: each sends a picture of its own and a question, and takes 16 tokens.
Not: which servers."""
import base64
import json
import os
import random
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

CLIENTS, TOKENS, START_SECONDS, ANSWER_SECONDS = 4, 16, 1800, 1800


class Failed(Exception):
    """What a server or a program said last."""


def png(seed, side):
    """A picture of noise: nothing can be guessed of it, nor was it seen before."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, picture, tokens):
    """Tokens of the prompt."""
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                                      {"type": "text", "text": "What is in this picture?"}]}],
            "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as r:
            usage = json.load(r)["usage"]
    except urllib.error.HTTPError as e:
        raise Failed(e.read().decode(errors="replace")[:200]) from None
    if usage["completion_tokens"] != tokens:
        raise Failed(f"{usage['completion_tokens']} tokens came instead of {tokens}")
    return usage["prompt_tokens"]


def resident_bytes(pid):
    """Of a process and all below it, a page that several share counted once."""
    total, todo = 0, [pid]
    while todo:
        p = todo.pop()
        try:
            with open(f"/proc/{p}/smaps_rollup", encoding="ascii") as f:
                total += sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children", encoding="ascii") as f:
                    todo += [int(c) for c in f.read().split()]
        except OSError:
            continue  # it ended meanwhile
    return total


class Server:
    def __init__(self, command, port, env):
        self.port = port
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=env)

    def last_line(self):
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().split("\n")
        return lines[-1][-200:]

    def __enter__(self):
        end = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise Failed(self.last_line())
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as r:
                    if r.status == 200:
                        return self
            except OSError:
                pass
            if time.monotonic() > end:
                self.__exit__()
                raise Failed("the server does not get ready")
            time.sleep(0.1)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def four_clients(port, side, seed):
    """Seconds until all have their answers."""
    pictures = [png(seed * CLIENTS + i, side) for i in range(CLIENTS)]
    failures = []

    def one(picture):
        try:
            ask(port, picture, TOKENS)
        except (Failed, OSError, KeyError, ValueError) as e:
            failures.append(e)

    threads = [threading.Thread(target=one, args=(p,)) for p in pictures]
    start = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.perf_counter() - start
    if failures:
        raise Failed(str(failures[0]))
    return seconds


def measure(command, port, side, seed, env=None):
    """Results as of `vlmd bench`: the clients' wall time, and the server's memory after them."""
    with Server(command, port, env) as server:
        n = ask(port, png(10 ** 6 + seed, side), 1)  # reads every weight once
        seconds = four_clients(port, side, seed)
        memory = resident_bytes(server.process.pid)
    return [{"test": "four_clients", "n": n, "batch": CLIENTS, "value": seconds, "unit": "s"},
            {"test": "server_memory", "n": 0, "batch": 0, "value": memory, "unit": "B"}]
