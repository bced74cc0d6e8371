#!/usr/bin/env python3
"""Many at once, measured through the server: streams side by side, how smooth they stay beside a long prompt, a picture
that comes again, the next turn of a chat, memory over many pictures.
usage: bench_many.py [--pictures N] PROGRAM MODEL [OPTIONS OF SERVE]     (with the environment of tools/venv.sh)"""
import base64
import http.client
import io
import json
import os
import statistics
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ARGS = sys.argv[1:]
PICTURES = 300
if ARGS[0] == "--pictures":
    PICTURES = int(ARGS[1])
    ARGS = ARGS[2:]
os.environ["VLMD"] = ARGS[0]
sys.path.insert(0, os.path.join(ROOT, "tests/e2e"))

from PIL import Image  # noqa: E402
from api import Api, serve  # noqa: E402
from servers import memory_kb  # noqa: E402

STREAMS, TOKENS = 16, 48


def report(name, value):
    print(f"{name:66} {value}", flush=True)


def picture(seed, side=400):
    image = Image.effect_noise((side, side), 40 + seed % 50).convert("RGB")
    image.putpixel((seed % side, seed // side % side), (seed % 256, 3, 77))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    url = "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def words(n, seed):
    return " ".join(f"w{(i * 7919 + seed) % 1000}" for i in range(n))


class Answer:
    """One streamed request: when each piece came, the usage and timings at the end."""

    def __init__(self, server, messages, max_tokens, **more):
        self.times, self.usage, self.timings, self.text = [], None, None, ""
        body = {"messages": messages, "max_tokens": max_tokens, "stream": True, "ignore_eos": True, "temperature": 0,
                "logprobs": True, "stream_options": {"include_usage": True}, **more}
        c = http.client.HTTPConnection(server.host, server.port, timeout=3600)
        self.start = time.monotonic()
        c.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        r = c.getresponse()
        assert r.status == 200, r.read()
        for line in r:
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk, chunk
            self.usage = chunk.get("usage") or self.usage
            self.timings = chunk.get("timings") or self.timings
            for choice in chunk["choices"]:
                if choice.get("logprobs"):
                    self.times.append(time.monotonic())
                self.text += choice["delta"].get("content") or ""
        c.close()

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    def ttft(self):
        return self.times[0] - self.start


def user(text, *parts):
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def beside(server, n, tokens, tag):
    answers = [None] * n

    def run(i):
        answers[i] = Answer(server, user(f"{tag} number {i}"), tokens)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    return answers, threads


def total_speed(answers):
    """Tokens a second of all streams together while all of them ran."""
    begin, end = max(a.times[0] for a in answers), min(a.times[-1] for a in answers)
    return sum(begin < t <= end for a in answers for t in a.times) / (end - begin)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def streams(server):
    one = Answer(server, user("alone"), TOKENS)
    speed_1 = (len(one.times) - 1) / (one.times[-1] - one.times[0])
    answers, threads = beside(server, STREAMS, TOKENS, "beside")
    for t in threads:
        t.join()
    speed_n = total_speed(answers)
    report("one stream", f"{speed_1:.1f} tok/s")
    report(f"{STREAMS} streams together", f"{speed_n:.1f} tok/s, {speed_n / speed_1:.2f} times one")


def smoothness(server, n_words):
    """Gaps between tokens of 16 streams, those that end while the long prompt is computed apart."""
    answers, threads = beside(server, STREAMS, 3 * TOKENS, "smooth")
    while True:
        time.sleep(0.05)
        if server_running(server) >= STREAMS:
            break
    time.sleep(2)
    begin = time.monotonic()
    long = Answer(server, user(words(n_words, 1)), 1)
    end = time.monotonic()
    for t in threads:
        t.join()
    first = max(a.times[0] for a in answers)
    last = min(a.times[-1] for a in answers)
    quiet = [b - a for s in answers for a, b in zip(s.times, s.times[1:]) if (first < a and b < begin) or (end < a and b < last)]
    busy = [b - a for s in answers for a, b in zip(s.times, s.times[1:]) if b > begin and a < min(end, last)]
    n = long.usage["prompt_tokens"]
    report("gap between tokens, 16 streams: p50, p99",
           f"{quantile(quiet, .5) * 1e3:.0f}, {quantile(quiet, .99) * 1e3:.0f} ms ({len(quiet)} gaps)")
    report(f"the same while a prompt of {n} tokens is computed",
           f"{quantile(busy, .5) * 1e3:.0f}, {quantile(busy, .99) * 1e3:.0f} ms ({len(busy)} gaps); prompt {end - begin:.1f} s")


def server_running(server):
    c = http.client.HTTPConnection(server.host, server.port, timeout=60)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    c.close()
    for line in text.splitlines():
        if line.startswith("vlmd_num_requests_running"):
            return float(line.split()[-1])
    return 0


def again(server):
    p = picture(1)
    new = Answer(server, user("What is in the picture?", p), 4)
    same = Answer(server, user("What is in the picture?", p), 4)
    next_question = Answer(server, user("Which colours are there, and where are they?", p), 4)
    report("time to first token: a new picture", f"{new.ttft() * 1e3:.0f} ms")
    report("the same again", f"{same.ttft() * 1e3:.0f} ms, {100 * same.ttft() / new.ttft():.1f}%, "
           f"{same.usage['prompt_tokens_details']['cached_tokens']} of {same.usage['prompt_tokens']} tokens cached")
    report("another question about it", f"{next_question.ttft() * 1e3:.0f} ms, {100 * next_question.ttft() / new.ttft():.1f}%")


def next_turn(server, n_words):
    messages = user(words(n_words, 5))
    first = Answer(server, messages, 24)
    messages += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "And then?"}]
    second = Answer(server, messages, 4)
    before = first.usage["total_tokens"]
    report(f"next turn after {before} tokens",
           f"{second.usage['prompt_tokens']} tokens, {second.usage['prompt_tokens_details']['cached_tokens']} cached, "
           f"{second.timings['prefill_tokens']} computed; {second.ttft() * 1e3:.0f} ms after {first.ttft() * 1e3:.0f} ms")


def many_pictures(server, n):
    """Resident memory of the worker after a third of them and at the end."""
    marks = []
    for i in range(n):
        Answer(server, user("What is this?", picture(i)), 2)
        if i + 1 in (n // 3, n):
            marks.append(memory_kb(server.children()[0]) / 1024)
    report(f"{n} different pictures: worker memory at {n // 3}, at the end",
           f"{marks[0]:.1f}, {marks[1]:.1f} MiB ({100 * (marks[1] / marks[0] - 1):+.2f}%)")
    c = http.client.HTTPConnection(server.host, server.port, timeout=60)
    c.request("GET", "/metrics")
    for line in c.getresponse().read().decode().splitlines():
        if line.startswith("vlmd_kv_cache_usage_perc"):
            report("key/value cache in use when idle", line.split()[-1])
    c.close()


def main():
    with serve(ARGS[1], *ARGS[2:]) as server:
        Api(server).wait_ready(60)
        if PICTURES > 0:
            many_pictures(server, PICTURES)
        again(server)
        next_turn(server, 330)
        streams(server)
        smoothness(server, 520)


if __name__ == "__main__":
    main()
