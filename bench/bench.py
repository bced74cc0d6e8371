#!/usr/bin/env python3
"""Figures of the whole program: size, start, answer, tokenizing hostile text.
usage: bench.py PROGRAM [MODEL]   (MODEL: demo)"""
import os
import resource
import subprocess
import sys
import tempfile
import time


def seconds(command, stdin=b"", runs=5):
    """Best of several, since neighbours on the machine only ever slow it."""
    best = float("inf")
    for _ in range(runs):
        start = time.monotonic()
        p = subprocess.run(command, input=stdin, capture_output=True)
        best = min(best, time.monotonic() - start)
        if p.returncode != 0:
            sys.exit(p.stderr.decode(errors="replace"))
    return best


def cpu_seconds(command, text, runs=5):
    """As seconds, but the time of the program on the CPU: its one thread does not wait for anything."""
    best = float("inf")
    with tempfile.TemporaryFile() as stdin:
        stdin.write(text)
        for _ in range(runs):
            stdin.seek(0)
            p = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(p.pid, 0)
            p.returncode = os.waitstatus_to_exitcode(status)
            if p.returncode != 0:
                sys.exit(f"{command} failed")
            best = min(best, usage.ru_utime + usage.ru_stime)
    return best


def main():
    program, model = sys.argv[1], (sys.argv[2:] + ["demo"])[0]
    print(f"program                    {os.path.getsize(program) / 1e6:8.2f} MB")
    print(f"version                    {seconds([program, 'version']) * 1e3:8.1f} ms")
    print(f"inspect                    {seconds([program, 'inspect', model]) * 1e3:8.1f} ms")
    ask = [program, "run", model, "-p", "Hello", "-n"]
    one, many = seconds(ask + ["1"]), seconds(ask + ["101", "--ignore-eos"])
    print(f"open and first token       {one * 1e3:8.1f} ms")
    print(f"decode                     {100 / max(many - one, 1e-9):8.1f} tok/s")
    texts = {"one letter": b"a", "spaces": b" ", "emoji joiners": "👩‍".encode(), "combining marks": "a\u0301\u0323".encode(),
             "prose": b"What colour is the circle to the left of the square? ", "random bytes": None}
    base = cpu_seconds([program, "tokenize", model], b"a")
    for name, unit in texts.items():
        data = os.urandom(1 << 20) if unit is None else (unit * (1 + (1 << 20) // len(unit)))[:1 << 20]
        once = cpu_seconds([program, "tokenize", model], data) - base
        twice = cpu_seconds([program, "tokenize", model], data + data) - base
        print(f"tokenize {name:16}  {1.048576 / max(once, 1e-9):8.1f} MB/s, twice the text takes {twice / max(once, 1e-9):.2f} times as long")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"peak memory of all these   {peak / 1024:8.1f} MiB")


if __name__ == "__main__":
    main()
