#!/usr/bin/env python3
"""Small tokenizers and what Hugging Face's `tokenizers` library makes of texts with them.

  make_tokenizer_cases.py > tests/data/text/tokenizer_cases.json

Needs `tokenizers` (0.23).  Each entry has a tokenizer.json (as a string), texts with the ids the library gives
(with and without special tokens, and with special strings taken as plain text), and lists of ids
with the text it decodes (special tokens kept and dropped).
"""
import json
import sys

from tokenizers import Tokenizer

SPACE = "\u2581"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEXTS = [
    "", " ", "a", "abc abd", " abc  bca ", "aab\nabc\r\n\r\n cab", "a-b.c!?", "It's IT'S we'LL 'ſ x",
    "12 345 6789a1b", "é e\u0301 \u1e9b\u0323 \u212b", "日本語 中文 한국어", "👨\u200d👩\u200d👧 ok", "<x>abc<y>", "ab<x> <y> c",
    "a<x>b <w>w<w> <w>", " \t\u00a0\u3000\u2003x\u180ey", "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc", "ABC aBc ÀÉÎ İ",
    "   a   ", "x" * 70, "\u0344\u0301a\u0323\u0301b", "<0x41>\u2581a", "a\u0000b", "²³Ⅷ٣ ½",
]


def byte_chars():
    own = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 255 and b != 173]
    rest = [b for b in range(256) if b not in own]
    return {b: chr(b) for b in own} | {b: chr(256 + i) for i, b in enumerate(rest)}


def vocab_of(pieces):
    return {p: i for i, p in enumerate(pieces)}


CHARS = list("abcxAB '") + [SPACE]
MERGES = [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc"), (SPACE, "a"), (SPACE, SPACE), ("x", "x"), ("xx", "xx"), ("ab", "ab")]
PLAIN = vocab_of(["<unk>", *CHARS, *dict.fromkeys(a + b for a, b in MERGES)])
FALLBACK = vocab_of(["<unk>", *(f"<0x{b:02X}>" for b in range(256)), *CHARS, *dict.fromkeys(a + b for a, b in MERGES)])
STAND = byte_chars()
BYTE_MERGES = [("a", "b"), ("ab", "c"), ("b", "c"), ("\u0120", "a"), ("\u0120", "\u0120"), ("x", "x"), ("xx", "xx"),
               (STAND[0xE3], STAND[0x81]), (STAND[0xF0], STAND[0x9F]), (STAND[0xC3], STAND[0xA9]), ("1", "2")]
BYTES = vocab_of([*(STAND[b] for b in range(256)), *dict.fromkeys(a + b for a, b in BYTE_MERGES), "cab", "\u0120cab"])


def model(vocab, merges, **kw):
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": [list(m) for m in merges], **kw}


def added(content, **kw):
    return {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **kw}


def tokenizer(m, **kw):
    tokens = kw.pop("added_tokens", [])
    n = len(m["vocab"])
    for t in tokens:
        t["id"] = m["vocab"].get(t["content"], n)
        n += t["content"] not in m["vocab"]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None, "model": m, **kw}


