"""Several API keys on one server: what one has computed the other does not see, and none can take all the places."""
import contextlib
import io
import json
import signal
import threading
import time
from concurrent import futures

import grpc
import httpx
import pytest
from PIL import Image

from api import Api, chat, check_error, serve
from fake_worker import FakeWorker, answer, cache_salt_of, tenant_of
from servers import Server, channel, connect, eventually, proto, worker

PROMPT = "Tell me everything that is in the picture, and where, and how large it is, please."


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("key-of-a\nkey-of-b\n")
    path.chmod(0o600)
    return path


def picture_of_one_colour():
    """Few bytes, many pixels."""
    out = io.BytesIO()
    Image.new("RGB", (3000, 2000), (9, 90, 200)).save(out, "PNG")
    return out.getvalue()


def client(server, key):
    return Api(server, Authorization=f"Bearer {key}")


def cached(api):
    usage = api.post(chat(PROMPT, max_tokens=2)).json()["usage"]
    assert usage["prompt_tokens"] > 16
    return usage["prompt_tokens_details"]["cached_tokens"]


def wait_ready(server):
    Api(server).wait_ready()


@pytest.mark.parametrize("scope", [None, "key", "shared"])
def test_cached_prompts_of_another_key(key_file, scope):
    args = [] if scope is None else ["--cache-scope", scope]
    with serve("demo", "--api-key-file", key_file, *args) as server:
        wait_ready(server)
        a, b = client(server, "key-of-a"), client(server, "key-of-b")
        assert cached(a) == 0
        assert cached(a) > 0
        assert (cached(b) > 0) == (scope == "shared")
        assert cached(b) > 0


def test_without_keys_all_are_one():
    with serve("demo") as server:
        wait_ready(server)
        assert cached(Api(server)) == 0
        assert cached(Api(server)) > 0


def test_one_key_leaves_room_for_others(key_file):
    """10 places: alone a key gets 8 of them, all of which hang here; the other key's request is taken in all the same."""
    with serve("mock", "--api-key-file", key_file, "--mock-faults", "--max-running", "4", "--max-waiting", "6") as server:
        wait_ready(server)
        a, b = client(server, "key-of-a"), client(server, "key-of-b")

        def ask(api, text, seconds):
            return api.http.post("/v1/chat/completions", json=chat(text), headers={"X-Request-Timeout": str(seconds)})

        def hang():
            with contextlib.suppress(httpx.HTTPError):  # the server is killed in the end
                ask(a, "@hang", 30)

        threads = [threading.Thread(target=hang) for _ in range(8)]
        for t in threads:
            t.start()

        def taken():
            text = a.http.get("/metrics").text
            return sum(float(line.split()[-1]) for line in text.splitlines()
                       if line.startswith(("vlmd_num_requests_running{", "vlmd_num_requests_waiting{")))

        eventually(lambda: taken() == 8, 25)
        r = ask(a, "hello", 5)
        check_error(r, 429, "rate_limit_error", code="rate_limit_exceeded")
        assert int(r.headers["retry-after"]) >= 1
        # It waits behind those that hang, until its own time is over.
        assert ask(b, "hello", 0.5).status_code == 504
        assert ask(b, "hello", 0.5).status_code == 504
        server.process.kill()
        for t in threads:
            t.join()


def test_no_key_in_what_a_worker_sees(key_file):
    """Names made of a key are hashes: the log at its most talkative holds no key."""
    with serve("mock", "--api-key-file", key_file, "--log-level", "debug") as server:
        wait_ready(server)
        assert client(server, "key-of-a").post(chat("hello")).status_code == 200
        assert "key-of-a" not in server.text()


def test_choices_take_the_time_of_the_longest():
    with serve("demo") as server:
        wait_ready(server)
        body = Api(server).post(chat(PROMPT, n=4, max_tokens=16, ignore_eos=True)).json()
        timings, usage = body["timings"], body["usage"]
        assert timings["decode_tokens"] == 64 == usage["completion_tokens"]
        assert timings["prefill_tokens"] == usage["prompt_tokens"]


def gateway(*workers, args=()):
    options = [o for w in workers for o in ("--worker", w.address)]
    return Server("gateway", "--listen", "127.0.0.1:0", *options, *args)


def test_what_a_worker_is_told(key_file):
    """Names made of the key, in the message and, for the tenant, ahead of it; the key itself nowhere."""
    with FakeWorker() as fake, gateway(fake, args=("--api-key-file", key_file)) as server:
        wait_ready(server)
        for key in ("key-of-a", "key-of-b", "key-of-a"):
            assert client(server, key).text("hello") == "fake"
        for key, request, metadata in zip(("key-of-a", "key-of-b", "key-of-a"), fake.requests, fake.metadata):
            assert request.tenant == metadata["x-vlmd-tenant"] == tenant_of(key)
            assert request.cache_salt == cache_salt_of(key)
        assert "key-of" not in str(fake.requests) + str(fake.metadata) + server.text()


