"""Several models in one server: loaded at first use, unloaded for each other, one's end no other's."""
import json
import os
import re
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api import Api, chat, check_error, sse
from conftest import PROGRAM, clean_environment
from helpers import DEMO, GOLDEN
from servers import DIE_PLAINLY, Server, eventually


def serve(*args, **environment):
    return Server("serve", *args, "--listen", "127.0.0.1:0", **environment)


def states(api):
    r = api.http.get("/v1/models")
    assert r.status_code == 200
    return {m["id"]: m["status"] for m in r.json()["data"]}


@pytest.fixture
def folders(tmp_path):
    """Two models that say different things."""
    shutil.copytree(DEMO, tmp_path / "alpha")
    shutil.copytree(os.path.join(GOLDEN, "llava-spm"), tmp_path / "beta")
    return str(tmp_path / "alpha"), str(tmp_path / "beta")


def needs(*models):
    """MiB that each wants at least, as the refusal of too little says."""
    out = []
    for m in models:
        run = subprocess.run([PROGRAM, "serve", m, "mock", "--memory", "1MiB", "--listen", "127.0.0.1:0"],
                             capture_output=True, env=clean_environment(), timeout=60)
        assert run.returncode == 1
        out.append(int(re.search(r"needs (\d+) MiB", run.stderr.decode()).group(1)) + 1)
    return out


def test_loaded_at_first_use():
    with serve("mock", "demo", "--alias", "small=demo", "--alias", "echo=mock") as server:
        api = Api(server).wait_ready()
        assert states(api) == {"mock": "unloaded", "demo": "unloaded", "small": "unloaded", "echo": "unloaded"}
        assert api.text("hello", model="mock") == "mock: hello"
        assert states(api) == {"mock": "loaded", "demo": "unloaded", "small": "unloaded", "echo": "loaded"}
        answer = api.ask("hello", model="small", max_tokens=4, temperature=0)
        assert answer["model"] == "demo"
        assert answer["choices"] == api.ask("hello", model="demo", max_tokens=4, temperature=0)["choices"]
        assert api.text("a b", model="echo") == "mock: a b"
        assert set(states(api).values()) == {"loaded"}
        entry = api.http.get("/v1/models/small").json()
        assert (entry["id"], entry["root"], entry["status"]) == ("small", "demo", "loaded")
        check_error(api.post(chat(model="none")), 404, code="model_not_found", param="model")
        check_error(api.post(chat()), 400, "invalid_request_error", "model")
        check_error(api.post(chat(model="")), 400, "invalid_request_error", "model")
        figures = api.metrics()
        assert figures['vlmd_request_success_total{model_name="mock",finished_reason="stop"}'] == 2
        assert figures['vlmd_request_success_total{model_name="demo",finished_reason="length"}'] == 2


def test_alone_is_as_before():
    with serve("mock") as server:
        api = Api(server).wait_ready()
        assert states(api) == {"mock": "loaded"}
        assert api.text("x") == "mock: x"


def test_preloaded():
    with serve("mock", "demo", "--preload") as server:
        api = Api(server)
        eventually(lambda: states(api) == {"mock": "loaded", "demo": "loaded"}, 30)


def children_memory(server):
    """Bytes that the workers hold, without what they map from files."""
    total = 0
    for pid in server.children():
        try:
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                total += int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)) << 10
        except (OSError, AttributeError):
            continue
    return total


def test_two_models_in_the_memory_of_one(folders):
    alpha, beta = folders
    budget = max(needs(alpha, beta)) * 3 // 2
    assert sum(needs(alpha, beta)) > budget, "both would fit"
    with serve(alpha, beta, "--memory", f"{budget}MiB") as server:
        api = Api(server).wait_ready()
        expected, peak, over = {}, [0], threading.Event()

        def watch():
            while not over.wait(0.02):
                peak[0] = max(peak[0], children_memory(server))

        watcher = threading.Thread(target=watch)
        watcher.start()
        for i in range(200):
            model = ("alpha", "beta")[i % 2]
            answer = api.ask("what is this", model=model, max_tokens=5, temperature=0)
            assert answer["model"] == model
            text = answer["choices"][0]["message"]["content"]
            assert expected.setdefault(model, text) == text
            other = states(api)[("beta", "alpha")[i % 2]]
            assert other in ("unloaded", "unloading"), "both are there"
        over.set()
        watcher.join()
        assert expected["alpha"] != expected["beta"]
        assert 0 < peak[0] < budget << 20, peak


