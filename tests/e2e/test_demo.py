"""The built-in model keeps what its card says."""
import os
import re
import subprocess

import pytest

from conftest import clean_environment
from helpers import DEMO, ROOT


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


def test_make_demo_asks_them_all(vlmd):
    p = subprocess.run([os.path.join(ROOT, "tools/demo.sh")], capture_output=True, text=True, timeout=120,
                       env=clean_environment(VLMD=vlmd.program))
    assert p.returncode == 0, p.stderr
    for picture, question, answer in examples():
        assert f"picture:  models/demo/{picture}\nquestion: {question}\nanswer:   {answer}\n" in p.stdout
    # Timings of each answer.
    assert len(re.findall(r"answer \d+ tokens", p.stderr)) == len(examples())
