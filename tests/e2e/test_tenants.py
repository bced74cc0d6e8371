"""Several API keys on one server: what one has computed the other does not see, and none can take all the places."""
import threading

import pytest

from api import Api, chat, serve

PROMPT = "Tell me everything that is in the picture, and where, and how large it is, please."


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("key-of-a\nkey-of-b\n")
    path.chmod(0o600)
    return path


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
    """10 places: alone a key gets 8 of them, and the other key is answered while they are taken."""
    with serve("mock", "--api-key-file", key_file, "--mock-token-ms", "200", "--max-running", "4", "--max-waiting",
               "6") as server:
        wait_ready(server)
        answers = []

        def ask():
            answers.append(client(server, "key-of-a").http.post("/v1/chat/completions",
                                                                json=chat("one two three four five six")))

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for t in threads:
            t.start()
        refused = client(server, "key-of-a")
        # All places that the key may have are taken once it has been refused.
        for _ in range(200):
            r = refused.http.post("/v1/chat/completions", json=chat("hello", max_tokens=1))
            if r.status_code == 429:
                break
        assert r.status_code == 429, r.text
        error = r.json()["error"]
        assert error["type"] == "rate_limit_error" and int(r.headers["retry-after"]) >= 1
        other = client(server, "key-of-b").http.post("/v1/chat/completions", json=chat("hello", max_tokens=1))
        assert other.status_code == 200, other.text
        for t in threads:
            t.join()
        codes = [a.status_code for a in answers]
        assert set(codes) == {200, 429} and codes.count(200) >= 4, codes


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
