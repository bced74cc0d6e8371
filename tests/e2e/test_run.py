"""`vlmd run` with the built-in model: streaming, limits, sampling, pictures of every format, a chat on a terminal."""
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from PIL import Image, ImageDraw

from conftest import clean_environment


@pytest.fixture(scope="module")
def red_circle(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red_circle.png"
    image = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(image).ellipse((52, 52, 172, 172), fill=(220, 30, 30))
    image.save(path)
    return str(path)


QUESTION = ["-p", "What colour is the background?"]


def ask(vlmd, *args, **more):
    r = vlmd("run", *args, **more)
    assert r.code == 0, r
    return r.out


def test_an_answer_is_a_line_on_stdout_and_nothing_else(vlmd, red_circle):
    r = vlmd("run", "demo", "-i", red_circle, *QUESTION)
    assert r.code == 0 and r.err == b"", r
    assert r.out.endswith(b"\n") and r.out.strip(), r
    assert not any(word in r.out for word in (b"<s>", b"</s>", b"ASSISTANT", b"<image>")), r


def test_demo_is_the_default_model(vlmd, red_circle):
    assert ask(vlmd, "-i", red_circle, *QUESTION) == ask(vlmd, "demo", "-i", red_circle, *QUESTION)


def test_the_folder_gives_the_same_answer_as_the_built_in_files(vlmd, red_circle):
    from helpers import DEMO
    assert ask(vlmd, "demo", "-i", red_circle, *QUESTION) == ask(vlmd, DEMO, "-i", red_circle, *QUESTION)


def test_prompt_on_stdin(vlmd, red_circle):
    assert ask(vlmd, "demo", "-i", red_circle, stdin=QUESTION[1] + "\n") == ask(vlmd, "demo", "-i", red_circle, *QUESTION)


def test_threads_and_kernels_do_not_change_the_answer(vlmd, red_circle):
    answers = {ask(vlmd, "demo", "-i", red_circle, *QUESTION, *more)
               for more in ([], ["--threads", "1"], ["--threads", "3"], ["--cpu-level", "reference"])}
    assert len(answers) == 1


def test_max_tokens_and_ignore_eos(vlmd, red_circle):
    whole = ask(vlmd, "demo", "-i", red_circle, *QUESTION).strip()
    for n in (1, 2, 3):
        part = ask(vlmd, "demo", "-i", red_circle, *QUESTION, "-n", n).strip()
        assert whole.startswith(part)
    r = vlmd("run", "demo", *QUESTION, "-n", "40", "--ignore-eos", "--timings")
    assert r.code == 0 and re.search(rb"answer 40 tokens", r.err), r


def test_stop_text_is_not_printed(vlmd, red_circle):
    whole = ask(vlmd, "demo", "-i", red_circle, *QUESTION).decode().strip()
    cut = len(whole) // 2
    stop = whole[cut:cut + 3]
    got = ask(vlmd, "demo", "-i", red_circle, *QUESTION, "--stop", stop, "--stop", "never there").decode()
    assert got.rstrip("\n") == whole[:whole.index(stop)]


def test_seeds(vlmd, red_circle):
    hot = ["demo", "-i", red_circle, "-p", "Tell me about the picture.", "--temperature", "2", "-n", "20", "--seed"]
    assert ask(vlmd, *hot, "7") == ask(vlmd, *hot, "7")
    assert len({ask(vlmd, *hot, seed) for seed in range(1, 6)}) > 1


def test_greedy_whatever_the_seed(vlmd, red_circle):
    cold = ["demo", "-i", red_circle, *QUESTION, "--temperature", "0", "--seed"]
    assert ask(vlmd, *cold, "1") == ask(vlmd, *cold, "2")
    assert ask(vlmd, "demo", "-i", red_circle, *QUESTION, "--top-k", "1", "--temperature", "2") == ask(vlmd, *cold, "1")


def test_lossless_formats_give_the_same_answer(vlmd, red_circle, tmp_path):
    answers = {ask(vlmd, "demo", "-i", red_circle, *QUESTION)}
    with Image.open(red_circle) as image:
        for name, options in (("a.bmp", {}), ("a.webp", {"lossless": True}), ("a.gif", {}), ("b.png", {"optimize": True})):
            image.save(tmp_path / name, **options)
            # The bytes decide what a file is, not its name.
            os.rename(tmp_path / name, tmp_path / (name + ".jpg"))
            answers.add(ask(vlmd, "demo", "-i", tmp_path / (name + ".jpg"), *QUESTION))
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0")
    answers.add(ask(vlmd, "demo", "-i", tmp_path / "turned.png", *QUESTION))
    assert len(answers) == 1


def test_timings_go_to_stderr(vlmd, red_circle):
    r = vlmd("run", "demo", "-i", red_circle, *QUESTION, "--timings")
    assert r.code == 0 and re.search(rb"prompt \d+ tokens", r.err) and r.err.count(b"\n") == 1, r
    assert r.out == ask(vlmd, "demo", "-i", red_circle, *QUESTION)


def test_info_lines(vlmd):
    r = vlmd("run", "demo", "-p", "Hello", "-n", "1", "--log-level", "info")
    assert r.code == 0, r
    assert re.fullmatch(rb"vlmd: ready in \d+\.\d+ s: llava, 7\.5 MB of weights, context 1024, cache of \d+\.\d MB for \d+ tokens, \d+ threads on cpu \(\w+\), "
                        rb"chat template from [\w. -]+\n", r.err), r


def test_text_arrives_while_it_is_written(vlmd):
    p = subprocess.Popen([vlmd.program, "run", "demo", "-p", "Hello", "--ignore-eos", "-n", "400", "--temperature", "1"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_environment())
    chunks = []
    while chunk := os.read(p.stdout.fileno(), 65536):
        chunks.append(chunk)
    assert p.wait(60) == 0
    assert len(chunks) > 20
    # No chunk ends inside a character.
    for chunk in chunks:
        chunk.decode()


def test_closed_stdout_ends_the_answer(vlmd):
    p = subprocess.Popen([vlmd.program, "run", "demo", "-p", "Hello", "--ignore-eos", "-n", "100000"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_environment())
    assert os.read(p.stdout.fileno(), 1)
    p.stdout.close()
    assert p.wait(30) == 1
    assert p.stderr.read() == b"vlmd: standard output: cannot write: Broken pipe\n"


def test_full_disk(vlmd):
    with open("/dev/full", "wb") as full:
        p = subprocess.run([vlmd.program, "run", "demo", "-p", "Hello"], stdout=full, stderr=subprocess.PIPE,
                           stdin=subprocess.DEVNULL, timeout=60, env=clean_environment())
    assert p.returncode == 1 and p.stderr.count(b"\n") == 1


class Terminal:
    """The program on a pseudo-terminal."""

    def __init__(self, *command, **environment):
        try:
            self.pid, self.fd = pty.fork()
        except OSError:
            pytest.skip("this machine has no pseudo-terminals (/dev/ptmx and /dev/pts)")
        if self.pid == 0:
            os.execve(command[0], list(command), clean_environment(TERM="dumb", HOME="/nonexistent", **environment))
        self.text = ""

    def wait_for(self, pattern, timeout=30):
        """Read until the pattern is in what came since the last match; returns that text."""
        end = time.monotonic() + timeout
        while not (m := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, f"ended without {pattern!r}: {self.text!r}"
            self.text += data.decode("utf-8", "replace")
        before, self.text = self.text[:m.end()], self.text[m.end():]
        return before

    def send(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def end(self, timeout=30):
        """The exit code."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            try:
                if select.select([self.fd], [], [], 0.05)[0]:
                    os.read(self.fd, 65536)
            except OSError:
                pass
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError("did not end")


PROMPT = r"> "


def test_chat(vlmd, red_circle):
    t = Terminal(vlmd.program, "run", "demo")
    t.wait_for(PROMPT)
    t.send("/image /nonexistent.png")
    assert "nonexistent.png" in t.wait_for(r"\n[^\n]*" + PROMPT)
    t.send(f"/image {red_circle}")
    t.wait_for(PROMPT)
    t.send(QUESTION[1])
    expected = ask(vlmd, "demo", "-i", red_circle, *QUESTION).decode().strip()
    t.wait_for(re.escape(expected))
    t.wait_for(PROMPT)
    t.send("/reset")
    t.wait_for(PROMPT)
    t.send("/nonsense")
    t.wait_for(PROMPT)
    t.send("/quit")
    assert t.end() == 0


def test_interrupt_stops_the_answer_not_the_program(vlmd):
    t = Terminal(vlmd.program, "run", "demo", "--ignore-eos", "-n", "1000000")
    t.wait_for(PROMPT)
    t.send("Hello")
    t.wait_for(r"Hello\r?\n.*\w")
    os.kill(t.pid, signal.SIGINT)
    t.wait_for(PROMPT)
    t.send("/quit")
    assert t.end() == 0


def test_end_of_input_ends_the_chat(vlmd):
    t = Terminal(vlmd.program, "run", "demo")
    t.wait_for(PROMPT)
    # The editor takes the terminal over just after its prompt; before that, the end of input is the terminal's.
    time.sleep(0.5)
    os.write(t.fd, b"\x04")
    assert t.end() == 0


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_chat_takes_utf_8(vlmd, locale):
    question = "Was ist größer, 木 oder 😀?"
    t = Terminal(vlmd.program, "run", "demo", LC_ALL=locale)
    t.wait_for(PROMPT)
    t.send(question)
    expected = ask(vlmd, "demo", "-p", question).decode().strip()
    t.wait_for(r"\n" + re.escape(expected))
    t.wait_for(PROMPT)
    t.send("/quit")
    assert t.end() == 0


def test_the_mock_answers_too(vlmd):
    r = vlmd("run", "mock", "-p", "hello there", "-n", 2)
    assert (r.code, r.out) == (0, b"mock: hello\n"), r
