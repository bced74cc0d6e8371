"""shapes.py - the shapes of the models that are compared: their tensors, the work of a token and of a picture.
Not: their numbers (random_model.py).  Needs nothing but Python."""
import dataclasses
import math

BLOCK = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8": 34 / 32, "q4": 18 / 32}  # bytes of a weight


@dataclasses.dataclass(frozen=True)
class Shape:
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vision_hidden: int
    vision_mlp: int
    vision_layers: int
    vision_heads: int
    image: int
    patch: int
    vocab: int = 32064

    @property
    def kv_width(self):
        return self.hidden // self.heads * self.kv_heads

    @property
    def image_tokens(self):
        return (self.image // self.patch) ** 2


SHAPES = {
    "7b": Shape(4096, 11008, 32, 32, 32, 1024, 4096, 24, 16, 336, 14),
    "1b": Shape(2048, 5632, 22, 32, 4, 1024, 4096, 24, 16, 336, 14),
    "tiny": Shape(64, 192, 4, 4, 2, 64, 256, 4, 4, 56, 14),
}
DECODER, VISION = "language_model.model.", "vision_tower.vision_model."


def layer_matrices(s):
    """[(name, rows, columns)] of a layer of the decoder."""
    return [("self_attn.q_proj", s.hidden, s.hidden), ("self_attn.k_proj", s.kv_width, s.hidden),
            ("self_attn.v_proj", s.kv_width, s.hidden), ("self_attn.o_proj", s.hidden, s.hidden),
            ("mlp.gate_proj", s.mlp, s.hidden), ("mlp.up_proj", s.mlp, s.hidden), ("mlp.down_proj", s.hidden, s.mlp)]


def vision_matrices(s):
    d = s.vision_hidden
    return [(f"self_attn.{x}_proj", d, d) for x in ("q", "k", "v", "out")] + [
        ("mlp.fc1", s.vision_mlp, d), ("mlp.fc2", d, s.vision_mlp)]


def tensors(s):
    """[(Hugging Face name, shape, spread, middle)] of everything, in the order of the files."""
    d, v = s.hidden, s.vision_hidden
    fan = lambda n: n ** -0.5  # noqa: E731
    out = [(DECODER + "embed_tokens.weight", (s.vocab, d), 0.02 if d > 256 else 0.5, 0)]
    for i in range(s.layers):
        p = f"{DECODER}layers.{i}."
        out += [(f"{p}{name}.weight", (rows, cols), fan(cols), 0) for name, rows, cols in layer_matrices(s)]
        out += [(f"{p}{name}_layernorm.weight", (d,), 0.1, 1) for name in ("input", "post_attention")]
    out += [(DECODER + "norm.weight", (d,), 0.1, 1), ("language_model.lm_head.weight", (s.vocab, d), 2 * fan(d), 0)]
    p = VISION + "embeddings."
    out += [(p + "class_embedding", (v,), 0.5, 0),
            (p + "patch_embedding.weight", (v, 3, s.patch, s.patch), fan(3 * s.patch ** 2), 0),
            (p + "position_embedding.weight", (s.image_tokens + 1, v), 0.2, 0)]
    norm = lambda name: [(name + ".weight", (v,), 0.1, 1), (name + ".bias", (v,), 0.1, 0)]  # noqa: E731
    out += norm(VISION + "pre_layrnorm")
    for i in range(s.vision_layers):
        p = f"{VISION}encoder.layers.{i}."
        for name, rows, cols in vision_matrices(s):
            out += [(f"{p}{name}.weight", (rows, cols), fan(cols), 0), (f"{p}{name}.bias", (rows,), 0.02, 0)]
        out += norm(p + "layer_norm1") + norm(p + "layer_norm2")
    out += norm(VISION + "post_layernorm")
    for name, cols in (("linear_1", v), ("linear_2", d)):
        p = f"multi_modal_projector.{name}."
        out += [(p + "weight", (d, cols), fan(cols), 0), (p + "bias", (d,), 0.02, 0)]
    return out


def decoder_weights(s):
    """Weights that every token of a prompt meets: the layers' matrices."""
    return s.layers * sum(rows * cols for _, rows, cols in layer_matrices(s))


def all_weights(s):
    return sum(math.prod(shape) for _, shape, _, _ in tensors(s))


def token_bytes(s, dtype, engine):
    """Bytes of weights that one step of decode reads: the layers' matrices and the head."""
    head = s.vocab * s.hidden
    if engine != "vlmd" or dtype not in ("q8", "q4"):
        return (decoder_weights(s) + head) * BLOCK[dtype]
    total = head * BLOCK["q8"]
    for i in range(s.layers):  # as src/model/llama.c chooses the dtype of a matrix
        for name, rows, cols in layer_matrices(s):
            is_fine = name in ("self_attn.v_proj", "self_attn.o_proj") or i < (s.layers + 7) // 8
            if i == 0:
                kind = "q8" if dtype == "q4" else "f16"
            else:
                kind = "q8" if is_fine else dtype
            total += rows * cols * BLOCK[kind]
    return total


def picture_flop(s):
    """Multiplications and additions of one picture: the vision tower up to its last layer but one, and the projector."""
    n, v = s.image_tokens + 1, s.vision_hidden
    linear = sum(rows * cols for _, rows, cols in vision_matrices(s))
    layers = (s.vision_layers - 1) * (2 * n * linear + 4 * n * n * v)  # -2 is the layer that LLaVA takes
    patches = 2 * s.image_tokens * v * 3 * s.patch ** 2
    return layers + patches + 2 * s.image_tokens * (v * s.hidden + s.hidden ** 2)


def hf_config(s):
    return {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "ignore_index": -100,
        "image_token_index": 32000, "pad_token_id": 32001, "projector_hidden_act": "gelu", "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default", "tie_word_embeddings": False, "torch_dtype": "float16",
        "text_config": {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": s.hidden,
            "intermediate_size": s.mlp, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
            "num_key_value_heads": s.kv_heads, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
            "vocab_size": s.vocab, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float16"},
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": s.vision_hidden, "intermediate_size": s.vision_mlp,
            "num_hidden_layers": s.vision_layers, "num_attention_heads": s.vision_heads, "image_size": s.image,
            "patch_size": s.patch, "projection_dim": 768, "vocab_size": 32000, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5}}
