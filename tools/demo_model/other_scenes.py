"""Test pictures drawn by other code than world.py, with questions in other words than questions.py's.

Nothing here is used in training.  Three drawing libraries: SVG (CairoSVG), Matplotlib, and plain NumPy inequalities.
Each has its own shapes, colours, sizes (64 to 2000 pixels, up to 1.6 times wider than high or higher than wide), then comes
JPEG or not.  A picture is described by the same dict as in world.py, x and y in units of the picture's sides.

    python other_scenes.py sheet.png          # look at some
"""

import colorsys
import io
import math
import random
import sys

import numpy as np
from PIL import Image

SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]
# hue (degrees), saturation, lightness (percent): ranges of HSL that people call by these names.
HSL = {
    "red": [(-5, 5), (75, 100), (42, 53)], "orange": [(26, 36), (90, 100), (48, 54)], "yellow": [(51, 60), (90, 100), (48, 57)],
    "green": [(110, 135), (60, 100), (26, 45)], "blue": [(212, 238), (75, 100), (38, 56)],
    "purple": [(276, 296), (55, 85), (34, 48)], "black": [(0, 360), (0, 5), (0, 8)], "white": [(0, 360), (0, 15), (97, 100)],
    "gray": [(0, 360), (0, 3), (44, 66)],
}
COLOURS = list(HSL)


def tint(name, rng):
    h, s, v = (rng.uniform(*span) for span in HSL[name])
    return tuple(round(c * 255) for c in colorsys.hls_to_rgb(h % 360 / 360, v / 100, s / 100))


def contrast(a, b):
    return sum(abs(x - y) for x, y in zip(a, b))


def css(rgb):
    return "#%02x%02x%02x" % rgb


# ------------------------------------------------------------------------------------------------- SVG

HEART = "M0,0.9 C-1.5,-0.1 -0.9,-1.05 -0.38,-0.85 C-0.15,-0.77 -0.03,-0.6 0,-0.45 C0.03,-0.6 0.15,-0.77 0.38,-0.85 " \
        "C0.9,-1.05 1.5,-0.1 0,0.9 Z"


def svg_shape(shape, rng):
    if shape == "circle":
        return '<circle r="0.97"/>'
    if shape == "square":
        corner = rng.choice([0, 0, 0, 0.1])
        return f'<rect x="-0.86" y="-0.86" width="1.72" height="1.72" rx="{corner}"/>'
    if shape == "triangle":
        half = rng.choice([0.866, 0.95, 0.75])
        return f'<polygon points="0,-0.95 {half},0.7 {-half},0.7"/>'
    if shape == "star":
        inner = rng.choice([0.382, 0.382, 0.45])
        tips = [(math.sin(k * math.pi / 5) * (1 if k % 2 == 0 else inner), -math.cos(k * math.pi / 5) * (1 if k % 2 == 0 else inner))
                for k in range(10)]
        return '<polygon points="' + " ".join(f"{x:.4f},{y:.4f}" for x, y in tips) + '"/>'
    if shape == "heart":
        return f'<path d="{HEART}"/>'
    arm = rng.choice([0.25, 0.3, 0.36])
    return f'<path d="M{-arm},-0.95 H{arm} V{-arm} H0.95 V{arm} H{arm} V0.95 H{-arm} V{arm} H-0.95 V{-arm} H{-arm} Z"/>'


def draw_svg(width, height, ground, things, rng):
    import cairosvg
    line = rng.choice([None, None, None, "#000000", "#333333"])
    thick = rng.uniform(0.03, 0.1)
    crisp = ' shape-rendering="crispEdges"' if rng.random() < 0.25 else ""
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"{crisp}>',
             f'<rect width="{width}" height="{height}" fill="{css(ground)}"/>']
    for shape, rgb, x, y, r in things:
        turn = rng.choice([0, 0, 0, rng.uniform(-10, 10)])
        edge = f' stroke="{line}" stroke-width="{thick:.3f}"' if line and contrast(rgb, (0, 0, 0)) > 150 else ""
        parts.append(f'<g transform="translate({x:.2f} {y:.2f}) rotate({turn:.1f}) scale({r:.3f})" fill="{css(rgb)}"{edge}>'
                     + svg_shape(shape, rng) + "</g>")
    png = cairosvg.svg2png(bytestring=("".join(parts) + "</svg>").encode())
    return Image.open(io.BytesIO(png)).convert("RGB")


# ------------------------------------------------------------------------------------------- Matplotlib


