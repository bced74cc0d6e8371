"""Accuracy of a demonstration-model folder by skill, greedy decoding in float32.

    python evaluate.py --folder ../../models/demo [--per-skill 100] [--show 3] [--vlmd ../../build/vlmd] [--table accuracy.json]

Two sets: "held out", scenes of world.py from a seed that no training pool uses, asked in questions.py's grammar; and "other",
pictures drawn by other libraries and asked in other words (other_scenes.py).  Answers come from Transformers; with --vlmd also
from the program (`vlmd run FOLDER -i PICTURE -p QUESTION`), with the share of answers that are the same.

An answer counts when it is the expected one word for word; a description, when it names the same things in any order.
"""

import argparse
import collections
import json
import random
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import other_scenes
import questions
import world

SEED = 777_000_001  # used by no training or validation pool

DESCRIBED = {"describe": (1, 2), "describe three": (3,)}  # how many things the scenes of these skills have
Question = collections.namedtuple("Question", "set skill image turns want")


class Answerer:
    """A model folder that answers questions through Transformers."""

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def prompt(self, image, turns):
        messages = []
        for k, text in enumerate(turns):
            content = [{"type": "text", "text": text}]
            if k == 0 and image is not None:
                content.insert(0, {"type": "image"})
            messages.append({"role": "assistant" if k % 2 else "user", "content": content})
        return self.processor.apply_chat_template(messages, add_generation_prompt=True).removeprefix("<s>")  # added again below

    @torch.no_grad()
    def answers(self, asked):
        """The answers to questions that all have a picture, or all have none."""
        texts = [self.prompt(q.image, q.turns) for q in asked]
        if asked[0].image is not None:
            inputs = self.processor(images=[q.image for q in asked], text=texts, padding=True, return_tensors="pt")
        else:
            inputs = self.processor.tokenizer(texts, padding=True, return_tensors="pt")
        inputs.pop("token_type_ids", None)
        out = self.model.generate(**inputs, max_new_tokens=64, do_sample=False)
        start = inputs["input_ids"].shape[1]
        return [self.processor.tokenizer.decode(row[start:], skip_special_tokens=True).strip() for row in out]

    def all_answers(self, asked, batch):
        got = [None] * len(asked)
        order = sorted(range(len(asked)), key=lambda i: (asked[i].image is None, len(asked[i].want)))
        while order:
            part = [i for i in order[:batch] if (asked[i].image is None) == (asked[order[0]].image is None)]
            order = order[len(part):]
            for i, answer in zip(part, self.answers([asked[i] for i in part])):
                got[i] = answer
        return got


def program_answers(asked, vlmd, folder):
    """The program's answers to the questions of one turn; None for the others."""
    with tempfile.TemporaryDirectory() as scratch:
        def one(numbered):
            k, q = numbered
            if len(q.turns) > 1:
                return None
            command = [vlmd, "run", folder, "-p", q.turns[0]]
            if q.image is not None:
                path = Path(scratch) / f"{k}.png"
                q.image.save(path)
                command[3:3] = ["-i", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
            if done.returncode:
                return f"exit {done.returncode}: {done.stderr.strip()}"
            return done.stdout.strip()

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(one, enumerate(asked)))


def right(q, got):
    """Whether `got` says what is wanted."""
    if q.skill not in DESCRIBED:
        return got == q.want

    def things(text):
        return sorted(re.split(r", | and ", text.removeprefix("The picture shows ").rstrip(".")))

    return things(got) == things(q.want)


def gather(name, skills, draw, ask, per_skill, rng):
    """`per_skill` questions of each skill, about many different pictures; then conversations of two turns."""
    left = {skill: per_skill for skill in skills}
    made, seen = [], []
    while any(left.values()):
        image, scene = draw(rng)
        seen.append((image, scene))
        for skill in rng.sample([k for k, n in left.items() if n], min(3, sum(n > 0 for n in left.values()))):
            if skill in DESCRIBED and len(scene["objects"]) not in DESCRIBED[skill]:
                continue
            found = ask(scene, rng, "describe" if skill in DESCRIBED else skill)
            if found:
                made.append(Question(name, skill, image, [found[0]], found[1]))
                left[skill] -= 1
    turns = [k for k in skills if k in ("count", "colour", "shape", "exists", "background")]
    while turns and left.get("second turn", 0) < per_skill:
        image, scene = rng.choice(seen)
        first, second = ask(scene, rng, rng.choice(turns)), ask(scene, rng, rng.choice(turns))
        if first and second:
            made.append(Question(name, "second turn", image, [first[0], first[1], second[0]], second[1]))
            left["second turn"] = left.get("second turn", 0) + 1
    return made


