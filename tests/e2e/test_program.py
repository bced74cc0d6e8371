"""The program file itself: what it needs, how large it is, how it is hardened."""
import os
import re
import subprocess

import pytest

from helpers import DEMO


def tool(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def elf(vlmd):
    return {"headers": tool("readelf", "-hlW", vlmd.program), "dynamic": tool("readelf", "-dW", vlmd.program),
            "symbols": tool("readelf", "--dyn-syms", "-W", vlmd.program),
            "sections": tool("readelf", "-SW", vlmd.program)}


def test_it_needs_libc_and_libm_alone(elf):
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", elf["dynamic"]))
    assert needed <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}, needed


def test_it_is_small(vlmd):
    """At most 8 MB without the weights of the built-in model."""
    weights = os.path.getsize(os.path.join(DEMO, "model.safetensors"))
    assert os.path.getsize(vlmd.program) - weights <= 8_000_000


def test_it_is_hardened(elf):
    assert re.search(r"Type:\s+DYN", elf["headers"]), "position-independent"
    assert "INTERP" in elf["headers"]
    assert re.search(r"GNU_STACK.*\bRW\b\s", elf["headers"]), "stack not executable"
    assert not re.search(r"LOAD.*\bRWE\b", elf["headers"]), "no segment both writable and executable"
    assert "GNU_RELRO" in elf["headers"] and re.search(r"FLAGS.*BIND_NOW|\(BIND_NOW\)", elf["dynamic"]), "full RELRO"
    assert "TEXTREL" not in elf["dynamic"]
    assert "RPATH" not in elf["dynamic"] and "RUNPATH" not in elf["dynamic"]
    assert "__stack_chk_fail" in elf["symbols"], "stack protector"
    assert re.search(r"__\w+_chk\b", elf["symbols"].replace("__stack_chk_fail", "")), "FORTIFY_SOURCE"


def test_debug_information_is_split_off(vlmd, elf):
    assert ".debug_info" not in elf["sections"] and ".gnu_debuglink" in elf["sections"]
    assert os.path.exists(vlmd.program + ".debug")
