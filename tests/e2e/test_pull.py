"""vlmd pull, and what it leaves in the Hugging Face cache, against a stand-in of the Hub."""
import fcntl
import hashlib
import os
import pty
import random
import re
import resource
import signal
import subprocess
import threading
import time

import pytest

from api import Api
from conftest import PROGRAM, clean_environment
from helpers import DEMO
from hub_standin import Hub, Repo
from servers import Server, needs_localhost

TOKEN = "hf_canary_81f2"


def demo_files():
    out = {}
    for name in os.listdir(DEMO):
        if os.path.isfile(os.path.join(DEMO, name)):
            with open(os.path.join(DEMO, name), "rb") as f:
                out[name] = f.read()
    return out


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


def small_model(weights=b"weights", **more):
    return {"config.json": b"{}", "tokenizer.json": b"{}\n", "model.safetensors": weights, **more}


def folder(cache, name="org/name"):
    return os.path.join(cache, "models--" + name.replace("/", "--"))


def blobs(cache, name="org/name"):
    path = os.path.join(folder(cache, name), "blobs")
    return sorted(os.listdir(path)) if os.path.isdir(path) else []


def check_snapshot(cache, repo, path, names):
    """Links into blobs, each what it is called after."""
    assert path == os.path.join(folder(cache), "snapshots", repo.commit)
    assert sorted(os.listdir(path)) == sorted(names)
    for name in names:
        link = os.path.join(path, name)
        assert os.readlink(link) == f"../../blobs/{repo.digest(name)}"
        with open(link, "rb") as f:
            assert f.read() == repo.files[name]


@pytest.fixture(autouse=True)
def names():
    needs_localhost()  # the second host is another name of this machine


def pull(vlmd, hub, cache, what="org/name", **more):
    return vlmd("pull", what, **hub.environment(cache, **more))


def pulled(vlmd, hub, cache, what="org/name", **more):
    r = pull(vlmd, hub, cache, what, **more)
    assert r.code == 0, r
    return r.out.decode().strip()


def test_all_that_a_model_needs_and_no_more(vlmd, tmp_path):
    files = small_model(**{"README.md": b"#", "pytorch_model.bin": b"old", "flax_model.msgpack": b"x", "a/b.json": b"{}",
                           "generation_config.json": b"{ }", "tokenizer.model": noise(300), ".gitattributes": b"",
                           "chat_template.jinja": b"{{ 1 }}", "onnx/model.onnx": b"x"})
    repo = Repo(files)
    with Hub({"org/name": repo}) as hub:
        path = pulled(vlmd, hub, tmp_path)
        wanted = ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json", "tokenizer.model",
                  "chat_template.jinja"]
        check_snapshot(tmp_path, repo, path, wanted)
        assert blobs(tmp_path) == sorted(repo.digest(n) for n in wanted)
        with open(os.path.join(folder(tmp_path), "refs/main"), encoding="ascii") as f:
            assert f.read() == repo.commit
        n = len(hub.log)
        assert pulled(vlmd, hub, tmp_path) == path
        assert len(hub.log) == n + 1  # it asked whether the branch has moved, no more


def test_shards_and_another_commit(vlmd, tmp_path):
    shards = {f"model-0000{i}-of-00002.safetensors": noise(1000, i) for i in (1, 2)}
    files = {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map":{}}', "consolidated.safetensors": b"x",
             **shards}
    repo = Repo(files, revisions=("main", "v1.0", "refs/pr/7"))
    with Hub({"org/name": repo}) as hub:
        wanted = [n for n in files if n != "consolidated.safetensors"]
        for revision in ("v1.0", "refs/pr/7", repo.commit):
            check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path, "org/name@" + revision), wanted)
        assert os.path.exists(os.path.join(folder(tmp_path), "refs/refs/pr/7"))
        assert not os.path.exists(os.path.join(folder(tmp_path), "refs/main"))
        old = repo.commit
        repo.commit, repo.files["config.json"] = "2" * 40, b'{"new":1}'
        repo.revisions.add(repo.commit)
        hub.blobs[repo.digest("config.json")] = b'{"new":1}'
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), wanted)
        assert sorted(os.listdir(os.path.join(folder(tmp_path), "snapshots"))) == [old, repo.commit]


