"""HTTP/1.1 on real sockets: framing, pipelining, what is refused; behind nginx and haproxy; every number abused."""
import json
import os
import shutil
import socket
import subprocess
import time

import httpx
import pytest

from api import Api, chat, check_error_body, serve, validate
from servers import connect, eventually


@pytest.fixture(scope="module")
def server():
    with serve("mock", "--mock-faults") as s:
        Api(s).wait_ready()
        yield s
        s.stop()


@pytest.fixture(scope="module")
def api(server):
    return Api(server)


class Connection:
    """A raw connection that reads one answer after the other."""

    def __init__(self, server):
        self.socket = connect(server, 10)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data, pieces=None):
        if pieces is None:
            self.socket.sendall(data)
            return
        for i in range(0, len(data), pieces):
            self.socket.sendall(data[i:i + pieces])

    def _more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def answer(self):
        """(status, headers, body), or None at the end of the connection."""
        while b"\r\n\r\n" not in self.buffer:
            if not self._more():
                assert self.buffer == b"", self.buffer
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        status = int(lines[0].split()[1])
        if status == 100:
            return status, headers, b""
        if "content-length" in headers:
            n = int(headers["content-length"])
            while len(self.buffer) < n:
                assert self._more()
            body, self.buffer = self.buffer[:n], self.buffer[n:]
        else:
            body = b""
            while True:
                while b"\r\n" not in self.buffer:
                    assert self._more()
                size, self.buffer = self.buffer.split(b"\r\n", 1)
                n = int(size, 16)
                while len(self.buffer) < n + 2:
                    assert self._more()
                body += self.buffer[:n]
                assert self.buffer[n:n + 2] == b"\r\n"
                self.buffer = self.buffer[n + 2:]
                if n == 0:
                    break
        return status, headers, body

    def is_closed(self):
        try:
            return self.answer() is None
        except ConnectionError:
            return True


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
BODY = json.dumps(chat("hi")).encode()
GOOD = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY


def chunked(data, size):
    out = b"".join(b"%x\r\n%s\r\n" % (len(data[i:i + size]), data[i:i + size]) for i in range(0, len(data), size))
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + out + b"0\r\n\r\n"


def is_hi(answer):
    return answer[0] == 200 and json.loads(answer[2])["choices"][0]["message"]["content"] == "mock: hi"


def test_cut_at_every_byte(server):
    for data in (GOOD, chunked(BODY, 7), chunked(BODY, 1)):
        with Connection(server) as c:
            c.send(data, 1)
            assert is_hi(c.answer())
            for i in range(1, len(data), 5):
                c.send(data[:i])
                c.send(data[i:])
                assert is_hi(c.answer()), i


def test_pipelining(server):
    with Connection(server) as c:
        c.send(GOOD * 20 + b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 200 + chunked(BODY, 5))
        for _ in range(20):
            assert is_hi(c.answer())
        for _ in range(200):
            assert c.answer()[2] == b'{"status":"ok"}'
        assert is_hi(c.answer())
    # Each answer in its own order, streams too.
    with Connection(server) as c:
        for i in range(10):
            body = json.dumps(chat(f"n{i} @slow 5 a b", stream=i % 2 == 0)).encode()
            c.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for i in range(10):
            assert f"n{i}".encode() in c.answer()[2]


