#!/usr/bin/env python3
"""Pictures, resized bytes and preprocessed pixels against Pillow and Transformers, byte for byte.

    pillow_compare.py PIXEL_DUMP [--n 200] [--seed 1]     or: PIXEL_DUMP=... pytest pillow_compare.py

Needs numpy and Pillow 13 (before, rows were always resized first); with Transformers, its PIL
processors are compared too.  PIXEL_DUMP is the program `ninja pixel_dump` makes.
"""
import argparse, json, os, random, struct, subprocess, sys, tempfile
import numpy as np
from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))


def dump(program, *args, dtype=np.uint8):
    r = subprocess.run([program, *map(str, args)], capture_output=True)
    if r.returncode:
        raise SystemExit(r.stderr.decode())
    width, height = struct.unpack("<II", r.stdout[:8])
    flat = np.frombuffer(r.stdout, dtype, offset=8)
    return flat.reshape(height, width, 3) if dtype == np.uint8 else flat.reshape(3, height, width)


def reference(path):
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def n_differing(a, b):
    return a.size + b.size if a.shape != b.shape else int((a != b).sum())


def random_picture(rng, width, height):
    """Noise over something smooth, so that both flat and busy places occur."""
    small = rng.integers(0, 256, (rng.integers(1, 9), rng.integers(1, 9), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.integers(-1, 2, (height, width, 1)) * rng.integers(0, 60)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def save_as(rng, image, folder, i):
    """One of the formats and their variants, by turns; returns the path."""
    kinds = [
        ("jpg", image, dict(quality=int(rng.integers(20, 101)), subsampling=int(rng.integers(0, 3)))),
        ("png", image, {}),
        ("jpg", image, dict(quality=80, progressive=True, subsampling=2)),
        ("webp", image, dict(quality=int(rng.integers(10, 101)))),
        ("png", image.quantize(int(rng.integers(2, 257))), {}),
        ("jpg", image.convert("CMYK"), dict(quality=85)),
        ("webp", image, dict(lossless=True)),
        ("gif", image.quantize(64), {}),
        ("jpg", image.convert("L"), dict(quality=70)),
        ("bmp", image if i % 2 else image.quantize(200), {}),
        ("png", image.convert("LA"), {}),
        ("png", image.convert("1"), {}),
        ("jpg", image, dict(quality=75, restart_marker_blocks=3)),
    ]
    ext, picture, options = kinds[i % len(kinds)]
    if ext in ("jpg", "webp"):
        exif = Image.Exif()
        exif[0x112] = int(rng.integers(1, 9))
        options["exif"] = exif
    path = os.path.join(folder, f"{i}.{ext}")
    picture.save(path, **options)
    return path


def random_side(rng):
    return int(np.exp(rng.uniform(0, np.log(700))))


def compare_random(program, n, seed):
    """n pictures: decoded, and resized with every filter.  Returns the differing bytes of each."""
    rng = np.random.default_rng(seed)
    decoded = resized = n_bytes = 0
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            image = random_picture(rng, random_side(rng), random_side(rng))
            path = save_as(rng, image, folder, i)
            want = reference(path)
            decoded += n_differing(dump(program, "decode", path), np.asarray(want))
            width, height = random_side(rng), random_side(rng)
            for code in range(6):
                got = dump(program, "resize", path, width, height, code)
                diff = n_differing(got, np.asarray(want.resize((width, height), code)))
                if diff:
                    print(f"{path}: {want.size} to {width}x{height}, filter {code}: {diff}")
                resized += diff
                n_bytes += got.size
    return decoded, resized, n_bytes


def compare_files(program):
    """The pictures of tests/data/image; 16-bit gray is not Pillow's on purpose."""
    folder = os.path.join(HERE, "..", "data", "image")
    total = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith("gray16.png"):
            total += n_differing(dump(program, "decode", path), np.asarray(reference(path)))
    return total


def compare_processors(program, n, seed):
    """n pictures through both of Transformers' PIL processors; None without Transformers."""
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    except ImportError:
        return None
    rng, pick = np.random.default_rng(seed), random.Random(seed)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        config_path = os.path.join(folder, "preprocessor_config.json")
        for i in range(n):
            path = save_as(rng, random_picture(rng, random_side(rng), random_side(rng)), folder, i)
            side, crop = pick.randint(1, 80), pick.randint(1, 80)
            config = {"resample": pick.randint(0, 5), "do_normalize": pick.random() < 0.8}
            if pick.random() < 0.5:
                config.update(size={"shortest_edge": side}, crop_size={"height": crop, "width": side})
            else:
                config.update(size={"height": side, "width": crop}, do_center_crop=False)
            name, cls = pick.choice([("CLIPImageProcessor", CLIPImageProcessorPil),
                                     ("LlavaImageProcessor", LlavaImageProcessorPil)])
            if name == "LlavaImageProcessor":
                config["do_pad"] = pick.random() < 0.7
            with open(config_path, "w") as f:
                json.dump({"image_processor_type": name, **config}, f)
            want = cls(**config)(reference(path), return_tensors="np")["pixel_values"][0]
            got = dump(program, "preproc", path, config_path, 1, dtype=np.float32)
            if got.shape != want.shape:
                raise SystemExit(f"{config}: {got.shape}, not {want.shape}")
            worst = max(worst, float(np.max(np.abs(got - want) / np.maximum(np.abs(want), 1e-3))))
    return worst


def test_equal_to_pillow():
    program = os.environ.get("PIXEL_DUMP")
    assert program, "set PIXEL_DUMP to the program"
    assert compare_files(program) == 0
    assert compare_random(program, 200, 1)[:2] == (0, 0)
    worst = compare_processors(program, 50, 1)
    assert worst is None or worst <= 2e-6


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("program")
    p.add_argument("--n", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    files = compare_files(a.program)
    decoded, resized, n_bytes = compare_random(a.program, a.n, a.seed)
    worst = compare_processors(a.program, a.n, a.seed)
    print(f"tests/data/image: {files} differing bytes decoded")
    print(f"{a.n} random pictures: {decoded} differing bytes decoded, {resized} of {n_bytes} resized (6 filters)")
    print("processors: " + ("not compared, no Transformers" if worst is None else f"worst relative difference {worst:.2g}"))
    return 1 if files or decoded or resized or (worst or 0) > 2e-6 else 0


if __name__ == "__main__":
    sys.exit(main())
