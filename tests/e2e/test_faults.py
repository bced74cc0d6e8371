"""Workers that die or hang, clients that are slow or leave, more requests than can be answered, the end of a server."""
import json
import os
import signal
import socket
import threading
import time

import httpx
import pytest

from api import Api, chat, check_error, check_error_body, content, message, picture, serve
from servers import DIE_PLAINLY, Server, connect, descriptors, eventually, needs_localhost, threads, worker


def gateway(*workers, args=()):
    options = [o for w in workers for o in ("--worker", w.address)]
    return Server("gateway", "--listen", "127.0.0.1:0", *options, *args)


def gauge(api, name):
    return sum(v for k, v in api.metrics().items() if k.startswith(name))


def idle(api, seconds=10):
    eventually(lambda: gauge(api, "vlmd_num_requests_running") == 0 and gauge(api, "vlmd_num_requests_waiting") == 0
               and gauge(api, "http_requests_in_flight") <= 1, seconds)


def post_head(length, extra=""):
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{extra}"
            f"Content-Length: {length}\r\n\r\n").encode()


def post_bytes(body):
    data = json.dumps(body).encode()
    return post_head(len(data)) + data


def read_all(s):
    data = b""
    try:
        while True:
            piece = s.recv(1 << 16)
            if not piece:
                return data
            data += piece
    except (TimeoutError, ConnectionError):
        return data


class Streams:
    """Many streams read in threads of their own."""

    def __init__(self, api, bodies):
        self.results = [None] * len(bodies)
        self.first = [threading.Event() for _ in bodies]
        self.threads = [threading.Thread(target=self._run, args=(api, i, b)) for i, b in enumerate(bodies)]
        for t in self.threads:
            t.start()

    def _run(self, api, i, body):
        text = ""
        try:
            with api.http.stream("POST", "/v1/chat/completions", json=dict(body, stream=True), timeout=30) as r:
                for piece in r.iter_text():
                    text += piece
                    self.first[i].set()
            self.results[i] = (r.status_code, text)
        except httpx.HTTPError as e:
            self.results[i] = (0, text + repr(e))
        self.first[i].set()

    def join(self):
        for t in self.threads:
            t.join(40)
            assert not t.is_alive(), "a client is left hanging"
        return self.results


def ended_well(result):
    return result[0] == 200 and result[1].endswith("data: [DONE]\n\n")


def ended_with_error(result):
    if result[0] != 200:
        check_error_body(json.loads(result[1]))
        return True
    check_error_body(json.loads(result[1].rstrip().rsplit("data: ", 1)[1]))
    return "[DONE]" not in result[1]


def many_clients(api, n):
    api.http = httpx.Client(base_url=api.server.url, timeout=60, trust_env=False,
                            limits=httpx.Limits(max_connections=n + 8))
    return api


def test_a_killed_worker_of_serve_comes_again():
    with serve("mock", "--mock-faults", "--mock-token-ms", 20, "--max-running", 64) as server:
        api = many_clients(Api(server).wait_ready(), 64)
        for _ in range(3):
            streams = Streams(api, [chat(f"@repeat {500 + i}") for i in range(32)])
            for e in streams.first:
                assert e.wait(10)
            start = time.monotonic()
            os.kill(server.children()[0], signal.SIGKILL)
            assert all(map(ended_with_error, streams.join()))
            assert time.monotonic() - start < 5
            api.wait_ready(10)
            assert api.text("again") == "mock: again"
            idle(api)
        assert gauge(api, "vlmd_worker_restarts_total") == 3


def test_two_workers_one_dies():
    with worker("mock", "--mock-faults", "--mock-token-ms", 10) as a, worker("mock", "--mock-faults", "--mock-token-ms", 10) as b:
        with gateway(a, b) as g:
            api = many_clients(Api(g).wait_ready(), 64)
            eventually(lambda: g.text().count("is ready") == 2)
            texts = [f"{i} " + " ".join(f"x{i}y{k}" for k in range(100)) for i in range(64)]
            streams = Streams(api, [chat(t) for t in texts])
            for e in streams.first:
                assert e.wait(10)
            a.kill()
            results = streams.join()
            well = [i for i, r in enumerate(results) if ended_well(r)]
            assert len(well) >= 20, len(well)
            for i, r in enumerate(results):
                assert i in well or ended_with_error(r)
            for i in well:
                deltas = [json.loads(line[6:]) for line in results[i][1].split("\n\n") if line.startswith("data: {")]
                assert content(deltas) == "mock: " + texts[i]
            assert api.text("go on") == "mock: go on"


def test_a_waiting_request_moves_to_another_worker():
    """What has not begun is not lost with its worker."""
    with worker("mock", "--mock-faults", "--max-running", 1) as a, worker("mock", "--mock-faults", "--max-running", 1) as b:
        with gateway(a, b) as g:
            api = many_clients(Api(g).wait_ready(), 16)
            eventually(lambda: g.text().count("is ready") == 2)
            hanging = Streams(api, [chat("@slow 300 @repeat 8")] * 2)
            eventually(lambda: gauge(api, "vlmd_num_requests_running") == 2)
            waiting = Streams(api, [chat(f"waiting {i}") for i in range(4)])
            eventually(lambda: gauge(api, "vlmd_num_requests_waiting") == 4)
            a.kill()
            assert all(map(ended_well, waiting.join())), waiting.results
            hanging.join()


