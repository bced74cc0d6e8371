#!/usr/bin/env python3
"""Run each fuzz target for a while, as many at a time as there are CPUs (at most four).
usage: fuzz.py SECONDS [TARGET...]

New inputs go to build-fuzz/corpus/TARGET; tests/fuzz/corpus/TARGET is only read.  A finding is left in
build-fuzz/findings/, ready to become a corpus file.  Last line: N passed, M failed."""
import concurrent.futures
import glob
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build-fuzz")


def fuzz(name, seconds):
    """-> (ok, lines)"""
    work = os.path.join(BUILD, "corpus", name)
    findings = os.path.join(BUILD, "findings", name + "-")
    os.makedirs(work, exist_ok=True)
    os.makedirs(os.path.dirname(findings), exist_ok=True)
    seeds = os.path.join(ROOT, "tests/fuzz/corpus", name)
    dictionary = os.path.join(ROOT, "tests/fuzz", name + ".dict")
    command = [os.path.join(BUILD, "tests", name), f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               f"-artifact_prefix={findings}", "-print_final_stats=1", "-verbosity=1"]
    if os.path.exists(dictionary):
        command.append(f"-dict={dictionary}")
    command.append(work)
    if os.path.isdir(seeds):
        command.append(seeds)
    environment = dict(os.environ, ASAN_OPTIONS="allocator_may_return_null=1:detect_leaks=1")
    start = time.monotonic()
    try:
        p = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment,
                           timeout=seconds * 3 + 120, cwd=BUILD)
    except subprocess.TimeoutExpired:
        return False, [f"{name}: did not end in time"]
    stats = dict(line[6:].split(":", 1) for line in p.stderr.split("\n") if line.startswith("stat::"))
    runs = stats.get("number_of_executed_units", "?").strip()
    took = time.monotonic() - start
    if p.returncode == 0:
        return True, [f"{name}: {runs} inputs in {took:.0f} s"]
    return False, [f"{name}: FAILED after {took:.0f} s"] + p.stderr.split("\n")[-60:]


def main():
    seconds = int(sys.argv[1])
    names = sys.argv[2:] or sorted(os.path.splitext(os.path.basename(p))[0]
                                   for p in glob.glob(os.path.join(ROOT, "tests/fuzz/fuzz_*.c")))
    subprocess.run([os.path.join(ROOT, "tools/build.sh"), "fuzz", "fuzz_targets"], check=True,
                   stdout=subprocess.DEVNULL)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for ok, lines in pool.map(lambda n: fuzz(n, seconds), names):
            print("\n".join(lines), flush=True)
            failed += not ok
    print(f"fuzz: {len(names) - failed} passed, {failed} failed")
    return 1 if failed or not names else 0


if __name__ == "__main__":
    sys.exit(main())
