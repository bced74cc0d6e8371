#!/usr/bin/env python3
"""A LLaVA-1.5 model of random weights, once in both formats that the servers load, with the same numbers:
OUT/hf (config, tokenizer, float16 safetensors) and OUT/gguf (model-f16.gguf, mmproj-f16.gguf, made from OUT/hf).
What is there already is kept.  usage: random_model.py OUT 7b|1b|tiny [--no-gguf]     (needs numpy, gguf)"""
import argparse
import json
import os
import struct
import zlib

import numpy as np
import vocabulary
from shapes import DECODER, SHAPES, VISION, hf_config, tensors

SHARD_BYTES = 5 << 30
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def numbers(name, shape, spread, middle):
    """float16; every tensor has its own stream, so that the order of making does not matter."""
    rng = np.random.default_rng([20261122, zlib.crc32(name.encode())])
    values = rng.standard_normal(int(np.prod(shape)), dtype=np.float32)
    values *= np.float32(spread)
    values += np.float32(middle)
    return values.astype(np.float16).reshape(shape)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)


def shards(everything):
    """The tensors cut into files of about SHARD_BYTES."""
    out, size = [[]], 0
    for t in everything:
        n = int(np.prod(t[1])) * 2
        if size + n > SHARD_BYTES and out[-1]:
            out.append([])
            size = 0
        out[-1].append(t)
        size += n
    return out


def write_shard(path, part):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _, _ in part:
        n = int(np.prod(shape)) * 2
        head[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in part:
            numbers(*t).tofile(f)


def write_hf(folder, shape):
    os.makedirs(folder, exist_ok=True)
    write_json(f"{folder}/preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor", "crop_size": {"height": shape.image, "width": shape.image},
        "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
        "image_mean": MEAN, "image_std": STD, "resample": 3, "rescale_factor": 1 / 255,
        "size": {"shortest_edge": shape.image}})
    write_json(f"{folder}/tokenizer.json", vocabulary.tokenizer_json())
    write_json(f"{folder}/tokenizer_config.json", vocabulary.tokenizer_config())
    write_json(f"{folder}/generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
    parts, where = shards(tensors(shape)), {}
    for i, part in enumerate(parts, 1):
        name = "model.safetensors" if len(parts) == 1 else f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        where.update({t[0]: name for t in part})
        write_shard(f"{folder}/{name}", part)
    if len(parts) > 1:
        total = sum(2 * int(np.prod(t[1])) for t in tensors(shape))
        write_json(f"{folder}/model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
    write_json(f"{folder}/config.json", hf_config(shape))  # last: the folder is whole


class Folder:
    """Tensors of a folder's safetensors files, mapped."""

    def __init__(self, folder):
        self.found = {}
        for file in sorted(os.listdir(folder)):
            if file.endswith(".safetensors"):
                path = os.path.join(folder, file)
                with open(path, "rb") as f:
                    n = struct.unpack("<Q", f.read(8))[0]
                    head = json.loads(f.read(n))
                head.pop("__metadata__", None)
                self.found.update({name: (path, 8 + n, t) for name, t in head.items()})

    def get(self, name):
        path, base, t = self.found[name]
        assert t["dtype"] == "F16", name
        return np.memmap(path, np.float16, "r", base + t["data_offsets"][0], tuple(t["shape"]))


def interleave(w, heads):
    """Rows of a head in two halves, as Hugging Face rotates them, to neighbours, as GGUF does."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


DECODER_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
VISION_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out", "layer_norm1": "ln1", "layer_norm2": "ln2", "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down"}
OTHER_NAMES = {
    DECODER + "embed_tokens.weight": "token_embd.weight", DECODER + "norm.weight": "output_norm.weight",
    "language_model.lm_head.weight": "output.weight", VISION + "embeddings.class_embedding": "v.class_embd",
    VISION + "embeddings.patch_embedding.weight": "v.patch_embd.weight",
    VISION + "embeddings.position_embedding.weight": "v.position_embd.weight",
    VISION + "pre_layrnorm.weight": "v.pre_ln.weight", VISION + "pre_layrnorm.bias": "v.pre_ln.bias",
    "multi_modal_projector.linear_1.weight": "mm.0.weight", "multi_modal_projector.linear_1.bias": "mm.0.bias",
    "multi_modal_projector.linear_2.weight": "mm.2.weight", "multi_modal_projector.linear_2.bias": "mm.2.bias"}


def gguf_name(name, shape):
    """None: what llama.cpp does not want, since LLaVA takes the vision tower's last layer but one."""
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    if "post_layernorm" in name:
        return None
    layer, rest = name.split("layers.")[1].split(".", 1)
    rest, kind = rest.rsplit(".", 1)
    if name.startswith(DECODER):
        return f"blk.{layer}.{DECODER_NAMES[rest]}.{kind}"
    return f"v.blk.{layer}.{VISION_NAMES[rest]}.{kind}" if int(layer) < shape.vision_layers - 1 else None


def copy_tensors(writer, hf, shape, of_decoder):
    for name, _, _, _ in tensors(shape):
        new = gguf_name(name, shape)
        if new is None or name.startswith("language_model.") != of_decoder:
            continue
        value = hf.get(name)
        if of_decoder and "q_proj" in name:
            value = interleave(value, shape.heads)
        if of_decoder and "k_proj" in name:
            value = interleave(value, shape.kv_heads)
        if value.ndim == 1 or "position_embedding" in name:
            value = value.astype(np.float32)
        writer.add_tensor(new, np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_decoder(path, hf, shape):
    import gguf
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("random LLaVA")
    w.add_context_length(4096)
    w.add_embedding_length(shape.hidden)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.mlp)
    w.add_rope_dimension_count(shape.hidden // shape.heads)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(shape.vocab)
    w.add_file_type(1)
    vocabulary.add_to_gguf(w)
    copy_tensors(w, hf, shape, True)


def write_vision(path, hf, shape):
    import gguf
    w = gguf.GGUFWriter(path, "clip")
    w.add_name("random CLIP")
    w.add_file_type(1)
    w.add_bool("clip.has_vision_encoder", True)
    w.add_string("clip.projector_type", "mlp")
    for key, value in (("image_size", shape.image), ("patch_size", shape.patch),
                       ("embedding_length", shape.vision_hidden), ("feed_forward_length", shape.vision_mlp),
                       ("projection_dim", shape.hidden), ("block_count", shape.vision_layers - 1),
                       ("attention.head_count", shape.vision_heads)):
        w.add_uint32("clip.vision." + key, value)
    w.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    w.add_array("clip.vision.image_mean", MEAN)
    w.add_array("clip.vision.image_std", STD)
    w.add_bool("clip.use_gelu", False)
    w.add_bool("clip.use_silu", False)
    copy_tensors(w, hf, shape, False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--no-gguf", action="store_true")
    a = parser.parse_args()
    shape, hf, gguf = SHAPES[a.shape], f"{a.out}/hf", f"{a.out}/gguf"
    if not os.path.exists(f"{hf}/config.json"):
        write_hf(hf, shape)
    if a.no_gguf:
        return
    os.makedirs(gguf, exist_ok=True)
    for name, write in (("model-f16.gguf", write_decoder), ("mmproj-f16.gguf", write_vision)):
        if not os.path.exists(f"{gguf}/{name}"):
            write(f"{gguf}/{name}.part", Folder(hf), shape)
            os.replace(f"{gguf}/{name}.part", f"{gguf}/{name}")


if __name__ == "__main__":
    main()
