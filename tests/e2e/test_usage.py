"""version, help, options, wrong usage, and a stdout that cannot be written."""
import os
import re
import subprocess

import pytest

from conftest import clean_environment

COMMANDS = ["run", "serve", "gateway", "worker", "trace", "tokenize", "template", "pull", "quantize", "inspect",
            "bench", "doctor", "completion", "version",
            "help"]


def test_version(vlmd):
    for args in (["version"], ["--version"]):
        r = vlmd(*args)
        assert r.code == 0 and r.err == b""
        assert re.fullmatch(rb"vlmd \d+\.\d+\.\d+\n", r.out), r


def test_help_lists_every_command(vlmd):
    texts = {vlmd(*args).out for args in (["help"], ["--help"], ["-h"])}
    assert len(texts) == 1
    text = texts.pop().decode()
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", text, re.M), text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(vlmd, command):
    r = vlmd(command, "--help")
    assert r.code == 0 and r.err == b"", r
    assert r.out.startswith(b"usage: vlmd " + command.encode())
    assert vlmd("help", command).out == r.out
    assert vlmd(command, "--bad-option-after", "--help").code == 2


def test_help_shows_defaults(vlmd):
    text = vlmd("run", "--help").out.decode()
    for words in ("--dtype auto|f32|bf16|f16", "(default: 16384)", "-i, --image FILE", "--max-tokens N", "VLMD_A_B"):
        assert words in text


@pytest.mark.parametrize("args, words", [
    ([], "no command"),
    (["pull"], "pull needs ORG/NAME"),
    (["Run"], "unknown command 'Run'"),
    (["help", "me"], "unknown command 'me'"),
    (["run", "--nonsense"], "unknown option --nonsense"),
    (["run", "-q"], "unknown option -q"),
    (["run", "a", "b"], "unexpected argument 'b'"),
    (["run", "-p"], "-p needs a value"),
    (["run", "-n", "0"], "-n must be an integer between 1 and"),
    (["run", "--top-p", "2"], "--top-p must be a number between 0 and 1"),
    (["run", "--dtype", "f64"], "--dtype must be auto, f32, bf16, f16, q8 or q4"),
    (["run", "--device", "cuda"], "--device cuda is not supported yet"),
    (["trace", "demo"], "trace needs --prompt"),
    (["trace", "demo", "-p", "x"], "trace needs --output"),
    (["tokenize"], "tokenize needs MODEL"),
    (["tokenize", "demo", "--json"], "takes no option --json"),
    (["inspect"], "inspect needs MODEL"),
    (["version", "x"], "unexpected argument 'x'"),
    (["run", "--image", ""], "--image must have between 1 and"),
    (["run", "--top-k", "a\nb\x1b"], "not 'a?b?'"),
])
def test_wrong_usage_is_one_line_and_exit_2(vlmd, args, words):
    r = vlmd(*args)
    assert r.code == 2 and r.out == b"", r
    text = r.err.decode()
    assert text.startswith("vlmd: ") and text.count("\n") == 1 and words in text, r


def test_wrong_environment_is_wrong_usage(vlmd):
    r = vlmd("run", VLMD_TOP_P="lots")
    assert r.code == 2 and b"VLMD_TOP_P must be a number" in r.err, r


def test_environment_sets_and_flag_wins(vlmd):
    assert vlmd("tokenize", "/nonexistent", VLMD_DECODE="maybe").code == 2
    assert vlmd("tokenize", "/nonexistent", "--decode=no", VLMD_DECODE="maybe").code == 1


@pytest.mark.parametrize("args", [["version"], ["help"], ["run", "--help"]])
def test_full_disk_is_an_error(vlmd, args):
    with open("/dev/full", "wb") as full:
        p = subprocess.run([vlmd.program, *args], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 1
    assert p.stderr == b"vlmd: standard output: cannot write: No space left on device\n"


def test_closed_pipe_is_an_error_not_a_signal(vlmd):
    reader, writer = os.pipe()
    os.close(reader)
    p = subprocess.run([vlmd.program, "help"], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert p.returncode == 1
    assert p.stderr == b"vlmd: standard output: cannot write: Broken pipe\n"


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_closed_standard_descriptors(vlmd, closed):
    """A closed descriptor must not be taken over by a file that the program opens."""
    closing = " ".join(f"{fd}>&-" if fd != "0" else "0<&-" for fd in closed.split())
    p = subprocess.run(["sh", "-c", f'exec "$0" version {closing}', vlmd.program], capture_output=True, timeout=60,
                       env=clean_environment())
    assert p.returncode == (1 if "1" in closed else 0)
    if closed == "1":
        assert p.stderr == b"vlmd: standard output: cannot write: Bad file descriptor\n"