def test_both_at_once_take_turns(folders):
    alpha, beta = folders
    budget = max(needs(alpha, beta)) * 3 // 2
    with serve(alpha, beta, "--memory", f"{budget}MiB") as server:
        api = Api(server).wait_ready()

        def ask(i):
            model = ("alpha", "beta")[i % 2]
            return model, api.ask(f"question {i}", model=model, max_tokens=20)["model"]

        with ThreadPoolExecutor(16) as pool:
            for asked, answered in pool.map(ask, range(80)):
                assert asked == answered


def test_waiting_is_told(folders):
    """A model that cannot be loaded yet, since the only memory is in use: comments come meanwhile."""
    budget = max(*needs(folders[0]), 64) + 32
    with serve("mock", folders[0], "--memory", f"{budget}MiB", "--mock-faults") as server:
        api = Api(server).wait_ready()
        done = threading.Event()

        def hold():
            api.ask("@slow 1500 @repeat 8", model="mock")
            done.set()

        holder = threading.Thread(target=hold)
        holder.start()
        eventually(lambda: api.metrics()['vlmd_num_requests_running{model_name="mock"}'] == 1)
        body = dict(chat(model="alpha", max_tokens=3), stream=True)
        with api.http.stream("POST", "/v1/chat/completions", json=body) as r:
            assert r.status_code == 200
            raw = b"".join(r.iter_bytes())
        assert done.is_set(), "it did not wait for the other model's request"
        assert b": loading the model\n\n" in raw
        assert json.loads([e for e in sse([raw]) if e][0])["model"] == "alpha"
        holder.join()


def test_idle_is_unloaded():
    with serve("mock", "--idle-unload", "0.3") as server:
        api = Api(server).wait_ready()
        assert api.text("x") == "mock: x"
        eventually(lambda: states(api) == {"mock": "unloaded"})
        assert api.http.get("/readyz").status_code == 200
        assert api.text("y") == "mock: y"


def test_a_crash_touches_no_other_model():
    with serve("mock", "demo", "--mock-faults", **DIE_PLAINLY) as server:
        api = Api(server).wait_ready()
        api.ask("hello", model="mock")
        expected = api.text("tell me a story", model="demo", max_tokens=200, temperature=0, ignore_eos=True)
        with ThreadPoolExecutor(5) as pool:
            stories = [pool.submit(api.text, "tell me a story", model="demo", max_tokens=200, temperature=0,
                                   ignore_eos=True) for _ in range(4)]
            for _ in range(2):
                r = api.post(chat("@crash", model="mock"))
                assert r.status_code in (503, 422), r.text
            assert [s.result() for s in stories] == [expected] * 4
        eventually(lambda: api.post(chat("again", model="mock")).status_code == 200)