def test_a_request_that_kills_is_quarantined():
    with serve("mock", "--mock-faults", **DIE_PLAINLY) as server:
        api = Api(server).wait_ready()
        start = time.monotonic()
        check_error(api.post(chat("@crash now")), 422, code="request_quarantined")
        assert time.monotonic() - start < 10
        api.wait_ready()
        restarts = gauge(api, "vlmd_worker_restarts_total")
        assert restarts == 2
        check_error(api.post(chat("@crash now")), 422, code="request_quarantined")
        assert gauge(api, "vlmd_worker_restarts_total") == restarts
        assert gauge(api, 'vlmd_requests_rejected_total{model_name="mock",reason="quarantined"}') == 2
        assert api.text("good") == "mock: good"
        server.stop()


def test_a_stuck_worker_is_replaced():
    with serve("mock", "--mock-faults", "--step-timeout", 0.5) as server:
        api = Api(server).wait_ready()
        check_error(api.post(chat("@stall"), timeout=30), 422)
        api.wait_ready()
        assert api.text("good") == "mock: good"


def test_a_worker_that_never_starts(vlmd, tmp_path):
    r = vlmd("serve", tmp_path / "nothing", "--listen", "127.0.0.1:0")
    assert r.code == 1 and b"nothing" in r.err


def test_no_worker():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    with Server("gateway", "--worker", f"127.0.0.1:{free}", "--listen", "127.0.0.1:0") as g:
        api = Api(g)
        assert api.http.get("/livez").status_code == 200
        assert api.http.get("/readyz").status_code == 503
        r = api.post(chat(), headers={"X-Request-Timeout": "1"})
        check_error(r, 504, "timeout_error")


def test_a_name_for_workers():
    needs_localhost()
    with worker("mock") as w, Server("gateway", "--worker", f"dns:///localhost:{w.port}", "--listen", "127.0.0.1:0") as g:
        api = Api(g).wait_ready()
        assert api.text("named") == "mock: named"


def test_overload():
    """More than running and waiting together: 503 at once, with Retry-After; the accepted ones end."""
    with serve("mock", "--mock-token-ms", 30, "--max-running", 4, "--max-waiting", 4) as server:
        api = many_clients(Api(server).wait_ready(), 64)
        streams = Streams(api, [chat(f"r{i} " + "w " * 20) for i in range(40)])
        results = streams.join()
        well = sum(map(ended_well, results))
        refused = [r for r in results if r[0] == 503]
        assert well >= 8 and well + len(refused) == 40, [r[0] for r in results]
        r = Api(server).post(chat("later"))
        assert r.status_code == 200
        assert gauge(api, 'vlmd_requests_rejected_total{model_name="mock",reason="overloaded"}') == len(refused)
        idle(api)


def test_bodies_are_bounded_together():
    """Requests that wait hold their bodies: beyond --max-bodies others are refused, until the first have ended."""
    with serve("mock", "--mock-faults", "--max-bodies", "1MiB") as server:
        api = many_clients(Api(server).wait_ready(), 8)
        streams = Streams(api, [chat("@slow 100 @repeat 15 " + "x" * 900000)])
        eventually(lambda: gauge(api, "vlmd_num_requests_running") == 1)
        check_error(api.post(chat("y" * 400000)), 503, "overloaded_error")
        assert api.text("small") == "mock: small"
        assert ended_well(streams.join()[0])
        eventually(lambda: api.post(chat("y" * 400000)).status_code == 200)