def test_run_and_serve_bring_what_is_absent(vlmd, tmp_path):
    repo = Repo(demo_files())
    with Hub({"org/demo": repo}) as hub:
        r = vlmd("run", "org/demo", "-p", "hello", "-n", "4", **hub.environment(tmp_path))
        assert r.code == 0 and r.out, r
        n = len(hub.log)
        again = vlmd("run", "org/demo", "-p", "hello", "-n", "4", **hub.environment(tmp_path))
        assert again.out == r.out and len(hub.log) == n, "the cache has it: nothing is asked"
        offline = vlmd("run", "org/demo", "-p", "hello", "-n", "4", HF_HUB_CACHE=str(tmp_path))
        assert offline.out == r.out
        assert r.out == vlmd("run", "demo", "-p", "hello", "-n", "4").out
        os.unlink(os.path.join(folder(tmp_path, "org/demo"), "snapshots", repo.commit, "model.safetensors"))
        whole = vlmd("run", "org/demo", "-p", "hello", "-n", "4", **hub.environment(tmp_path))
        assert whole.out == r.out, "what is not complete is made so"
    gone = vlmd("run", "org/other", "-p", "x", HF_HUB_CACHE=str(tmp_path))
    gone.failed_with("org/other", "HF_HUB_OFFLINE")


def test_serve_brings_one_or_several(tmp_path):
    repo = Repo(demo_files())
    with Hub({"org/demo": repo, "org/other": Repo(demo_files())}) as hub:
        hub.pause_s = 0.001
        environment = hub.environment(tmp_path / "one")
        with Server("serve", "org/demo", "--listen", "127.0.0.1:0", **environment) as server:
            assert Api(server).ask("hello", model="org/demo", max_tokens=3)["model"] == "org/demo"
        environment = hub.environment(tmp_path / "two")
        with Server("serve", "org/demo", "org/other", "--listen", "127.0.0.1:0", **environment) as server:
            for model in ("org/demo", "org/other"):
                assert Api(server).ask("hello", model=model, max_tokens=3)["model"] == model


def test_offline_pull(vlmd, tmp_path):
    vlmd("pull", "org/name", HF_HUB_CACHE=str(tmp_path)).failed_with("HF_HUB_OFFLINE")
    assert os.listdir(tmp_path) == []


def test_cut_at_each_of_a_hundred_points(vlmd, tmp_path):
    data = noise(300_007)
    repo = Repo(small_model(data))
    with Hub({"org/name": repo}) as hub:
        for i in range(100):
            cut = len(data) * i // 100
            cache = tmp_path / str(i)
            hub.cuts, hub.log = [cut], []
            check_snapshot(cache, repo, pulled(vlmd, hub, cache), repo.files)
            assert hub.cuts == []
            ranges = [e[3].get("range") for e in hub.asked("back", repo.digest("model.safetensors"))]
            assert ranges[0] == f"bytes=0-{len(data) - 1}"
            assert ranges[1] == f"bytes={cut}-{len(data) - 1}", "it goes on where it was cut"


def test_many_cuts_of_a_large_file(vlmd, tmp_path):
    data = noise(50_000_021)
    repo = Repo(small_model(data))
    with Hub({"org/name": repo}) as hub:
        hub.cuts = sorted(random.Random(3).sample(range(len(data)), 40))
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)
        assert hub.cuts == []
        assert len(hub.asked("back")) >= 40 + 6  # six pieces of 8 MiB, on four connections


def test_a_server_without_ranges(vlmd, tmp_path):
    data = noise(20_000_003)
    repo = Repo(small_model(data))
    with Hub({"org/name": repo}) as hub:
        hub.ranges, hub.cuts = False, [7_000_000, 19_000_000]
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)


