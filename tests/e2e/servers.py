"""Real servers for the tests: a process with its log, stopped and looked at when the test is over."""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from conftest import PROGRAM, ROOT, clean_environment

# Of servers that die on cue: the signal itself, not a sanitizer's report of it.
DIE_PLAINLY = {"ASAN_OPTIONS": "handle_segv=0:allocator_may_return_null=1", "TSAN_OPTIONS": "handle_segv=0"}

_proto = None


def proto():
    """The modules worker_pb2, worker_pb2_grpc, health_pb2 and health_pb2_grpc, made from proto/."""
    global _proto
    if _proto is None:
        from grpc_tools import protoc
        folder = tempfile.mkdtemp(prefix="vlmd-proto-")
        for name in ("vlm/v1/worker.proto", "grpc/health/v1/health.proto"):
            # The package grpc would hide the library's own name.
            target = name.replace("grpc/health/v1/health", "vlm_health")
            with open(os.path.join(ROOT, "proto", name), encoding="utf-8") as f:
                text = f.read()
            path = os.path.join(folder, target)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            assert protoc.main(["protoc", f"-I{folder}", f"--python_out={folder}", f"--grpc_python_out={folder}",
                                path]) == 0
        sys.path.insert(0, folder)
        import vlm_health_pb2
        import vlm_health_pb2_grpc
        from vlm.v1 import worker_pb2, worker_pb2_grpc

        class Modules:
            pass

        _proto = Modules()
        _proto.worker, _proto.worker_grpc = worker_pb2, worker_pb2_grpc
        _proto.health, _proto.health_grpc = vlm_health_pb2, vlm_health_pb2_grpc
    return _proto


class Server:
    """A process that says where it listens."""

    def __init__(self, *args, program=PROGRAM, wait=True, limits=None, **environment):
        self.log = []
        self.args = [str(a) for a in args]
        self.started = time.monotonic()
        self.process = subprocess.Popen([program, *self.args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=clean_environment(**environment),
                                        preexec_fn=limits)
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = None
        if wait:
            word = "listens" if self.args[0] == "worker" else "listening"
            line = self.wait_log(word + r' on ([^\s"]+)', 30)
            self.address = line.group(1).removeprefix("http://")
            self.host, _, port = self.address.rpartition(":")
            self.port = int(port) if port.isdigit() else None
            self.url = f"http://{self.address}"

    def _read(self):
        for line in self.process.stderr:
            with self._said:
                self.log.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self.log.append(None)
            self._said.notify_all()

    def wait_log(self, pattern, seconds=10, count=1):
        """The count-th line that matches."""
        end = time.monotonic() + seconds
        with self._said:
            while True:
                found = [m for m in (re.search(pattern, line) for line in self.log if line is not None) if m]
                if len(found) >= count:
                    return found[count - 1]
                assert None not in self.log, f"{self.args} ended: {self.text()}"
                left = end - time.monotonic()
                assert left > 0, f"no {pattern!r} in {self.text()}"
                self._said.wait(left)

    def text(self):
        return "\n".join(line for line in self.log if line is not None)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=30):
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self, code=0):
        """SIGTERM; the exit code and a log without a word of a sanitizer."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            got = self.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise AssertionError(f"{self.args} does not end: {self.text()}") from None
        self.check_log()
        assert code is None or got == code, f"exit {got}: {self.text()}"

    def check_log(self):
        for word in ("Sanitizer", "runtime error", "Assertion"):
            assert word not in self.text(), self.text()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop(None)
        else:
            self.kill()
            print(self.text())

    def children(self):
        """Process ids of all below this one."""
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            try:
                with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
                    below = [int(c) for c in f.read().split()]
            except OSError:
                continue
            found += below
            todo += below
        return found


def memory_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def worker(model="mock", *args, **environment):
    return Server("worker", model, "--listen", "127.0.0.1:0", *args, **environment)


def channel(server):
    import grpc
    return grpc.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1),
                                                          ("grpc.max_receive_message_length", -1)])


def connect(server, timeout=10):
    s = socket.create_connection((server.host.strip("[]"), server.port), timeout)
    s.settimeout(timeout)
    return s


def needs_localhost():
    """A test of names: skipped where this machine has none for itself (no /etc/hosts, as in a bare chroot)."""
    try:
        socket.getaddrinfo("localhost", 80)
    except OSError:
        import pytest
        pytest.skip("localhost has no address here: /etc/hosts is missing")


def eventually(check, seconds=10, pause=0.02):
    """Wait until check() is true."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(pause)