def test_readyz_when_full():
    with serve("mock", "--mock-faults", "--max-running", 1, "--max-waiting", 0) as server:
        api = many_clients(Api(server).wait_ready(), 8)
        streams = Streams(api, [chat("@slow 100 @repeat 10")])
        eventually(lambda: api.http.get("/readyz").status_code == 503)
        r = api.post(chat())
        check_error(r, 503, "overloaded_error", code="server_overloaded")
        assert 1 <= int(r.headers["retry-after"]) <= 30
        assert ended_well(streams.join()[0])
        eventually(lambda: api.http.get("/readyz").status_code == 200)


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_leave(stream):
    """Closed at random moments: nothing is left behind."""
    with serve("mock", "--mock-faults", "--max-running", 8) as server:
        api = Api(server).wait_ready()
        api.ask({"messages": [message("warm", picture(200, 200))]})
        idle(api)
        before = (descriptors(server.process.pid), threads(server.process.pid))
        body = post_bytes({"messages": [message("@slow 3 @repeat 30", picture(200, 200))], "stream": stream})
        for i in range(150):
            s = connect(server)
            s.sendall(body[:len(body) * (i % 7 + 1) // 7])
            time.sleep(i % 5 * 0.003)
            if i % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
        idle(api)
        assert api.text("still") == "mock: still"
        eventually(lambda: (descriptors(server.process.pid), threads(server.process.pid)) == before)


def test_slow_header_and_body():
    with serve("mock", "--header-timeout", 0.5) as server:
        api = Api(server).wait_ready()
        with connect(server) as s:
            s.sendall(b"POST /v1/chat/completions HT")
            data = read_all(s)
            assert data.startswith(b"HTTP/1.1 408 ")
        with connect(server) as s:
            data = read_all(s)
            assert data == b"" or data.startswith(b"HTTP/1.1 408 ")
        # A slow body keeps nobody else waiting.
        with connect(server) as s:
            s.sendall(post_head(100) + b"{")
            assert api.text("quick") == "mock: quick"


def test_idle_connections_end():
    with serve("mock", "--idle-timeout", 0.3) as server:
        Api(server).wait_ready()
        with connect(server) as s:
            s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            start = time.monotonic()
            assert read_all(s).endswith(b'{"status":"ok"}')
            assert time.monotonic() - start < 5


def test_a_slow_reader_is_cut():
    with serve("mock", "--mock-faults", "--slow-reader-timeout", 1, "--max-unsent", "64KiB") as server:
        api = Api(server).wait_ready()
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect((server.host, server.port))
        s.sendall(post_bytes(chat("@repeat 200000", stream=True)))
        s.recv(1000)
        eventually(lambda: gauge(api, "vlmd_num_requests_running") == 0, 20)
        s.settimeout(10)
        assert b"[DONE]" not in read_all(s)
        s.close()
        idle(api)


def test_a_slow_but_steady_reader_gets_everything():
    with serve("mock", "--mock-faults", "--slow-reader-timeout", 5, "--max-unsent", "64KiB") as server:
        Api(server).wait_ready()
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        s.connect((server.host, server.port))
        s.sendall(post_bytes(chat("@repeat 20000", stream=True)))
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = s.recv(32768)
            assert piece
            data += piece
            if len(data) < 400000:
                time.sleep(0.02)
        s.close()
        assert b"data: [DONE]" in data and data.count(b'"content":" w') == 20000


def test_comments_keep_a_silent_stream_alive():
    with serve("mock", "--mock-faults", "--mock-prefill-ms", 11000) as server:
        api = Api(server).wait_ready()
        start = time.monotonic()
        with api.http.stream("POST", "/v1/chat/completions", json=chat("x", stream=True)) as r:
            headers_after = time.monotonic() - start
            text = r.read().decode()
        assert r.status_code == 200 and 8 < headers_after < 10.9
        assert text.startswith(":\n\n") and text.endswith("data: [DONE]\n\n")


def test_drain():
    server = serve("mock", "--mock-token-ms", 20)
    api = many_clients(Api(server).wait_ready(), 16)
    streams = Streams(api, [chat(f"{i} " + "w " * 40) for i in range(8)])
    for e in streams.first:
        assert e.wait(10)
    server.signal(signal.SIGTERM)
    assert all(map(ended_well, streams.join()))
    assert server.wait() == 0
    server.check_log()


def test_drain_refuses_and_times_out():
    server = serve("mock", "--mock-faults", "--shutdown-timeout", 1)
    api = many_clients(Api(server).wait_ready(), 16)
    streams = Streams(api, [chat("@hang"), chat("@slow 20 @repeat 1000")])
    eventually(lambda: gauge(api, "vlmd_num_requests_running") == 2)
    server.signal(signal.SIGTERM)
    server.wait_log("shutting down")
    with pytest.raises(httpx.HTTPError):
        httpx.get(server.url + "/livez", trust_env=False)
    assert all(map(ended_with_error, streams.join()))
    assert server.wait() == 0
    server.check_log()


def test_a_second_signal_ends_at_once():
    server = serve("mock", "--mock-faults")
    api = Api(server).wait_ready()
    Streams(api, [chat("@hang")])
    eventually(lambda: gauge(api, "vlmd_num_requests_running") == 1)
    children = server.children()
    server.signal(signal.SIGTERM)
    server.wait_log("shutting down")
    start = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait(10)
    assert time.monotonic() - start < 5
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))


def test_a_killed_gateway_takes_its_worker_along():
    server = serve("mock")
    Api(server).wait_ready()
    children = server.children()
    assert children
    server.kill()
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children))


def test_sd_notify(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(10)
        with serve("mock", NOTIFY_SOCKET=path, WATCHDOG_USEC="200000") as server:
            assert s.recv(100) == b"READY=1"
            assert s.recv(100) == b"WATCHDOG=1"
            server.signal(signal.SIGTERM)
            while s.recv(100) != b"STOPPING=1":
                pass


def test_few_descriptors():
    """No place for more connections: others are served, and all when there is room again."""
    import resource
    with serve("mock", limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))) as server:
        api = Api(server).wait_ready()
        many = []
        for _ in range(100):
            try:
                many.append(connect(server, 2))
            except OSError:
                break
        assert api.text("kept") == "mock: kept"
        for s in many:
            s.close()
        eventually(lambda: httpx.get(server.url + "/livez", trust_env=False, timeout=5).status_code == 200, 20)