def test_killed_at_any_moment(vlmd, tmp_path):
    data = noise(30_000_001)
    repo = Repo(small_model(data))
    blob = os.path.join(folder(tmp_path), "blobs", repo.digest("model.safetensors"))
    with Hub({"org/name": repo}) as hub:
        hub.pause_s = 0.002
        grown = []
        for i in range(12):
            p = subprocess.Popen([PROGRAM, "pull", "org/name"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 env=clean_environment(**hub.environment(tmp_path)))
            time.sleep(0.05 + 0.03 * (i % 5))
            p.kill()
            p.wait()
            assert not os.path.exists(blob), "too early to be there"
            assert not os.path.exists(os.path.join(folder(tmp_path), "snapshots"))
            part = blob + ".incomplete"
            if os.path.exists(part):
                with open(part, "rb") as f:
                    got = f.read()
                assert got == data[:len(got)], "always a beginning of the file"
                grown.append(len(got))
        assert grown == sorted(grown) and grown[-1] > grown[0]
        hub.pause_s = 0
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)
        assert not any(".incomplete" in b for b in blobs(tmp_path))


def test_two_at_once(vlmd, tmp_path):
    data = noise(12_000_001)
    repo = Repo(small_model(data))
    with Hub({"org/name": repo}) as hub:
        hub.pause_s = 0.001
        results = []
        threads = [threading.Thread(target=lambda: results.append(pull(vlmd, hub, tmp_path))) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [r.code for r in results] == [0, 0], results
        check_snapshot(tmp_path, repo, results[0].out.decode().strip(), repo.files)
        got = sum(1 for e in hub.asked("back", repo.digest("model.safetensors")))
        assert got <= 3, "the second one waited for the first: two pieces and no more"


def test_wrong_bytes_are_never_seen(vlmd, tmp_path):
    data = noise(100_000)
    repo = Repo(small_model(data))
    digest = repo.digest("model.safetensors")
    with Hub({"org/name": repo}) as hub:
        for bad in (data[:-1] + bytes([data[-1] ^ 1]), data + b"x", b"", data[:500]):
            hub.wrong, hub.ranges = {digest: bad}, len(bad) <= len(data)
            r = pull(vlmd, hub, tmp_path)
            assert r.code == 1 and b"model.safetensors" in r.err, r
            assert digest not in blobs(tmp_path)
            assert not os.path.exists(os.path.join(folder(tmp_path), "snapshots"))
            part = os.path.join(folder(tmp_path), "blobs", digest + ".incomplete")
            if os.path.exists(part):
                os.unlink(part)
        hub.wrong = {repo.digest("config.json"): b"[]"}
        assert b"git blob id" in pull(vlmd, hub, tmp_path / "other").err
        hub.wrong, hub.ranges = {}, True
        # A beginning that belongs to something else: noticed at the end, and fetched anew.
        with open(os.path.join(folder(tmp_path), "blobs", digest + ".incomplete"), "wb") as f:
            f.write(noise(40_000, 9))
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)


def test_the_token_goes_to_the_hub_alone(vlmd, tmp_path):
    repo = Repo(small_model(noise(100)), private=True)
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    with Hub({"org/name": repo}, token=TOKEN) as hub:
        for i, given in enumerate(({"HF_TOKEN": TOKEN}, {"HF_TOKEN_PATH": str(token_file)}, {"HF_HOME": str(tmp_path)})):
            hub.log = []
            r = pull(vlmd, hub, tmp_path / str(i), **given)
            assert r.code == 0, r
            assert all(e[3].get("authorization") == f"Bearer {TOKEN}" for e in hub.asked("front"))
            assert hub.asked("back") and all("authorization" not in e[3] for e in hub.asked("back"))
            assert TOKEN.encode() not in r.out + r.err
        # The same machine, another name or port, is another host.
        for where in (f"http://localhost:{hub.front.server_port}", f"http://127.0.0.1:{hub.back.server_port}"):
            hub.redirect_to, hub.log = where, []
            pull(vlmd, hub, tmp_path / where[-5:], HF_TOKEN=TOKEN)
            assert all("authorization" not in e[3] for e in hub.log if "/blobs/" in e[2])
        hub.redirect_to = "ftp://localhost"
        r = pull(vlmd, hub, tmp_path / "ftp", HF_TOKEN=TOKEN)
        assert r.code == 1 and b"redirect" in r.err, r


