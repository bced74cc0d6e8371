"""Pictures of a few plain shapes, with the truth about them.

A *scene* is a plain dict that survives JSON:

    {"objects": [{"shape", "colour", "x", "y", "r"}, ...],   # x, y, r in units of the picture's sides
     "background": colour name or None}                      # None: gradient, pastel or pattern, has no name

`draw_scene(rng)` returns the picture, the scene and the labels of each patch that the vision tower learns from.
The drawing varies what a picture may come with in the wild: size, squeeze, anti-aliasing, outlines, noise, JPEG.

    python world.py pool --out pool/train --count 40000 --seed 1     # render training pictures
    python world.py sheet --out sheet.png --seed 7                   # look at some
"""

import argparse
import io
import json
import math
import multiprocessing
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

IMAGE_SIZE = 112
PATCH = 14
GRID = IMAGE_SIZE // PATCH

SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]
# What people and drawing libraries call by these names: CSS, matplotlib, common palettes.
COLOURS = {
    "red": [(255, 0, 0), (220, 30, 30), (200, 20, 20), (230, 60, 50), (214, 39, 40), (244, 67, 54), (231, 76, 60), (220, 20, 60)],
    "orange": [(255, 165, 0), (255, 140, 0), (245, 130, 30), (255, 127, 14), (240, 115, 20), (255, 152, 0), (230, 126, 34)],
    "yellow": [(255, 255, 0), (255, 225, 0), (250, 220, 60), (240, 215, 30), (255, 235, 59), (241, 206, 15), (255, 215, 0)],
    "green": [(0, 128, 0), (0, 255, 0), (0, 160, 0), (40, 180, 60), (44, 160, 44), (50, 205, 50), (20, 110, 40), (76, 175, 80),
              (46, 204, 113), (0, 100, 0), (34, 139, 34)],
    "blue": [(0, 0, 255), (30, 80, 220), (20, 60, 180), (65, 105, 225), (30, 144, 255), (0, 0, 139), (31, 119, 180),
             (33, 150, 243), (52, 152, 219), (70, 130, 180)],
    "purple": [(128, 0, 128), (140, 40, 180), (120, 30, 160), (148, 0, 211), (156, 39, 176), (155, 89, 182), (142, 68, 173),
               (148, 103, 189), (102, 51, 153), (75, 0, 130)],
    "black": [(0, 0, 0), (15, 15, 15), (30, 30, 30)],
    "white": [(255, 255, 255), (248, 248, 248), (240, 240, 240)],
    "gray": [(128, 128, 128), (150, 150, 150), (105, 105, 105), (169, 169, 169), (127, 127, 127), (190, 190, 190)],
}
COLOUR_NAMES = list(COLOURS)
COUNT_MAX = 4    # things in a training picture
CLAIMED_MAX = 3  # things that the model card speaks of: the fourth is there so that three is not simply "many"

# ----------------------------------------------------------------------------------------------- shapes


def ellipse(rx, ry, n=48):
    return [(rx * math.cos(2 * math.pi * i / n), ry * math.sin(2 * math.pi * i / n)) for i in range(n)]


def star_points(rng, r):
    tips = 5 if rng.random() < 0.85 else rng.choice([4, 6])
    inner = rng.uniform(0.34, 0.52) if tips == 5 else rng.uniform(0.3, 0.45)
    return [((r if i % 2 == 0 else r * inner) * math.sin(math.pi * i / tips),
             -(r if i % 2 == 0 else r * inner) * math.cos(math.pi * i / tips)) for i in range(2 * tips)]


def triangle_points(rng, r):
    kind = rng.random()
    if kind < 0.45:  # equilateral
        return [(0, -r), (r * 0.87, r * 0.5), (-r * 0.87, r * 0.5)]
    if kind < 0.85:  # isosceles
        half, foot = r * rng.uniform(0.6, 1.0), r * rng.uniform(0.6, 0.95)
        return [(0, -r), (half, foot), (-half, foot)]
    return [(-r * 0.8, -r * 0.8), (r * 0.9, r * 0.7), (-r * 0.8, r * 0.7)]  # right-angled


