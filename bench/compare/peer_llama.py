#!/usr/bin/env python3
"""llama.cpp on one model, through the package llama-cpp-python; prints JSON.
usage: peer_llama.py measure MODEL.gguf [--mmproj FILE] [--threads N] [--runs N]
       peer_llama.py quantize SOURCE.gguf TARGET.gguf q4_0|q8_0 [--threads N]
       peer_llama.py logits MODEL.gguf IDS.json OUT    float32 logits of each id's position, one after the other
Each figure is the median of its runs, as in `vlmd bench`."""
import argparse
import ctypes
import json
import statistics
import sys
import time

import llama_cpp
import llama_cpp.llama_cpp as lib

BATCH, MICRO_BATCH, STREAMS_MAX = 2048, 512, 16
QUIET = lib.llama_log_callback(lambda *_: None)  # held, since the library calls it


def model_of(path):
    lib.llama_log_set(QUIET, ctypes.c_void_p(0))
    lib.llama_backend_init()
    p = lib.llama_model_default_params()
    p.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(path.encode(), p)
    if not model:
        sys.exit(f"{path} cannot be loaded")
    return model


def context_of(model, n_ctx, threads):
    p = lib.llama_context_default_params()
    p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max = n_ctx, BATCH, MICRO_BATCH, STREAMS_MAX
    p.n_threads, p.n_threads_batch, p.kv_unified = threads, threads, True
    return lib.llama_init_from_model(model, p)


class Context:
    def __init__(self, path, threads):
        self.model = model_of(path)
        self.context = context_of(self.model, 4096, threads)
        self.batch = lib.llama_batch_init(BATCH, 0, 1)

    def clear(self):
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)

    def decode(self, rows):
        """rows: (token, position, sequence, whether its logits are wanted)."""
        b = self.batch
        b.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            b.token[i], b.pos[i], b.n_seq_id[i], b.logits[i] = token, position, 1, wanted
            b.seq_id[i][0] = sequence
        if lib.llama_decode(self.context, b) != 0:
            sys.exit("llama_decode failed")

    def logits(self, row, n_vocab):
        return ctypes.string_at(lib.llama_get_logits_ith(self.context, row), 4 * n_vocab)


def prefill_seconds(c, n, seed):
    rows = [((i * 37 + seed * 101) % 31000 + 300, i, 0, i == n - 1) for i in range(n)]
    c.clear()
    start = time.perf_counter()
    c.decode(rows)
    return time.perf_counter() - start


def decode_seconds(c, streams, steps, seed):
    """Seconds of a step, all streams a token each."""
    c.clear()
    for s in range(streams):
        c.decode([(300 + seed * 17 + s * 7 + i, i, s, i == 7) for i in range(8)])
    start = 0.0
    for k in range(steps + 1):
        if k == 1:  # the first step may still prepare something
            start = time.perf_counter()
        c.decode([(311 + seed + k + s, 8 + k, s, 1) for s in range(streams)])
    return (time.perf_counter() - start) / steps