def draw_matplotlib(width, height, ground, things, rng):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import patches, pyplot
    from matplotlib.path import Path as Outline
    figure = pyplot.figure(figsize=(width / 100, height / 100), dpi=100, facecolor=css(ground))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    edged = rng.random() < 0.2
    for shape, rgb, x, y, r in things:
        style = {"facecolor": css(rgb), "edgecolor": "black" if edged and contrast(rgb, (0, 0, 0)) > 150 else "none",
                 "linewidth": r / 25}
        if shape == "circle":
            axes.add_patch(patches.Circle((x, y), r * 0.95, **style))
        elif shape == "square":
            axes.add_patch(patches.Rectangle((x - r * 0.88, y - r * 0.88), r * 1.76, r * 1.76, **style))
        elif shape == "triangle":
            axes.add_patch(patches.RegularPolygon((x, y), 3, radius=r, orientation=math.pi, **style))
        elif shape == "heart":
            curve = [(0, 0.85), (-0.2, 0.5), (-1, 0.2), (-1, -0.3), (-1, -0.95), (-0.2, -0.95), (0, -0.4), (0.2, -0.95), (1, -0.95),
                     (1, -0.3), (1, 0.2), (0.2, 0.5), (0, 0.85)]
            codes = [Outline.MOVETO] + [Outline.CURVE4] * 12
            axes.add_patch(patches.PathPatch(Outline([(x + r * a, y + r * b) for a, b in curve], codes), **style))
        else:  # the library's own markers: a five-pointed star, a filled plus
            side = 2 * r * 72 / 100
            axes.scatter([x], [y], s=side ** 2, marker={"star": "*", "cross": "P"}[shape], c=css(rgb), linewidths=0)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=100, facecolor=css(ground))
    pyplot.close(figure)
    return Image.open(stream).convert("RGB").resize((width, height), Image.NEAREST)


# ------------------------------------------------------------------------------------------------ NumPy


def inside(shape, u, v):
    """Where the unit shape covers the points (u, v), v downwards."""
    if shape == "circle":
        return u * u + v * v < 0.93
    if shape == "square":
        return np.maximum(abs(u), abs(v)) < 0.85
    if shape == "triangle":
        return (v < 0.7) & (v > 2 * abs(u) - 1)
    if shape == "heart":
        a, b = u * 1.2, 0.1 - v * 1.2
        return (a * a + b * b - 1) ** 3 - a * a * b ** 3 < 0
    if shape == "cross":
        return (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 0.95)
    angle, radius = np.arctan2(u, -v), np.hypot(u, v)
    folded = abs((angle + math.pi / 5) % (2 * math.pi / 5) - math.pi / 5)  # 0 on a tip, 36 degrees between tips
    inner = 0.42
    tip, dent = np.array([1.0, 0.0]), inner * np.array([math.cos(math.pi / 5), math.sin(math.pi / 5)])
    px, py = radius * np.cos(folded), radius * np.sin(folded)
    return (dent[0] - tip[0]) * (py - tip[1]) - (dent[1] - tip[1]) * (px - tip[0]) > 0


def draw_numpy(width, height, ground, things, rng):
    fine = 2 if rng.random() < 0.6 and max(width, height) < 900 else 1
    yy, xx = np.mgrid[0:height * fine, 0:width * fine].astype(np.float32) / fine
    pixels = np.empty((height * fine, width * fine, 3), np.uint8)
    pixels[:] = ground
    for shape, rgb, x, y, r in things:
        pixels[inside(shape, (xx - x) / r, (yy - y) / r)] = rgb
    return Image.fromarray(pixels).reduce(fine) if fine > 1 else Image.fromarray(pixels)


# ------------------------------------------------------------------------------------------------ pictures


def lay_out(rng, count, width, height):
    """Centres and half sizes in pixels, clear of each other and of the edges."""
    short = min(width, height)
    low, high = [(0.15, 0.42), (0.12, 0.26), (0.11, 0.21), (0.1, 0.18)][count - 1]
    while True:
        spots = []
        for _ in range(200):
            r = rng.uniform(low, high) * short
            x, y = rng.uniform(r * 1.1, width - r * 1.1), rng.uniform(r * 1.1, height - r * 1.1)
            if all(math.hypot(x - a, y - b) > 1.15 * (r + c) for a, b, c in spots):
                spots.append((x, y, r))
            if len(spots) == count:
                return spots


