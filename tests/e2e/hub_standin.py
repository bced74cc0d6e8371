"""A stand-in for the Hugging Face Hub on this machine: its API, its redirects, a second host for large files, and faults
on cue. Speaks as huggingface_hub and vlmd need it, and writes down who asked for what."""
import hashlib
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE = 64 << 10


def git_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Repo:
    """files: {name: bytes}; large ones (LFS) are known by their SHA-256 and lie on the other host."""

    def __init__(self, files, commit="1" * 40, gated=False, private=False, revisions=("main",), large=None):
        self.files, self.commit, self.gated, self.private = dict(files), commit, gated, private
        self.revisions = set(revisions) | {commit}
        self.large = large or (lambda name: name.endswith((".safetensors", ".model")))

    def digest(self, name):
        data = self.files[name]
        return hashlib.sha256(data).hexdigest() if self.large(name) else git_id(data)

    def sibling(self, name):
        data = self.files[name]
        entry = {"rfilename": name, "size": len(data), "blobId": git_id(data)}
        if self.large(name):
            entry["blobId"] = git_id(b"pointer of " + data[:10])
            entry["lfs"] = {"sha256": self.digest(name), "size": len(data), "pointerSize": 130}
        return entry


class Hub:
    """with Hub({"org/name": Repo(...)}) as hub: ... hub.url"""

    def __init__(self, repos, token=None, moved=None):
        self.repos, self.token, self.moved = repos, token, dict(moved or {})
        self.log = []  # (host, method, path, headers)
        self.cuts = []  # bytes of a large file after which its connection is cut, each once
        self.answers = []  # statuses to give instead, in turn: (status, headers)
        self.pause_s = 0.0  # between pieces of a body
        self.ranges = True
        self.wrong = {}  # digest: bytes to send in place of the right ones
        self.siblings = None  # what the API says in place of the files
        self.redirect_to = None  # where large files are said to be
        self._lock = threading.Lock()
        self.front, self.back = self._serve("front"), self._serve("back")
        self.url = f"http://127.0.0.1:{self.front.server_port}"
        self.blobs = {r.digest(n): r.files[n] for r in repos.values() for n in r.files}

    def _serve(self, name):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.handle(self, name)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in (self.front, self.back):
            server.shutdown()
            server.server_close()

    def environment(self, cache, **more):
        return {"HF_ENDPOINT": self.url, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", **more}

    def asked(self, host, part=""):
        with self._lock:
            return [e for e in self.log if e[0] == host and part in e[2]]

    def handle(self, h, host):
        with self._lock:
            self.log.append((host, h.command, h.path, {k.lower(): v for k, v in h.headers.items()}))
            answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            self.send(h, answer[0], b"no", answer[1])
        elif host == "back":
            self.send_blob(h, urllib.parse.urlparse(h.path).path.rsplit("/", 1)[1])
        else:
            self.send_front(h)

    def send(self, h, status, body=b"", headers=()):
        h.send_response(status)
        for name, value in dict(headers).items():
            h.send_header(name, value)
        h.send_header("Content-Length", str(len(body)))
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)

    def refuse(self, h, status, code):
        self.send(h, status, code.encode(), {"X-Error-Code": code, "X-Error-Message": code})

    def send_front(self, h):
        path = urllib.parse.urlparse(h.path).path
        parts = [urllib.parse.unquote(p) for p in path.split("/")[1:]]
        api = parts[:2] == ["api", "models"]
        cached = parts[:3] == ["api", "resolve-cache", "models"]
        rest = parts[3:] if cached else parts[2:] if api else parts
        name = "/".join(rest[:2])
        if name in self.moved:  # relative, as the Hub's own
            self.send(h, 307, b"", {"Location": h.path.replace(name, self.moved[name], 1)})
            return
        repo = self.repos.get(name)
        allowed = h.headers.get("Authorization") == f"Bearer {self.token}"
        if h.headers.get("Authorization") and not allowed:
            self.send(h, 401, b"Invalid credentials")
        elif repo is None or (repo.private and not allowed):
            self.refuse(h, 404 if allowed else 401, "RepoNotFound")
        elif api and rest[2:3] == ["tree"]:
            self.send_tree(h, repo)
        elif api:
            self.send_api(h, repo, name, "/".join(rest[3:]) or "main")
        elif repo.gated and not allowed:
            self.refuse(h, 401, "GatedRepo")
        elif cached:
            self.send_file(h, repo, rest[2], "/".join(rest[3:]), True)
        else:
            self.send_file(h, repo, rest[3], "/".join(rest[4:]), False, name)

    def send_tree(self, h, repo):
        """What huggingface_hub asks for instead of the siblings."""
        entries = []
        for s in (repo.sibling(n) for n in sorted(repo.files)):
            entry = {"type": "file", "path": s["rfilename"], "size": s["size"], "oid": s["blobId"]}
            if "lfs" in s:
                entry["lfs"] = {"oid": s["lfs"]["sha256"], "size": s["size"], "pointerSize": 130}
            entries.append(entry)
        self.send(h, 200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def send_api(self, h, repo, name, revision):
        if revision not in repo.revisions:
            self.refuse(h, 404, "RevisionNotFound")
            return
        siblings = self.siblings if self.siblings is not None else [repo.sibling(n) for n in sorted(repo.files)]
        body = json.dumps({"id": name, "modelId": name, "sha": repo.commit, "gated": repo.gated, "private": repo.private,
                           "tags": [], "downloads": 0, "siblings": siblings}).encode()
        self.send(h, 200, body, {"Content-Type": "application/json"})

    def send_file(self, h, repo, revision, name, is_cached, repo_name=None):
        if revision not in repo.revisions:
            self.refuse(h, 404, "RevisionNotFound")
            return
        if name not in repo.files:
            self.refuse(h, 404, "EntryNotFound")
            return
        digest, size = repo.digest(name), len(repo.files[name])
        linked = {"X-Repo-Commit": repo.commit, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(size)}
        if repo.large(name):
            where = self.redirect_to or f"http://localhost:{self.back.server_port}"
            self.send(h, 302, b"", {"Location": f"{where}/blobs/{digest}?signature=1", **linked})
        elif not is_cached:
            self.send(h, 307, b"", {"Location": f"/api/resolve-cache/models/{repo_name}/{revision}/{name}", **linked})
        else:
            self.send_blob(h, digest, {"X-Repo-Commit": repo.commit, "ETag": f'"{digest}"'})

    def next_cut(self, begin, end):
        with self._lock:
            for cut in self.cuts:
                if begin <= cut < end:
                    self.cuts.remove(cut)
                    return cut
        return None

    def send_blob(self, h, digest, headers=()):
        data = self.wrong.get(digest, self.blobs.get(digest))
        if data is None:
            self.send(h, 404, b"none")
            return
        begin, end, status = 0, len(data), 200
        if self.ranges and h.headers.get("Range", "").startswith("bytes="):
            first, _, last = h.headers["Range"][6:].partition("-")
            begin, end, status = int(first), min(int(last) + 1 if last else len(data), len(data)), 206
            if begin >= len(data):
                self.send(h, 416, b"")
                return
        h.send_response(status)
        for name, value in {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", **dict(headers)}.items():
            h.send_header(name, value)
        if status == 206:
            h.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        h.send_header("Content-Length", str(end - begin))
        h.end_headers()
        if h.command == "HEAD":
            return
        cut = self.next_cut(begin, end) if h.server is self.back else None
        try:
            for at in range(begin, end if cut is None else cut, PIECE):
                h.wfile.write(data[at:min(at + PIECE, end if cut is None else cut)])
                if self.pause_s:
                    time.sleep(self.pause_s)
        except OSError:
            pass
        if cut is not None:
            h.wfile.flush()
            h.close_connection = True
            h.connection.shutdown(2)
