#!/usr/bin/env python3
"""`make test`: build every way, run every check, and say at the end what passed and what failed.
usage: test.py [STAGE...]   (default: all; --list names them)

A stage that fails does not keep the later ones from running.  Counted are single test functions, replayed or
fuzzed targets, and lint steps."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = os.environ.get("PYTHON", sys.executable)
FUZZ_SECONDS = os.environ.get("FUZZ_SECONDS", "6")


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, **more).returncode


def run_counted(*command):
    """A tool whose last line ends in "N passed, M failed"."""
    p = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                         errors="replace")
    last = ""
    for line in p.stdout:
        print(line, end="", flush=True)
        last = line if line.strip() else last
    m = re.search(r"(\d+) passed, (\d+) failed$", last.strip())
    if p.wait() != 0 and (m is None or m.group(2) == "0"):
        return Count(failed=1)
    return Count(int(m.group(1)), int(m.group(2))) if m else Count(failed=1)


def build(preset, *targets):
    return Count() if run("tools/build.sh", preset, *targets) == 0 else Count(failed=1)


def count_program(case):
    """A cmocka program's own functions; anything else is one test."""
    out = case.findtext("system-out") or ""
    found = {word: re.search(r"\[  " + word + r"\s*\] (\d+) test", out) for word in ("PASSED", "FAILED", "SKIPPED")}
    number = {word: int(m.group(1)) if m else 0 for word, m in found.items()}
    ok = case.get("status") == "run" and case.find("failure") is None
    if found["PASSED"] is None:
        return Count(passed=1) if ok else Count(failed=1)
    return Count(number["PASSED"], number["FAILED"] + (0 if ok or number["FAILED"] else 1), number["SKIPPED"])


def ctest(folder):
    report = os.path.join(ROOT, folder, "ctest.xml")
    if os.path.exists(report):
        os.remove(report)
    code = run("ctest", "--test-dir", folder, "--output-on-failure", "-j", str(os.cpu_count() or 1),
               "--output-junit", report, "--no-tests=error", "--progress")
    total = Count()
    if not os.path.exists(report):
        return Count(failed=1)
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        total.add(count_program(case))
    if code != 0 and total.failed == 0:
        total.failed = 1
    return total


def pytest(folder, *paths):
    report = os.path.join(ROOT, folder, "pytest.xml")
    if os.path.exists(report):
        os.remove(report)
    environment = dict(os.environ, VLMD=os.path.join(ROOT, folder, "vlmd"),
                       ASAN_OPTIONS="allocator_may_return_null=1:detect_leaks=1")
    code = run(PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *paths, env=environment)
    if not os.path.exists(report):
        return Count(failed=1)
    total = Count()
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        failed = int(suite.get("failures")) + int(suite.get("errors"))
        skipped = int(suite.get("skipped"))
        total.add(Count(int(suite.get("tests")) - failed - skipped, failed, skipped))
    if code != 0 and total.failed == 0:
        total.failed = 1
    return total


def arm():
    """The kernels of 64-bit ARM: cross-built, run by qemu-user as three CPUs (tests/CMakeLists.txt)."""
    missing = [tool for tool in ("aarch64-linux-gnu-gcc", "qemu-aarch64") if shutil.which(tool) is None]
    if missing:
        print(f"not run: {' and '.join(missing)} not installed (tools/packages.txt)")
        return Count(skipped=1)
    built = build("arm")
    return built if built.failed else ctest("build-arm")


SERVERS = [f"tests/e2e/test_{name}.py" for name in ("worker", "api", "http", "faults", "urls", "models", "pull")]
# test_http.py is about a parser that one thread runs.
THREADED_SERVERS = [path for path in SERVERS if path != "tests/e2e/test_http.py"]

STAGES = {
    "build": lambda: build("release"),
    "unit tests": lambda: ctest("build"),
    "end-to-end tests": lambda: pytest("build", "tests/e2e"),
    "build with sanitizers": lambda: build("asan"),
    "unit tests with sanitizers": lambda: ctest("build-asan"),
    "bad input with sanitizers": lambda: pytest("build-asan", "tests/e2e/test_bad_input.py"),
    "servers with sanitizers": lambda: pytest("build-asan", *SERVERS),
    "build with thread sanitizer": lambda: build("tsan"),
    "unit tests with thread sanitizer": lambda: ctest("build-tsan"),
    "answers with thread sanitizer": lambda: pytest("build-tsan", "tests/e2e/test_run.py", "-k", "threads or timings"),
    "servers with thread sanitizer": lambda: pytest("build-tsan", *THREADED_SERVERS),
    "arm": arm,
    "lint": lambda: run_counted("tools/lint.sh"),
    "fuzz targets": lambda: run_counted(PYTHON, "tools/fuzz.py", FUZZ_SECONDS),
}


# Stages that compute all the time, begun beside one that mostly waits.
BESIDE = {"arm": "servers with sanitizers", "lint": "servers with thread sanitizer"}


class Early:
    """A stage of BESIDE in a process of its own, which writes to a file until it is its turn."""

    def __init__(self, name):
        self.output = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen(["nice", sys.executable, __file__, name], cwd=ROOT, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=subprocess.STDOUT)

    def end(self):
        code = self.process.wait()
        self.output.seek(0)
        text = self.output.read()
        print(text.partition("=== summary")[0], end="", flush=True)
        m = re.search(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", text, re.M)
        if m is None or (code != 0 and m.group(2) == "0" and m.group(1) != "0"):
            return Count(failed=1)
        return Count(int(m.group(1)), int(m.group(2)), int(m.group(3) or 0))


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(STAGES))
        return 0
    wanted = sys.argv[1:] or list(STAGES)
    os.environ["PYTHON"] = PYTHON
    total, lines, early, start = Count(), [], {}, time.monotonic()
    for name in wanted:
        print(f"=== {name}", flush=True)
        stage_start = time.monotonic()
        try:
            for other, beside in BESIDE.items():
                if beside == name and other in wanted[wanted.index(name):]:
                    early[other] = Early(other)
            count = early[name].end() if name in early else STAGES[name]()
        except (OSError, subprocess.SubprocessError) as e:
            print(e)
            count = Count(failed=1)
        total.add(count)
        lines.append(f"  {name:32} {count.passed:5} passed {count.failed:4} failed {count.skipped:4} skipped"
                     f" {time.monotonic() - stage_start:6.0f} s")
    print("=== summary")
    print("\n".join(lines))
    print(f"{time.monotonic() - start:.0f} s")
    skipped = f", {total.skipped} skipped" if total.skipped else ""
    print(f"{total.passed} passed, {total.failed} failed{skipped}")
    return 1 if total.failed or total.passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
