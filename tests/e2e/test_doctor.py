"""`vlmd doctor` tells what of a machine makes models slow."""
import json
import os
import re
import resource

import pytest

# In this order; those in OPTIONAL only where the system tells.
NAMES = ["cpu", "caches", "gpu", "affinity", "cpu quota", "cores", "numa", "frequency", "memory", "memory limit", "huge pages", "swap",
         "other load", "steal", "bandwidth", "products", "open files", "locked memory", "model cache", "packed weights",
         *(f"llava {size} {dtype}" for size in ("7B", "13B") for dtype in ("f16", "q8", "q4"))]
OPTIONAL = ["caches", "affinity", "cpu quota", "cores", "numa", "frequency", "memory limit", "huge pages", "swap",
            "other load", "steal"]


def check_names(names):
    assert names == [n for n in NAMES if n in names]
    assert [n for n in NAMES if n not in names and n not in OPTIONAL] == []


def test_json(vlmd):
    r = vlmd("doctor", "--json")
    assert r.code == 0 and r.err == b"", r
    checks = json.loads(r.out)["checks"]
    check_names([c["name"] for c in checks])
    for c in checks:
        assert set(c) == {"name", "status", "text", "remedy"}
        assert c["status"] in ("ok", "warning", "failure") and c["text"]
        assert bool(c["remedy"]) == (c["status"] != "ok")
    text = {c["name"]: c["text"] for c in checks}
    assert "kernels of level" in text["cpu"]
    assert float(text["bandwidth"].split()[0]) > 0.1
    assert re.match(r"f16 \d+, q8 \d+, q4 \d+ billion operations", text["products"]), text["products"]
    assert "packed" in text["packed weights"] and "GB in it" in text["packed weights"]
    assert "tokens of a prompt and" in text["llava 13B q4"]


def test_models(vlmd):
    """What models need and reach, as numbers."""
    whole = json.loads(vlmd("doctor", "--json").out)
    assert whole["cpu"]["threads"] == len(os.sched_getaffinity(0))
    assert 1e7 < whole["memory"]["available_bytes"] <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert [(m["name"], m["dtype"]) for m in whole["models"]] == \
        [(f"llava {s}", d) for s in ("7B", "13B") for d in ("f16", "q8", "q4")]
    for m in whole["models"]:
        assert m["memory_bytes"] > m["weight_bytes"] + m["kv_bytes"]
        assert m["fits"] == (m["memory_bytes"] <= whole["memory"]["available_bytes"])
        assert m["prompt_tok_s"] > m["answer_tok_s"] > 0


def test_a_model(vlmd):
    """The same for one that is there: what it needs is what inspect says."""
    inspected = json.loads(vlmd("inspect", "demo", "--json").out)
    for dtype in ("auto", "q8", "q4"):
        m = json.loads(vlmd("doctor", "demo", "--dtype", dtype, "--json").out)["models"]
        assert len(m) == 1 and (m[0]["name"], m[0]["dtype"], m[0]["context"]) == ("demo", dtype, 1024)
        assert m[0]["answer_tok_s"] > 0 and m[0]["fits"]
        if dtype == "auto":
            assert 0 <= inspected["bytes"] - m[0]["weight_bytes"] < 1000  # what it binds of them
            assert m[0]["kv_bytes"] == inspected["memory"]["kv_bytes"]
        else:
            assert m[0]["weight_bytes"] < inspected["bytes"]
    text = vlmd("doctor", "demo").out.decode()
    assert "this model" in text and "llava 7B" not in text
    vlmd("doctor", "/no/such/model").failed_with("/no/such/model")


def test_table(vlmd):
    r = vlmd("doctor")
    assert r.code == 0, r
    check_names([line[:14].strip() for line in r.out.decode().splitlines() if line[:14].strip()])


def test_fewer_cpus(vlmd):
    """An affinity mask smaller than the machine is named."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one CPU")
    os.sched_setaffinity(0, {min(before)})
    try:
        r = vlmd("doctor", "--json")
    finally:
        os.sched_setaffinity(0, before)
    checks = {c["name"]: c for c in json.loads(r.out)["checks"]}
    assert checks["cpu"]["text"].startswith("1 CPUs")
    if "affinity" in checks:
        assert checks["affinity"]["status"] == "warning" and "may run on 1 of" in checks["affinity"]["text"]


def test_packed_weights(vlmd, tmp_path):
    folder = tmp_path / "vlmd" / "packed"
    folder.mkdir(parents=True)
    with open(folder / "a.safetensors", "wb") as file:
        file.truncate(3 << 30)
    r = vlmd("doctor", "--json", XDG_CACHE_HOME=str(tmp_path))
    text = {c["name"]: c["text"] for c in json.loads(r.out)["checks"]}["packed weights"]
    assert "3.2 GB in it" in text and "not there" not in text
    r = vlmd("doctor", "--json", XDG_CACHE_HOME="", HOME="")
    check = {c["name"]: c for c in json.loads(r.out)["checks"]}["packed weights"]
    assert check["status"] == "warning" and "HOME" in check["remedy"]


def test_little_memory_is_a_failure(vlmd):
    """Under ulimit -v that leaves less than 256 MiB the exit code says so."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (200 << 20, before[1]))
    try:
        r = vlmd("doctor", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert r.code == 1, r
    checks = {c["name"]: c for c in json.loads(r.out)["checks"]}
    assert checks["memory"]["status"] == "failure" and "ulimit -v" in checks["memory"]["remedy"]


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"])
def test_cache_folder(vlmd, tmp_path, variable):
    environment = {"HF_HUB_CACHE": "", variable: str(tmp_path / "models")}
    r = vlmd("doctor", "--json", **environment)
    text = {c["name"]: c["text"] for c in json.loads(r.out)["checks"]}["model cache"]
    assert "not there yet" in text and "models" in text


def test_one_argument_at_most(vlmd):
    assert vlmd("doctor", "demo", "mock").code == 2