XY = lambda: [added("<x>"), added("<y>", special=False)]
plain = lambda **kw: model(PLAIN, MERGES, unk_token="<unk>", **kw)
fallback = lambda **kw: model(FALLBACK, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True, **kw)
bytes_model = lambda **kw: model(BYTES, BYTE_MERGES, **kw)
split = lambda pattern, behavior="Isolated", invert=False: {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
level = lambda **kw: {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **kw}
seq = lambda key, *items: {"type": "Sequence", key: list(items)}
replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
SPM_DECODER = seq("decoders", replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
BOS = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
       "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]}


def bos(n):
    return BOS | {"special_tokens": {"<x>": {"id": "<x>", "ids": [n], "tokens": ["<x>"]}}}


def all_tokenizers():
    yield "no unk", tokenizer(model(PLAIN, MERGES))
    yield "unk", tokenizer(plain())
    yield "fused unk", tokenizer(plain(fuse_unk=True))
    yield "merges as strings", tokenizer(model(PLAIN, []) | {"merges": [f"{a} {b}" for a, b in MERGES]})
    yield "ignore merges", tokenizer(plain(ignore_merges=True), pre_tokenizer={"type": "WhitespaceSplit"})
    yield "prefix", tokenizer(model(vocab_of(["a", "b", "c", "##a", "##b", "##c", "ab", "abc", "##bc", "<unk>"]), [("a", "##b"), ("##b", "##c"), ("ab", "##c")],
                                    unk_token="<unk>", continuing_subword_prefix="##"), pre_tokenizer={"type": "WhitespaceSplit"})
    yield "suffix", tokenizer(model(vocab_of(["a", "b", "c", "c</w>", "b</w>", "ab", "abc</w>", "bc</w>", "<unk>"]), [("a", "b"), ("ab", "c</w>"), ("b", "c</w>")],
                                    unk_token="<unk>", end_of_word_suffix="</w>"), pre_tokenizer={"type": "Whitespace"}, decoder={"type": "BPEDecoder", "suffix": "</w>"})
    yield "byte fallback", tokenizer(fallback(), decoder=SPM_DECODER, added_tokens=XY())
    half = {k: v for k, v in FALLBACK.items() if k not in ("<0xE3>", "<0xF0>")}
    yield "byte fallback with holes", tokenizer(model(half, MERGES, unk_token="<unk>", byte_fallback=True), decoder=SPM_DECODER)
    yield "LLaMA", tokenizer(fallback(), normalizer=seq("normalizers", {"type": "Prepend", "prepend": SPACE}, replace(" ", SPACE)), decoder=SPM_DECODER, added_tokens=XY(), post_processor=bos(len(FALLBACK)))
    for scheme in ("first", "always", "never"):
        for cut in (False, True):
            m = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": cut}
            yield f"Metaspace {scheme} {cut}", tokenizer(fallback(), pre_tokenizer=m, decoder=m, added_tokens=XY())
    yield "Gemma", tokenizer(fallback(), normalizer=replace(" ", SPACE), pre_tokenizer=split({"String": " "}, "MergedWithPrevious"), added_tokens=XY(),
                             decoder=seq("decoders", replace(SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}))
    yield "flags", tokenizer(fallback(), decoder=SPM_DECODER, added_tokens=[added("<x>", lstrip=True), added("<y>", rstrip=True), added("<w>", single_word=True), added("  "), added("ab", special=False)])
    yield "normalized added", tokenizer(plain(), normalizer=seq("normalizers", {"type": "Lowercase"}, {"type": "NFC"}), added_tokens=[added("<X>", normalized=True, special=False), added("É", normalized=True, special=False), added("<w>", single_word=True, normalized=True)])
    yield "longest added", tokenizer(plain(), added_tokens=[added("ab"), added("abca"), added("bcab"), added("c ab"), added("a")])
    for n in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield n, tokenizer(bytes_model(), normalizer={"type": n}, pre_tokenizer=level(), decoder=level())
    yield "strip", tokenizer(plain(), normalizer=seq("normalizers", {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "NFD"}, {"type": "StripAccents"}))
    yield "strip both", tokenizer(plain(), normalizer={"type": "Strip", "strip_left": True, "strip_right": True}, added_tokens=XY())
    yield "replace by regex", tokenizer(plain(), normalizer={"type": "Replace", "pattern": {"Regex": r"\s+|b{2,}"}, "content": "x"})
    yield "byte normalizer", tokenizer(bytes_model(), normalizer={"type": "ByteLevel"}, decoder=level())
    yield "GPT-2", tokenizer(bytes_model(), pre_tokenizer=level(), decoder=level(), post_processor=level(), added_tokens=XY())
    yield "GPT-2 prefix space", tokenizer(bytes_model(), pre_tokenizer=level(add_prefix_space=True), decoder=level(), added_tokens=XY())
    yield "GPT-2 by PCRE2", tokenizer(bytes_model(), pre_tokenizer=seq("pretokenizers", split({"Regex": "(?:" + GPT2 + ")"}), level(use_regex=False)), decoder=level())
    yield "Llama 3", tokenizer(bytes_model(ignore_merges=True), pre_tokenizer=seq("pretokenizers", split({"Regex": LLAMA3}), level(use_regex=False)), decoder=level(), added_tokens=XY(), post_processor=seq("processors", level(), bos(len(BYTES))))
    yield "Llama 3 by PCRE2", tokenizer(bytes_model(), pre_tokenizer=seq("pretokenizers", split({"Regex": "(?:" + LLAMA3 + ")"}), level(use_regex=False)), decoder=level())
    yield "Qwen", tokenizer(bytes_model(), normalizer={"type": "NFC"}, pre_tokenizer=seq("pretokenizers", split({"Regex": LLAMA3.replace("{1,3}", "")}), level(use_regex=False)), decoder=level(), added_tokens=XY())
    yield "Falcon", tokenizer(bytes_model(), pre_tokenizer=seq("pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, level(), {"type": "Digits", "individual_digits": False}, split({"Regex": "[0-9][0-9][0-9]"})), decoder=level())
    yield "StarCoder", tokenizer(bytes_model(), pre_tokenizer=seq("pretokenizers", {"type": "Digits", "individual_digits": True}, level()), decoder=level())
    yield "trailing space", tokenizer(bytes_model(), pre_tokenizer=seq("pretokenizers", split({"Regex": r"\s+$"}), level(use_regex=False)), decoder=level())
    for behavior in ("Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"):
        for invert in (False, True):
            yield f"{behavior} {invert}", tokenizer(plain(), pre_tokenizer=split({"Regex": "b|-"}, behavior, invert))
        yield f"string {behavior}", tokenizer(plain(), pre_tokenizer=split({"String": "a"}, behavior))
        yield f"punctuation {behavior}", tokenizer(plain(), pre_tokenizer={"type": "Punctuation", "behavior": behavior})
    for pattern in (r"\w+", r"\W", r"[^\s\w]+", r"[\w-]+"):
        yield f"word {pattern}", tokenizer(plain(), pre_tokenizer=split({"Regex": pattern}, "Removed"))
    yield "stripped start", tokenizer(fallback(), normalizer={"type": "Strip", "strip_left": True, "strip_right": False},
                                      pre_tokenizer={"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False})
    yield "blank tokens", tokenizer(plain(), added_tokens=[added("  ", lstrip=True, rstrip=True), added(" ", lstrip=True), added("<x>", rstrip=True), added("a", rstrip=True)])
    yield "empty matches", tokenizer(plain(), pre_tokenizer=split({"Regex": "b*"}))
    for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        yield name, tokenizer(plain(), pre_tokenizer={"type": name})
    yield "delimiter", tokenizer(plain(), pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "b"})
    yield "fixed length", tokenizer(plain(), pre_tokenizer={"type": "FixedLength", "length": 3})
    yield "Bert", tokenizer(plain(), added_tokens=XY(), post_processor={"type": "BertProcessing", "sep": ["<y>", len(PLAIN) + 1], "cls": ["<x>", len(PLAIN)]})
    yield "Roberta", tokenizer(plain(), added_tokens=XY(), post_processor={"type": "RobertaProcessing", "sep": ["<y>", len(PLAIN) + 1], "cls": ["<x>", len(PLAIN)], "trim_offsets": True, "add_prefix_space": False})
    yield "ids of its own", tokenizer(plain(), added_tokens=[added("<x>"), added("<y>"), added("a")]) | {"added_tokens": [added("<x>") | {"id": 90}, added("<y>") | {"id": 70}, added("a") | {"id": 95}]}
    yield "strip decoder", tokenizer(plain(), decoder={"type": "Strip", "content": "a", "start": 1, "stop": 1})
    yield "late replace", tokenizer(plain(), decoder=seq("decoders", {"type": "Fuse"}, replace("ab", "-"), {"type": "Strip", "content": "-", "start": 2, "stop": 0}))
    yield "fallback behind fuse", tokenizer(fallback(), decoder=seq("decoders", {"type": "Fuse"}, {"type": "ByteFallback"}))


def main():
    out = []
    for name, spec in all_tokenizers():
        tok = Tokenizer.from_str(json.dumps(spec))
        n = tok.get_vocab_size()
        cases = []
        for text in TEXTS:
            ids = [tok.encode(text, add_special_tokens=s).ids for s in (True, False)]
            tok.encode_special_tokens = True
            ids.append(tok.encode(text, add_special_tokens=False).ids)
            tok.encode_special_tokens = False
            cases.append([text, *ids])
        lists = [c[1] for c in cases if c[1]][::3] + [[(i * 37 + k * 11) % (n + 1) for i in range(k)] for k in range(1, 9)]
        if name == "strip decoder":  # the library panics on a token that is shorter than what is cut
            lists = [l for l in lists if all(tok.id_to_token(i) not in ("a",) for i in l)]
        decoded = [[l, tok.decode(l, skip_special_tokens=False), tok.decode(l, skip_special_tokens=True)] for l in lists]
        out.append({"name": name, "tokenizer": json.dumps(spec, ensure_ascii=False, separators=(",", ":")), "encode": cases, "decode": decoded})
    json.dump(out, sys.stdout, ensure_ascii=False, separators=(",", ":"))
    sys.stdout.write("\n")


main()
