"""quality.py - how near the logits of packed weights are to those of float32 arithmetic on the model's own weights.
Needs nothing but Python."""
import array
import json
import math
import operator
import struct

TEXT = ("The quick brown fox jumps over the lazy dog while a small boat crosses the wide river, and nobody on either bank "
        "can say whether it will rain before the evening or not. ")


def read_trace(path):
    """(ids, logits) of a file of `vlmd trace`; logits [n][vocab] as arrays of float32."""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))

        def tensor(name, kind):
            begin, end = head[name]["data_offsets"]
            f.seek(8 + n + begin)
            out = array.array(kind)
            out.frombytes(f.read(end - begin))
            return out

        ids, flat = tensor("input_ids", "q"), tensor("logits", "f")
    return list(ids), rows_of(flat, len(ids))


def rows_of(flat, n):
    width = len(flat) // n
    return [flat[i * width:(i + 1) * width] for i in range(n)]


def read_raw(path, n):
    flat = array.array("f")
    with open(path, "rb") as f:
        flat.frombytes(f.read())
    return rows_of(flat, n)


def dot(a, b):
    return math.fsum(map(operator.mul, a, b))


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def compare(engine, dtype, wanted, got):
    """Over all positions: the mean and least cosine, and how often the likeliest token is the same."""
    values = [cosine(a, b) for a, b in zip(wanted, got, strict=True)]
    same = sum(max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__)
               for a, b in zip(wanted, got))
    return {"engine": engine, "dtype": dtype, "cosine": sum(values) / len(values), "least": min(values),
            "same_choice": same / len(values), "positions": len(values)}
