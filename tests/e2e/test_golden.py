"""The program against what Transformers said about the small models of tests/golden: ids, rendered prompts, pixels,
every stage of an answer.  tests/golden/README.md tells where the expected values come from."""
import json
import os
import re
import time

import numpy as np
import pytest

from helpers import GOLDEN, golden_models, load_cases, read_safetensors

# Allowed difference as a part of the expected tensor's largest magnitude: about 100 times what separates
# Transformers in float32 from float64.  One 8-bit step of a pixel would be 0.015.
TOLERANCE = {"pixel_values": 2e-6, "vision_hidden": 2e-5, "image_features": 5e-5, "logits": 2e-4}
STAGES = ["input_ids", "pixel_values", "vision_hidden", "image_features", "logits", "logits_last", "output_ids"]

MODELS = golden_models()


def cases(kind):
    for model in MODELS:
        for number, case in enumerate(load_cases(model).get(kind, [])):
            yield pytest.param(model, case, id=f"{model}-{number}")


def test_there_are_golden_models():
    assert len(MODELS) >= 3


@pytest.mark.parametrize("model, case", cases("tokenize"))
def test_tokenize(vlmd, model, case):
    folder = os.path.join(GOLDEN, model)
    for key, options in (("ids", []), ("ids_no_special", ["--no-special"]), ("ids_plain", ["--no-special", "--plain"])):
        r = vlmd("tokenize", folder, *options, stdin=case["text"])
        assert r.code == 0, r
        assert json.loads(r.out) == case[key], key
    r = vlmd("tokenize", folder, "--decode", stdin=json.dumps(case["ids_plain"]))
    assert r.code == 0, r
    assert r.out.decode("utf-8", "replace") == case["decoded"]


@pytest.mark.parametrize("model, case", cases("template"))
def test_template(vlmd, model, case):
    r = vlmd("template", os.path.join(GOLDEN, model), stdin=json.dumps(case["request"]))
    assert r.code == 0, r
    assert r.out.decode() == case["rendered"]


def compare(stage, got, want):
    name = "logits" if stage == "logits_last" else stage
    a = got[name][-1:] if stage == "logits_last" else got[name]
    assert a.shape == want[stage].shape, f"{stage}: shape {a.shape}, want {want[stage].shape}"
    if want[stage].dtype.kind == "i":
        assert np.array_equal(a, want[stage]), f"{stage} differs"
        return
    allowed = TOLERANCE[name] * float(np.abs(want[stage]).max())
    off = np.abs(a.astype(np.float64) - want[stage])
    assert float(off.max()) <= allowed, f"{stage}: off by {off.max():.3g} at {np.unravel_index(off.argmax(), off.shape)}"


def trace(vlmd, tmp_path, model, case, *options):
    out = tmp_path / "t.safetensors"
    pictures = [x for name in case["images"] for x in ("-i", os.path.join(GOLDEN, "images", name))]
    r = vlmd("trace", os.path.join(GOLDEN, model), "--dtype", "f32", "-n", case["n"], "-o", out, "-p", case["prompt"],
             *(["--raw"] if case["raw"] else []), *pictures, *options)
    assert r.code == 0 and r.out == b"", r
    return read_safetensors(out)


@pytest.mark.parametrize("model, case", cases("trace"))
def test_trace(vlmd, tmp_path, model, case):
    want = read_safetensors(os.path.join(GOLDEN, model, "golden", case["file"]))
    got = trace(vlmd, tmp_path, model, case)
    for stage in STAGES:
        if stage in want:
            compare(stage, got, want)


@pytest.mark.parametrize("model", MODELS)
def test_bytes_do_not_depend_on_the_number_of_threads(vlmd, tmp_path, model):
    case = load_cases(model)["trace"][-1]
    one = trace(vlmd, tmp_path, model, case, "--threads", "1")
    for threads in ("2", "3"):
        other = trace(vlmd, tmp_path, model, case, "--threads", threads)
        for stage, tensor in one.items():
            assert np.array_equal(tensor, other[stage]), f"{stage} with {threads} threads"


@pytest.mark.parametrize("model", MODELS)
def test_reference_kernels_give_the_same_answer(vlmd, tmp_path, model):
    case = load_cases(model)["trace"][-1]
    want = read_safetensors(os.path.join(GOLDEN, model, "golden", case["file"]))
    got = trace(vlmd, tmp_path, model, case, "--cpu-level", "reference")
    for stage in STAGES:
        if stage in want:
            compare(stage, got, want)


def template_cases():
    path = os.path.join(GOLDEN, "templates/cases.json")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as f:
        spec = json.load(f)
    for number, case in enumerate(spec["cases"]):
        context = case["context"]
        yield pytest.param(case, spec["contexts"][context] if isinstance(context, str) else context,
                           id=f"{case['template']}-{number}")


@pytest.mark.parametrize("case, context", template_cases())
def test_small_templates(vlmd, case, context):
    before = time.localtime()
    r = vlmd("template", os.path.join(GOLDEN, "templates/data", case["template"]),
             stdin=json.dumps(context, ensure_ascii=False))
    if "error" in case:
        r.failed_with()
    else:
        assert r.code == 0, r
        # U+E000 FORMAT U+E001 stands for today's date; the day may end while the program runs.
        days = {re.sub("\ue000(.*?)\ue001", lambda m: time.strftime(m.group(1), day), case["expected"], flags=re.S)
                for day in (before, time.localtime())}
        assert r.out.decode() in days
