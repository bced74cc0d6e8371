#!/usr/bin/env python3
"""Checks of the source text that no compiler makes: who may include whom, banned functions, lengths,
leftovers.  usage: check_source.py [--list | FILE...]   (default: every file of the project; --list only names them)"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The floors of docs/architecture.md: what a room may include besides itself.
ROOMS = {
    "base": set(),
    "image": {"base"},
    "text": {"base"},
    "tensor": {"base"},
    "model": {"base", "image", "text", "tensor"},
    "engine": {"base", "image", "text", "tensor", "model"},
    "hub": {"base", "net"},
    "net": {"base"},
    "rpc": {"base", "net"},
    "worker": {"base", "image", "engine", "net", "rpc"},
    "gateway": {"base", "net", "rpc"},
    "cli": {"base", "hub", "image", "text", "tensor", "model", "engine", "net", "rpc", "worker", "gateway"},
}
# A library is known to one room (or one file) alone.
LIBRARIES = {
    "jpeglib.h": "src/image/", "jerror.h": "src/image/", "png.h": "src/image/", "zlib.h": "src/image/",
    "webp/": "src/image/", "gif_lib.h": "src/image/",
    "pcre2.h": "src/text/", "utf8proc.h": "src/text/",
    "histedit.h": "src/cli/",
}
BANNED = {
    "strcpy": "copies without a bound", "strcat": "copies without a bound",
    "sprintf": "writes without a bound", "vsprintf": "writes without a bound",
    "gets": "reads without a bound", "atoi": "hides bad input", "atol": "hides bad input",
    "atof": "hides bad input", "alloca": "takes stack that input decides", "system": "runs a shell",
    "strtok": "keeps hidden state", "rand": "use the counter-based generator",
}
BANNED_IN_SRC = {
    "exit": "only cli/main.c ends the process", "_exit": "only cli/main.c ends the process",
    "abort": "bad input is an error, our own bug an assert",
    "printf": "loses write errors: vlm_cli_write", "puts": "loses write errors: vlm_cli_write",
    "putchar": "loses write errors: vlm_cli_write",
}
# decoder_child.c is a process of its own.
MAY_EXIT = {"src/cli/main.c", "src/worker/decoder_zygote.c"}  # the latter: processes of its own
LINES_MAX = 640  # "about 600"
# What only the machine of one developer knows.
LEFTOVERS = re.compile(r"\b(TODO|FIXME|XXX)\b|/(home|root|work)/|\b(deb|security)\.debian\.org\b|\bpypi\.org\b")
LEFTOVERS_MAY = {"tools/check_source.py"}

problems = []


def problem(path, line, text):
    problems.append(f"{path}:{line}: {text}")


def strip(text):
    """The code with comments and the insides of strings blanked, line numbers kept."""
    def blank(match):
        s = match.group(0)
        if s[0] in "\"'":
            return s[0] + " " * (len(s) - 2) + s[-1]
        return re.sub(r"[^\n]", " ", s)
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def check_include(path, line_no, form, name):
    parts = path.split("/")
    if form == "<":
        for prefix, home in LIBRARIES.items():
            if name.startswith(prefix) and path.startswith("src/") and not path.startswith(home):
                problem(path, line_no, f"<{name}> is known to {home} alone")
        return
    if parts[0] != "src":
        return
    room = parts[1]
    target = name.split("/")[0]
    if "/" not in name or target not in ROOMS:
        problem(path, line_no, f'"{name}": includes are written from src/, as "base/status.h"')
    elif target != room and target not in ROOMS[room]:
        problem(path, line_no, f'"{name}": {room}/ may not include {target}/')
    elif not os.path.exists(os.path.join(ROOT, "src", name)):
        problem(path, line_no, f'"{name}": no such file')


def check_c(path, text):
    if path.startswith("src/") and path.split("/")[1] not in ROOMS:
        problem(path, 1, f"{path.split('/')[1]}/ is not a room of tools/check_source.py")
        return
    for line_no, line in enumerate(text.split("\n"), 1):
        m = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if m:
            check_include(path, line_no, m.group(1), m.group(2))
    banned = dict(BANNED)
    if path.startswith("src/"):
        banned.update(BANNED_IN_SRC)
        if path in MAY_EXIT:
            del banned["exit"], banned["_exit"]
    words = re.compile(r"(?<![\w.>])(" + "|".join(map(re.escape, banned)) + r")\s*\(")
    code = strip(text)
    for line_no, line in enumerate(code.split("\n"), 1):
        for m in words.finditer(line):
            problem(path, line_no, f"{m.group(1)}: {banned[m.group(1)]}")
    n_lines = text.count("\n")
    if n_lines > LINES_MAX:
        problem(path, n_lines, f"{n_lines} lines; split by topic before {LINES_MAX}")
    if path.endswith(".h") and path.startswith("src/"):
        guard = "VLM_" + re.sub(r"\W", "_", path.replace("src/", "", 1)).upper()
        if f"#ifndef {guard}" not in text:
            problem(path, 1, f"include guard should be {guard}")
        if not text.startswith("/*"):
            problem(path, 1, "a header opens with what it is and what it is not")


def files_of_project():
    """What git knows or would add; in a tree without git, everything but what was built."""
    p = subprocess.run(["git", "-c", "safe.directory=*", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                       capture_output=True, text=True, check=False)
    if p.returncode == 0:
        names = set(p.stdout.split("\n")) - {""}
    else:
        names = set()
        for folder, below, files in os.walk(ROOT):
            below[:] = [d for d in below if d not in ("build", "__pycache__") and not d.startswith("build-")]
            names |= {os.path.relpath(os.path.join(folder, f), ROOT) for f in files}
    return sorted(n for n in names if os.path.isfile(os.path.join(ROOT, n)))


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(files_of_project()))
        return 0
    names = sys.argv[1:] or files_of_project()
    n_files = 0
    for path in names:
        full = os.path.join(ROOT, path)
        if not os.path.isfile(full) or path.startswith(("tests/fuzz/corpus/", "tests/data/", "tests/golden/",
                                                         "models/")):
            continue
        with open(full, "rb") as f:
            data = f.read()
        if b"\0" in data:
            continue
        n_files += 1
        text = data.decode("utf-8", "replace")
        if "\ufffd" in text and path.endswith((".c", ".h")):
            problem(path, 1, "not UTF-8")
        for line_no, line in enumerate(text.split("\n"), 1):
            if path not in LEFTOVERS_MAY and LEFTOVERS.search(line):
                problem(path, line_no, f"leftover: {LEFTOVERS.search(line).group(0)}")
            if line != line.rstrip() and path.endswith((".c", ".h", ".py", ".sh", ".cmake")):
                problem(path, line_no, "trailing white space")
        if path.endswith((".c", ".h")):
            check_c(path, text)
    for p in sorted(problems):
        print(p)
    print(f"check_source: {n_files} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
