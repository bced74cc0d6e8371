"""A worker of the tests' own: it keeps what a gateway sends and answers as it is told."""
import hashlib
from concurrent import futures

import grpc

from servers import eventually, proto


def tenant_of(key):
    return hashlib.sha256(b"vlmd tenant" + hashlib.sha256(key.encode()).digest()).hexdigest()[:32]


def cache_salt_of(key):
    return hashlib.sha256(b"vlmd cache" + hashlib.sha256(key.encode()).digest()).hexdigest()


class FakeWorker:
    """Ready as long as the block lasts.  events(request) makes the answer; stats is what Stats says."""

    def __init__(self, events=None):
        p = proto()
        self.requests, self.metadata = [], []
        self.events = events or (lambda request: answer("fake"))
        self.stats = p.worker.StatsResponse()
        outer = self

        class Worker(p.worker_grpc.WorkerServicer):
            def Generate(self, request, context):
                outer.requests.append(request)
                outer.metadata.append({k: v for k, v in context.invocation_metadata()})
                yield from outer.events(request)

            def ModelInfo(self, request, context):
                return p.worker.ModelInfoResponse(model="fake", max_running=64, max_waiting=256)

            def Stats(self, request, context):
                return outer.stats

        class Health(p.health_grpc.HealthServicer):
            def Watch(self, request, context):
                yield p.health.HealthCheckResponse(status=p.health.HealthCheckResponse.SERVING)
                while context.is_active() and not outer.stopping:
                    eventually(lambda: outer.stopping or not context.is_active(), 3600)

        self.stopping = False
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        p.worker_grpc.add_WorkerServicer_to_server(Worker(), self.server)
        # The package of the tests' copy is the same, only its file has another name.
        p.health_grpc.add_HealthServicer_to_server(Health(), self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.server.stop(1).wait()


def answer(*texts, cached=(0,), decode_ms=(1.0,), deltas=1):
    """The events of one request whose choices say texts, side by side; figures are one per choice."""
    w = proto().worker

    def usage(i):
        return w.Usage(prompt_tokens=20, cached_tokens=cached[i % len(cached)])

    yield w.GenerateEvent(started=w.Started(usage=w.Usage(prompt_tokens=20)))
    for _ in range(deltas):
        for i, text in enumerate(texts):
            yield w.GenerateEvent(delta=w.Delta(choice=i, text=text, token_ids=[1]))
    for i in range(len(texts)):
        u = usage(i)
        u.completion_tokens = deltas
        yield w.GenerateEvent(finished=w.Finished(
            choice=i, reason=w.FINISH_REASON_STOP, usage=u,
            timings=w.Timings(decode_ms=decode_ms[i % len(decode_ms)], decode_tokens=deltas,
                              prefill_tokens=20 - u.cached_tokens)))
