"""vocabulary.py - a vocabulary of our own making, for models that were never taught: the same pieces, scores and merges
as tokenizer.json, and as the lists that GGUF wants.  Not: a way to read any other."""
SIZE, IMAGE_ID, PAD_ID = 32064, 32000, 32001
UNKNOWN, BEGIN, END, IMAGE, PAD = "<unk>", "<s>", "</s>", "<image>", "<pad>"
SPACE = "\u2581"
NORMAL, UNKNOWN_TYPE, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6  # token types of GGUF
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}{{ '<image>\n' }}{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ ' ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
# llama.cpp's server puts its own mark where the picture was, so that its template sees plain text.
CHAT_TEMPLATE_TEXT = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{{ m['content'] }}{{ ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")


def pieces():
    """(text, type) by id.  Letters first, then pairs, then triples, so that each piece can be put together from two
    that come before it."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    out = [(UNKNOWN, UNKNOWN_TYPE), (BEGIN, CONTROL), (END, CONTROL)]
    out += [(f"<0x{b:02X}>", BYTE) for b in range(256)]
    out += [(c, NORMAL) for c in [SPACE] + [chr(c) for c in range(33, 127)]]
    pairs = [a + b for a in SPACE + letters for b in letters]
    triples = [a + b for a in pairs for b in letters]
    for piece in pairs + triples + [a + b for a in triples for b in letters]:
        if len(out) == IMAGE_ID:
            break
        out.append((piece, NORMAL))
    out += [(IMAGE, CONTROL), (PAD, CONTROL)]
    return out + [(f"<unused{i}>", UNUSED) for i in range(len(out), SIZE)]


def merges(texts):
    """As Transformers makes them of a SentencePiece vocabulary: by the id of what comes out, every way to split it."""
    ids = {text: i for i, text in enumerate(texts)}
    out = []
    for text in texts:
        ways = [(text[:k], text[k:]) for k in range(1, len(text)) if text[:k] in ids and text[k:] in ids]
        out += sorted(ways, key=lambda way: (ids[way[0]], ids[way[1]]))
    return out


def added(text, token_id):
    return {"id": token_id, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True}


def tokenizer_json():
    everything = pieces()
    texts = [text for text, _ in everything[:IMAGE_ID]]
    specials = [(UNKNOWN, 0), (BEGIN, 1), (END, 2), (IMAGE, IMAGE_ID), (PAD, PAD_ID)]
    mergeable = [text if kind == NORMAL else "" for text, kind in everything[:IMAGE_ID]]
    begin = {"SpecialToken": {"id": BEGIN, "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(*s) for s in specials],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": SPACE},
            {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [1], "tokens": [BEGIN]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": UNKNOWN, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "vocab": {text: i for i, text in enumerate(texts)},
            "merges": [f"{a} {b}" for a, b in merges(mergeable)]}}


def tokenizer_config():
    return {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
            "model_max_length": 4096, "bos_token": BEGIN, "eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD,
            "add_bos_token": True, "add_eos_token": False, "chat_template": CHAT_TEMPLATE}


def add_to_gguf(writer):
    everything = pieces()
    scores = [-float(i) if kind == NORMAL else -1000.0 if kind in (CONTROL, UNUSED) and i >= IMAGE_ID else 0.0
              for i, (_, kind) in enumerate(everything)]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text.encode() for text, _ in everything])
    writer.add_token_scores(scores)
    writer.add_token_types([kind for _, kind in everything])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE_TEXT)