def picture(rng, most=3):
    """Returns (PIL image, scene) with one to `most` (at most 4) shapes."""
    width = round(math.exp(rng.uniform(math.log(64), math.log(2000))))
    height = width if rng.random() < 0.5 else max(48, round(width / math.exp(rng.uniform(-0.47, 0.47))))
    if max(width, height) > 2000:
        width, height = width // 2, height // 2
    paper = rng.choice(["white"] * 6 + ["black", "gray"] + COLOURS)
    ground = (255, 255, 255) if paper == "white" and rng.random() < 0.5 else tint(paper, rng)
    count = rng.randint(1, most)
    kinds = rng.sample(SHAPES, rng.choice([1, 2, 3, 4, 5]))
    paints = rng.sample([c for c in COLOURS if c != paper], rng.choice([1, 2, 3, 4, 5]))
    things, objects = [], []
    for x, y, r in lay_out(rng, count, width, height):
        shape = rng.choice(kinds)
        name = rng.choice(paints)
        rgb = tint(name, rng)
        while contrast(rgb, ground) < 140:
            name = rng.choice([c for c in COLOURS if c != paper])
            rgb = tint(name, rng)
        things.append((shape, rgb, x, y, r))
        objects.append({"shape": shape, "colour": name, "x": x / width, "y": y / height, "r": r / min(width, height)})
    draw = rng.choice([draw_svg, draw_matplotlib, draw_numpy])
    image = draw(width, height, ground, things, rng)
    if rng.random() < 0.3:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=rng.randint(60, 95))
        image = Image.open(stream).convert("RGB")
    return image, {"objects": objects, "background": paper, "drawn by": draw.__name__}


# ---------------------------------------------------------------------------------------------- questions


def an(noun):
    return ("an " if noun[0] in "aeio" else "a ") + noun


def many(noun):
    return noun + "es" if noun == "cross" or noun.endswith("cross") else noun + "s"


def having(scene, **wanted):
    return [o for o in scene["objects"] if all(o[k] == v for k, v in wanted.items())]


def about_describe(scene, rng):
    things = sorted(scene["objects"], key=lambda o: o["x"])
    if len(things) > 3 or any(b["x"] - a["x"] < 0.1 for a, b in zip(things, things[1:])):
        return None
    names = [an(f"{o['colour']} {o['shape']}") for o in things]
    text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    asked = rng.choice(["Describe this image please.", "What do you see here?", "What's shown in this image?", "What is in the image",
                        "Tell me what is in the picture.", "Can you tell me what this picture shows?", "describe the image briefly",
                        "Give me a description of this picture.", "What does this image contain?", "Please list the things you see."])
    return asked, f"The picture shows {text}."


def about_count(scene, rng):
    noun, wanted = "shape", {}
    if rng.random() < 0.65:
        o = rng.choice(scene["objects"])
        wanted = rng.choice([{"shape": o["shape"]}, {"colour": o["colour"]}, {"shape": o["shape"], "colour": o["colour"]},
                             {"shape": rng.choice(SHAPES)}])
        noun = " ".join([*[wanted[k] for k in ("colour", "shape") if k in wanted], *(["shape"] if "shape" not in wanted else [])])
    n = len(having(scene, **wanted))
    asked = rng.choice(["How many {} are in this image?", "how many {} can you count?", "How many {} do we have here?", "Count the {} please.",
                        "What is the total number of {}?", "How many {} are there in total?", "how many {} are there", "I want to know how many {} there are."])
    answer = f"There are no {many(noun)}." if n == 0 else f"There is 1 {noun}." if n == 1 else f"There are {n} {many(noun)}."
    return asked.format(many(noun)), answer


def about_colour(scene, rng):
    single = [o for o in scene["objects"] if len(having(scene, shape=o["shape"])) == 1]
    if not single:
        return None
    o = rng.choice(single)
    asked = rng.choice(["What color is the {}?", "Which color does the {} have?", "what is the color of the {}", "Can you tell me the colour of the {}?",
                        "The {}: what colour is it?", "What colour did they use for the {}?", "Tell me what colour the {} is.", "What color is the {} in this image?"])
    return asked.format(o["shape"]), f"The {o['shape']} is {o['colour']}."


def about_shape(scene, rng):
    single = [o for o in scene["objects"] if len(having(scene, colour=o["colour"])) == 1]
    if not single:
        return None
    o = rng.choice(single)
    if len(scene["objects"]) == 1 and rng.random() < 0.5:
        asked = rng.choice(["What shape is in this image?", "Which shape is shown here?", "What shape can you see?", "what shape is this", "Tell me the shape."])
        return asked, f"It is {an(o['colour'] + ' ' + o['shape'])}."
    asked = rng.choice(["What shape is the {} object?", "Which shape is {}?", "what is the {} shape", "Can you name the {} shape?", "Tell me what shape the {} one is.",
                        "What kind of shape is the {} object?", "What is the {} figure?"])
    return asked.format(o["colour"]), f"The {o['colour']} shape is {an(o['shape'])}."