def test_keys_of_the_admin(tmp_path):
    keys, admin = tmp_path / "keys", tmp_path / "admin"
    keys.write_text("sk-user\n")
    admin.write_text("sk-admin\n")

    def change(api, what, body, key="sk-admin", **headers):
        return api.http.post(f"/v1/models/{what}", content=json.dumps(body) if not isinstance(body, str) else body,
                             headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}", **headers})

    with serve("mock", "demo", "--api-key-file", keys, "--admin-key-file", admin, "--mock-faults") as server:
        api = Api(server, Authorization="Bearer sk-user").wait_ready()
        assert change(api, "load", {"model": "mock"}).json()["status"] in ("loading", "loaded")
        eventually(lambda: states(api) == {"mock": "loaded", "demo": "unloaded"})
        assert change(api, "load", {"model": "mock"}).json()["status"] == "loaded"
        check_error(change(api, "load", {"model": "mock"}, "sk-user"), 401, "authentication_error")
        check_error(change(api, "unload", {"model": "none"}), 404, code="model_not_found")
        for body in ({}, [], "7", {"model": 7}, {"model": None}, {"model": ""}, "{", ""):
            check_error(change(api, "unload", body), 400, "invalid_request_error")
        check_error(change(api, "load", {"model": "mock"}, **{"Content-Type": "text/plain"}), 415)
        check_error(api.http.get("/v1/models/load"), 401)
        assert api.http.get("/v1/models/load", headers={"X-Api-Key": "sk-admin",
                                                        "Authorization": ""}).status_code in (401, 405)
        holder = threading.Thread(target=api.ask, args=("@slow 100 @repeat 10",), kwargs={"model": "mock"})
        holder.start()
        eventually(lambda: api.metrics()['vlmd_num_requests_running{model_name="mock"}'] == 1)
        check_error(change(api, "unload", {"model": "mock"}), 409, code="model_busy")
        holder.join()
        assert change(api, "unload", {"model": "mock"}).status_code == 200
        eventually(lambda: states(api) == {"mock": "unloaded", "demo": "unloaded"})
        assert change(api, "unload", {"model": "mock"}).json()["status"] == "unloaded"
        assert api.text("back", model="mock") == "mock: back"

    with serve("mock", "demo") as server:
        api = Api(server).wait_ready()
        check_error(change(api, "load", {"model": "mock"}), 403)


def test_a_model_that_cannot_be_loaded(folders, tmp_path):
    alpha, beta = folders
    admin = tmp_path / "admin"
    admin.write_text("sk-admin\n")
    with serve(alpha, beta, "--admin-key-file", admin) as server:
        api = Api(server).wait_ready()
        weights = os.path.join(beta, "model.safetensors")
        os.rename(weights, weights + ".gone")
        check_error(api.post(chat(model="beta")), 503, code="model_not_loaded", word="beta")
        assert states(api)["beta"] == "failed"
        assert api.ask("hello", model="alpha", max_tokens=2)["model"] == "alpha"
        os.rename(weights + ".gone", weights)
        r = api.http.post("/v1/models/load", json={"model": "beta"}, headers={"Authorization": "Bearer sk-admin"})
        assert r.json()["status"] in ("loading", "loaded")
        assert api.ask("hello", model="beta", max_tokens=2)["model"] == "beta"


def test_starts_that_are_refused(vlmd, folders):
    alpha, beta = folders
    listen = ("--listen", "127.0.0.1:0")
    vlmd("serve", "mock", "mock", *listen).failed_with("mock")
    vlmd("serve", alpha, os.path.join(beta, "..", "alpha"), *listen).failed_with("two models are called alpha")
    vlmd("serve", "mock", "demo", "--model-name", "x", *listen).failed_with("--model-name")
    vlmd("serve", "mock", "demo", "--alias", "x=none", *listen).failed_with("--alias", "none")
    vlmd("serve", "mock", "demo", "--alias", "demo=mock", *listen).failed_with("--alias", "demo")
    vlmd("serve", "mock", "demo", "--alias", "x=mock", "--alias", "x=demo", *listen).failed_with("--alias", "x")
    for bad in ("x", "=mock", "x=", "=", "n" * 256 + "=mock"):
        vlmd("serve", "mock", "demo", "--alias", bad, *listen).failed_with("--alias")
    vlmd("serve", "mock", "demo", "--memory", "1MiB", *listen).failed_with("needs", "MiB", "--memory")
    vlmd("serve", "mock", "/no/such/folder", *listen).failed_with("/no/such/folder")
    vlmd("serve", "mock", "demo", "--admin-key-file", "/no/such/file", *listen).failed_with("/no/such/file")


def test_kept_through_a_soft_end():
    """SIGTERM while a model is being loaded and another answers."""
    with serve("mock", "demo", "--mock-faults") as server:
        api = Api(server).wait_ready()
        with ThreadPoolExecutor(2) as pool:
            slow = pool.submit(api.text, "@slow 100 @repeat 8", model="mock")
            eventually(lambda: api.metrics()['vlmd_num_requests_running{model_name="mock"}'] == 1)
            other = pool.submit(api.ask, "hello", model="demo", max_tokens=3)
            time.sleep(0.05)
            server.process.terminate()
            assert slow.result().startswith("mock: w0 w1")
            assert other.result()["model"] == "demo"
        assert server.wait() == 0