def test_http_1_0(server):
    with Connection(server) as c:
        c.send(b"GET /livez HTTP/1.0\r\n\r\n")
        status, headers, _ = c.answer()
        assert status == 200 and headers["connection"] == "close" and c.is_closed()
    with Connection(server) as c:
        body = json.dumps(chat("hi", stream=True)).encode()
        c.send(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        data = b""
        while c._more():
            pass
        data = c.buffer
        head, text = data.split(b"\r\n\r\n", 1)
        assert b"chunked" not in head.lower() and text.startswith(b"data: {") and text.endswith(b"data: [DONE]\n\n")


REFUSED = [
    (b"GET /livez HTTP/1.1\nHost: x\n\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"GET /livez\r\n\r\n", 400),
    (b"GET  /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", 400),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 40000 + b"\r\n\r\n", 431),
    (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    (POST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    (POST + b"Content-Length: +5\r\n\r\nhello", 400),
    (POST + b"Content-Length: -1\r\n\r\n", 400),
    (POST + b"Content-Length: 67108865\r\n\r\n", 413),
    (POST + b"Content-Length: 99999999999999999999\r\n\r\n", None),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", None),
    (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", None),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", None),
    (POST + b"Expect: tea\r\nContent-Length: 5\r\n\r\nhello", 417),
]


@pytest.mark.parametrize("data,status", REFUSED, ids=lambda v: repr(v)[2:60] if isinstance(v, bytes) else str(v))
def test_refused_and_closed(server, data, status):
    """What two readers could understand differently ends the connection; nothing behind it is taken as a request."""
    with Connection(server) as c:
        try:
            c.send(data + GOOD)
        except ConnectionError:
            pass
        got = c.answer()
        assert got[0] == status if status else 400 <= got[0] < 600 and got[0] != 500, got
        assert got[1]["connection"] == "close"
        check_error_body(json.loads(got[2]))
        assert c.is_closed()


def test_a_large_body_is_refused_before_it_comes(server):
    from servers import memory_kb
    before = memory_kb(server.process.pid)
    with Connection(server) as c:
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: 67108865\r\n\r\n")
        assert c.answer()[0] == 413
    with Connection(server) as c:
        try:
            c.send(POST + b"Transfer-Encoding: chunked\r\n\r\n4000001\r\n" + b"x" * (1 << 20))
        except ConnectionError:
            pass
        assert c.answer()[0] == 413
    assert memory_kb(server.process.pid) - before < 4096


def test_continue(server):
    with Connection(server) as c:
        c.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert c.answer()[0] == 100
        c.send(BODY)
        assert is_hi(c.answer())


def test_refusals_keep_the_connection_when_the_body_is_small(server):
    with Connection(server) as c:
        c.send(b"POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789" + GOOD)
        assert c.answer()[0] == 404
        assert is_hi(c.answer())


NUMBERS = ["-1", "0", "1", "2147483647", "-2147483648", "2147483648", "4294967296", "9007199254740993",
           "9223372036854775808", "1e308", "1e400", "-0.0", "NaN", "Infinity", '"7"', "null", "true", "[1]", "{}"]
FIELDS = ["max_tokens", "max_completion_tokens", "temperature", "top_p", "n", "seed", "frequency_penalty",
          "presence_penalty", "top_logprobs", "top_k", "min_p", "repetition_penalty", "stream", "logprobs", "ignore_eos",
          "stop", "logit_bias", "stream_options", "model", "messages", "user", "response_format", "tools"]


@pytest.mark.parametrize("field", FIELDS)
def test_numbers_in_every_field(api, field):
    """An answer or a 400 that names the field; never anything else."""
    for value in NUMBERS:
        body = '{"messages":[{"role":"user","content":"x"}],"%s":%s}' % (field, value)
        if field == "messages":
            body = '{"messages":%s}' % value
        r = api.post(body)
        if r.status_code == 200:
            if value != "true" or field != "stream":
                validate(r.json(), "CreateChatCompletionResponse")
        else:
            assert r.status_code in (400, 404), (field, value, r.text)
            error = check_error_body(r.json())
            if value not in ("NaN", "Infinity", "1e400"):
                assert error["param"] and error["param"].startswith(field), (field, value, error)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def proxied(command, port, server, check_log=None):
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        def is_there():
            try:
                return httpx.get(f"http://127.0.0.1:{port}/livez", trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False
        eventually(is_there, 15)

        class Front:
            url = f"http://127.0.0.1:{port}"
        front = Api(Front())
        assert front.text("through a proxy") == "mock: through a proxy"
        chunks = front.stream(chat("a b c @slow 10"))
        assert chunks
        with httpx.stream("POST", Front.url + "/v1/chat/completions", json=chat("@slow 100 @repeat 8", stream=True),
                          trust_env=False, timeout=30) as r:
            times = []
            for piece in r.iter_raw():
                times.append(time.monotonic())
        assert times[-1] - times[0] > 0.4, "the proxy holds the stream back"
        big = front.text("w" * 3000000)
        assert len(big) == 3000006
        # As many requests at the server as the proxy has let through, also of smuggled ones.
        before = len(server.log)
        for data in (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                     b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"POST /nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n"
                     b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.sendall(data)
                s.settimeout(1)
                try:
                    while s.recv(65536):
                        pass
                except (TimeoutError, ConnectionError):
                    pass
        return len(server.log) - before
    finally:
        p.terminate()
        p.wait(10)


def test_behind_nginx(server, tmp_path):
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    if not os.access(nginx, os.X_OK):
        pytest.skip("nginx is not installed (tools/packages.txt)")
    port = free_port()
    config = tmp_path / "nginx.conf"
    paths = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(f"""{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;
events {{}}
http {{ access_log off; {paths}
  server {{ listen 127.0.0.1:{port}; client_max_body_size 64m;
    location / {{ proxy_pass {server.url}; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
""")
    proxied([nginx, "-c", str(config), "-e", str(tmp_path / "error.log")], port, server)


def test_behind_haproxy(server, tmp_path):
    haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not os.access(haproxy, os.X_OK):
        pytest.skip("haproxy is not installed (tools/packages.txt)")
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(f"""defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s {server.address}
""")
    proxied([haproxy, "-f", str(config)], port, server)
