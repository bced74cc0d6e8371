"""The OpenAI API of `vlmd serve mock`: answers, streams, errors."""
import base64
import json
import re
import subprocess

import pytest

from api import (CANARY_PROMPT, Api, chat, check_error, content, message, mock_digest, picture, serve,
                 validate)
from servers import DIE_PLAINLY


@pytest.fixture(scope="module")
def api():
    with serve("mock", "--mock-faults", "--max-running", 300, **DIE_PLAINLY) as server:
        yield Api(server).wait_ready()
        server.stop()


def test_plain_answer(api):
    r = api.post(chat("hello big world", max_tokens=3))
    body = validate(r.json(), "CreateChatCompletionResponse")
    choice = body["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": "mock: hello big", "refusal": None}
    assert choice["finish_reason"] == "length" and choice["logprobs"] is None
    assert body["model"] == "mock" and body["object"] == "chat.completion"
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (3, 3, 6)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "image_tokens": 0}
    assert set(body["timings"]) == {"queue_ms", "image_ms", "prefill_ms", "decode_ms", "prefill_tokens",
                                    "decode_tokens"}
    assert body["id"].startswith("chatcmpl-")
    assert api.text("x", max_tokens=2) == "mock: x"
    assert api.ask("x", max_tokens=2)["choices"][0]["finish_reason"] == "stop"


def test_stream(api):
    chunks = api.stream(chat("hello big world"))
    assert content(chunks) == "mock: hello big world"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    chunks = api.stream(chat("hello", stream_options={"include_usage": True}))
    assert chunks[-1]["usage"]["completion_tokens"] == 2


def test_choices(api):
    body = api.ask("a b c", n=3)
    assert [c["index"] for c in body["choices"]] == [0, 1, 2]
    assert all(c["message"]["content"] == "mock: a b c" for c in body["choices"])
    assert body["usage"]["completion_tokens"] == 12
    chunks = api.stream(chat("a b c", n=3))
    assert all(content(chunks, i) == "mock: a b c" for i in range(3))


def test_pictures_in_all_dresses(api):
    for format, mime in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif"),
                         ("BMP", "image/bmp")):
        data = picture(9, 7, format)
        assert api.text({"messages": [message("see", data)]}) == "mock: see" + mock_digest(data)
        plain = base64.b64encode(data).decode()
        for url in (f"data:{mime};base64,{plain}", f"data:;base64,{plain}", plain, plain.rstrip("="),
                    "\n".join(plain[i:i + 60] for i in range(0, len(plain), 60)),
                    base64.urlsafe_b64encode(data).decode(), f"data:text/plain;charset=x;base64,{plain}"):
            for image_url in (url, {"url": url}, {"url": url, "detail": "high"}):
                body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"},
                                                                  {"type": "image_url", "image_url": image_url}]}]}
                assert api.text(body) == "mock: see" + mock_digest(data), url[:40]
    two = [picture(3, 4, seed=2), picture(5, 2, seed=3)]
    body = api.ask({"messages": [message("two", *two)]})
    assert body["choices"][0]["message"]["content"] == "mock: two" + "".join(map(mock_digest, two))
    assert body["usage"]["prompt_tokens_details"]["image_tokens"] == 32


def test_many_turns(api):
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "mock: one"}, {"role": "user", "content": "two three"}]
    body = api.ask({"messages": messages})
    assert body["choices"][0]["message"]["content"] == "mock: two three"
    assert body["usage"]["prompt_tokens"] == 7


def test_stop_and_logprobs(api):
    body = api.ask("a b STOP c", stop="STOP", logprobs=True, top_logprobs=3)
    choice = body["choices"][0]
    assert choice["message"]["content"] == "mock: a b " and choice["finish_reason"] == "stop"
    tokens = choice["logprobs"]["content"]
    assert "".join(t["token"] for t in tokens) == "mock: a b STOP"
    assert all(len(t["top_logprobs"]) == 3 and bytes(t["bytes"]).decode() == t["token"] for t in tokens)
    assert api.text("a b c", stop=["x", " b"]) == "mock: a"
    chunks = api.stream(chat("a b c", logprobs=True))
    tokens = [t for c in chunks for choice in c["choices"] for t in ((choice.get("logprobs") or {}).get("content") or [])]
    assert "".join(t["token"] for t in tokens) == "mock: a b c"


def test_unicode_and_nul(api):
    text = "gr\u00fc\u00dfe \U0001f600 \u0000 \u4f60\u597d"
    assert api.text(text) == "mock: " + text
    assert content(api.stream(chat(text))) == "mock: " + text


