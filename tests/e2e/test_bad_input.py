"""Bad files and bad requests: each ends with one line on stderr that names the culprit, and exit 1.  Never a
crash, a hang, or a wrong answer."""
import json
import os
import resource
import struct
import subprocess

import pytest

from conftest import Result, clean_environment
from helpers import DEMO, change_json, copy_model, png_bomb, png_of_header

HEADER_WORDS = "model.safetensors"


def is_sanitized(vlmd):
    """A sanitizer reserves terabytes of addresses, so its program cannot be limited."""
    with open(vlmd.program, "rb") as f:
        return b"__asan_init" in f.read()


def run_limited(vlmd, *args, address_space=1 << 30):
    """With little memory to take, so that a bomb that goes off is seen."""
    sanitized = is_sanitized(vlmd)

    def limit():
        if not sanitized:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    p = subprocess.run([vlmd.program, *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                       env=clean_environment(), preexec_fn=limit)
    return Result(p.returncode, p.stdout, p.stderr)


@pytest.fixture
def picture(tmp_path):
    def make(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)
    return make


# Model folders

def test_missing_folder(vlmd, tmp_path):
    for command in (["run"], ["inspect"], ["tokenize"], ["template"]):
        vlmd(*command, tmp_path / "nowhere").failed_with("nowhere")


def test_a_folder_without_anything(vlmd, tmp_path):
    vlmd("run", tmp_path, "-p", "x").failed_with("config.json")
    r = vlmd("inspect", tmp_path)
    assert r.code == 1 and r.err.count(b"\n") == 1, r


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_empty_file(vlmd, tmp_path, name):
    folder = copy_model(DEMO, tmp_path / "m", **{name.replace(".", "__"): b""})
    vlmd("run", folder, "-p", "x").failed_with(name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file(vlmd, tmp_path, name):
    folder = copy_model(DEMO, tmp_path / "m", **{name.replace(".", "__"): None})
    vlmd("run", folder, "-p", "x").failed_with(name.split(".")[0])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json", "generation_config.json",
                                  "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["{", "[]", "{\"a\":1}x", "\xff", "[" * 100000, "{\"model_type\":\"a\",\"model_type\":\"b\"}"])
def test_broken_json(vlmd, tmp_path, name, text):
    folder = copy_model(DEMO, tmp_path / "m", **{name.replace(".", "__"): text.encode("latin-1")})
    vlmd("run", folder, "-p", "x").failed_with(name)


def truncations(size, header_end):
    """100 places: all over the length word, the header, its end, the data, and the last bytes."""
    places = set(range(0, 10)) | {header_end - 1, header_end, header_end + 1, size - 1, size - 2, size - 63, size - 64}
    k = 1
    while len(places) < 60:
        places.add(10 + (header_end - 10) * k // 50)
        k += 1
    k = 1
    while len(places) < 100:
        places.add(header_end + (size - header_end) * k // 45)
        k += 1
    return sorted(p for p in places if 0 <= p < size)


def test_weights_truncated_at_100_places(vlmd, tmp_path):
    with open(os.path.join(DEMO, "model.safetensors"), "rb") as f:
        data = f.read()
    header_end = 8 + struct.unpack_from("<Q", data)[0]
    places = truncations(len(data), header_end)
    assert len(places) == 100
    folder = copy_model(DEMO, tmp_path / "m", model__safetensors=data)
    path = os.path.join(folder, "model.safetensors")
    for place in reversed(places):
        os.truncate(path, place)
        text = vlmd("run", folder, "-p", "x").failed_with("model.safetensors")
        if place > header_end:
            # Where the header is whole, the first tensor that is not all there is named.
            assert any(word in text for word in ("language_model", "vision_tower", "multi_modal_projector")), text


@pytest.mark.parametrize("change", [
    lambda d: struct.pack("<Q", 1 << 62) + d[8:],
    lambda d: struct.pack("<Q", len(d)) + d[8:],
    lambda d: struct.pack("<Q", 0) + d[8:],
    lambda d: d[:8] + b"[" + d[9:],
    lambda d: d[:200] + b"\xff" + d[201:],
    lambda d: d.replace(b'"BF16"', b'"BF17"', 1),
    lambda d: d.replace(b'"BF16"', b'"F64" ', 1),
    lambda d: d + b"x",
    lambda d: bytes(64),
    lambda d: b"x" * 100000,
], ids=["header of 2^62", "header longer than the file", "header of 0", "header no object", "header no UTF-8",
        "unknown dtype", "unsupported dtype", "bytes behind the last tensor", "zeros", "text"])
def test_damaged_weights(vlmd, tmp_path, change):
    folder = copy_model(DEMO, tmp_path / "m", model__safetensors=change)
    vlmd("run", folder, "-p", "x").failed_with("model.safetensors")


def test_a_missing_tensor_and_a_wrong_shape_are_named(vlmd, tmp_path):
    def rename(data):
        return data.replace(b"multi_modal_projector.linear_1.weight", b"multi_modal_projector.linear_9.weight")

    def reshape(data):
        n = struct.unpack_from("<Q", data)[0]
        header = json.loads(data[8:8 + n])
        name = next(k for k in header if k.endswith("linear_1.weight"))
        header[name]["shape"] = [header[name]["shape"][0] * 2, header[name]["shape"][1] // 2]
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data[8 + n:]

    for number, change in enumerate((rename, reshape)):
        folder = copy_model(DEMO, tmp_path / f"m{number}", model__safetensors=change)
        vlmd("run", folder, "-p", "x").failed_with("multi_modal_projector.linear_1.weight")


@pytest.mark.parametrize("changes, word", [
    ({"model_type": "qwen2_vl"}, "qwen2_vl"),
    ({"model_type": "bert", "architectures": ["BertModel"]}, "bert"),
    ({"model_type": 7}, "model_type"),
    ({"text_config": {"model_type": "mamba"}}, "mamba"),
    ({"vision_config": {"model_type": "siglip_vision_model"}}, "siglip_vision_model"),
    ({"projector_hidden_act": "snake"}, "snake"),
    ({"vision_feature_select_strategy": "all"}, "vision_feature_select_strategy"),
    ({"vision_feature_layer": 99}, "vision_feature_layer"),
    ({"image_token_index": -5, "image_token_id": -5}, "image_token"),
], ids=str)
def test_another_architecture_is_refused_by_name(vlmd, tmp_path, changes, word):
    folder = copy_model(DEMO, tmp_path / "m", config__json=change_json(**changes))
    vlmd("run", folder, "-p", "x").failed_with("config.json", word)


# Templates

FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}x"


def test_template_that_loops_for_ever(vlmd, tmp_path):
    path = tmp_path / "forever.jinja"
    path.write_text(FOREVER)
    vlmd("template", path, stdin='{"messages":[]}', timeout=20).failed_with("template")
    folder = copy_model(DEMO, tmp_path / "m", chat_template__json=None, chat_template__jinja=FOREVER)
    vlmd("run", folder, "-p", "x", timeout=20).failed_with("template")


@pytest.mark.parametrize("source", [
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{{ 'x' * 999999999 }}",
    "{% for i in range(999999999) %}{{ 'x' * 1000 }}{% endfor %}",
    "(" * 100000,
    "{{ " + "(" * 100000 + "1" + ")" * 100000 + " }}",
    "{% if true %}" * 5000 + "x" + "{% endif %}" * 5000,
    "{{ raise_exception('no') }}",
    "{% include 'x' %}",
    "{{ x",
    "{% for %}",
    "{{ ''.__class__.__mro__ }}{{ undefined_thing.more }}",
], ids=lambda s: s[:30])
def test_hostile_templates(vlmd, tmp_path, source):
    path = tmp_path / "t.jinja"
    path.write_text(source)
    r = vlmd("template", path, stdin='{"messages":[]}', timeout=20)
    if source.startswith("((("):
        assert r.code == 0 and r.out.decode() == source
    else:
        r.failed_with("no" if "raise_exception" in source else "template")


@pytest.mark.parametrize("stdin", ["", "{", "[]", "7", "\"x\"", "{\"messages\":[]}{}", "{\"a\":NaN}", "[" * 1000],
                         ids=lambda s: s[:20] or "empty")
def test_template_with_bad_input(vlmd, stdin):
    vlmd("template", "demo", stdin=stdin).failed_with()


# Pictures

def test_image_bomb_is_refused_from_its_header(vlmd, picture):
    bomb = png_bomb(20000)
    assert len(bomb) < 100000
    run_limited(vlmd, "run", "demo", "-i", picture("bomb.png", bomb), "-p", "x").failed_with("bomb.png")


@pytest.mark.parametrize("width, height", [(2**31 - 1, 2**31 - 1), (65536, 1), (1, 65536), (0, 5), (5, 0), (16384, 16384)])
def test_png_header_out_of_bounds(vlmd, picture, width, height):
    path = picture("huge.png", png_of_header(width, height, 8, 6, b"x" * 20))
    run_limited(vlmd, "run", "demo", "-i", path, "-p", "x").failed_with("huge.png")


@pytest.mark.parametrize("name, data", [
    ("text.jpg", b"This is no picture.\n"),
    ("empty.png", b""),
    ("signature.png", b"\x89PNG\r\n\x1a\n"),
    ("start.jpg", b"\xff\xd8\xff"),
    ("start.gif", b"GIF89a"),
    ("start.bmp", b"BM"),
    ("start.webp", b"RIFF\x10\0\0\0WEBPVP8 "),
    ("other.tiff", b"II*\0" + bytes(100)),
    ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    ("nul\x01name.png", b"x"),
])
def test_files_that_are_no_picture(vlmd, picture, name, data):
    vlmd("run", "demo", "-i", picture(name, data), "-p", "x").failed_with(name.split(".")[0].replace("\x01", "?"))


def test_picture_that_cannot_be_opened(vlmd, tmp_path):
    vlmd("run", "demo", "-i", tmp_path / "none.png", "-p", "x").failed_with("none.png", "No such file")
    vlmd("run", "demo", "-i", tmp_path, "-p", "x").failed_with("not a regular file")
    os.mkfifo(tmp_path / "pipe.png")
    vlmd("run", "demo", "-i", tmp_path / "pipe.png", "-p", "x").failed_with("pipe.png")


def test_picture_larger_than_its_limits(vlmd, picture):
    from PIL import Image
    path = picture("p.png", b"")
    Image.new("RGB", (100, 60), "red").save(path)
    for option, value in (("--max-image-bytes", os.path.getsize(path) - 1), ("--max-image-pixels", 5999),
                          ("--max-image-side", 99)):
        vlmd("run", "demo", "-i", path, "-p", "x", option, value).failed_with("p.png")
    ok = vlmd("run", "demo", "-i", path, "-p", "x", "-n", "1", "--max-image-bytes", os.path.getsize(path),
              "--max-image-pixels", "6000", "--max-image-side", "100")
    assert ok.code == 0, ok


def test_little_memory(vlmd, picture):
    """Whatever the limit, an answer or one line."""
    if is_sanitized(vlmd):
        pytest.skip("a sanitizer's program cannot be limited")
    from PIL import Image
    path = picture("p.png", b"")
    Image.new("RGB", (300, 300), "red").save(path)
    codes = []
    # With less the loader of the C library ends the program before it begins.
    for kib in [*range(16400, 30000, 499), *range(30000, 90000, 4999)]:
        r = run_limited(vlmd, "run", "demo", "-i", path, "-p", "What is this?", address_space=kib << 10)
        codes.append(r.code)
        if r.code != 0:
            r.failed_with()
    assert codes[0] == 1 and codes[-1] == 0


# Prompts

def test_prompt_longer_than_the_context(vlmd):
    text = "What colour is the circle? " * 4000
    vlmd("run", "demo", stdin=text).failed_with("context")
    vlmd("run", "demo", "-p", "one two three four five six seven eight", "--ctx", "8").failed_with("context")


def test_prompt_that_is_no_text(vlmd):
    p = subprocess.run([vlmd.program, "run", "demo", "-p", b"abc\xff"], capture_output=True, timeout=60,
                       env=clean_environment())
    Result(p.returncode, p.stdout, p.stderr).failed_with("UTF-8")
    vlmd("run", "demo", stdin=b"abc\xff").failed_with("UTF-8")


def test_raw_prompt_with_another_number_of_pictures(vlmd, picture):
    from PIL import Image
    path = picture("p.png", b"")
    Image.new("RGB", (20, 20)).save(path)
    vlmd("run", "demo", "--raw", "-p", "no place for it", "-i", path).failed_with()
    vlmd("run", "demo", "--raw", "-p", "<image> but none given").failed_with()


@pytest.mark.parametrize("stdin", ["", "{}", "[1,", "[1.5]", "[-1]", "[\"1\"]", "[[1]]", "[1]x"])
def test_ids_that_cannot_be_decoded(vlmd, stdin):
    vlmd("tokenize", "demo", "--decode", stdin=stdin).failed_with()


def test_trace_that_cannot_be_written(vlmd, tmp_path):
    vlmd("trace", "demo", "-p", "x", "-n", "1", "-o", tmp_path / "no/such/folder.safetensors").failed_with()
    vlmd("trace", "demo", "-p", "x", "-n", "1", "-o", "/dev/full").failed_with()


def test_errors_as_json_lines(vlmd, tmp_path):
    r = vlmd("run", tmp_path / "nowhere", "-p", "x", "--log-format", "json")
    assert r.code == 1 and r.err.count(b"\n") == 1
    line = json.loads(r.err)
    assert set(line) == {"ts", "level", "msg"} and line["level"] == "error" and "nowhere" in line["msg"]
