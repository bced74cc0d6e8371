"""`vlmd bench` measures a model and checks that an answer is the same in every company."""
import json
import os
import re

import pytest

from helpers import GOLDEN, copy_model, change_json, DEMO

UNITS = {"load": "s", "prefill": "tok/s", "decode": "tok/s", "encode": "s", "ttft_new": "s", "ttft_same": "s",
         "ttft_next": "s", "memory": "B"}
RUNS = ["alone", "together", "warm", "tiny", "chunk 1", "chunk 7", "chunk 64", "chunk 512", "one thread"]


def bench(vlmd, *args, timeout=60):
    r = vlmd("bench", *args, "--json", timeout=timeout)
    assert r.code == 0, r
    return json.loads(r.out), r.err.decode()


def test_results_as_json(vlmd):
    report, err = bench(vlmd, "demo", "--runs", "1", "--tokens", "8", "--threads", "1")
    assert err == ""
    results = report.pop("results")
    cpu_level = report.pop("cpu_level")
    assert cpu_level in ("avx512bf16", "avx512vnni", "avx512", "avx2", "reference", "neon", "dotprod", "i8mm")
    assert report == {"model": "demo", "dtype": "auto", "threads": 1}
    for r in results:
        assert set(r) == {"test", "n", "batch", "value", "unit"}
        assert r["unit"] == UNITS[r["test"]] and r["value"] > 0
    found = [(r["test"], r["n"], r["batch"]) for r in results]
    prompts = [n for test, n, _ in found if test.startswith("ttft")]
    assert prompts[0] == prompts[1] < prompts[2]
    assert found == [("load", 0, 0), ("prefill", 128, 1), ("prefill", 512, 1), ("decode", 8, 1), ("decode", 8, 4),
                     ("decode", 8, 16), ("encode", 64, 1), ("ttft_new", prompts[0], 1),
                     ("ttft_same", prompts[1], 1), ("ttft_next", prompts[2], 1), ("memory", 0, 0)]
    values = {r["test"]: r["value"] for r in results}
    assert values["encode"] < values["ttft_new"] and values["memory"] > 1e6


def test_only_some_tests_with_options(vlmd):
    report, err = bench(vlmd, "demo", "--tests", "prefill,ttft_same", "--prompt-tokens", "17,333,5000", "--ctx", "600",
                        "--dtype", "f32", "--cpu-level", "reference", "--runs", "1")
    assert report["dtype"] == "f32" and report["cpu_level"] == "reference"
    found = [(r["test"], r["n"]) for r in report["results"]]
    assert found[:3] == [("prefill", 17), ("prefill", 333), ("prefill", 599)]
    assert [test for test, _ in found[3:]] == ["ttft_same"]
    assert err == "vlmd: prefill of 5000 tokens: the context holds 599\n"


def test_what_the_context_is_too_short_for_is_left_out(vlmd):
    report, err = bench(vlmd, "demo", "--ctx", "70", "--runs", "1")
    assert [r["test"] for r in report["results"]] == ["load", "prefill", "memory"]
    for test in ("decode", "encode", "ttft_new"):
        assert f"{test} is left out: " in err


def test_results_as_a_table(vlmd):
    r = vlmd("bench", "--runs", "1", "--tests", "load,decode,memory", "--tokens", "4")
    assert r.code == 0 and r.err == b"", r
    title, head, *rows = r.out.decode().splitlines()
    assert re.fullmatch(r"demo: weights as stored, \d+ threads, \w+", title)
    assert head.split() == ["test", "n", "batch", "value", "unit"]
    assert [row.split()[:3] for row in rows] == [["load", "-", "-"], ["decode", "4", "1"], ["decode", "4", "4"],
                                                 ["decode", "4", "16"], ["memory", "-", "-"]]
    assert len({row.rindex("  ") for row in rows} | {head.rindex("  ")}) == 1


@pytest.mark.parametrize("name", ["llava-bpe", "yarn-biases"])
def test_other_models(vlmd, name):
    folder = os.path.join(GOLDEN, name)
    report, err = bench(vlmd, folder, "--runs", "1", "--tokens", "4", "--prompt-tokens", "65")
    assert report["model"] == folder and err == ""
    assert {r["test"] for r in report["results"]} == set(UNITS)
    assert [r["n"] for r in report["results"] if r["test"] == "prefill"] == [65]


def test_a_model_whose_template_is_of_no_use(vlmd, tmp_path):
    broken = copy_model(DEMO, tmp_path / "m", chat_template__json='{"chat_template": "{{ raise_exception(\'no\') }}"}',
                        tokenizer_config__json=change_json(chat_template=None))
    report, _ = bench(vlmd, broken, "--runs", "1", "--tests", "ttft_next")
    assert [r["test"] for r in report["results"]] == ["ttft_next"]
    report, _ = bench(vlmd, broken, "--check-determinism", "--requests", "5", "--dtype", "bf16")
    assert report["total"]["differences"] == 0


@pytest.mark.parametrize("model, n", [("demo", 48), (f"{GOLDEN}/llava-spm", 32), (f"{GOLDEN}/llava-bpe", 32)])
def test_determinism(vlmd, model, n):
    """Nothing differs, though answers were put off and things were found in the caches."""
    report, err = bench(vlmd, model, "--check-determinism", "--requests", str(n), timeout=300)
    assert err == "" and report["model"] == model and report["first"] is None
    assert [(r["dtype"], r["run"]) for r in report["runs"]] == [(d, n)
                                                              for d in ("f32", "f16", "bf16", "q8", "q4") for n in RUNS]
    total = {"requests": 0, "differences": 0, "preemptions": 0, "prefix_hits": 0, "image_hits": 0}
    for r in report["runs"]:
        alone = r["run"] == "alone"
        assert r["requests"] == n and r["differences"] == 0 and r["seconds"] > 0
        assert r["flight"] == (1 if alone else 16)
        assert r["threads"] == (1 if r["run"] in ("alone", "one thread") else 2)
        for key in total:
            total[key] += r[key]
        assert not (alone and r["prefix_hits"])
    assert {k: report["total"][k] for k in total} == total
    assert total["preemptions"] > 0 and total["prefix_hits"] > 0 and total["image_hits"] > 0


def test_determinism_of_one_dtype_as_a_table(vlmd):
    r = vlmd("bench", "demo", "--check-determinism", "--requests", "3", "--dtype", "f16")
    assert r.code == 0 and r.err == b"", r
    head, *rows, last = r.out.decode().splitlines()
    assert head.split()[:2] == ["dtype", "run"] and len(rows) == len(RUNS)
    for row, run in zip(rows, RUNS):
        assert re.match(rf"f16   {run} +\d+ +\d+ +3 +0 ", row), row
    assert last.startswith("27 answers, 0 different; ")


@pytest.mark.parametrize("args, words", [
    (["--tests", "speed"], "--tests: there is no test 'speed'"),
    (["--prompt-tokens", "128,x"], "--prompt-tokens must be"),
    (["--runs", "0"], "--runs must be"),
    (["--tokens", "1"], "--tokens must be"),
    (["--requests", "x"], "--requests must be"),
    (["--image", "x.png"], "takes no option --image"),
    (["demo", "demo"], "unexpected argument"),
])
def test_wrong_usage(vlmd, args, words):
    r = vlmd("bench", *args)
    assert r.code == 2 and r.out == b"" and words in r.err.decode(), r


def test_what_cannot_be_measured(vlmd, tmp_path):
    for options in ([], ["--check-determinism"]):
        vlmd("bench", "mock", *options).failed_with("mock")
        vlmd("bench", tmp_path, *options).failed_with("config.json")
