#!/usr/bin/env python3
"""Prints the digests that the tests of image/ and preproc.c hold, as Pillow and Transformers give them.

    make_digests.py decode     the table of test_decode.c, from the files in tests/data/image
    make_digests.py resize     the table of test_resize.c
    make_digests.py preproc    tests/model/preproc_runs.inc

Needs numpy, Pillow 13 and, for preproc, Transformers 5.
"""
import json, os, sys, warnings
import numpy as np
from PIL import Image, ImageOps

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "image")


def fnv(data):
    h = 0xCBF29CE484222325
    for x in data:
        h = ((h ^ x) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return h


def noise(width, height):
    """As make_noise in the tests."""
    s, out = width * 65537 + height, bytearray()
    for _ in range(width * height * 3):
        s = (s * 1103515245 + 12345) & 0xFFFFFFFF
        out.append(s >> 16 & 255)
    return Image.frombytes("RGB", (width, height), bytes(out))


def decode():
    for name in sorted(os.listdir(DATA)):
        image, key = ImageOps.exif_transpose(Image.open(os.path.join(DATA, name))), None
        if image.mode.startswith("I;16"):  # the high byte, on purpose
            pixels = np.repeat((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)[:, :, None], 3, 2)
        else:
            rgb = image.convert("RGB")
            pixels, key = np.asarray(rgb), rgb.info.get("transparency")
        key = (0, 0, 0) if key == 0 else key
        key = "true, {%d, %d, %d}" % key if isinstance(key, tuple) else "false, {0}"
        print('{"%s", %d, %d, 0x%016x, %s},' % (name, *pixels.shape[1::-1], fnv(pixels.tobytes()), key))


def resize():
    for a, b, w, h in ((31, 17, 31, 17), (31, 17, 9, 5), (31, 17, 64, 40), (17, 60, 40, 9), (40, 40, 40, 13), (40, 40, 13, 40),
                       (1, 50, 7, 7), (50, 1, 7, 7), (1, 1, 5, 3), (33, 47, 1, 1), (20, 200, 24, 24), (97, 89, 53, 61)):
        image = noise(a, b)
        digests = ", ".join("0x%016x" % fnv(image.resize((w, h), f).tobytes()) for f in range(6))
        print("{%d, %d, %d, %d, {%s}}," % (a, b, w, h, digests))


def preproc():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    base = dict(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    clip = [base, dict(base, resample=2), dict(size={"height": 20, "width": 30}, do_center_crop=False, resample=1),
            dict(size={"shortest_edge": 10}, crop_size={"height": 15, "width": 13}),
            dict(do_resize=False, crop_size={"height": 31, "width": 16}), dict(base, do_normalize=False), dict(base, do_rescale=False),
            dict(base, rescale_factor=0.01, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.25, 0.125]),
            dict(base, do_rescale=False, do_normalize=False)]
    llava = [dict(base, do_pad=True), dict(size={"shortest_edge": 24}, do_center_crop=False, do_pad=True, image_mean=[0.5, 0.99, 0.0]),
             dict(base, do_pad=False)]
    for cls, configs, name in ((CLIPImageProcessorPil, clip, "CLIPImageProcessor"), (LlavaImageProcessorPil, llava, "LlavaImageProcessor")):
        for config in configs:
            text = json.dumps({"image_processor_type": name, **config}, separators=(",", ":")).replace('"', '\\"')
            for w, h in ((31, 17), (17, 31), (24, 24), (90, 7), (7, 90)):
                pixels = cls(**config)(noise(w, h), return_tensors="np")["pixel_values"][0]
                print('{"%s", %d, %d, 0x%016x},' % (text, w, h, fnv(np.ascontiguousarray(pixels, dtype=np.float32).tobytes())))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    {"decode": decode, "resize": resize, "preproc": preproc}[sys.argv[1]]()