def test_shared_caches_have_no_salt(key_file):
    with FakeWorker() as fake, gateway(fake, args=("--api-key-file", key_file, "--cache-scope", "shared")) as server:
        wait_ready(server)
        client(server, "key-of-a").text("hello")
        assert fake.requests[0].cache_salt == "" and fake.requests[0].tenant == tenant_of("key-of-a")


def test_without_keys_nobody_has_a_name():
    with FakeWorker() as fake, gateway(fake) as server:
        api = Api(server).wait_ready()
        # What a client says of itself does not go on.
        api.post(chat("hello", tenant="me", cache_salt="mine"), headers={"X-Vlmd-Tenant": "me"})
        assert fake.requests[0].tenant == fake.requests[0].cache_salt == ""
        assert "x-vlmd-tenant" not in fake.metadata[0]


def test_figures_of_choices_side_by_side():
    """The longest choice's time, all choices' tokens, the most that one found in the cache; Finished counts, not Started."""
    figures = {"cached": (16, 4), "decode_ms": (30.0, 10.0), "deltas": 3}
    with FakeWorker(lambda request: answer("a", "b", **figures)) as fake, gateway(fake) as server:
        api = Api(server).wait_ready()
        fake.stats.preemptions = 7
        for body in (api.ask("hello", n=2), api.stream(chat("hello", n=2, stream_options={"include_usage": True}))[-1]):
            assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 16
            assert body["usage"]["completion_tokens"] == 6
            assert body["timings"]["decode_ms"] == 30.0 and body["timings"]["decode_tokens"] == 6
            assert body["timings"]["prefill_tokens"] == 4
        label = '{model_name="fake"}'
        metrics = api.metrics()
        assert metrics[f"vlmd_prompt_tokens_cached_total{label}"] == 2 * 16
        assert metrics[f"vlmd_request_decode_time_seconds_sum{label}"] == pytest.approx(2 * 0.03)
        # Between tokens of one answer: two gaps in each of two choices.
        assert metrics[f"vlmd_inter_token_latency_seconds_count{label}"] == 2 * 4
        eventually(lambda: api.metrics()[f"vlmd_num_preemptions_total{label}"] == 7)


def test_answered_requests_hold_no_place(key_file):
    """One after the other, as fast as it goes: a key is never refused for what has been answered."""
    with serve("mock", "--api-key-file", key_file, "--max-running", 1, "--max-waiting", 0) as server:
        wait_ready(server)
        api = client(server, "key-of-a")
        codes = [api.post(chat("hi", max_tokens=1)).status_code for _ in range(200)]
        assert codes.count(429) == 0, codes


def test_a_key_cannot_come_in_by_heads_alone(key_file):
    """Requests whose heads were taken while there was room are counted again when their bodies come."""
    with serve("mock", "--api-key-file", key_file, "--mock-token-ms", 300, "--max-running", 4, "--max-waiting",
               6) as server:
        wait_ready(server)
        body = json.dumps(chat("one two three four five six")).encode()
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-of-a\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
        sockets = [connect(server) for _ in range(10)]
        for s in sockets:
            s.sendall(head + body[:1])
        time.sleep(0.3)
        for s in sockets:
            s.sendall(body[1:])
        other = client(server, "key-of-b").post(chat("hello", max_tokens=1))
        assert other.status_code == 200, other.text
        answers = [s.recv(4096) for s in sockets]
        refused = [a for a in answers if a.startswith(b"HTTP/1.1 429")]
        assert refused and len(refused) < 10, answers
        for s in sockets:
            s.close()


def test_a_key_that_goes_while_the_body_comes(key_file):
    """A key taken away between the head and the end of the body lets nothing through, least of all without a name."""
    with FakeWorker() as fake, gateway(fake, args=("--api-key-file", key_file)) as server:
        wait_ready(server)
        body = json.dumps(chat("hello")).encode()
        with connect(server) as s:
            s.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-of-a\r\n"
                       f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode())
            time.sleep(0.3)
            key_file.write_text("key-of-b\n")
            server.signal(signal.SIGHUP)
            server.wait_log("keys have been read")
            s.sendall(body)
            assert s.recv(4096).startswith(b"HTTP/1.1 401")
        assert fake.requests == []