def about_exists(scene, rng):
    o = rng.choice(scene["objects"])
    wanted = {"shape": o["shape"] if rng.random() < 0.6 else rng.choice(SHAPES)}
    if rng.random() < 0.6:
        wanted["colour"] = o["colour"] if rng.random() < 0.7 else rng.choice(COLOURS)
    noun = " ".join(wanted[k] for k in ("colour", "shape") if k in wanted)
    n = len(having(scene, **wanted))
    asked = rng.choice(["Is there {} in this image?", "Does the image have {}?", "do you see {}", "Can you see {} in the image?", "Is {} shown?",
                        "Does this image contain {}?", "Is there {} somewhere?", "I wonder, is there {}?"]).format(an(noun))
    return asked, f"No, there is no {noun}." if n == 0 else f"Yes, there is {an(noun)}."


def about_where(scene, rng):
    single = [o for o in scene["objects"] if len(having(scene, shape=o["shape"])) == 1 and
              all(abs(o[k] - third) > 0.06 for k in ("x", "y") for third in (1 / 3, 2 / 3))]
    if not single:
        return None
    o = rng.choice(single)
    name = o["shape"] if rng.random() < 0.6 else f"{o['colour']} {o['shape']}"
    rows = [["in the top left", "at the top", "in the top right"], ["on the left", "in the middle", "on the right"],
            ["in the bottom left", "at the bottom", "in the bottom right"]]
    asked = rng.choice(["Where is the {} in this image?", "where is the {}", "Can you tell me where the {} is?", "Where do I find the {}?",
                        "In what part of the image is the {}?", "Where was the {} drawn?"])
    return asked.format(name), f"The {name} is {rows[int(o['y'] * 3)][int(o['x'] * 3)]}."


def about_background(scene, rng):
    asked = rng.choice(["What color is the background?", "what is the background color", "Which colour is the background in this image?",
                        "The background: what colour is it?", "Can you tell me the background colour?", "What colour is the paper behind the shapes?"])
    return asked, f"The background is {scene['background']}."


ABOUT = {"describe": about_describe, "count": about_count, "colour": about_colour, "shape": about_shape, "exists": about_exists,
         "where": about_where, "background": about_background}

TALK = {
    "who": ["who are you?", "What exactly are you?", "Tell me who you are.", "Are you an assistant?", "What's this model?", "are you a real model?",
            "Could you introduce yourself?", "who or what are you?", "What model am I using?", "Tell me a bit about yourself", "Are you a computer?"],
    "can": ["What can you do for me?", "what do you do?", "How can I use you?", "What are you capable of?", "Which things do you recognise?",
            "What should I ask you?", "What can you help me with?", "tell me your abilities", "Which shapes can you name?", "what can i ask"],
    "hello": ["hello!", "Hi!!", "hey", "Good day", "Hello demo", "hi there", "Good morning to you!", "Hello, dear model"],
    "thanks": ["thanks a lot", "Thank you so much!", "ok thanks", "great, thank you", "many thanks"],
    "bye": ["bye!", "goodbye", "See you soon!", "ok bye", "Good night!"],
}
OUTSIDE = [
    "What is the capital of Portugal?", "Who was the first man on the moon?", "Translate 'good morning' into Spanish.", "Write me a short poem.",
    "What is 12 times 7?", "How do I bake a cake?", "Who is the person in this photo?", "Is the woman smiling?", "What breed is this dog?",
    "Write a Python function that sorts a list.", "What's the weather like today?", "Explain quantum mechanics.", "What does the sign say?",
    "How old is the universe?", "Give me the news.", "What is the best film ever?", "Tell me a story.", "Which car is this?", "Is there a cat in the picture?",
    "How many people are there?", "What brand is the phone?", "Solve x + 3 = 10.", "Who wrote Hamlet?", "What is the meaning of this painting?",
    "Where was this picture taken?", "Can you draw me a house?", "What language is spoken in Brazil?", "How do vaccines work?", "Recommend a restaurant.",
    "What is the population of India?", "Convert 5 miles to kilometres.", "Why do birds sing?", "What is the man holding?", "Read the text in the image.",
    "Is this food healthy?", "Which of the shapes is the largest?", "Are there more stars than circles here?", "What's on the left of the heart?", "What day is it today?", "Play some music.", "What should I wear?", "Who is the president of France?", "Fix this bug for me.",
]


def ask(scene, rng, skill):
    """(question, answer), or None where the scene allows no clear question."""
    return ABOUT[skill](scene, rng)


def main():
    rng = random.Random(3)
    sheet = Image.new("RGB", (8 * 116, 5 * 116), (60, 60, 60))
    for k in range(40):
        sheet.paste(picture(rng)[0].resize((112, 112), Image.BICUBIC), (k % 8 * 116 + 2, k // 8 * 116 + 2))
    sheet.save(sys.argv[1])


if __name__ == "__main__":
    main()