def test_a_repository_that_moved(vlmd, tmp_path):
    repo = Repo(small_model())
    with Hub({"new/name": repo}, moved={"org/name": "new/name"}) as hub:
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)


def test_refusals_in_plain_words(vlmd, tmp_path):
    repos = {"org/name": Repo(small_model()), "org/gated": Repo(small_model(), gated=True),
             "org/private": Repo(small_model(), private=True), "org/bin": Repo({"config.json": b"{}", "model.bin": b"x"}),
             "org/gguf": Repo({"x.gguf": b"x"})}
    with Hub(repos, token=TOKEN) as hub:
        def fails(what, *words, **more):
            r = pull(vlmd, hub, tmp_path, what, **more)
            last = r.err.decode().splitlines()[-1]
            assert r.code == 1 and r.out == b"" and last.startswith("vlmd: "), r
            assert all(w in last for w in words), last

        fails("org/gated", "gated", "accept", "HF_TOKEN")
        fails("org/private", "no such repository", "HF_TOKEN")
        fails("org/none", "no such repository", HF_TOKEN=TOKEN)
        fails("org/name", "token", HF_TOKEN="hf_wrong")
        fails("org/name@v9", "no such revision")
        fails("org/bin", "bin", "safetensors")
        fails("org/gguf", "config.json")
        fails("name", "ORG/NAME")
        fails("../name", "ORG/NAME")
        fails("org/name@../x", "ORG/NAME")
        fails("org/name", "HF_ENDPOINT", HF_ENDPOINT="ftp://x")
        fails("org/name", "HF_TOKEN", HF_TOKEN="a\nb")


def test_hostile_lists(vlmd, tmp_path):
    repo = Repo(small_model())
    with Hub({"org/name": repo}) as hub:
        good = [repo.sibling(n) for n in repo.files]
        for name in ("../x.json", "/etc/passwd", "a/../../b", "..", ".", "", "a//b", "a\\b", "c:x", "x\ny", "x" * 300, None,
                     7):
            hub.siblings = [*good, {"rfilename": name, "size": 1, "blobId": "0" * 40}]
            pull(vlmd, hub, tmp_path).failed_with("rfilename")
        for change in ({"size": -1}, {"size": "1"}, {"size": None}, {"blobId": "../../x"}, {"blobId": "G" * 40},
                       {"blobId": None}, {"blobId": "0" * 64}, {"lfs": {}}, {"lfs": {"sha256": "/" * 64}}, {"lfs": 1}):
            hub.siblings = [*good[:1], {**good[1], **change}, *good[2:]]
            assert pull(vlmd, hub, tmp_path).code == 1
        hub.siblings = [*good, good[0]]
        pull(vlmd, hub, tmp_path).failed_with("twice")
        for bad in ({}, "x", [1], [[]], [None]):
            hub.siblings = bad
            assert pull(vlmd, hub, tmp_path).code == 1
        assert blobs(tmp_path) == []
        hub.siblings, repo.commit = None, "../../../../x"
        pull(vlmd, hub, tmp_path).failed_with("sha")


def test_passing_troubles_are_waited_out(vlmd, tmp_path):
    repo = Repo(small_model())
    with Hub({"org/name": repo}) as hub:
        hub.answers = [(503, {}), None, (429, {"Retry-After": "1"}), None, (500, {})]
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)
        assert hub.answers == []


