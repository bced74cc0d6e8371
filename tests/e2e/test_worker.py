"""`vlmd worker` through a real gRPC client."""
import os
import signal
import struct
import threading
import time

import grpc
import pytest

from helpers import ROOT
from servers import DIE_PLAINLY, Server, channel, connect, descriptors, eventually, proto, threads, worker

DATA = os.path.join(ROOT, "tests/data/image")


@pytest.fixture(scope="module")
def mock():
    with worker("mock", "--mock-faults", "--max-running", 200, "--max-waiting", 50) as server:
        yield server
        server.stop()


@pytest.fixture(scope="module")
def stub(mock):
    with channel(mock) as c:
        yield proto().worker_grpc.WorkerStub(c)


def request(text, **more):
    w = proto().worker
    return w.GenerateRequest(messages=[w.Message(role="user", parts=[w.Part(text=text)])], **more)


def answer(stub, text, **more):
    return "".join(e.delta.text for e in stub.Generate(request(text, **more)))


def stats(stub):
    return stub.Stats(proto().worker.StatsRequest())


def idle(stub):
    eventually(lambda: stats(stub).running == 0 and stats(stub).waiting == 0)


def fails(code, call, *words):
    with pytest.raises(grpc.RpcError) as e:
        r = call()
        if hasattr(r, "__iter__"):
            list(r)
    assert e.value.code() == code, e.value
    for word in words:
        assert word in e.value.details(), e.value.details()
    return e.value


def test_events(stub):
    events = list(stub.Generate(request("hello big world", max_tokens=3)))
    kinds = [e.WhichOneof("event") for e in events]
    assert kinds == ["started", "delta", "delta", "delta", "finished"]
    assert events[0].started.usage.prompt_tokens == 3
    assert "".join(e.delta.text for e in events) == "mock: hello big"
    assert all(len(e.delta.token_ids) == 1 for e in events[1:4])
    f = events[-1].finished
    assert f.reason == proto().worker.FINISH_REASON_LENGTH
    assert (f.usage.prompt_tokens, f.usage.completion_tokens) == (3, 3)
    assert f.timings.decode_tokens == 3


def test_choices_stop_and_logprobs(stub):
    events = list(stub.Generate(request("a b STOP c", n=3, stop=["STOP"], logprobs=True, top_logprobs=2)))
    for choice in range(3):
        deltas = [e.delta for e in events if e.WhichOneof("event") == "delta" and e.delta.choice == choice]
        assert "".join(d.text for d in deltas) == "mock: a b "
        tokens = [p.token for d in deltas for p in d.logprobs]
        assert b"".join(tokens) == b"mock: a b STOP"
        assert all(len(p.top) == 2 for d in deltas for p in d.logprobs)
    assert sum(e.WhichOneof("event") == "finished" for e in events) == 3


def test_pictures(stub):
    w = proto().worker
    names = sorted(os.listdir(DATA))[:6]
    parts = [w.Part(text="see")]
    for name in names:
        with open(os.path.join(DATA, name), "rb") as f:
            parts.append(w.Part(image=f.read()))
    try:
        events = list(stub.Generate(w.GenerateRequest(messages=[w.Message(role="user", parts=parts)])))
    except grpc.RpcError as e:
        pytest.fail(f"{names}: {e.details()}")
    text = "".join(e.delta.text for e in events)
    assert text.startswith("mock: see [") and text.count("sha256:") == len(names)
    assert events[0].started.usage.image_tokens == 16 * len(names)


def test_a_bad_picture_is_named(stub):
    w = proto().worker
    bad = w.GenerateRequest(messages=[w.Message(role="system", parts=[w.Part(text="x")]),
                                      w.Message(role="user", parts=[w.Part(text="x"), w.Part(image=b"GIF89a")])])
    e = fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.Generate(bad), "messages[1].content[1]")
    assert ("vlmd-reason", "invalid_image") in [tuple(t) for t in e.trailing_metadata()]


def test_bad_requests(stub):
    w = proto().worker
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    fails(invalid, lambda: stub.Generate(w.GenerateRequest()), "messages")
    fails(invalid, lambda: stub.Generate(request("x", n=9)), "n must")
    fails(invalid, lambda: stub.Generate(request("x", top_logprobs=21, logprobs=True)), "top_logprobs")
    fails(invalid, lambda: stub.Generate(request("x", stop=[""])), "stop")
    fails(invalid, lambda: stub.Generate(request("x", sampling=w.Sampling(temperature=float("nan")))), "temperature")
    fails(invalid, lambda: stub.Generate(request("x", sampling=w.Sampling(top_p=2))), "top_p")
    fails(grpc.StatusCode.NOT_FOUND, lambda: stub.Generate(request("x", model="other")), "model")


