"""Writes the model card and the example pictures of a demonstration-model folder.

    python evaluate.py --folder ../../models/demo --per-skill 200 --table accuracy.json
    python card.py     --folder ../../models/demo --table accuracy.json

The card lists as skills only what is right on 95% of the held-out scenes and on 90% of the pictures drawn by other code; the rest
it names as not claimed.  The answers beside the examples are the model's own.
"""

import argparse
import io
import json
from pathlib import Path

from PIL import Image

from evaluate import Answerer, Question

HELD_OUT, OTHER = 0.95, 0.90
SKILLS = {
    "describe": "say what is in a picture of one or two shapes, from left to right",
    "describe three": "say what is in a picture of three shapes, all of them right at once", "shape": "name a shape",
    "colour": "name a shape's colour", "count": "count the shapes: all, of one kind, of one colour, or both",
    "exists": "say whether there is such a shape", "background": "name the background's colour",
    "where": "say in which of nine parts of the picture a shape is", "second turn": "answer a second question about the picture",
    "talk": "say what it is and what it can do, greet and say goodbye", "outside": "say that it does not know what is outside all this",
}

STAR = "0,-1 .22,-.31 .95,-.31 .36,.12 .59,.81 0,.38 -.59,.81 -.36,.12 -.95,-.31 -.22,-.31"
PARTS = {
    "circle": '<circle r="1"/>', "square": '<rect x="-.9" y="-.9" width="1.8" height="1.8"/>',
    "triangle": '<polygon points="0,-1 .95,.75 -.95,.75"/>', "star": f'<polygon points="{STAR}"/>',
    "heart": '<path d="M0,.95 C-1.5,-.1 -.95,-1.05 -.4,-.9 C-.15,-.8 -.03,-.6 0,-.45 C.03,-.6 .15,-.8 .4,-.9 C.95,-1.05 1.5,-.1 0,.95 Z"/>',
    "cross": '<path d="M-.3,-1 H.3 V-.3 H1 V.3 H.3 V1 H-.3 V.3 H-1 V-.3 H-.3 Z"/>',
}
# name: (width, height, background, edge, [(shape, colour, x, y, r)], questions)
EXAMPLES = {
    "three.png": (320, 320, "white", "", [("star", "red", 80, 90, 55), ("circle", "blue", 160, 230, 50), ("heart", "green", 255, 110, 45)],
                  ["What is in this picture?", "What colour is the heart?"]),
    "stars.png": (400, 300, "black", "", [("star", "yellow", 90, 80, 50), ("star", "yellow", 300, 90, 50), ("square", "orange", 190, 215, 50)],
                  ["How many stars are there?", "Is there a circle?"]),
    "outlined.jpg": (360, 360, "yellow", ' stroke="black" stroke-width=".07"',
                     [("triangle", "purple", 110, 120, 70), ("square", "red", 255, 255, 60)],
                     ["What shape is the purple one?", "What is the background colour?"]),
    "one.png": (256, 256, "gray", "", [("cross", "white", 128, 128, 80)], ["What shape is this?", "Who are you?", "What is the capital of France?"]),
}


def draw(width, height, ground, edge, things):
    import cairosvg
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"><rect width="{width}" height="{height}" fill="{ground}"/>']
    for shape, colour, x, y, r in things:
        parts.append(f'<g transform="translate({x} {y}) scale({r})" fill="{colour}"{edge}>{PARTS[shape]}</g>')
    return Image.open(io.BytesIO(cairosvg.svg2png(bytestring=("".join(parts) + "</svg>").encode()))).convert("RGB")


def examples(folder):
    """Draws the example pictures and returns the table of questions and answers."""
    (folder / "examples").mkdir(exist_ok=True)
    answerer, lines = Answerer(folder), ["| picture | question | answer |", "| --- | --- | --- |"]
    for name, (width, height, ground, edge, things, asked) in EXAMPLES.items():
        path = folder / "examples" / name
        draw(width, height, ground, edge, things).save(path, **({"quality": 88} if name.endswith("jpg") else {"optimize": True}))
        image = Image.open(path).convert("RGB")
        for question in asked:
            answer = answerer.answers([Question("", "", image, [question], "")])[0]
            lines.append(f"| `examples/{name}` | {question} | {answer} |")
    return "\n".join(lines)


def tables(figures):
    """(the skills claimed, what is not claimed) as Markdown."""
    held, other = figures.get("held out", {}), figures.get("other", {})
    claimed, rest = ["| skill | held-out scenes | other code's pictures |", "| --- | --- | --- |"], []
    for skill, meaning in SKILLS.items():
        if skill not in held or skill not in other:
            continue
        (a, n), (b, m) = held[skill], other[skill]
        if a / n >= HELD_OUT and b / m >= OTHER:
            claimed.append(f"| {meaning} | {a / n:.1%} ({a} of {n}) | {b / m:.1%} ({b} of {m}) |")
        else:
            rest.append(f"- {meaning}: {a / n:.1%} ({a} of {n}) and {b / m:.1%} ({b} of {m})")
    return "\n".join(claimed), "\n".join(rest)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="../../models/demo")
    parser.add_argument("--table", default="accuracy.json")
    args = parser.parse_args()
    folder, here = Path(args.folder), Path(__file__).parent
    claimed, rest = tables(json.loads(Path(args.table).read_text())["transformers"])
    card = (here / "card.md").read_text().replace("{claimed}", claimed).replace("{examples}", examples(folder))
    head, marker, tail = card.partition("{rest}")
    if rest:
        card = head + "Answered, but not well enough to be called a skill (right on held-out scenes, and on other code's pictures):\n\n" + \
            rest + tail
    else:
        card = head.rstrip() + "\n" + tail
    (folder / "README.md").write_text(card)
    print(card)


if __name__ == "__main__":
    main()