def heart_points(rng, r):
    if rng.random() < 0.6:
        ts = [2 * math.pi * i / 48 for i in range(48)]
        return [(r * math.sin(t) ** 3, -r * (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)
                                            - math.cos(4 * t)) / 16) for t in ts]
    # two half circles on a wedge
    lobe, top = r * 0.5, -r * rng.uniform(0.2, 0.35)
    arc = [math.pi + math.pi * i / 16 for i in range(17)]
    left = [(-lobe + lobe * math.cos(a), top + lobe * math.sin(a)) for a in arc]
    right = [(lobe + lobe * math.cos(a), top + lobe * math.sin(a)) for a in arc]
    return left + right + [(0, r * rng.uniform(0.85, 1.0))]


def cross_points(rng, r):
    w = r * rng.uniform(0.2, 0.42)
    return [(-w, -r), (w, -r), (w, -w), (r, -w), (r, w), (w, w), (w, r), (-w, r), (-w, w), (-r, w), (-r, -w), (-w, -w)]


def outline(shape, rng, r):
    """The polygon of `shape` around the origin, about r from its centre to its edge."""
    if shape == "circle":
        return ellipse(r * 0.95, r * 0.95)
    if shape == "square":
        side = r * 0.85
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    return {"triangle": triangle_points, "star": star_points, "heart": heart_points, "cross": cross_points}[shape](rng, r)


def tilt(shape, rng):
    """An angle that keeps the shape's name true; most drawings stand upright."""
    if rng.random() < 0.5:
        return math.pi if shape == "triangle" and rng.random() < 0.15 else 0.0
    if shape in ("triangle", "star") and rng.random() < 0.4:
        return rng.uniform(0, 2 * math.pi)
    if shape == "square" and rng.random() < 0.15:
        return rng.uniform(0, math.pi / 2)
    return math.radians(rng.gauss(0, 7))


def shape_mask(shape, rng, size, x, y, r, squeeze):
    """An L mask of the whole picture with one shape at (x, y) pixels."""
    points = outline(shape, rng, r)
    angle = tilt(shape, rng)
    c, s = math.cos(angle), math.sin(angle)
    scale = rng.choice([1, 3])  # without and with anti-aliasing
    mask = Image.new("L", (size * scale, size * scale), 0)
    ImageDraw.Draw(mask).polygon([((x + (c * px - s * py) * squeeze) * scale, (y + (s * px + c * py) / squeeze) * scale)
                                  for px, py in points], fill=255)
    return mask if scale == 1 else mask.resize((size, size), Image.BOX)


# ---------------------------------------------------------------------------------------------- colours


