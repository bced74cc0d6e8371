#!/usr/bin/env python3
"""Write tests/data/model/config_cases.json: partial configurations and what Transformers makes of them.

Each case is {"name", "config", "generation" or null, "expect"}; expect holds what test_config.c compares.  Needs torch
and transformers; the tests need only the file.   make_config_cases.py [COUNT] > tests/data/model/config_cases.json"""
import copy
import json
import os
import random
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

rng = random.Random(3)


def maybe(target, key, values, p=0.5):
    if rng.random() < p:
        target[key] = rng.choice(values)


def rope(text):
    kind = rng.choice(["none", "none", "theta", "linear", "llama3", "yarn", "default", "parameters", "both"])
    if kind == "none":
        return
    maybe(text, "rope_theta", [10000.0, 500000, 1e6, 10000], 0.6)
    name = rng.choice(["type", "rope_type"])
    values = {
        "theta": None,
        "default": {name: "default"},
        "linear": {name: "linear", "factor": rng.choice([1.0, 2, 2.5, 8.0])},
        "llama3": {name: "llama3", "factor": rng.choice([8.0, 32]), "low_freq_factor": 1.0,
                   "high_freq_factor": rng.choice([4.0, 2]), "original_max_position_embeddings": 8192},
        "yarn": {name: "yarn", "factor": rng.choice([1.0, 4.0, 16.0])},
        "parameters": {"rope_type": "default", "rope_theta": rng.choice([5e5, 12345.0])},
        "both": {"rope_type": "linear", "factor": 3.0, "rope_theta": 20000.0},
    }[kind]
    if kind == "llama3" and rng.random() < 0.3:
        del values["original_max_position_embeddings"]
    if kind == "yarn":
        maybe(values, "original_max_position_embeddings", [512, 4096])
        maybe(values, "beta_fast", [32, 16.0, None], 0.4)
        maybe(values, "beta_slow", [1, 2.0, None], 0.4)
        maybe(values, "truncate", [True, False], 0.4)
        maybe(values, "attention_factor", [0.7, 1.3, None], 0.3)
        if rng.random() < 0.4:
            values["mscale"] = rng.choice([1.0, 0.7])
            maybe(values, "mscale_all_dim", [1.0, 0.5], 0.7)
    if values is None:
        maybe(text, "rope_scaling", [None], 0.3)
        return
    if kind == "both":
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 777.0}
        text["rope_scaling"] = values
    elif kind == "parameters" or (name == "rope_type" and rng.random() < 0.5):
        text["rope_parameters"] = values
    else:
        text["rope_scaling"] = values


def text_config():
    text = {}
    if rng.random() < 0.85:
        text["model_type"] = rng.choice(["llama", "mistral", "qwen2"])
    family = text.get("model_type", "llama")
    maybe(text, "vocab_size", [32064, 40000, 152000], 0.7)
    if rng.random() < 0.7:
        heads = rng.choice([4, 8, 16])
        text["num_attention_heads"] = heads
        text["hidden_size"] = heads * rng.choice([8, 16, 64])
        text["num_key_value_heads"] = rng.choice([k for k in (1, 2, 4, 8, 16) if heads % k == 0] + [None])
        maybe(text, "head_dim", [16, 32, None], 0.4)
    maybe(text, "intermediate_size", [100, 11008])
    maybe(text, "num_hidden_layers", [1, 2, 5, 30], 0.6)
    maybe(text, "max_position_embeddings", [512, 4096, 131072])
    maybe(text, "rms_norm_eps", [1e-5, 1e-6, 0.001])
    maybe(text, "hidden_act", ["silu", "gelu", "gelu_pytorch_tanh", "relu"], 0.3)
    maybe(text, "tie_word_embeddings", [True, False], 0.3)
    maybe(text, "eos_token_id", [2, [2, 7], 128009, None], 0.4)
    maybe(text, "attention_bias", [True, False], 0.3)
    maybe(text, "mlp_bias", [True, False], 0.3)
    maybe(text, "dtype", ["float16", "bfloat16"], 0.2)
    maybe(text, "sliding_window", [16, 4096, None], 0.5)
    if family == "qwen2":
        maybe(text, "use_sliding_window", [True, False], 0.6)
        maybe(text, "max_window_layers", [0, 1, 2, 28], 0.5)
        if text.get("use_sliding_window") and text.get("sliding_window", 1) is not None and rng.random() < 0.4:
            text["layer_types"] = [rng.choice(["full_attention", "sliding_attention"])
                                   for _ in range(text.get("num_hidden_layers", 32))]
    rope(text)
    return text


def vision_config():
    vision = {}
    maybe(vision, "model_type", ["clip_vision_model"], 0.8)
    if rng.random() < 0.6:
        heads = rng.choice([2, 4, 16])
        vision["num_attention_heads"] = heads
        vision["hidden_size"] = heads * rng.choice([8, 64])
    maybe(vision, "intermediate_size", [100, 4096])
    maybe(vision, "num_hidden_layers", [3, 24], 0.6)
    maybe(vision, "image_size", [224, 336, 100])
    maybe(vision, "patch_size", [14, 16, 32])
    maybe(vision, "hidden_act", ["quick_gelu", "gelu"], 0.3)
    maybe(vision, "layer_norm_eps", [1e-5, 1e-6], 0.3)
    maybe(vision, "projection_dim", [768], 0.3)
    return vision