class Pictures:
    def __init__(self, c, path, threads):
        from llama_cpp import mtmd_cpp
        self.lib, self.c = mtmd_cpp, c
        p = mtmd_cpp.mtmd_context_params_default()
        p.use_gpu, p.n_threads, p.print_timings = False, threads, False
        self.context = mtmd_cpp.mtmd_init_from_file(path.encode(), c.model, p)
        if not self.context:
            sys.exit(f"{path} cannot be loaded")

    def picture(self, seed, side=336):
        pixels = (ctypes.c_uint8 * (side * side * 3)).from_buffer_copy(
            bytes((i * 7919 + seed * 31) % 251 for i in range(side * side * 3)))
        return self.lib.mtmd_bitmap_init(side, side, pixels)

    def chunks(self, picture):
        question = b"USER: " + self.lib.mtmd_default_marker() + b"\nWhat is in this picture? ASSISTANT:"
        text = self.lib.mtmd_input_text()
        text.text, text.add_special, text.parse_special = question, True, True
        if hasattr(text, "text_len"):
            text.text_len = len(question)
        out = self.lib.mtmd_input_chunks_init()
        pictures = (self.lib.mtmd_bitmap_p_ctypes * 1)(picture)
        if self.lib.mtmd_tokenize(self.context, out, ctypes.byref(text), pictures, 1) != 0:
            sys.exit("mtmd_tokenize failed")
        return out

    def encode_seconds(self, seed):
        chunks = self.chunks(self.picture(seed))
        n = self.lib.mtmd_input_chunks_size(chunks)
        each = [self.lib.mtmd_input_chunks_get(chunks, i) for i in range(n)]
        image = [x for x in each if self.lib.mtmd_input_chunk_get_type(x) == 1][0]
        start = time.perf_counter()
        if self.lib.mtmd_encode_chunk(self.context, image) != 0:
            sys.exit("mtmd_encode_chunk failed")
        seconds = time.perf_counter() - start
        self.lib.mtmd_input_chunks_free(chunks)
        return seconds

    def first_token(self, seed):
        """Seconds from pixels and text to the first token's logits, and the tokens of the prompt."""
        picture = self.picture(seed)
        self.c.clear()
        n = ctypes.c_int32(0)
        start = time.perf_counter()
        chunks = self.chunks(picture)
        if self.lib.mtmd_helper_eval_chunks(self.context, self.c.context, chunks, 0, 0, BATCH, True, ctypes.byref(n)):
            sys.exit("mtmd_helper_eval_chunks failed")
        seconds = time.perf_counter() - start
        self.lib.mtmd_input_chunks_free(chunks)
        return seconds, n.value


def resident_bytes():
    with open("/proc/self/status", encoding="ascii") as f:
        return [int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS")][0]


def measure(a):
    out = []

    def add(test, n, batch, value, unit):
        out.append({"test": test, "n": n, "batch": batch, "value": value, "unit": unit})

    start = time.perf_counter()
    c = Context(a.model, a.threads)
    add("load", 0, 0, time.perf_counter() - start, "s")
    prefill_seconds(c, 16, 0)  # reads every weight once
    for n in (128, 512):
        add("prefill", n, 1, n / statistics.median(prefill_seconds(c, n, i) for i in range(a.runs)), "tok/s")
    for streams, steps in ((1, 24), (16, 8)):
        seconds = statistics.median(decode_seconds(c, streams, steps, i) for i in range(a.runs))
        add("decode", steps, streams, streams / seconds, "tok/s")
    if a.mmproj:
        p = Pictures(c, a.mmproj, a.threads)
        p.encode_seconds(99)
        add("encode", 1, 1, statistics.median(p.encode_seconds(i) for i in range(a.runs)), "s")
        firsts = [p.first_token(i) for i in range(a.runs)]
        add("ttft_new", firsts[0][1], 1, statistics.median(f[0] for f in firsts), "s")
    add("memory", 0, 0, resident_bytes(), "B")
    print(json.dumps({"engine": "llama.cpp", "version": llama_cpp.__version__, "threads": a.threads,
                      "system": lib.llama_print_system_info().decode().strip(), "results": out}))


def quantize(a):
    lib.llama_log_set(QUIET, ctypes.c_void_p(0))
    p = lib.llama_model_quantize_default_params()
    p.ftype = {"q4_0": lib.LLAMA_FTYPE_MOSTLY_Q4_0, "q8_0": lib.LLAMA_FTYPE_MOSTLY_Q8_0}[a.type]
    p.pure, p.nthread = True, a.threads  # every matrix alike, the head too
    if lib.llama_model_quantize(a.source.encode(), a.target.encode(), p) != 0:
        sys.exit(f"{a.source} cannot be quantised")


def logits(a):
    with open(a.ids, encoding="ascii") as f:
        ids = json.load(f)
    c = Context(a.model, a.threads)
    n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(c.model))
    c.decode([(token, i, 0, 1) for i, token in enumerate(ids)])
    with open(a.out, "wb") as f:
        for i in range(len(ids)):
            f.write(c.logits(i, n_vocab))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run, words in ((measure, ["model"]), (quantize, ["source", "target", "type"]), (logits, ["model", "ids", "out"])):
        p = commands.add_parser(run.__name__)
        p.set_defaults(run=run)
        for word in words:
            p.add_argument(word)
        p.add_argument("--threads", type=int, default=2)
        if run is measure:
            p.add_argument("--mmproj")
            p.add_argument("--runs", type=int, default=3)
    a = parser.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
