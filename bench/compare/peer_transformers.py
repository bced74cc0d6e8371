#!/usr/bin/env python3
"""Transformers on one model, on the CPU; prints JSON.
usage: peer_transformers.py FOLDER f32|bf16 [--threads N] [--runs N]
Each figure is the median of its runs, as in `vlmd bench`."""
import argparse
import json
import statistics
import time

import torch
import transformers


def seconds(run, runs):
    times = []
    for i in range(runs):
        start = time.perf_counter()
        run(i)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def decode_seconds(model, steps):
    """Seconds of a step of one stream."""
    out = model(input_ids=torch.arange(300, 308)[None], use_cache=True, logits_to_keep=1)
    start = 0.0
    for k in range(steps + 1):
        if k == 1:
            start = time.perf_counter()
        out = model(input_ids=torch.tensor([[311 + k]]), past_key_values=out.past_key_values, use_cache=True,
                    logits_to_keep=1)
    return (time.perf_counter() - start) / steps


def resident_bytes():
    with open("/proc/self/status", encoding="ascii") as f:
        return [int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS")][0]


def measure(a):
    out = []

    def add(test, n, batch, value, unit):
        out.append({"test": test, "n": n, "batch": batch, "value": value, "unit": unit})

    torch.set_num_threads(a.threads)
    start = time.perf_counter()
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[a.dtype]
    model = transformers.LlavaForConditionalGeneration.from_pretrained(a.folder, dtype=dtype).eval()
    add("load", 0, 0, time.perf_counter() - start, "s")
    vision = model.config.vision_config
    n_image = (vision.image_size // vision.patch_size) ** 2
    pictures = [torch.randn(1, 3, vision.image_size, vision.image_size).to(dtype) for _ in range(a.runs)]
    # "USER: <image>\nWhat is in this picture? ASSISTANT:" is about 32 tokens of our vocabulary.
    question = torch.tensor([[1] + [300] * 8 + [model.config.image_token_id] * n_image + [301] * 23])

    def prompt(n, i):
        return ((torch.arange(n) * 37 + i * 101) % 31000 + 300)[None]

    model(input_ids=prompt(16, 0), logits_to_keep=1)
    for n in (128, 512):
        took = seconds(lambda i, n=n: model(input_ids=prompt(n, i), logits_to_keep=1), a.runs)
        add("prefill", n, 1, n / took, "tok/s")
    add("decode", 24, 1, 1 / statistics.median(decode_seconds(model, 24) for _ in range(a.runs)), "tok/s")
    add("encode", 1, 1, seconds(lambda i: model.get_image_features(pixel_values=pictures[i]), a.runs), "s")
    took = seconds(lambda i: model(input_ids=question, pixel_values=pictures[i], logits_to_keep=1), a.runs)
    add("ttft_new", question.shape[1], 1, took, "s")
    add("memory", 0, 0, resident_bytes(), "B")
    print(json.dumps({"engine": "transformers", "version": f"{transformers.__version__}, torch {torch.__version__}",
                      "threads": a.threads, "dtype": a.dtype, "results": out}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("dtype", choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    transformers.logging.set_verbosity_error()
    with torch.inference_mode():
        measure(parser.parse_args())


if __name__ == "__main__":
    main()
