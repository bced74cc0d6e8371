#!/usr/bin/env python3
"""vlmd beside its peers on this CPU: the same random LLaVA, the same work, in turns, in one run.

Makes the model and the peers' environment where they are missing, measures the machine's own limits, then rounds of vlmd
and each peer one after the other, and prints a table. Of all rounds the best counts, in each the median of its runs.
Needs build/vlmd, build/bench/bench_limits (tools/build.sh release vlmd bench_limits) and Python; the rest it installs into
--venv. usage: bench/compare.py [--shape 1b] [--peers llama.cpp,transformers]"""
import argparse
import datetime
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "compare"))

import clients  # noqa: E402
import plot  # noqa: E402
import quality  # noqa: E402
import table  # noqa: E402
from peers import Environment, say  # noqa: E402
from shapes import BLOCK, SHAPES, all_weights  # noqa: E402

PEERS = ("llama.cpp", "transformers")
TESTS = "load,prefill,decode,encode,ttft_new,memory"


class Comparison:
    def __init__(self, a):
        self.a, self.env = a, Environment(a.venv, a.transformers_python, a.cpu_level)
        self.folder = os.path.join(a.work, a.shape)
        self.hf = os.path.join(self.folder, "hf")
        self.runs, self.limits = [], []

    def tool(self, name):
        return os.path.join(HERE, "compare", name)

    def gguf(self, dtype):
        return os.path.join(self.folder, "gguf", f"model-{dtype}.gguf")

    def mmproj(self):
        return os.path.join(self.folder, "gguf", "mmproj-f16.gguf")

    def variables(self, engine):
        """vlmd keeps its packed weights beside the models that are compared, not in the user's cache."""
        return self.env.variables() if engine != "vlmd" else {
            **os.environ, "XDG_CACHE_HOME": os.path.abspath(os.path.join(self.folder, "cache"))}

    def prepare(self):
        self.env.make(self.a.peers, self.a.jobs)
        command = [self.env.python, self.tool("random_model.py"), self.folder, self.a.shape]
        subprocess.run(command + ([] if "llama.cpp" in self.a.peers else ["--no-gguf"]), check=True)
        for engine, dtype in self.opponents():
            if engine == "llama.cpp" and not os.path.exists(self.gguf(dtype)):
                say(f"quantising to {dtype}")
                part = self.gguf(dtype) + ".part"
                self.run_json("llama.cpp", [self.tool("peer_llama.py"), "quantize", self.gguf("f16"), part, dtype])
                os.replace(part, self.gguf(dtype))

    def opponents(self):
        """Each once, in the order of the dtypes."""
        return list(dict.fromkeys(o for d in self.a.dtypes for o in table.OPPONENTS[d] if o[0] in self.a.peers))

    def run_json(self, engine, command):
        """The JSON that a program prints, None for none; Failed with its last line when it fails."""
        if engine != "vlmd":
            python = self.env.transformers_python if engine == "transformers" else self.env.python
            command = [python, *command, "--threads", str(self.a.threads)]
        p = subprocess.run(command, env=self.variables(engine), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                           check=False)
        if p.returncode != 0:
            lines = p.stderr.strip().split("\n")
            raise clients.Failed(lines[-1][-200:] or f"exit code {p.returncode}")
        return json.loads(p.stdout) if p.stdout.strip() else None

    def record(self, engine, dtype, what, run):
        """What run() gives, or why it gave nothing."""
        say(f"  {engine} {dtype}: {what}")
        entry = {"engine": engine, "dtype": dtype, "what": what, "load_before": os.getloadavg()[0]}
        try:
            entry.update(run())
            entry["model"] = self.a.shape  # not where it lies on this machine
        except (clients.Failed, subprocess.SubprocessError, ValueError) as e:
            entry["error"] = str(e)
            say(f"    {e}")
        self.runs.append(entry)
        self.save()

    def save(self, found_quality=None):
        """After each measurement, so that what was found outlives an interruption."""
        report = report_of(self, found_quality)
        os.makedirs(self.a.results, exist_ok=True)
        words = [report["cpu"], self.a.cpu_level or "", self.a.shape]
        name = "-".join(re.sub(r"[^a-z0-9]+", "-", w.lower()).strip("-") for w in words if w)
        self.path = os.path.join(self.a.results, f"{name}.json")
        with open(self.path, "w", encoding="utf-8") as f:
            json.dump(report, f, indent=1)
            f.write("\n")
        return report

    def refused(self, engine, dtype):
        return any(r["engine"] == engine and r["dtype"] == dtype and r.get("error") for r in self.runs)

    def bench(self, engine, dtype):
        runs = ["--runs", str(self.a.runs)]
        if engine == "vlmd":
            level = ["--cpu-level", self.a.cpu_level] if self.a.cpu_level else []
            return self.run_json(engine, [self.a.vlmd, "bench", self.hf, "--json", "--dtype", dtype, "--tests", TESTS,
                                          "--threads", str(self.a.threads), *runs, *level])
        if engine == "llama.cpp":
            return self.run_json(engine, [self.tool("peer_llama.py"), "measure", self.gguf(dtype), "--mmproj",
                                          self.mmproj(), *runs])
        needed, there = all_weights(SHAPES[self.a.shape]) * BLOCK[dtype], memory_available()
        if needed > 0.9 * there:  # it would take the machine with it
            raise clients.Failed(f"needs {needed * 1e-9:.1f} GB of memory, {there * 1e-9:.1f} GB are free")
        return self.run_json(engine, [self.tool("peer_transformers.py"), self.hf, dtype, *runs])

    def serve(self, engine, dtype, seed):
        port, threads = clients.free_port(), str(self.a.threads)
        if engine == "vlmd":
            level = ["--cpu-level", self.a.cpu_level] if self.a.cpu_level else []
            command = [self.a.vlmd, "serve", self.hf, "--listen", f"127.0.0.1:{port}", "--dtype", dtype, "--threads",
                       threads, *level]
        else:
            command = [self.env.llama_server, "--model", self.gguf(dtype), "--mmproj", self.mmproj(), "--host",
                       "127.0.0.1", "--port", str(port), "--threads", threads, "--threads-batch", threads, "--parallel",
                       str(clients.CLIENTS), "--ctx-size", str(clients.CLIENTS * 2048)]
        side = SHAPES[self.a.shape].image
        return {"results": clients.measure(command, port, side, seed, self.variables(engine))}

    def measure_limits(self):
        command = [self.a.limits, "--json", "--threads", str(self.a.threads)]
        if self.a.cpu_level:
            command += ["--isa", self.a.cpu_level]
        say("  limits of the machine")
        p = subprocess.run(command, capture_output=True, text=True, check=True)
        self.limits.append(json.loads(p.stdout)["limits"])

    def one_round(self, number):
        done = set()
        for dtype in self.a.dtypes:
            self.measure_limits()  # often, since a neighbour may have been busy
            for engine, kind in [("vlmd", dtype), *table.OPPONENTS[dtype]]:
                wanted = engine == "vlmd" or engine in self.a.peers
                if not wanted or (engine, kind) in done or self.refused(engine, kind):
                    continue
                done.add((engine, kind))
                self.record(engine, kind, "bench", lambda e=engine, k=kind: self.bench(e, k))
                if engine != "transformers" and not self.a.no_servers and not self.refused(engine, kind):
                    self.record(engine, kind, "server", lambda e=engine, k=kind: self.serve(e, k, number))

    def trace(self, dtype):
        path = os.path.join(self.folder, f"trace-{dtype}.safetensors")
        self.run_json("vlmd", [self.a.vlmd, "trace", self.hf, "--raw", "-p", quality.TEXT, "-n", "1", "-o", path,
                               "--dtype", dtype])
        ids, logits = quality.read_trace(path)
        os.unlink(path)
        return ids, logits

    def check_quality(self):
        say("logits against float32")
        ids, wanted = self.trace("auto")
        out = []
        for dtype in (d for d in self.a.dtypes if d != "f16"):
            try:
                out.append(quality.compare("vlmd", dtype, wanted, self.trace(dtype)[1]))
            except clients.Failed as e:
                say(f"  vlmd {dtype}: {e}")
        path, raw = os.path.join(self.folder, "ids.json"), os.path.join(self.folder, "logits.bin")
        with open(path, "w", encoding="ascii") as f:
            json.dump(ids, f)
        for engine, dtype in self.opponents():
            if engine == "llama.cpp":
                self.run_json(engine, [self.tool("peer_llama.py"), "logits", self.gguf(dtype), path, raw])
                out.append(quality.compare(engine, dtype, wanted, quality.read_raw(raw, len(ids))))
                os.unlink(raw)
        return out


