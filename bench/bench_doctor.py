#!/usr/bin/env python3
"""What `vlmd doctor MODEL` says an answer's speed will be, beside what `vlmd bench MODEL` measures: in turns, since memory can
be faster in one minute than in the next; medians of each.
usage: bench/bench_doctor.py build/vlmd MODEL[:DTYPE]... [--rounds N]"""
import argparse
import json
import statistics
import subprocess


def run(*command):
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("vlmd")
    p.add_argument("models", nargs="+")
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    print(f"{'model':40} {'dtype':6} {'doctor':>9} {'bench':>9} {'ratio':>6}   tokens of an answer a second")
    for what in a.models:
        model, _, dtype = what.partition(":")
        dtype = dtype or "auto"
        said, found = [], []
        for _ in range(a.rounds):
            said.append(run(a.vlmd, "doctor", model, "--dtype", dtype, "--json")["models"][0]["answer_tok_s"])
            results = run(a.vlmd, "bench", model, "--dtype", dtype, "--tests", "decode", "--runs", "1", "--json")["results"]
            found.append([r["value"] for r in results if r["test"] == "decode" and r["batch"] == 1][0])
        s, f = statistics.median(said), statistics.median(found)
        print(f"{model[-40:]:40} {dtype:6} {s:9.1f} {f:9.1f} {s / f:6.2f}   "
              f"{min(said):.1f} to {max(said):.1f}; {min(found):.1f} to {max(found):.1f}", flush=True)


if __name__ == "__main__":
    main()
