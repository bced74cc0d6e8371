#!/usr/bin/env python3
"""What the serving path costs, on the mock model over loopback: start-up, the gateway's part of the time to the
first token, events a second, many open streams, idle connections, overload.
usage: bench_server.py [--quick] PROGRAM        (with the environment of tools/venv.sh)"""
import asyncio
import json
import os
import resource
import socket
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUICK = "--quick" in sys.argv
os.environ["VLMD"] = [a for a in sys.argv[1:] if not a.startswith("-")][0]
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

from api import Api, chat, serve  # noqa: E402
from servers import Server, channel, memory_kb, proto, worker  # noqa: E402


def report(name, value):
    print(f"{name:58} {value}", flush=True)


def body_of(request):
    data = json.dumps(request).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def ready_time(model):
    times = []
    for _ in range(5):
        start = time.monotonic()
        server = serve(model)
        while True:
            s = socket.create_connection((server.host, server.port))
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = s.recv(4096)
            s.close()
            if data.startswith(b"HTTP/1.1 200"):
                break
            time.sleep(0.001)
        times.append(time.monotonic() - start)
        server.stop(None)
    return statistics.median(times) * 1e3


def first_token(n):
    """The same raw socket client for both would favour neither: gRPC's is C, and HTTP's is a plain socket."""
    with worker("mock") as w, Server("gateway", "--worker", w.address, "--listen", "127.0.0.1:0") as g:
        Api(g).wait_ready()
        stub = proto().worker_grpc.WorkerStub(channel(w))
        m = proto().worker
        request = m.GenerateRequest(messages=[m.Message(role="user", parts=[m.Part(text="hello world")])])
        http_request = body_of(chat("hello world", stream=True))
        s = socket.create_connection((g.host, g.port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        direct, through = [], []
        for _ in range(n):
            start = time.perf_counter()
            call = stub.Generate(request)
            for event in call:
                if event.WhichOneof("event") == "delta":
                    direct.append(time.perf_counter() - start)
                    break
            list(call)
            start = time.perf_counter()
            s.sendall(http_request)
            data = b""
            while b'"content":"mock:"' not in data:
                data += s.recv(65536)
            through.append(time.perf_counter() - start)
            while not data.endswith(b"0\r\n\r\n"):
                data += s.recv(65536)
        return statistics.median(direct) * 1e3, statistics.median(through) * 1e3


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def events_per_second(n_streams, n_tokens):
    with worker("mock", "--mock-faults", "--max-running", n_streams) as w, \
            Server("gateway", "--worker", w.address, "--listen", "127.0.0.1:0") as g:
        Api(g).wait_ready()
        request = body_of(chat(f"@repeat {n_tokens}", stream=True))
        sockets = []
        for _ in range(n_streams):
            s = socket.create_connection((g.host, g.port))
            sockets.append(s)
        cpu = cpu_seconds(g.process.pid)
        start = time.monotonic()
        for s in sockets:
            s.sendall(request)
        import selectors
        selector = selectors.DefaultSelector()
        tails = {}
        for s in sockets:
            s.setblocking(False)
            selector.register(s, selectors.EVENT_READ)
            tails[s] = b""
        left = n_streams
        while left:
            for key, _ in selector.select():
                data = key.fileobj.recv(1 << 20)
                tail = (tails[key.fileobj] + data)[-8:]
                tails[key.fileobj] = tail
                if tail.endswith(b"0\r\n\r\n"):
                    selector.unregister(key.fileobj)
                    left -= 1
        wall = time.monotonic() - start
        cpu = cpu_seconds(g.process.pid) - cpu
        n = n_streams * n_tokens
        return n / wall, n / cpu


async def many_streams(n, n_tokens, token_ms):
    """Each with its own text, complete and in order."""
    with worker("mock", "--mock-faults", "--mock-token-ms", token_ms, "--max-running", n) as w, \
            Server("gateway", "--worker", w.address, "--listen", "127.0.0.1:0", "--max-connections", 2 * n,
                   "--max-running", n) as g:
        Api(g).wait_ready()
        done = 0

        async def one(i):
            nonlocal done
            words = " ".join(f"s{i}t{k}" for k in range(n_tokens))
            reader, writer = await asyncio.open_connection(g.host, g.port)
            writer.write(body_of(chat(words, stream=True)))
            data = await reader.readuntil(b"data: [DONE]\n\n")
            writer.close()
            text = "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                           for line in data.decode().split("\n") if line.startswith("data: {"))
            assert text == "mock: " + words, (i, text[:100])
            done += 1

        start = time.monotonic()
        await asyncio.gather(*(one(i) for i in range(n)))
        return done, time.monotonic() - start, memory_kb(g.process.pid)


def idle_connections(n):
    with worker("mock") as w, Server("gateway", "--worker", w.address, "--listen", "127.0.0.1:0") as g:
        Api(g).wait_ready()
        request = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        before = memory_kb(g.process.pid)
        sockets = []
        for _ in range(n):
            s = socket.create_connection((g.host, g.port))
            s.sendall(request)
            assert s.recv(4096).startswith(b"HTTP/1.1 200")
            sockets.append(s)
        after = memory_kb(g.process.pid)
        cpu = cpu_seconds(g.process.pid)
        time.sleep(3)
        return (after - before) / n, (cpu_seconds(g.process.pid) - cpu) / 3 * 100


async def overload(seconds):
    """Open loop at four times what is answered: refusals are quick, the accepted complete."""
    with serve("mock", "--mock-token-ms", 10, "--max-running", 16, "--max-waiting", 16) as server:
        Api(server).wait_ready()
        request = body_of(chat("w " * 9, stream=True))
        per_second = 16 / 0.1
        results = []

        async def one():
            start = time.perf_counter()
            try:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                status = int(head.split()[1])
                first = time.perf_counter() - start
                if status == 200:
                    await reader.readuntil(b"data: [DONE]\n\n")
                writer.close()
            except (OSError, asyncio.IncompleteReadError):
                status, first = 0, 0
            results.append((status, first))

        async def load(rate):
            results.clear()
            start = time.monotonic()
            tasks = []
            while time.monotonic() - start < seconds:
                tasks.append(asyncio.ensure_future(one()))
                await asyncio.sleep(max(0, start + len(tasks) / rate - time.monotonic()))
            await asyncio.gather(*tasks)
            wall = time.monotonic() - start
            return sum(r[0] == 200 for r in results) / wall, list(results)

        peak, _ = await load(per_second)
        good, all_of_them = await load(4 * per_second)
        refused = sorted(r[1] for r in all_of_them if r[0] == 503)
        others = sum(r[0] not in (200, 503) for r in all_of_them)
        return peak, good, refused[int(len(refused) * 0.99)] * 1e3, len(refused), others


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report("vlmd serve mock: ready after, ms (median of 5)", f"{ready_time('mock'):.0f}")
    report("vlmd serve demo: ready after, ms (median of 5)", f"{ready_time('demo'):.0f}")
    direct, through = first_token(200 if QUICK else 1000)
    report("first token by gRPC / through the gateway / added, ms", f"{direct:.2f} / {through:.2f} / {through - direct:.2f}")
    wall, cpu = events_per_second(16, 5000 if QUICK else 20000)
    report("SSE events a second, wall / per second of the gateway's CPU", f"{wall:.0f} / {cpu:.0f}")
    n = 500 if QUICK else 5000
    done, seconds, kb = asyncio.run(many_streams(n, 20, 200))
    report(f"{n} streams at once: complete and in order, s, gateway MB", f"{done}, {seconds:.1f}, {kb / 1024:.0f}")
    kb, cpu = idle_connections(500 if QUICK else 5000)
    report("idle keep-alive connection: KiB; CPU of all, %", f"{kb:.2f}; {cpu:.1f}")
    peak, good, refusal, n_refused, others = asyncio.run(overload(3 if QUICK else 10))
    report("overload x4: answered/s at 1x, at 4x; refusal p99 ms, n; lost", f"{peak:.0f}, {good:.0f}; {refusal:.1f}, {n_refused}; {others}")


if __name__ == "__main__":
    main()
