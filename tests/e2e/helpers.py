"""What several end-to-end tests need: model folders to damage, pictures to draw, safetensors to read."""
import json
import os
import shutil
import struct
import zlib

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEMO = os.path.join(ROOT, "models/demo")
GOLDEN = os.path.join(ROOT, "tests/golden")

DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


def read_safetensors(path):
    """{name: array}; checks the header as far as a reader must."""
    with open(path, "rb") as f:
        data = f.read()
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + n])
    tensors, end = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, stop = entry["data_offsets"]
        shape = entry["shape"]
        array = np.frombuffer(data, DTYPES[entry["dtype"]], count=int(np.prod(shape)), offset=8 + n + begin)
        assert array.nbytes == stop - begin, name
        tensors[name] = array.reshape(shape)
        end = max(end, stop)
    assert 8 + n + end == len(data)
    return tensors


def copy_model(source, target, **changes):
    """A folder of links to source's files; a change is None (left out), bytes, text or a function of the bytes.
    Keys are file names with '.' written as '__'."""
    os.makedirs(target)
    changes = {k.replace("__", "."): v for k, v in changes.items()}
    for name in os.listdir(source):
        path = os.path.join(source, name)
        if os.path.isfile(path) and name not in changes:
            os.symlink(path, os.path.join(target, name))
    for name, change in changes.items():
        if change is None:
            continue
        if callable(change):
            with open(os.path.join(source, name), "rb") as f:
                change = change(f.read())
        with open(os.path.join(target, name), "wb") as f:
            f.write(change.encode() if isinstance(change, str) else change)
    return str(target)


def change_json(**values):
    """A change for copy_model: members of the top object set, or removed by None."""
    def change(data):
        root = json.loads(data)
        for key, value in values.items():
            if value is None:
                root.pop(key, None)
            else:
                root[key] = value
        return json.dumps(root)
    return change


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_header(width, height, depth, colour, compressed):
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + png_chunk(b"IDAT", compressed) + png_chunk(b"IEND", b""))


def png_bomb(side):
    """side x side one-bit pixels in about side * side / 8000 bytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return png_of_header(side, side, 1, 0, packed)


def golden_models():
    if not os.path.isdir(GOLDEN):
        return []
    return sorted(n for n in os.listdir(GOLDEN) if os.path.exists(os.path.join(GOLDEN, n, "golden/cases.json")))


def load_cases(model):
    with open(os.path.join(GOLDEN, model, "golden/cases.json"), encoding="utf-8") as f:
        return json.load(f)


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