def random_case(number):
    config = {"model_type": "llava", "image_token_index": 31999}
    maybe(config, "architectures", [["LlavaForConditionalGeneration"]])
    if rng.random() < 0.9:
        config["text_config"] = text_config()
    if rng.random() < 0.8:
        config["vision_config"] = vision_config()
    if rng.random() < 0.5:
        config["image_token_id"] = config.pop("image_token_index")
    maybe(config, "tie_word_embeddings", [True, False])
    maybe(config, "projector_hidden_act", ["gelu", "gelu_pytorch_tanh", "relu"], 0.4)
    maybe(config, "multimodal_projector_bias", [True, False], 0.4)
    maybe(config, "vision_feature_layer", [-1, -2, -3, 0, 1, [-2], [-3, 1, -1]])
    maybe(config, "vision_feature_select_strategy", ["default", "full"])
    maybe(config, "image_seq_length", [1, 576], 0.2)
    maybe(config, "eos_token_id", [5, [5, 6]], 0.2)
    maybe(config, "torch_dtype", ["float16"], 0.3)
    generation = None
    if rng.random() < 0.6:
        generation = {"eos_token_id": rng.choice([2, [2, 3, 4], 128001])}
        maybe(generation, "do_sample", [True, False])
        maybe(generation, "temperature", [0.6, 1.0])
        maybe(generation, "top_p", [0.9, 1.0])
        maybe(generation, "top_k", [50, 10])
        maybe(generation, "min_p", [0.05])
        maybe(generation, "repetition_penalty", [1.1])
    return {"name": f"random {number}", "config": config, "generation": generation}


def expectation(case):
    config = LlavaConfig(**copy.deepcopy(case["config"]))
    text, vision = config.text_config, config.vision_config
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    layers = model.model.language_model.layers
    attention = [layer.self_attn for layer in layers]
    rope_parameters = text.rope_parameters
    if rope_parameters["rope_type"] == "default":
        inv_freq, scaling = model.model.language_model.rotary_emb.compute_default_rope_parameters(text)
    else:
        inv_freq, scaling = ROPE_INIT_FUNCTIONS[rope_parameters["rope_type"]](text, torch.device("cpu"))
    if text.model_type == "mistral":
        windows = [text.sliding_window or 0] * len(layers)
    elif text.model_type == "qwen2":
        windows = [(text.sliding_window or 0) if kind == "sliding_attention" else 0 for kind in text.layer_types]
    else:
        windows = [0] * len(layers)
    n_states = vision.num_hidden_layers + 1
    features = config.vision_feature_layer
    features = features if isinstance(features, list) else [features]
    expect = {
        "model_type": text.model_type,
        "text": [text.vocab_size, text.hidden_size, text.intermediate_size, text.num_hidden_layers,
                 text.num_attention_heads, text.num_key_value_heads, attention[0].head_dim,
                 text.max_position_embeddings],
        "rms_norm_eps": text.rms_norm_eps,
        "hidden_act": text.hidden_act,
        "biases": [attention[0].q_proj.bias is not None, attention[0].o_proj.bias is not None,
                   layers[0].mlp.gate_proj.bias is not None],
        "tied": config.tie_word_embeddings,
        "rope_type": rope_parameters["rope_type"],
        "inv_freq": [float(f) for f in inv_freq],
        "rope_scaling": float(scaling),
        "windows": windows,
        "vision": [vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers,
                   vision.num_attention_heads, vision.image_size, vision.patch_size, vision.num_channels],
        "vision_act": vision.hidden_act,
        "layer_norm_eps": vision.layer_norm_eps,
        "image_token": config.image_token_id,
        "features": [f % n_states for f in features],
        "full": config.vision_feature_select_strategy == "full",
        "projector_act": config.projector_hidden_act,
        "projector_bias": model.model.multi_modal_projector.linear_1.bias is not None,
        "image_tokens": (vision.image_size // vision.patch_size) ** 2
        + (config.vision_feature_select_strategy == "full"),
    }
    if case["generation"] is not None:
        eos = GenerationConfig(**case["generation"]).eos_token_id
        expect["eos"] = eos if isinstance(eos, list) else [eos]
    return expect


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    cases = [{"name": "empty", "config": {"model_type": "llava", "image_token_index": 31999}, "generation": None}]
    for kind in ("llama", "mistral", "qwen2"):
        cases.append({"name": f"defaults of {kind}", "generation": None,
                      "config": {"model_type": "llava", "image_token_index": 7,
                                 "text_config": {"model_type": kind}, "vision_config": {}}})
    number = 0
    while len(cases) < count:
        case = random_case(number)
        number += 1
        try:
            case["expect"] = expectation(case)
        except Exception as e:  # what Transformers itself refuses is no case
            print(f"{case['name']}: {type(e).__name__}: {str(e)[:200]}", file=sys.stderr)
            continue
        cases.append(case)
    for case in cases:
        case.setdefault("expect", None)
        if case["expect"] is None:
            case["expect"] = expectation(case)
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
