"""End-to-end tests: the real program, its real files, nothing mocked.
VLMD names the program (default: build/vlmd)."""
import atexit
import os
import shutil
import subprocess
import tempfile

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("VLMD", os.path.join(ROOT, "build/vlmd")))


# Packed weights of tests go nowhere near the user's own.
CACHE = tempfile.mkdtemp(prefix="vlmd-cache-")
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit {self.code}\nstdout: {self.out[:500]!r}\nstderr: {self.err[:1000]!r}"

    def failed_with(self, *words):
        """Exit 1, nothing on stdout, one line on stderr that holds the words and no leftovers."""
        text = self.err.decode()
        assert self.code == 1, self
        assert self.out == b"", self
        assert text.startswith("vlmd: ") and text.endswith("\n") and text.count("\n") == 1, self
        for word in words:
            assert word in text, self
        return text


def clean_environment(**more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("VLMD_", "HF_"))}
    environment["XDG_CACHE_HOME"] = CACHE
    environment["HF_HUB_OFFLINE"] = "1"
    environment.update(more)
    return environment


@pytest.fixture(scope="session")
def vlmd():
    assert os.access(PROGRAM, os.X_OK), f"{PROGRAM} is missing: make build"

    def run(*args, stdin=b"", timeout=60, **environment):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        p = subprocess.run([PROGRAM, *map(str, args)], input=stdin, capture_output=True, timeout=timeout,
                           env=clean_environment(**environment))
        return Result(p.returncode, p.stdout, p.stderr)

    run.program = PROGRAM
    return run
