"""Pictures that kill, stall or take over the process that decodes them: one answer 400, and nothing else notices."""
import os
import signal
import threading
import time

import pytest

from api import Api, check_error, message, mock_digest, picture, serve
from servers import eventually

STRICT = "san" not in os.environ.get("VLMD", "")


def fault(word):
    """What decoder_faults.c does on cue."""
    return b"VLMD-FAULT " + word.encode()


@pytest.fixture(scope="module", name="api")
def start():
    with serve("mock", "--mock-faults", "--decoders", 2, "--max-running", 64) as server:
        api = Api(server)
        api.wait_ready()
        yield api


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def name(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


def named(server, wanted):
    return [pid for pid in server.children() if name(pid) == wanted]


WORDS = ["crash", "end", "open", "socket", "exec", "kill", "fork", "lie-width", "lie-text", "say-less"]


@pytest.mark.parametrize("word", WORDS + (["map-code", "memory"] if STRICT else []))
def test_a_bad_picture_is_one_400(api, word):
    error = check_error(api.post({"messages": [message("x", fault(word))]}), 400, code="invalid_image")
    assert "image: " in error["message"]
    good = picture(40, 30)
    assert mock_digest(good) in api.post({"messages": [message("x", good)]}).json()["choices"][0]["message"]["content"]


def test_neighbours_do_not_notice(api):
    wrong = []
    stop = threading.Event()

    def ask(seed):
        good = picture(64, 48, seed=seed)
        while not stop.is_set():
            r = api.post({"messages": [message("x", good)]})
            if r.status_code != 200 or mock_digest(good) not in r.json()["choices"][0]["message"]["content"]:
                wrong.append(r.text)

    neighbours = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in neighbours:
        t.start()
    for i in range(40):
        check_error(api.post({"messages": [message("x", fault(WORDS[i % len(WORDS)]))]}), 400, code="invalid_image")
    stop.set()
    for t in neighbours:
        t.join()
    assert not wrong, wrong[0]


def test_processes_do_not_pile_up(api):
    eventually(lambda: len(named(api.server, "vlmd-decoder")) == 2)
    assert len(named(api.server, "vlmd-decoders")) == 1
    zombies = [pid for pid in api.server.children() if not alive(pid)]
    assert not zombies


def test_a_client_that_leaves_frees_its_decoder(api):
    for _ in range(6):
        with pytest.raises(Exception, match="(?i)timeout|timed out"):
            api.post({"messages": [message("x", fault("hang"))]}, timeout=0.3)
    start = time.monotonic()
    good = picture(20, 10)
    assert api.post({"messages": [message("x", good)]}).status_code == 200
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("of_worker", [False, True])
def test_all_processes_end_with_it(of_worker):
    with serve("mock", "--mock-faults") as server:
        api = Api(server)
        api.wait_ready()
        assert api.post({"messages": [message("x", picture())]}).status_code == 200
        decoders = named(server, "vlmd-decoder") + named(server, "vlmd-decoders")
        assert len(decoders) >= 2
        worker = server.children()[0]
        if of_worker:
            os.kill(worker, signal.SIGKILL)
        else:
            server.process.kill()
        eventually(lambda: not any(alive(pid) for pid in decoders), 3)
        eventually(lambda: not alive(worker), 5)
        server.kill()