def held_out(per_skill, most, only=None):
    rng = random.Random(SEED)

    def draw(rng):
        pixels, scene, _ = world.draw_scene(rng, most)
        return Image.fromarray(pixels), scene

    def ask(scene, rng, skill):
        found = questions.ask(scene, rng, skill)
        return found and found[1:]

    made = gather("held out", only or [*questions.SKILLS, "describe three"], draw, ask, per_skill, rng)
    left = {} if only else {"talk": per_skill, "outside": per_skill}
    while any(left.values()):
        kind, question, answer = questions.small_talk(rng)
        kind = "outside" if kind == "unknown" else kind
        if left[kind]:
            image = rng.choice(made).image if rng.random() < 0.5 else None
            made.append(Question("held out", kind, image, [question], answer))
            left[kind] -= 1
    return made


def other(per_skill, most, only=None):
    rng = random.Random(SEED + 1)
    skills = only or [k for k in other_scenes.ABOUT if k in questions.SKILLS] + ["describe three"]
    made = gather("other", skills, lambda rng: other_scenes.picture(rng, most), other_scenes.ask, per_skill, rng)
    if only:
        return made
    answers = {"who": questions.WHO, "can": questions.CAN, "hello": "Hello! " + questions.SHOW, "thanks": "You are welcome.", "bye": "Goodbye!"}
    pictures = [q.image for q in made[:20]]
    for key, asked in other_scenes.TALK.items():
        made += [Question("other", "talk", None, [question], answers[key]) for question in asked]
    for k, question in enumerate(other_scenes.OUTSIDE):
        made.append(Question("other", "outside", pictures[k % 20] if k % 2 else None, [question], questions.UNKNOWN))
    return made


def report(asked, got, label, show):
    """Prints a table and returns {set: {skill: [right, asked]}}."""
    table = {}
    for q, answer in zip(asked, got):
        if answer is None:
            continue
        row = table.setdefault(q.set, {}).setdefault(q.skill, [0, 0])
        row[0] += right(q, answer)
        row[1] += 1
        if not right(q, answer) and row[1] - row[0] <= show:
            print(f"{q.set}, {q.skill}: {' | '.join(q.turns)}\n   wanted {q.want}\n   got    {answer}")
    print(f"{label:14s} {'held out':>18s} {'other':>18s}")
    for skill in dict.fromkeys(q.skill for q in asked):
        cells = [table.get(name, {}).get(skill) for name in ("held out", "other")]
        print(f"{skill:14s} " + " ".join(f"{f'{c[0] / c[1]:.3f} ({c[0]}/{c[1]})' if c else '-':>18s}" for c in cells), flush=True)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="../../models/demo")
    parser.add_argument("--per-skill", type=int, default=100)
    parser.add_argument("--skills", help="only these, with commas between")
    parser.add_argument("--most", type=int, default=world.CLAIMED_MAX, help="things in a picture, at most 4")
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print of each skill")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vlmd", help="the program, to be asked the same questions")
    parser.add_argument("--table", help="where to write the figures as JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    only = args.skills.split(",") if args.skills else None
    asked = held_out(args.per_skill, args.most, only) + other(args.per_skill, args.most, only)
    began = time.time()
    got = Answerer(args.folder).all_answers(asked, args.batch)
    print(f"{len(asked) / (time.time() - began):.1f} answers/s")
    figures = {"transformers": report(asked, got, "Transformers", args.show)}
    if args.vlmd:
        began = time.time()
        theirs = program_answers(asked, args.vlmd, args.folder)
        figures["program"] = report(asked, theirs, "program", args.show)
        both = [(q, a, b) for q, a, b in zip(asked, got, theirs) if b is not None]
        for q, a, b in [t for t in both if t[1] != t[2]][:10]:
            print(f"differs: {q.turns}\n   Transformers {a}\n   program      {b}")
        same = sum(a == b for _, a, b in both)
        figures["same"] = [same, len(both)]
        print(f"same answers {same / len(both):.4f} ({same} of {len(both)}), {len(both) / (time.time() - began):.1f} answers/s")
    if args.table:
        Path(args.table).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
