"""Pictures by URL: off by default; no address that is not global is ever connected to; one wording for all failures."""
import socket
import threading

import pytest

from api import Api, check_error, serve

URLS = [
    "http://127.0.0.1/", "http://127.0.0.1:80/x.png", "http://localhost/", "http://localhost./", "http://LOCALHOST/",
    "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://0177.0.0.1/",
    "http://017700000001/", "http://0/", "http://0.0.0.0/", "http://[::]/", "http://[::1]/", "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/", "http://[2001:0:7f00:1::]/", "http://[fe80::1]/", "http://[fe80::1%25lo]/",
    "http://[fe80::1%lo]/", "http://[fc00::1]/", "http://[fd00::1]/", "http://[ff02::1]/", "http://[2001:db8::1]/",
    "http://[100::1]/", "http://10.0.0.1/", "http://10.255.255.255/", "http://172.16.0.1/", "http://172.31.255.255/",
    "http://192.168.0.1/", "http://169.254.169.254/latest/meta-data/", "http://100.64.0.1/", "http://100.127.255.255/",
    "http://192.0.0.1/", "http://192.0.2.1/", "http://198.18.0.1/", "http://198.51.100.1/", "http://203.0.113.1/",
    "http://224.0.0.1/", "http://239.255.255.255/", "http://240.0.0.1/", "http://255.255.255.255/",
    "http://user@127.0.0.1/", "http://a:b@127.0.0.1/", "http://example.org@127.0.0.1/", "http://127.0.0.1\\@example.org/",
    "http://127.0.0.1%2f@x/", "http://%31%32%37.0.0.1/", "http://127。0。0。1/", "http://①②⑦.0.0.1/", "http:///x", "http://",
    "http://127.0.0.1:22/", "http://127.0.0.1:99999/", "http://x y/", "http://no-such-name.invalid/", "https://127.0.0.1/",
    "https://localhost/", "HTTP://127.0.0.1/",
]
OTHER_SCHEMES = ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:80/", "dict://127.0.0.1/", "javascript:1",
                 "/etc/passwd", "../x.png", "unix:/tmp/x"]


def ask(url):
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"},
                                                      {"type": "image_url", "image_url": {"url": url}}]}]}


class Listeners:
    """Who connects to port 80 or 443 of this machine?"""

    def __init__(self):
        self.sockets, self.seen, self.is_complete = [], [], True
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            for port in (80, 443):
                s = socket.socket(family)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind((host, port))
                    s.listen()
                except OSError:
                    s.close()
                    self.is_complete = False
                    continue
                self.sockets.append(s)
                threading.Thread(target=self._accept, args=(s,), daemon=True).start()

    def _accept(self, s):
        try:
            while True:
                c, who = s.accept()
                self.seen.append(who)
                c.close()
        except OSError:
            pass

    def close(self):
        for s in self.sockets:
            s.close()


@pytest.fixture(scope="module")
def api():
    with serve("mock", "--image-urls", "on") as server:
        yield Api(server).wait_ready()
        server.stop()


def test_no_address_of_this_machine_or_net(api):
    listeners = Listeners()
    texts = set()
    try:
        for url in URLS:
            r = api.post(ask(url))
            error = check_error(r, 400, "invalid_request_error", "messages[0].content[1].image_url")
            texts.add(error["message"])
        assert listeners.seen == []
    finally:
        listeners.close()
    assert len(texts) == 1, texts


@pytest.mark.parametrize("url", OTHER_SCHEMES)
def test_other_schemes(api, url):
    check_error(api.post(ask(url)), 400, "invalid_request_error", "messages[0].content[1]")


def test_off_by_default():
    with serve("mock") as server:
        api = Api(server).wait_ready()
        check_error(api.post(ask("http://example.org/x.png")), 400, "invalid_request_error", "messages[0].content[1].image_url")


def test_only_listed_hosts():
    with serve("mock", "--image-urls", "on", "--image-hosts", "a.example,b.example") as server:
        api = Api(server).wait_ready()
        for url in ("http://example.org/", "http://xa.example/", "http://a.example.org/"):
            check_error(api.post(ask(url)), 400, "invalid_request_error", "messages[0].content[1].image_url")