def test_no_space(vlmd, tmp_path):
    data = noise(3_000_000)
    repo = Repo(small_model(data))
    with Hub({"org/name": repo}) as hub:
        # A limit on files stands for a full disk here: the write itself fails.
        def limits():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

        p = subprocess.run([PROGRAM, "pull", "org/name"], capture_output=True, preexec_fn=limits,
                           env=clean_environment(**hub.environment(tmp_path)), timeout=60)
        assert p.returncode == 1 and b"no space" in p.stderr, p
        assert repo.digest("model.safetensors") not in blobs(tmp_path)
        check_snapshot(tmp_path, repo, pulled(vlmd, hub, tmp_path), repo.files)
        hub.siblings = [repo.sibling("config.json"),
                        {"rfilename": "model.safetensors", "size": 10**16, "lfs": {"sha256": "0" * 64, "size": 10**16}}]
        pull(vlmd, hub, tmp_path).failed_with("10000000.0 GB", "has room for")


def test_a_lock_of_huggingface_hub_is_kept(vlmd, tmp_path):
    repo = Repo(small_model())
    lock = os.path.join(tmp_path, ".locks/models--org--name", repo.digest("model.safetensors") + ".lock")
    os.makedirs(os.path.dirname(lock))
    with Hub({"org/name": repo}) as hub, open(lock, "w", encoding="ascii") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = subprocess.Popen([PROGRAM, "pull", "org/name"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=clean_environment(**hub.environment(tmp_path)))
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(0.7)
        assert repo.digest("model.safetensors") not in blobs(tmp_path)
        fcntl.flock(f, fcntl.LOCK_UN)
        said = p.communicate(timeout=20)[1].decode()
        assert p.returncode == 0
        assert said.count("another program is downloading model.safetensors: waiting for it") == 1, said


def test_huggingface_hub_and_vlmd_share_a_cache(vlmd, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    repo = Repo(small_model(noise(200_000)))
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    with Hub({"org/name": repo}) as hub:
        path = pulled(vlmd, hub, ours)
        for name in repo.files:
            assert huggingface_hub.try_to_load_from_cache("org/name", name, cache_dir=ours) == os.path.join(path, name)
        n = len(hub.log)
        assert huggingface_hub.snapshot_download("org/name", cache_dir=ours, local_files_only=True) == path
        assert len(hub.log) == n
        their_path = huggingface_hub.snapshot_download("org/name", cache_dir=theirs, endpoint=hub.url)
        check_snapshot(theirs, repo, their_path, repo.files)
        n = len(hub.asked("back"))
        assert pulled(vlmd, hub, theirs) == their_path
        assert len(hub.asked("back")) == n, "nothing is fetched twice"


def test_bars_on_a_terminal(tmp_path):
    repo = Repo(small_model(noise(12_000_000)))
    with Hub({"org/name": repo}) as hub:
        hub.pause_s = 0.01
        master, slave = pty.openpty()
        p = subprocess.Popen([PROGRAM, "pull", "org/name"], stdout=subprocess.PIPE, stderr=slave,
                             env=clean_environment(**hub.environment(tmp_path)))
        os.close(slave)
        said = b""
        try:
            while piece := os.read(master, 4096):
                said += piece
        except OSError:
            pass  # how Linux says that the other side is closed
        os.close(master)
        assert p.wait() == 0
        p.stdout.close()
    text = said.decode()
    assert re.search(r"model\.safetensors \[#*-*\] [\d.]+ MiB of 11\.4 MiB, [\d.]+ MiB/s, \d+ s left", text), text
    assert re.search(r"all files \[#*-*\] [\d.]+ MiB of 11\.4 MiB, [\d.]+ MiB/s, \d+ s left", text), text
    assert text.rstrip().endswith("3 of 3  model.safetensors  12.0 MB")


def test_what_is_said(vlmd, tmp_path):
    repo = Repo(small_model(noise(1_500_000)))
    with Hub({"org/name": repo}) as hub:
        r = pull(vlmd, hub, tmp_path)
        lines = r.err.decode().splitlines()
        assert lines[0].startswith("org/name at 111111111111: 3 files, 1.5 MB, of which 1.5 MB")
        assert [line.split()[3] for line in lines[1:]] == ["config.json", "tokenizer.json", "model.safetensors"]
        assert "\033" not in r.err.decode()
        assert hashlib.sha256(repo.files["model.safetensors"]).hexdigest() in blobs(tmp_path)
