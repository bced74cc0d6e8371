"""`vlmd inspect` tells what is in a folder, as text and as one JSON object."""
import json
import os
import time

import pytest

from helpers import DEMO, GOLDEN, golden_models, read_safetensors


def inspect(vlmd, model, *options):
    r = vlmd("inspect", model, "--json", *options)
    assert r.code == 0 and r.err == b"", r
    return json.loads(r.out)


def test_the_built_in_model(vlmd):
    info = inspect(vlmd, "demo")
    assert info["model_type"] == "llava" and info["text"]["model_type"] == "llama"
    assert info == inspect(vlmd, DEMO)
    n = 0
    for tensor in info["tensors"]:
        count = 1
        for size in tensor["shape"]:
            count *= size
        n += count
        assert tensor["bytes"] == count * {"F32": 4, "F16": 2, "BF16": 2}[tensor["dtype"]]
    # What every text about the model says.
    assert n <= 4_000_000 and sum(t["bytes"] for t in info["tensors"]) <= 8_000_000


def test_as_text(vlmd):
    r = vlmd("inspect", "demo")
    assert r.code == 0 and r.err == b"", r
    for words in ("llava", "CLIP", "million parameters", "chat template", "context"):
        assert words in r.out.decode()


@pytest.mark.parametrize("name", golden_models())
def test_golden_models(vlmd, name):
    folder = os.path.join(GOLDEN, name)
    info = inspect(vlmd, folder)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    assert info["text"]["hidden_size"] == config["text_config"]["hidden_size"]
    names = {t["name"] for t in info["tensors"]}
    weights = [n for n in os.listdir(folder) if n.endswith(".safetensors")]
    headers = set()
    for file in weights:
        with open(os.path.join(folder, file), "rb") as f:
            size = int.from_bytes(f.read(8), "little")
            headers |= set(json.loads(f.read(size))) - {"__metadata__"}
    assert names == headers


def test_memory_grows_with_the_context(vlmd):
    small, large = (inspect(vlmd, "demo", "--ctx", n)["memory"] for n in ("100", "1000"))
    assert small["context"] == 100 and large["kv_bytes"] == 10 * small["kv_bytes"]


def test_it_is_quick(vlmd):
    def seconds():
        start = time.monotonic()
        inspect(vlmd, "demo")
        return time.monotonic() - start
    assert min(seconds() for _ in range(5)) < 1


def test_trace_is_a_safetensors_file(vlmd, tmp_path):
    out = tmp_path / "t.safetensors"
    r = vlmd("trace", "demo", "-p", "Hello", "-n", "3", "-o", out)
    assert r.code == 0 and r.out == b"" and r.err == b"", r
    tensors = read_safetensors(out)
    assert set(tensors) >= {"input_ids", "logits", "output_ids"}
    assert tensors["logits"].shape[0] == tensors["input_ids"].shape[0]
    assert 1 <= tensors["output_ids"].shape[0] <= 3
    assert os.listdir(tmp_path) == ["t.safetensors"]
    # The file of an earlier run is replaced as a whole.
    assert vlmd("trace", "demo", "-p", "Hello", "-n", "3", "-o", out).code == 0
    assert all((read_safetensors(out)[k] == v).all() for k, v in tensors.items())
