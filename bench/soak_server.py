#!/usr/bin/env python3
"""Hard times for a server on the mock model: requests dropped at random moments, workers killed under streams.
usage: soak_server.py [--drops N] [--kills N] PROGRAM        (with the environment of tools/venv.sh)"""
import argparse
import json
import os
import random
import signal
import socket
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
parser = argparse.ArgumentParser()
parser.add_argument("--drops", type=int, default=10000)
parser.add_argument("--kills", type=int, default=50)
parser.add_argument("program")
options = parser.parse_args()
os.environ["VLMD"] = os.path.abspath(options.program)
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

from api import Api, chat, message, picture, serve  # noqa: E402
from servers import descriptors, memory_kb, threads  # noqa: E402
from test_faults import Streams, ended_well, ended_with_error, gauge, many_clients, post_bytes  # noqa: E402


def state(server):
    pids = [server.process.pid, *server.children()]
    return {pid: (memory_kb(pid), descriptors(pid), threads(pid)) for pid in pids}


def wait_idle(api):
    start = time.monotonic()
    while gauge(api, "vlmd_num_requests_running") + gauge(api, "vlmd_num_requests_waiting") > 0:
        assert time.monotonic() - start < 20, "requests are left behind"
        time.sleep(0.02)


def drop(server, n, seed):
    rng = random.Random(seed)
    bodies = [post_bytes({"messages": [message("@slow 2 @repeat 40", picture(300, 200))], "stream": s}) for s in (True, False)]
    bodies += [post_bytes(chat("@slow 2 @repeat 40", stream=s)) for s in (True, False)]
    for _ in range(n):
        body = rng.choice(bodies)
        s = socket.create_connection((server.host, server.port))
        s.sendall(body[:rng.choice((len(body), len(body), rng.randrange(len(body))))])
        time.sleep(rng.random() * 0.01)
        if rng.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()


def drops(n):
    with serve("mock", "--mock-faults") as server:
        api = Api(server).wait_ready()
        # Warm: what is kept for good is there after the first tenth.
        for share, name in ((n // 10, "warm-up"), (n, "soak")):
            workers = [threading.Thread(target=drop, args=(server, share // 4, k)) for k in range(4)]
            start = time.monotonic()
            for w in workers:
                w.start()
            for w in workers:
                w.join()
            wait_idle(api)
            time.sleep(1)
            begin = time.monotonic()
            assert api.text("next") == "mock: next"
            print(f"{name}: {share} requests dropped in {time.monotonic() - start:.0f} s; the next is answered in "
                  f"{(time.monotonic() - begin) * 1e3:.1f} ms")
            if name == "warm-up":
                before = state(server)
        after = state(server)
        for pid, (kb, fds, n_threads) in before.items():
            if pid not in after:
                continue  # a decoder whose picture was cancelled has been replaced
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                comm = f.read().strip()
            print(f"  {comm}: memory {kb} -> {after[pid][0]} KB ({(after[pid][0] / kb - 1) * 100:+.1f}%), descriptors "
                  f"{fds} -> {after[pid][1]}, threads {n_threads} -> {after[pid][2]}")


def kills(n):
    slowest_end = slowest_ready = 0
    hung = 0
    with serve("mock", "--mock-faults", "--mock-token-ms", "10", "--max-running", 64) as server:
        api = many_clients(Api(server).wait_ready(), 64)
        for i in range(n):
            streams = Streams(api, [chat(f"@repeat {2000 + k}") for k in range(64)])
            for e in streams.first:
                e.wait(10)
            time.sleep(random.random() * 0.1)
            workers = [pid for pid in server.children() if "worker" in open(f"/proc/{pid}/cmdline").read()
                       and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1] == str(server.process.pid)]
            start = time.monotonic()
            os.kill(workers[0], signal.SIGKILL)
            results = streams.join()
            slowest_end = max(slowest_end, time.monotonic() - start)
            hung += sum(not (ended_well(r) or ended_with_error(r)) for r in results)
            api.wait_ready(20)
            slowest_ready = max(slowest_ready, time.monotonic() - start)
    print(f"{n} rounds of kill -9 under 64 streams: all ended within {slowest_end:.2f} s, ready again within "
          f"{slowest_ready:.2f} s, clients left hanging: {hung}")


if options.drops:
    drops(options.drops)
if options.kills:
    kills(options.kills)