def test_places_of_a_worker():
    """A worker counts by itself, by what it is told ahead of the message: there may be several gateways."""
    w = proto().worker
    with worker("mock", "--mock-faults", "--max-running", 4, "--max-waiting", 6) as server, channel(server) as c:
        stub = proto().worker_grpc.WorkerStub(c)

        def call(tenant, text):
            request = w.GenerateRequest(messages=[w.Message(role="user", parts=[w.Part(text=text)])], tenant=tenant)
            return stub.Generate(request, metadata=[("x-vlmd-tenant", tenant)] if tenant else [], timeout=20)

        def load():
            s = stub.Stats(w.StatsRequest())
            return s.running + s.waiting

        slow = "@slow 50 @repeat 10000"
        calls = [call("a", slow) for _ in range(8)]
        eventually(lambda: load() == 8)
        with pytest.raises(grpc.RpcError) as e:
            list(call("a", "one more"))
        assert e.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("vlmd-reason", "overloaded") in [tuple(t) for t in e.value.trailing_metadata()]
        # Another finds room, and who has no name is bound by the queue alone.
        calls.append(call("b", slow))
        calls.append(call("", slow))
        eventually(lambda: load() == 10)
        with pytest.raises(grpc.RpcError) as e:
            list(call("c", "no room at all"))
        assert "full" in e.value.details()
        for one in calls:
            one.cancel()
        eventually(lambda: load() == 0)
        # Places come back.
        calls = [call("a", slow) for _ in range(8)]
        eventually(lambda: load() == 8)
        for one in calls:
            one.cancel()


def test_names_that_a_worker_refuses():
    w = proto().worker
    with worker("mock") as server, channel(server) as c:
        stub = proto().worker_grpc.WorkerStub(c)
        message = w.Message(role="user", parts=[w.Part(text="x")])

        def code(request, **more):
            try:
                list(stub.Generate(request, **more))
            except grpc.RpcError as e:
                return e.code(), e.details()
            return None, ""

        for field in ("tenant", "cache_salt"):
            assert code(w.GenerateRequest(messages=[message], **{field: "x" * 256}))[0] is None
            got, text = code(w.GenerateRequest(messages=[message], **{field: "x" * 257}))
            assert got == grpc.StatusCode.INVALID_ARGUMENT and field in text
            # No string of protobuf's own: bytes that are no UTF-8, in the fields 9 and 11.
            number = 9 if field == "cache_salt" else 11
            raw = w.GenerateRequest(messages=[message]).SerializeToString() + bytes([number << 3 | 2, 1, 0xff])
            with pytest.raises(grpc.RpcError) as e:
                list(c.unary_stream("/vlm.v1.Worker/Generate")(raw))
            assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT and field in e.value.details()
        assert code(w.GenerateRequest(messages=[message]), metadata=[("x-vlmd-tenant", "x" * 256)])[0] is None
        got, text = code(w.GenerateRequest(messages=[message]), metadata=[("x-vlmd-tenant", "x" * 257)])
        assert got == grpc.StatusCode.INVALID_ARGUMENT and "x-vlmd-tenant" in text


def test_pictures_of_one_keep_nobody_waiting():
    """What is done before the engine has a request, pictures above all, goes by turns of the tenants too."""
    w = proto().worker
    large = picture_of_one_colour()
    with worker("mock", "--max-running", 64, "--max-waiting", 64) as server, channel(server) as c:
        stub = proto().worker_grpc.WorkerStub(c)

        def ask(tenant, n_pictures):
            parts = [w.Part(image=large)] * n_pictures + [w.Part(text="x")]
            request = w.GenerateRequest(messages=[w.Message(role="user", parts=parts)], tenant=tenant)
            return "".join(e.delta.text for e in stub.Generate(request, metadata=[("x-vlmd-tenant", tenant)],
                                                               timeout=120))

        with futures.ThreadPoolExecutor(64) as pool:
            many = [pool.submit(ask, "a", 2) for _ in range(60)]
            eventually(lambda: stub.Stats(w.StatsRequest()).waiting >= 40)
            n_before = sum(f.done() for f in many)
            assert ask("b", 0) == "mock: x"
            n_meanwhile = sum(f.done() for f in many) - n_before
            assert n_meanwhile <= 8, n_meanwhile
            # Who goes while its turn is still to come leaves its place at once.
            late = stub.Generate(w.GenerateRequest(messages=[w.Message(role="user", parts=[w.Part(image=large)] * 2)]),
                                 metadata=[("x-vlmd-tenant", "a")])
            late.cancel()
            assert all(f.result().startswith("mock: x [") for f in many)
        eventually(lambda: stub.Stats(w.StatsRequest()).waiting == 0)