def shade(name, rng):
    """One RGB value that people call `name`."""
    base = rng.choice(COLOURS[name])
    spread = 0 if rng.random() < 0.4 else 12
    if name in ("black", "white", "gray"):
        d = rng.randint(-spread // 2, spread // 2)
        return tuple(min(255, max(0, v + d)) for v in base)
    return tuple(min(255, max(0, v + rng.randint(-spread, spread))) for v in base)


def draw_background(size, rng):
    """Returns (picture, colour name or None)."""
    kind = rng.random()
    if kind < 0.82:
        name = rng.choices(COLOUR_NAMES, [16 if c == "white" else 4 if c in ("black", "gray") else 1 for c in COLOUR_NAMES])[0]
        return Image.new("RGB", (size, size), shade(name, rng)), name
    base = np.array([rng.randint(195, 255) for _ in range(3)], np.float32)
    if kind < 0.88:
        return Image.new("RGB", (size, size), tuple(int(v) for v in base)), None
    if kind < 0.95:
        other = np.array([rng.randint(150, 255) for _ in range(3)], np.float32)
        ramp = np.linspace(0, 1, size, dtype=np.float32)
        ramp = np.broadcast_to(ramp[None, :] if rng.random() < 0.5 else ramp[:, None], (size, size))[..., None]
        return Image.fromarray((base * (1 - ramp) + other * ramp).astype(np.uint8)), None
    picture = Image.new("RGB", (size, size), tuple(int(v) for v in base))
    pen = ImageDraw.Draw(picture)
    line = tuple(int(v) - 22 for v in base)
    step = rng.randint(size // 14 + 1, size // 5)
    for k in range(rng.randint(0, step), size, step):
        pen.line([(k, 0), (k, size)], fill=line, width=max(1, size // 150))
        pen.line([(0, k), (size, k)], fill=line, width=max(1, size // 150))
    return picture, None


def distinct_colour(rng, background, against, wanted=None):
    """A colour name other than the background's and an RGB value that stands out from the pixel `against`."""
    while True:
        name = wanted or rng.choice(COLOUR_NAMES)
        rgb = shade(name, rng)
        if name != background and sum(abs(a - b) for a, b in zip(rgb, against)) > 130:
            return name, rgb
        wanted = None


# ----------------------------------------------------------------------------------------------- layout


def scattered(rng, count):
    """Non-touching (x, y, r) anywhere."""
    big = [0, 0.45, 0.27, 0.23, 0.2][count]
    placed = []
    for _ in range(count * 40):
        if len(placed) == count:
            break
        r = rng.uniform(0.1, big)
        x, y = rng.uniform(r, 1 - r), rng.uniform(r, 1 - r)
        if all(math.hypot(x - px, y - py) > r + pr + 0.015 for px, py, pr in placed):
            placed.append((x, y, r))
    return placed


def arranged(rng, count):
    """A row, a column or a grid of things of about one size, as people draw by hand."""
    kind = rng.choice(["row", "row", "column", "grid"])
    columns, rows = {"row": (count, 1), "column": (1, count), "grid": (2, 2)}[kind]
    cell = 1 / max(columns, rows)
    r = max(cell * rng.uniform(0.3, 0.46), 0.09)
    left, top = rng.uniform(0, 1 - columns * cell), rng.uniform(0, 1 - rows * cell)
    if rng.random() < 0.5:
        left, top = (1 - columns * cell) / 2, (1 - rows * cell) / 2
    spots = [(left + (i % columns + 0.5) * cell, top + (i // columns + 0.5) * cell) for i in range(columns * rows)]
    return [(x, y, r * rng.uniform(0.9, 1.0)) for x, y in spots[:count]]


def place(rng, count):
    spots = arranged(rng, count) if count > 1 and rng.random() < 0.35 else scattered(rng, count)
    rng.shuffle(spots)
    return spots


# -------------------------------------------------------------------------------------------------- scene


def spoil(picture, rng):
    """What happens to pictures on their way: JPEG, scaling, noise, light."""
    if rng.random() < 0.2:
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=rng.randint(35, 95))
        picture = Image.open(stream)
    if rng.random() < 0.08:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0) * picture.width / IMAGE_SIZE))
    if picture.width != IMAGE_SIZE:
        picture = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.BICUBIC)
    pixels = np.asarray(picture, np.float32)
    if rng.random() < 0.25:
        noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(pixels.shape, np.float32)
        pixels = pixels + noise * rng.uniform(2, 12)
    if rng.random() < 0.2:
        pixels = pixels * rng.uniform(0.92, 1.05)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def draw_scene(rng, most=COUNT_MAX):
    """Returns (uint8 picture IMAGE_SIZE^2 x 3, scene, int8 labels [3, GRID*GRID]).

    The labels of a patch: shape (0 none, 1.. SHAPES), colour (of what covers the patch, else of the background),
    1 where a shape has its centre.  -1: unsure.
    """
    size = rng.choice([64, 96, 112, 150, 200, 224, 256, 300, 336])
    picture, background = draw_background(size, rng)
    against = picture.getpixel((size // 2, size // 2))
    count = rng.randint(1, most)
    # A picture that is wider than high arrives squeezed: the processor resizes both sides to IMAGE_SIZE.
    squeeze = 1.0 if rng.random() < 0.55 else math.exp(rng.uniform(-0.33, 0.33))

    cover = np.zeros((GRID * GRID,), np.float32)
    shape_label = np.zeros(GRID * GRID, np.int8)
    colour_label = np.full(GRID * GRID, COLOUR_NAMES.index(background) if background else -1, np.int8)
    centre_label = np.zeros(GRID * GRID, np.int8)
    objects = []
    same_colour = rng.choice(COLOUR_NAMES) if rng.random() < 0.25 else None
    same_shape = rng.choice(SHAPES) if rng.random() < 0.35 else None
    edge = rng.choice([(0, 0, 0), (40, 40, 40), (255, 255, 255), (90, 90, 90)]) if rng.random() < 0.18 else None
    for x, y, r in place(rng, count):
        shape = same_shape if same_shape and rng.random() < 0.75 else rng.choice(SHAPES)
        name, rgb = distinct_colour(rng, background, against, same_colour if rng.random() < 0.75 else None)
        reach = r * size / max(squeeze, 1 / squeeze)
        mask = shape_mask(shape, rng, size, x * size, y * size, reach, squeeze)
        if edge:
            width = max(1, int(reach * rng.uniform(0.04, 0.14))) // 2 * 2 + 1
            picture.paste(edge, (0, 0), mask.filter(ImageFilter.MaxFilter(width)) if width > 1 else mask)
        picture.paste(rgb, (0, 0), mask)
        objects.append({"shape": shape, "colour": name, "x": round(x, 4), "y": round(y, 4), "r": round(r, 4)})
        seen = np.asarray(mask.resize((GRID, GRID), Image.BOX), np.float32).ravel() / 255
        mine, unsure = (seen >= 0.25) & (seen > cover), (seen > 0.06) & (seen < 0.25) & (cover < 0.25)
        shape_label[mine], shape_label[unsure] = SHAPES.index(shape) + 1, -1
        colour_label[mine], colour_label[unsure] = COLOUR_NAMES.index(name), -1
        cover = np.maximum(cover, seen)
        centre_label[min(GRID - 1, int(y * GRID)) * GRID + min(GRID - 1, int(x * GRID))] = 1
    labels = np.stack([shape_label, colour_label, centre_label])
    return spoil(picture, rng), {"objects": objects, "background": background}, labels


# --------------------------------------------------------------------------------------------------- pool


def _pool_part(job):
    seed, count = job
    rng = random.Random(seed)
    pictures = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    labels = np.empty((count, 3, GRID * GRID), np.int8)
    lines = []
    for i in range(count):
        pictures[i], scene, labels[i] = draw_scene(rng)
        lines.append(json.dumps(scene))
    return pictures, labels, lines


def make_pool(out, count, seed, workers=2, part=1000):
    """Renders `count` scenes into OUT.pictures.npy, OUT.labels.npy and OUT.scenes.jsonl."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    pictures = np.lib.format.open_memmap(f"{out}.pictures.npy", "w+", np.uint8, (count, IMAGE_SIZE, IMAGE_SIZE, 3))
    labels = np.lib.format.open_memmap(f"{out}.labels.npy", "w+", np.int8, (count, 3, GRID * GRID))
    jobs = [(seed * 1_000_003 + i, min(part, count - i)) for i in range(0, count, part)]
    with multiprocessing.Pool(workers) as pool, open(f"{out}.scenes.jsonl", "w") as scene_file:
        done = 0
        for got, marks, lines in pool.imap(_pool_part, jobs):
            pictures[done:done + len(got)], labels[done:done + len(got)] = got, marks
            scene_file.writelines(line + "\n" for line in lines)
            done += len(got)
            print(f"{done} of {count}", flush=True)


def make_sheet(out, seed):
    """One picture of 8 x 5 scenes."""
    rng = random.Random(seed)
    sheet = Image.new("RGB", (8 * 116, 5 * 116), (60, 60, 60))
    for i in range(40):
        sheet.paste(Image.fromarray(draw_scene(rng)[0]), (i % 8 * 116 + 2, i // 8 * 116 + 2))
    sheet.save(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["pool", "sheet"])
    parser.add_argument("--out", required=True)
    parser.add_argument("--count", type=int, default=40000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.command == "pool":
        make_pool(args.out, args.count, args.seed)
    else:
        make_sheet(args.out, args.seed)


if __name__ == "__main__":
    main()