def test_status_on_cue(stub):
    for code in grpc.StatusCode:
        if code == grpc.StatusCode.OK:
            continue
        fails(code, lambda c=code: stub.Generate(request(f"@error {c.value[0]}")))


def test_broken_protobuf_and_unknown_methods(mock):
    with channel(mock) as c:
        fails(grpc.StatusCode.UNIMPLEMENTED, lambda: c.unary_unary("/vlm.v1.Worker/Nope")(b""))
        for data in (b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05\x0a"):
            with pytest.raises(grpc.RpcError) as e:
                c.unary_unary("/vlm.v1.Worker/Generate")(data)
            assert e.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
        fails(grpc.StatusCode.INTERNAL,
              lambda: c.stream_unary("/vlm.v1.Worker/ModelInfo")(iter([b"", b""])))
        fails(grpc.StatusCode.INTERNAL, lambda: c.stream_unary("/vlm.v1.Worker/ModelInfo")(iter([])))


def test_compression_is_refused(mock):
    with grpc.insecure_channel(mock.address, compression=grpc.Compression.Gzip) as c:
        s = proto().worker_grpc.WorkerStub(c)
        fails(grpc.StatusCode.UNIMPLEMENTED, lambda: s.Generate(request("x " * 1000)), "compressed")


def test_large_requests(stub):
    text = "x" * (20 << 20)
    assert answer(stub, text) == "mock: " + text
    fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: stub.Generate(request("x" * (73 << 20))), "bytes")


def test_cancel(stub):
    call = stub.Generate(request("@slow 5 @repeat 100000"))
    next(call)
    next(call)
    call.cancel()
    idle(stub)


def test_deadline(stub):
    start = time.monotonic()
    e = fails(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: stub.Generate(request("@hang"), timeout=0.3))
    assert time.monotonic() - start < 5, e
    idle(stub)


def test_parallel_streams(stub):
    texts = [f"stream {i} @slow 2 " + " ".join(f"t{i}x{k}" for k in range(60)) for i in range(32)]
    got = [None] * len(texts)

    def run(i):
        got[i] = answer(stub, texts[i])

    all_of_them = [threading.Thread(target=run, args=(i,)) for i in range(len(texts))]
    for t in all_of_them:
        t.start()
    for t in all_of_them:
        t.join()
    assert got == ["mock: " + t for t in texts]


def test_a_slow_reader_is_held_back(mock, stub):
    """Who does not read gets no more than what the windows hold; others go on."""
    call = stub.Generate(request("@bytes 1000000"))
    other = answer(stub, "quick")
    assert other == "mock: quick"
    assert len("".join(e.delta.text for e in call)) == 6 + 1000000


def test_tokens(stub):
    w = proto().worker
    ids = stub.Tokenize(w.TokenizeRequest(text="one two  three one")).ids
    assert len(ids) == 4
    assert stub.Detokenize(w.DetokenizeRequest(ids=ids)).text == "one two  three one"
    fails(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub.Detokenize(w.DetokenizeRequest(ids=[65535])), "ids[0]")


def test_info(stub):
    info = stub.ModelInfo(proto().worker.ModelInfoRequest())
    assert (info.model, info.model_type, info.max_running, info.max_waiting) == ("mock", "mock", 200, 50)
    assert info.instance and info.context_length > 0


def test_health(mock):
    h = proto().health
    with channel(mock) as c:
        s = proto().health_grpc.HealthStub(c)
        for service in ("", "vlm.v1.Worker"):
            assert s.Check(h.HealthCheckRequest(service=service)).status == h.HealthCheckResponse.SERVING
        fails(grpc.StatusCode.NOT_FOUND, lambda: s.Check(h.HealthCheckRequest(service="other")))
        watch = s.Watch(h.HealthCheckRequest(service="other"))
        assert next(watch).status == h.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_queue_is_bounded():
    with worker("mock", "--mock-faults", "--max-running", 2, "--max-waiting", 3) as server, channel(server) as c:
        s = proto().worker_grpc.WorkerStub(c)
        running = [s.Generate(request("@slow 20 @repeat 1000")) for _ in range(5)]
        eventually(lambda: stats(s).running + stats(s).waiting == 5)
        e = fails(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: s.Generate(request("x")), "full")
        assert ("vlmd-reason", "overloaded") in [tuple(t) for t in e.trailing_metadata()]
        for call in running:
            call.cancel()
        idle(s)
        assert answer(s, "again") == "mock: again"


def test_drain():
    """SIGTERM: Watch says so, running answers end, new calls are refused, exit 0."""
    h = proto().health
    server = worker("mock", "--mock-token-ms", 20)
    with channel(server) as c:
        s = proto().worker_grpc.WorkerStub(c)
        watch = proto().health_grpc.HealthStub(c).Watch(h.HealthCheckRequest())
        assert next(watch).status == h.HealthCheckResponse.SERVING
        text = " ".join(f"w{i}" for i in range(40))
        call = s.Generate(request(text))
        next(call)
        server.signal(signal.SIGTERM)
        assert next(watch).status == h.HealthCheckResponse.NOT_SERVING
        assert "".join(e.delta.text for e in call) == "mock: " + text
    assert server.wait() == 0
    server.check_log()