def memory_available():
    with open("/proc/meminfo", encoding="ascii") as f:
        return [int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable")][0]


def cpu_facts():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        text = f.read()
    facts = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in text.split("\n\n")[0].split("\n"))}
    return {"cpu": facts.get("model name", os.uname().machine),
            "cpu_family": [facts.get(k) for k in ("vendor_id", "cpu family", "model", "stepping")],
            "cpu_flags": [w for w in facts.get("flags", "").split() if re.match("avx|amx|fma|f16c|ssse3", w)]}


def report_of(c, found_quality):
    a = c.a
    version = subprocess.run([a.vlmd, "version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {**cpu_facts(), "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "vlmd": version,
            "commit": commit.stdout.strip(), "cpus": os.cpu_count(), "threads": a.threads, "shape": a.shape, "rounds": a.rounds,
            "runs_of_a_round": a.runs, "cpu_level": a.cpu_level, "dtypes": a.dtypes, "peers": a.peers, "limits": c.limits,
            "runs": c.runs, "quality": found_quality}


def measure(a):
    if not os.path.exists(a.vlmd) or not os.path.exists(a.limits):
        sys.exit(f"{a.vlmd} and {a.limits} are needed: tools/build.sh release vlmd bench_limits")
    c = Comparison(a)
    c.prepare()
    for number in range(a.rounds):
        say(f"round {number + 1} of {a.rounds}")
        c.one_round(number)
    report = c.save(c.check_quality() if a.check_quality else None)
    say(f"written to {c.path}")
    return report


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: [w for w in text.split(",") if w]  # noqa: E731
    p.add_argument("--shape", choices=SHAPES, default="7b", help="of the model (7b: 13.5 GB a format)")
    p.add_argument("--dtypes", type=names, default=["q4", "q8", "f16"], help="of vlmd: q4,q8,f16,bf16")
    p.add_argument("--peers", type=names, default=["llama.cpp"], help=",".join(PEERS))
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=2, help="the best of them counts")
    p.add_argument("--runs", type=int, default=3, help="of a round; their median counts")
    p.add_argument("--quick", action="store_true", help="one round of one run each")
    p.add_argument("--no-servers", action="store_true", help="leave out the four clients")
    p.add_argument("--check-quality", action="store_true", help="also compare logits with those of float32")
    p.add_argument("--cpu-level", choices=["avx2", "avx512"], help="hold vlmd, llama.cpp and the limits to it")
    p.add_argument("--work", default=os.path.join(ROOT, "build/compare"), help="where the models are made and kept")
    p.add_argument("--venv", default=os.path.join(ROOT, "build/compare-venv"), help="where the peers are installed")
    p.add_argument("--transformers-python", help="a Python that has torch and transformers already")
    p.add_argument("--jobs", type=int, default=2, help="that build llama.cpp")
    p.add_argument("--vlmd", default=os.path.join(ROOT, "build/vlmd"))
    p.add_argument("--limits", default=os.path.join(ROOT, "build/bench/bench_limits"))
    p.add_argument("--results", default=os.path.join(HERE, "results"), help="folder of the JSON")
    p.add_argument("--from", dest="source", help="show this JSON again, measure nothing")
    p.add_argument("--plot", help="write the figures as SVG")
    p.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    a = p.parse_args()
    if a.quick:
        a.rounds = a.runs = 1
    for word, known in [(d, table.OPPONENTS) for d in a.dtypes] + [(w, PEERS) for w in a.peers]:
        if word not in known:
            p.error(f"{word} is none of {', '.join(known)}")
    return a


def main():
    a = arguments()
    if a.source:
        with open(a.source, encoding="utf-8") as f:
            report = json.load(f)
    else:
        report = measure(a)
    if a.plot:
        with open(a.plot, "w", encoding="utf-8") as f:
            f.write(plot.svg(report))
    print(json.dumps(report) if a.json else table.text_of(report))


if __name__ == "__main__":
    main()