def test_known_parameters_are_taken(api):
    body = chat("x", model="mock", temperature=0.5, top_p=0.9, n=1, stream=False, stop=None, seed=-5, user="me",
                frequency_penalty=1, presence_penalty=-1, logit_bias={"5": 10}, logprobs=False, top_k=5, min_p=0.1,
                repetition_penalty=1.1, ignore_eos=False, max_completion_tokens=50, metadata={"a": "b"}, store=False,
                response_format={"type": "text"}, tools=[], service_tier="auto", unknown_thing={"x": [1]})
    assert api.text(body) == "mock: x"


BAD = [
    ({"messages": []}, "messages"),
    ({}, "messages"),
    ({"messages": "x"}, "messages"),
    ({"messages": [1]}, "messages[0]"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0]"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "ftp://x/y"}]}]},
     "messages[0].content[0].image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "http://x/y.png"}]}]},
     "messages[0].content[0].image_url"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,@@@"}]}]},
     "messages[0].content[0].image_url"),
    (chat(temperature=2.1), "temperature"), (chat(temperature=-0.1), "temperature"), (chat(temperature="1"), "temperature"),
    (chat(top_p=0), "top_p"), (chat(top_p=1.5), "top_p"), (chat(n=0), "n"), (chat(n=9), "n"), (chat(n=1.5), "n"),
    (chat(max_tokens=0), "max_tokens"), (chat(max_tokens=-1), "max_tokens"), (chat(max_tokens=True), "max_tokens"),
    (chat(max_completion_tokens=0), "max_completion_tokens"),
    (chat(stream="yes"), "stream"), (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(stop=["x"] * 17), "stop"), (chat(stop=["x" * 257]), "stop"), (chat(stop=5), "stop"), (chat(stop=""), "stop"),
    (chat(seed=1.5), "seed"), (chat(seed="1"), "seed"),
    (chat(frequency_penalty=2.1), "frequency_penalty"), (chat(presence_penalty=-2.1), "presence_penalty"),
    (chat(logit_bias={"x": 1}), "logit_bias"), (chat(logit_bias={"1": 101}), "logit_bias"), (chat(logit_bias=[]), "logit_bias"),
    (chat(logprobs=1), "logprobs"), (chat(top_logprobs=3), "top_logprobs"), (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(top_k=-1), "top_k"), (chat(min_p=2), "min_p"), (chat(repetition_penalty=0), "repetition_penalty"),
    (chat(ignore_eos="x"), "ignore_eos"),
    (chat(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
    (chat(response_format={"type": "json_object"}), "response_format"),
    (chat(functions=[{"name": "f"}]), "functions"),
    (chat(modalities=["audio"]), "modalities"), (chat(model=5), "model"),
]


@pytest.mark.parametrize("body,param", BAD, ids=lambda v: v if isinstance(v, str) else json.dumps(v)[:60])
def test_bad_parameters_are_named(api, body, param):
    for stream in ({}, {"stream": True}):
        more = dict(body)
        if "stream" not in more and param != "stream_options":
            more.update(stream)
        check_error(api.post(more), 400, "invalid_request_error", param)


def test_model_not_found(api):
    check_error(api.post(chat(model="other")), 404, "not_found_error", "model", "model_not_found")
    check_error(api.http.get("/v1/models/other"), 404, "not_found_error", code="model_not_found")


def test_bad_pictures(api):
    good = picture(20, 20)
    for data in (b"", b"hello", good[:30], good[:-20], picture(20, 20, "JPEG")[:100], b"GIF89a" + b"\xff" * 50):
        for stream in (False, True):
            r = api.post({"messages": [message("x", data)], "stream": stream})
            check_error(r, 400, "invalid_request_error", "messages")


def test_limits_of_pictures(api):
    one = picture(4, 4)
    assert api.text({"messages": [message("x", *[one] * 16)]}).count("sha256") == 16
    check_error(api.post({"messages": [message("x", *[one] * 17)]}), 400, "invalid_request_error", "messages")
    check_error(api.post({"messages": [message("x", b"\0" * ((20 << 20) + 1))]}), 400, "invalid_request_error", "messages")


def test_bad_json(api):
    for body in (b"", b"{", b"[]", b"null", b"5", b'"x"', b"{} {}", b"\xff", b'{"messages":[{"role":"user","content":"\xff"}]}',
                 b'{"a":NaN}', b"[" * 1000, b'{"a":' * 65 + b"1" + b"}" * 65, b'{"messages":1,"messages":2}'):
        check_error(api.post(body), 400, "invalid_request_error")


def test_context_length():
    with serve("mock", "--ctx", 100) as server:
        api = Api(server).wait_ready()
        error = check_error(api.post(chat("w " * 200)), 400, "invalid_request_error", "messages", "context_length_exceeded")
        assert "200" in error["message"] and "100" in error["message"]
        assert api.ask("w " * 90, max_tokens=1000)["choices"][0]["finish_reason"] == "length"


def test_status_on_cue(api):
    table = {3: 400, 4: 504, 5: 404, 8: 503, 12: 400, 13: 500, 2: 500, 10: 500, 15: 500, 9: 500, 16: 500}
    for code, status in table.items():
        for stream in (False, True):
            r = api.post(chat(f"@error {code} {CANARY_PROMPT}", stream=stream))
            check_error(r, status)
            if status == 503:
                assert 1 <= int(r.headers["retry-after"]) <= 30


def test_routes(api):
    r = api.http.get("/v1/models")
    assert [m["id"] for m in validate(r.json(), "ListModelsResponse")["data"]] == ["mock"]
    validate(api.http.get("/v1/models/mock").json(), "Model")
    for path in ("/livez", "/readyz", "/health"):
        assert api.http.get(path).status_code == 200
    check_error(api.http.get("/nope"), 404, "not_found_error")
    check_error(api.http.get("/v1"), 404, "not_found_error")
    check_error(api.http.post("/v1/models"), 405)
    r = api.http.get("/v1/chat/completions")
    check_error(r, 405)
    assert "POST" in r.headers["allow"]
    assert api.http.head("/v1/models").status_code == 200


def test_content_types(api):
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/jsonx"},
                    {"Content-Type": "application/json", "Content-Encoding": "gzip"}):
        r = api.http.post("/v1/chat/completions", content=json.dumps(chat()), headers=headers)
        check_error(r, 415)
    assert api.post(chat(), headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 200


def test_request_ids(api):
    r = api.post(chat(), headers={"X-Request-Id": "my-id-1"})
    assert r.headers["x-request-id"] == "my-id-1"
    made = [api.post(chat()).headers["x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    for bad in ("x" * 129, "a b"):
        assert api.post(chat(), headers={"X-Request-Id": bad}).headers["x-request-id"] != bad
    api.server.wait_log(r"request_id=my-id-1 .*status=200 .*prompt_tokens=1 completion_tokens=2")


def test_timeout_header(api):
    check_error(api.post(chat("@hang"), headers={"X-Request-Timeout": "0.3"}), 504, "timeout_error")
    for bad in ("x", "-1", "0", "1e5", "nan"):
        check_error(api.post(chat(), headers={"X-Request-Timeout": bad}), 400, param="X-Request-Timeout")
    with api.http.stream("POST", "/v1/chat/completions", json=chat("@slow 50 @repeat 1000", stream=True),
                         headers={"X-Request-Timeout": "0.5"}) as r:
        assert r.status_code == 200
        text = r.read().decode()
    assert "[DONE]" not in text and '"timeout_error"' in text.rstrip().rsplit("data: ", 1)[1]


def test_an_error_in_a_stream(api):
    """The worker dies in the middle: the error event, the end, no [DONE]."""
    # A client of its own: the last test's connection may be ending this moment.
    with Api(api.server).http.stream("POST", "/v1/chat/completions",
                                     json=chat("@crash @slow 50 @repeat 100", stream=True)) as r:
        text = r.read().decode()
    assert "[DONE]" not in text
    last = json.loads(text.rstrip().rsplit("data: ", 1)[1])
    validate(last, "ErrorResponse")
    api.wait_ready()


def test_openai_client(api):
    import openai
    client = openai.OpenAI(base_url=api.server.url + "/v1", api_key="none")
    answer = client.chat.completions.create(model="mock", messages=[message("hello", picture())])
    assert answer.choices[0].message.content.startswith("mock: hello [8x6 sha256:")
    stream = client.chat.completions.create(model="mock", messages=[{"role": "user", "content": "a b c"}], stream=True,
                                            stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "mock: a b c"
    assert chunks[-1].usage.total_tokens == 7
    with pytest.raises(openai.BadRequestError) as e:
        client.chat.completions.create(model="mock", messages=[])
    assert e.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    assert [m.id for m in client.models.list()] == ["mock"]


def test_openai_async(api):
    import asyncio

    import openai

    async def run():
        client = openai.AsyncOpenAI(base_url=api.server.url + "/v1", api_key="none")

        async def one(i):
            text = ""
            stream = await client.chat.completions.create(model="mock", stream=True,
                                                          messages=[{"role": "user", "content": f"s{i} @slow 2 a b c"}])
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
            return text

        return await asyncio.gather(*(one(i) for i in range(50)))

    assert asyncio.run(run()) == [f"mock: s{i} @slow 2 a b c" for i in range(50)]


def test_curl(api):
    p = subprocess.run(["curl", "-sS", "-N", api.server.url + "/v1/chat/completions", "-H", "Content-Type: application/json",
                        "-d", json.dumps(chat("from curl", stream=True))], capture_output=True, check=True, timeout=30)
    assert p.stdout.endswith(b"data: [DONE]\n\n") and b"curl" in p.stdout
    # A large body with Expect: 100-continue.
    p = subprocess.run(["curl", "-sS", "-i", "-H", "Expect: 100-continue", api.server.url + "/v1/chat/completions", "-H",
                        "Content-Type: application/json", "-d", "@-"],
                       input=json.dumps(chat("x" * 3000000)).encode(), capture_output=True, check=True, timeout=30)
    assert p.stdout.startswith(b"HTTP/1.1 100 Continue") and p.stdout.count(b"x") > 3000000


def test_metrics(api):
    before = api.metrics()
    api.ask("one two", max_tokens=2)
    after = api.metrics()
    label = '{model_name="mock"}'
    assert after[f"vlmd_prompt_tokens_total{label}"] - before[f"vlmd_prompt_tokens_total{label}"] == 2
    assert after[f"vlmd_generation_tokens_total{label}"] - before[f"vlmd_generation_tokens_total{label}"] == 2
    assert after[f"vlmd_num_requests_running{label}"] == 0 and after[f"vlmd_num_requests_waiting{label}"] == 0
    api.ask({"messages": [message("see", picture(4, 4, "WEBP"))]})
    from servers import eventually
    eventually(lambda: api.metrics()['vlmd_images_total{model_name="mock",format="WebP"}'] > 0)
    assert any(k.startswith("vlmd_time_to_first_token_seconds_bucket") for k in after)


def test_keys(tmp_path):
    from api import CANARY_KEY
    path = tmp_path / "keys"
    path.write_text(f"# comment\n{CANARY_KEY}\nsecond-key\n")
    with serve("mock", "--api-key-file", path) as server:
        api = Api(server)
        from servers import eventually
        eventually(lambda: api.http.get("/readyz").status_code == 200)
        assert api.http.get("/livez").status_code == 200
        for path_ in ("/v1/models", "/health", "/metrics", "/nope", "/v1/chat/completions", "//v1/models", "/v1/models/x",
                      "/livez/", "/livez?x=1/../v1", "/%6civez"):
            for headers in ({}, {"Authorization": f"Bearer {CANARY_KEY}x"}, {"Authorization": f"Bearer {CANARY_KEY[:-1]}"},
                            {"Authorization": CANARY_KEY}, {"X-Api-Key": "no"}, {"Authorization": "Basic x"}):
                r = api.http.get(path_, headers=headers)
                if path_.startswith("/livez?"):
                    assert r.status_code == 200
                    continue
                check_error(r, 401, "authentication_error", code="invalid_api_key")
        for headers in ({"Authorization": f"Bearer {CANARY_KEY}"}, {"authorization": "bearer second-key"},
                        {"X-Api-Key": "second-key"}):
            assert api.http.get("/v1/models", headers=headers).status_code == 200
            assert api.http.get("/nope", headers=headers).status_code == 404
        path.write_text("third-key\n")
        import signal
        server.signal(signal.SIGHUP)
        server.wait_log("keys have been read")
        assert api.http.get("/v1/models", headers={"X-Api-Key": "second-key"}).status_code == 401
        assert api.http.get("/v1/models", headers={"X-Api-Key": "third-key"}).status_code == 200
        path.write_text("\n")
        server.signal(signal.SIGHUP)
        server.wait_log("stay as they were")
        assert api.http.get("/v1/models", headers={"X-Api-Key": "third-key"}).status_code == 200
        assert CANARY_KEY not in server.text()


def test_key_files_that_cannot_be(vlmd, tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("\n# nothing\n")
    for path in (empty, tmp_path / "missing", tmp_path):
        r = vlmd("gateway", "--worker", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--api-key-file", path)
        assert r.code == 1, r


def test_cors():
    with serve("mock", "--cors-origin", "https://example.org") as server:
        api = Api(server).wait_ready()
        r = api.http.options("/v1/chat/completions", headers={"Origin": "https://example.org",
                                                              "Access-Control-Request-Method": "POST"})
        assert r.status_code == 204 and r.headers["access-control-allow-origin"] == "https://example.org"
        assert "POST" in r.headers["access-control-allow-methods"]
        assert api.post(chat()).headers["access-control-allow-origin"] == "https://example.org"
    with serve("mock") as server:
        api = Api(server).wait_ready()
        assert "access-control-allow-origin" not in api.post(chat()).headers
        assert api.http.options("/v1/chat/completions").status_code == 405


def test_json_logs():
    with serve("mock", "--log-format", "json") as server:
        api = Api(server).wait_ready()
        api.post(chat(CANARY_PROMPT), headers={"X-Request-Id": "log-me"})
        server.wait_log("log-me")
        for line in server.text().splitlines():
            entry = json.loads(line)
            assert {"ts", "level", "msg"} <= set(entry)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["ts"])
            if entry.get("request_id") == "log-me":
                assert entry["status"] == 200 and entry["model"] == "mock" and entry["completion_tokens"] == 2
        assert CANARY_PROMPT not in server.text()
