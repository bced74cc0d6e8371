"""The built-in model keeps what its card says."""
import json
import os
import re
import subprocess

import pytest

from conftest import clean_environment
from helpers import DEMO, ROOT
from servers import Server


def card():
    with open(os.path.join(DEMO, "README.md"), encoding="utf-8") as f:
        return f.read()


def examples():
    path = os.path.join(DEMO, "README.md")
    text = card() if os.path.exists(path) else ""
    return re.findall(r"^\| `(examples/[^`]*)` \| ([^|]*) \| ([^|]*) \|$", text, re.M)


def test_the_card_says_it_is_a_demonstration():
    assert "demonstration, not a general model" in card()
    assert len(examples()) >= 5


@pytest.mark.parametrize("picture, question, answer", examples())
def test_examples_of_the_card(vlmd, picture, question, answer):
    r = vlmd("run", "demo", "-i", os.path.join(DEMO, picture), "-p", question)
    assert r.code == 0 and r.out.decode() == answer + "\n", r


def test_make_demo_asks_over_http(vlmd):
    p = subprocess.run([os.path.join(ROOT, "tools/demo.sh")], capture_output=True, text=True, timeout=120,
                       env=clean_environment(VLMD=vlmd.program))
    assert p.returncode == 0, p.stderr
    picture, question, answer = next(e for e in examples() if e[0] == "examples/three.png")
    assert f"picture:  models/demo/{picture}\nquestion: {question}\nanswer:   {answer}\n" in p.stdout
    assert re.search(r"timings:  prompt \d+ tokens, answer \d+ tokens", p.stdout)
    # The line to try next works as it stands there.
    line = next(line.strip() for line in p.stdout.splitlines() if "curl -s http" in line)
    with Server("serve", "demo", "--listen", "127.0.0.1:0") as server:
        command = line.replace("http://127.0.0.1:8080", server.url)
        p = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, cwd=ROOT)
    body = json.loads(p.stdout)
    assert body["choices"][0]["message"]["content"] == "There are 3 shapes."
