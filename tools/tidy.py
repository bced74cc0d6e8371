#!/usr/bin/env python3
"""clang-tidy over src/ with tools/lint_allow.txt taken into account.
usage: tidy.py BUILD_FOLDER [FILE...]; the folder holds compile_commands.json."""
import concurrent.futures
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FINDING = re.compile(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*) \[([\w.,-]+)\]$")


def read_allowed():
    """{(check, file, word): reason}; a finding is allowed when its text holds the word."""
    allowed = {}
    with open(os.path.join(ROOT, "tools/lint_allow.txt"), encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                check, path, word, reason = line.rstrip("\n").split(None, 3)
                allowed[check, path, word] = reason
    return allowed


def tidy(folder, path):
    p = subprocess.run(["clang-tidy", "-p", folder, "--quiet", path], cwd=ROOT, capture_output=True, text=True)
    return p.stdout


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as f:
        known = sorted({os.path.relpath(e["file"], ROOT) for e in json.load(f)})
    wanted = sys.argv[2:] or [p for p in known if p.startswith("src/") and p.endswith(".c")]
    allowed, used, findings = read_allowed(), set(), set()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for out in pool.map(lambda p: tidy(folder, p), wanted):
            for line in out.split("\n"):
                m = FINDING.match(line)
                if not m:
                    continue
                path = os.path.relpath(os.path.join(ROOT, m.group(1)), ROOT)
                checks = m.group(4).replace(",-warnings-as-errors", "")
                hit = next((k for k in allowed if k[0] in checks and k[1] == path and k[2] in m.group(3)), None)
                if hit:
                    used.add(hit)
                else:
                    findings.add(f"{path}:{m.group(2)}: {m.group(3)} [{checks}]")
    for finding in sorted(findings):
        print(finding)
    stale = [] if sys.argv[2:] else sorted(set(allowed) - used)
    for check, path, word in stale:
        print(f"tools/lint_allow.txt: nothing to allow any more: {check} {path} {word}")
    print(f"tidy: {len(wanted)} files, {len(findings) + len(stale)} problems")
    return 1 if findings or stale else 0


if __name__ == "__main__":
    sys.exit(main())
