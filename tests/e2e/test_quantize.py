"""Packed weights: `vlmd quantize`, `--dtype q8` and `q4`, and the files kept for the next start."""
import os

import numpy as np
import pytest

from api import Api, serve
from conftest import ROOT
from helpers import GOLDEN, read_safetensors

PICTURE = os.path.join(ROOT, "models", "demo", "examples", "three.png")
QUESTION = ["-i", PICTURE, "-p", "What is in this picture?"]


@pytest.mark.parametrize("dtype", ["q8", "q4"])
def test_a_quantised_folder_answers_like_packing_at_load(vlmd, tmp_path, dtype):
    folder = tmp_path / "packed"
    r = vlmd("quantize", "demo", "--dtype", dtype, "-o", folder)
    assert r.code == 0 and r.out == b"", r
    want = vlmd("run", "demo", "--dtype", dtype, *QUESTION)
    assert want.code == 0 and want.out, want
    assert vlmd("run", folder, *QUESTION).out == want.out
    assert vlmd("run", folder, "--dtype", "f32", *QUESTION).out == want.out  # what is packed stays so
    r = vlmd("inspect", folder)
    assert r.code == 0 and b"U8" in r.out, r
    stored = os.path.getsize(os.path.join(ROOT, "models", "demo", "model.safetensors"))
    assert (folder / "model.safetensors").stat().st_size < stored


def test_quantize_refuses(vlmd, tmp_path):
    held = tmp_path / "held"
    assert vlmd("quantize", "demo", "--dtype", "q8", "-o", held).code == 0
    before = sorted(os.listdir(held))
    vlmd("quantize", "demo", "--dtype", "q4", "-o", held).failed_with("--output", "holds a model already")
    assert sorted(os.listdir(held)) == before
    vlmd("quantize", "demo", "-o", tmp_path / "a").failed_with("--dtype must be q8 or q4")
    vlmd("quantize", "demo", "--dtype", "f16", "-o", tmp_path / "a").failed_with("--dtype must be q8 or q4")
    vlmd("quantize", "demo", "--dtype", "q8", "-o", tmp_path / "no" / "folder").failed_with("--output")
    vlmd("quantize", tmp_path / "none", "--dtype", "q8", "-o", tmp_path / "b").failed_with("no such model folder")
    assert not (tmp_path / "b" / "config.json").exists()


def test_the_next_start_does_not_pack(vlmd, tmp_path):
    args = ["run", os.path.join(GOLDEN, "llava-spm"), "--dtype", "q4", "-n", "4", "--log-level", "info", "-p", "hello"]
    first = vlmd(*args, XDG_CACHE_HOME=str(tmp_path))
    second = vlmd(*args, XDG_CACHE_HOME=str(tmp_path))
    assert first.code == 0 and b"packed the weights" in first.err, first
    assert second.code == 0 and b"packed the weights" not in second.err, second
    assert first.out == second.out
    assert len(os.listdir(tmp_path / "vlmd" / "packed")) == 1
    none = vlmd(*args, "--pack-cache", "0", XDG_CACHE_HOME=str(tmp_path / "other"))
    assert none.out == first.out and not (tmp_path / "other").exists()


def trace(vlmd, tmp_path, *args):
    path = tmp_path / "trace.safetensors"
    r = vlmd("trace", os.path.join(GOLDEN, "llava-bpe"), *args, "-n", "4", *QUESTION, "-o", path)
    assert r.code == 0, r
    return read_safetensors(path)


def cosine(want, got):
    """Mean over the rows that both have."""
    n = min(len(want), len(got))
    a, b = (x[:n].reshape(n, -1).astype(np.float64) for x in (want, got))
    return ((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).mean()


@pytest.mark.parametrize("dtype, least", [("q8", 0.9995), ("q4", 0.99), ("bf16", 0.9999)])
def test_logits_are_near_float32(vlmd, tmp_path, dtype, least):
    want, got = (trace(vlmd, tmp_path, "--dtype", d)["logits"] for d in ("f32", dtype))
    assert least <= cosine(want, got) < 1.0


@pytest.mark.parametrize("dtype", ["q8", "q4"])
def test_levels_agree(vlmd, tmp_path, dtype):
    """Packed products have the same bits at every level; what lies between them differs by rounding, which a row's rounding to
    8 bits makes larger where a value is between two steps."""
    results = [trace(vlmd, tmp_path, "--dtype", dtype, "--cpu-level", level) for level in ("reference", "avx2")]
    assert np.array_equal(results[0]["output_ids"], results[1]["output_ids"])
    assert cosine(results[0]["logits"], results[1]["logits"]) >= 0.9999


def test_vision_dtype_is_the_towers_alone(vlmd, tmp_path):
    plain = trace(vlmd, tmp_path, "--dtype", "f32")
    vision = trace(vlmd, tmp_path, "--dtype", "f32", "--vision-dtype", "q8")
    text = trace(vlmd, tmp_path, "--dtype", "q8", "--vision-dtype", "f32")
    assert not np.array_equal(plain["image_features"], vision["image_features"])
    assert np.array_equal(plain["image_features"], text["image_features"])
    assert not np.array_equal(plain["logits"], text["logits"])


def test_a_server_answers_as_run_does(vlmd):
    want = vlmd("run", "demo", "--dtype", "q4", "-p", "Hello").out.decode().rstrip("\n")
    with serve("demo", "--dtype", "q4") as server:
        assert Api(server).wait_ready().text("Hello", temperature=0) == want
        server.stop()
