#!/usr/bin/env python3
"""An unfair client: one API key keeps as many requests going as it may, another asks now and then.  Time to first token of
the second, alone and beside the first.
usage: bench_fair.py PROGRAM MODEL [OPTIONS OF SERVE]     (with the environment of tools/venv.sh)"""
import http.client
import json
import os
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
os.environ["VLMD"] = sys.argv[1]
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

from api import Api, serve  # noqa: E402

GREEDY, ASKS, TOKENS = 100, 40, 96


def ask(server, key, text, max_tokens):
    """Status and time to the first token."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "stream": True, "ignore_eos": True}
    c = http.client.HTTPConnection(server.host, server.port, timeout=600)
    start = time.monotonic()
    c.request("POST", "/v1/chat/completions", json.dumps(body),
              {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    r = c.getresponse()
    first = None
    for line in r:
        if first is None and b'"content":"' in line and b'"content":""' not in line:
            first = time.monotonic() - start
    c.close()
    return r.status, first


def quantiles(times):
    times = sorted(times)
    return f"p50 {times[len(times) // 2] * 1e3:.0f} ms, p99 {times[int(len(times) * .99)] * 1e3:.0f} ms"


def main():
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as keys:
        keys.write("greedy\nmodest\n")
        keys.flush()
        with serve(sys.argv[2], "--api-key-file", keys.name, *sys.argv[3:]) as server:
            Api(server).wait_ready(60)
            alone = [ask(server, "modest", f"alone {i}", 8)[1] for i in range(ASKS)]
            print(f"{'alone':40} {quantiles(alone)}", flush=True)
            over = threading.Event()
            done, refused = [], []

            def greedy(i):
                n = 0
                while not over.is_set():
                    status, _ = ask(server, "greedy", f"greedy {i} {n}", TOKENS)
                    (done if status == 200 else refused).append(status)
                    n += 1
                    if status != 200:
                        time.sleep(0.2)

            threads = [threading.Thread(target=greedy, args=(i,)) for i in range(GREEDY)]
            for t in threads:
                t.start()
            time.sleep(3)
            beside = []
            for i in range(ASKS):
                status, first = ask(server, "modest", f"beside {i}", 8)
                assert status == 200, status
                beside.append(first)
                time.sleep(0.1)
            over.set()
            for t in threads:
                t.join()
            print(f"{f'beside {GREEDY} requests of another key':40} {quantiles(beside)}; the other key: {len(done)} answered, "
                  f"{len(refused)} refused", flush=True)


if __name__ == "__main__":
    main()