def test_shutdown_timeout_and_second_signal():
    server = worker("mock", "--mock-faults", "--shutdown-timeout", 0.3)
    with channel(server) as c:
        call = proto().worker_grpc.WorkerStub(c).Generate(request("@hang"))
        next(call)
        server.signal(signal.SIGTERM)
        fails(grpc.StatusCode.UNAVAILABLE, lambda: call)
    assert server.wait(10) == 0
    server = worker("mock", "--mock-faults")
    with channel(server) as c:
        call = proto().worker_grpc.WorkerStub(c).Generate(request("@hang"))
        next(call)
        server.signal(signal.SIGTERM)
        server.wait_log("shutting down")
        server.signal(signal.SIGTERM)
        fails(grpc.StatusCode.UNAVAILABLE, lambda: call)
    assert server.wait(10) == 0


def test_crash_on_cue():
    server = worker("mock", "--mock-faults", **DIE_PLAINLY)
    with channel(server) as c:
        fails(grpc.StatusCode.UNAVAILABLE,
              lambda: proto().worker_grpc.WorkerStub(c).Generate(request("@crash @slow 1 @repeat 1000")))
    assert server.wait(10) == -signal.SIGSEGV


def test_a_step_that_hangs_shows_in_health():
    h = proto().health
    server = worker("mock", "--mock-faults", "--step-timeout", 0.5)
    with channel(server) as c:
        watch = proto().health_grpc.HealthStub(c).Watch(h.HealthCheckRequest())
        assert next(watch).status == h.HealthCheckResponse.SERVING
        call = proto().worker_grpc.WorkerStub(c).Generate(request("@stall"))
        assert next(watch).status == h.HealthCheckResponse.NOT_SERVING
        call.cancel()
    server.kill()


def test_unix_socket(tmp_path):
    path = tmp_path / "socket"
    server = Server("worker", "mock", "--listen", f"unix:{path}")
    assert os.stat(path).st_mode & 0o777 == 0o600
    with grpc.insecure_channel(f"unix:{path}") as c:
        assert answer(proto().worker_grpc.WorkerStub(c), "hi") == "mock: hi"
    server.stop()
    assert not path.exists()


def test_listening_where_others_reach_needs_a_word(vlmd):
    r = vlmd("worker", "mock", "--listen", "0.0.0.0:0")
    r.failed_with("--insecure-listen")
    r = vlmd("worker", "mock", "--listen", "nonsense")
    r.failed_with("--listen", "no address")
    with Server("worker", "mock", "--listen", "0.0.0.0:0", "--insecure-listen"):
        pass


def test_hostile_bytes(mock, stub):
    """Garbage on the socket ends that connection alone."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = struct.pack(">IBI", 4 << 8 >> 8, 0, 0)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, preface + b"\xff" * 100, preface + settings + b"\0\xff\xff\x00",
                 preface + b"\0\0\0\x04\0\0\0\0\0" + b"\0\x40\x00\x00\x00\0\0\0\x01" + b"x" * 100):
        with connect(mock) as s:
            s.sendall(data)
            s.settimeout(2)
            try:
                while s.recv(65536):
                    pass
            except TimeoutError:
                pass
            except ConnectionError:
                pass
    assert answer(stub, "still here") == "mock: still here"


def test_dropped_calls_leave_nothing(mock, stub):
    idle(stub)
    answer(stub, "warm")
    before = (descriptors(mock.process.pid), threads(mock.process.pid))
    for i in range(300):
        call = stub.Generate(request("@slow 1 @repeat 50"))
        if i % 3:
            next(call)
        call.cancel()
    idle(stub)
    assert (descriptors(mock.process.pid), threads(mock.process.pid)) == before


def test_the_built_in_model():
    with worker("demo") as server, channel(server) as c:
        s = proto().worker_grpc.WorkerStub(c)
        with open(os.path.join(ROOT, "models/demo/examples",
                               sorted(os.listdir(os.path.join(ROOT, "models/demo/examples")))[0]), "rb") as f:
            picture = f.read()
        w = proto().worker
        ask = w.GenerateRequest(messages=[w.Message(role="user", parts=[
            w.Part(image=picture), w.Part(text="Describe the picture.")])], sampling=w.Sampling(temperature=0))
        events = list(s.Generate(ask))
        text = "".join(e.delta.text for e in events)
        assert len(text) > 10
        assert events[0].started.usage.image_tokens > 0
        again = "".join(e.delta.text for e in s.Generate(ask))
        assert again == text
