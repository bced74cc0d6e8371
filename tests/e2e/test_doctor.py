"""`vlmd doctor` tells what of a machine makes models slow."""
import json
import resource

import pytest

NAMES = ["cpu", "memory", "bandwidth", "huge pages", "open files", "locked memory", "model cache", "llava 7B", "llava 13B"]


def test_json(vlmd):
    r = vlmd("doctor", "--json")
    assert r.code == 0 and r.err == b"", r
    checks = json.loads(r.out)["checks"]
    assert [c["name"] for c in checks] == NAMES
    for c in checks:
        assert c["status"] in ("ok", "warning", "failure") and c["text"]
        assert bool(c["remedy"]) == (c["status"] != "ok")
    assert "kernels of level" in checks[0]["text"]
    assert float(checks[2]["text"].split()[0]) > 0.1


def test_table(vlmd):
    r = vlmd("doctor")
    assert r.code == 0, r
    assert [line[:14].strip() for line in r.out.decode().splitlines() if line[:14].strip()] == NAMES


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


def test_no_arguments(vlmd):
    assert vlmd("doctor", "demo").code == 2
