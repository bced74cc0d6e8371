"""What the tests of the HTTP API share: the published schemas, requests, answers taken apart."""
import base64
import io
import json
import os
import re

import httpx
import jsonschema
import numpy as np
from PIL import Image

from helpers import ROOT
from servers import Server

with open(os.path.join(ROOT, "tests/data/openai/chat-api.schemas.json"), encoding="utf-8") as _f:
    SCHEMAS = json.load(_f)

# Texts that must never come back in an error.
CANARY_KEY = "sk-canary-7f3a9"
CANARY_PROMPT = "canary-prompt-51c2"
LEAKS = [re.compile(p) for p in (r"0x[0-9a-f]{6,}", re.escape(ROOT), r"/tmp/", re.escape(CANARY_KEY),
                                 re.escape(CANARY_PROMPT), r"\.c:\d+", r"unix:")]


def _nullable(node):
    """OpenAPI 3.0's "nullable", which the validator does not know."""
    if isinstance(node, dict):
        node = {k: _nullable(v) for k, v in node.items()}
        if node.pop("nullable", False):
            return {"anyOf": [node, {"type": "null"}]}
        return node
    return [_nullable(v) for v in node] if isinstance(node, list) else node


_SCHEMA = _nullable(SCHEMAS)
_validators = {}


def validate(body, name):
    if name not in _validators:
        schema = dict(_SCHEMA, **{"$ref": f"#/components/schemas/{name}"})
        _validators[name] = jsonschema.Draft202012Validator(schema)
    errors = sorted(_validators[name].iter_errors(body), key=str)
    assert not errors, f"{name}: {errors[0].message} in {json.dumps(body)[:500]}"
    return body


def check_error(response, status, type=None, param=None, code=None, word=None):
    """An error as the schema wants it, with nothing in it that is not the client's."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json", response.headers
    return check_error_body(response.json(), type, param, code, word)


def check_error_body(body, type=None, param=None, code=None, word=None):
    validate(body, "ErrorResponse")
    error = body["error"]
    text = json.dumps(body)
    for leak in LEAKS:
        assert not leak.search(text), text
    if type is not None:
        assert error["type"] == type, body
    if param is not None:
        assert (error["param"] or "").startswith(param), body
    if code is not None:
        assert error["code"] == code, body
    if word is not None:
        assert word in error["message"], body
    return error


def picture(width=8, height=6, format="PNG", seed=1):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format)
    return out.getvalue()


def mock_digest(data):
    """What the mock says of a picture."""
    import hashlib
    image = Image.open(io.BytesIO(data)).convert("RGB")
    digest = hashlib.sha256(image.tobytes()).hexdigest()[:8]
    return f" [{image.width}x{image.height} sha256:{digest}]"


def data_uri(data, mime="image/png"):
    return f"data:{mime};base64," + base64.b64encode(data).decode()


def message(text, *pictures):
    parts = [{"type": "image_url", "image_url": {"url": data_uri(p)}} for p in pictures]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def chat(text="hello", **more):
    return {"messages": [{"role": "user", "content": text}], **more}


def serve(model="mock", *args, **environment):
    return Server("serve", model, "--listen", "127.0.0.1:0", *args, **environment)


class Api:
    """A server and a client of it; every answer of the API is validated."""

    def __init__(self, server, **headers):
        self.server = server
        self.http = httpx.Client(base_url=server.url, timeout=60, headers=headers, trust_env=False)

    def wait_ready(self, seconds=20):
        from servers import eventually

        def ready():
            try:
                return self.http.get("/readyz").status_code == 200
            except httpx.HTTPError:
                return False

        eventually(ready, seconds)
        return self

    def post(self, body, **more):
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return self.http.post("/v1/chat/completions", content=body, headers=headers, **more)

    def ask(self, text="hello", **more):
        """The whole body of a plain answer."""
        r = self.post(chat(text, **more) if isinstance(text, str) else text)
        assert r.status_code == 200, r.text
        return validate(r.json(), "CreateChatCompletionResponse")

    def text(self, text="hello", **more):
        return self.ask(text, **more)["choices"][0]["message"]["content"]

    def stream(self, body, headers=None):
        """All chunks of a streamed answer; checks what every stream keeps to."""
        body = dict(body, stream=True)
        with self.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as r:
            if r.status_code != 200:
                r.read()
                raise AssertionError(r.text)
            assert r.headers["content-type"].startswith("text/event-stream")
            events = list(sse(r.iter_bytes()))
        return check_stream(events, body)

    def metrics(self):
        return parse_metrics(self.http.get("/metrics").text)


def sse(pieces):
    """The data of each event; comments are None."""
    buffer = b""
    for piece in pieces:
        buffer += piece
        while b"\n\n" in buffer:
            event, buffer = buffer.split(b"\n\n", 1)
            if event.startswith(b":"):
                yield None
                continue
            assert event.startswith(b"data: ") and b"\n" not in event, event
            yield event[6:].decode("utf-8")
    assert buffer == b"", buffer


def check_stream(events, body):
    events = [e for e in events if e is not None]
    assert events[-1] == "[DONE]", events[-3:]
    chunks = [validate(json.loads(e), "CreateChatCompletionStreamResponse") for e in events[:-1]]
    assert len({c["id"] for c in chunks}) == 1 and len({c["created"] for c in chunks}) == 1
    n = body.get("n", 1)
    first = [c for c in chunks if c["choices"]][:n]
    assert all(c["choices"][0]["delta"].get("role") == "assistant" for c in first)
    with_usage = body.get("stream_options", {}).get("include_usage", False)
    assert (chunks[-1]["choices"] == []) == with_usage
    finished = {}
    for c in chunks:
        if with_usage:
            assert (c["usage"] is None) == bool(c["choices"])
        for choice in c["choices"]:
            assert choice["index"] not in finished
            if choice["finish_reason"] is not None:
                assert choice["delta"] == {}
                finished[choice["index"]] = choice["finish_reason"]
    assert sorted(finished) == list(range(n))
    assert "timings" in chunks[-1]
    return chunks


def content(chunks, index=0):
    return "".join(choice["delta"].get("content") or "" for c in chunks for choice in c["choices"]
                   if choice["index"] == index)


def parse_metrics(text):
    """{name with labels: value}"""
    out = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            out[name] = float(value)
    return out
