/* config_text.c - the decoder's half of config.h. */
#include <string.h>

#include "model/config_parts.h"

typedef struct text_family {
    const char *model_type;
    uint32_t vocab_size, intermediate_size, n_kv_heads, max_positions;
    uint32_t sliding_window;  /* when the file says nothing */
    bool has_biases_of_llama; /* attention_bias and mlp_bias are fields of it */
    bool has_qkv_bias;        /* always, and none on o */
} text_family;

/* Transformers' LlamaConfig, MistralConfig, Qwen2Config; n_kv_heads 0: as many as heads. */
static const text_family families[] = {
    {"llama", 32000, 11008, 0, 2048, 0, true, false},
    {"mistral", 32000, 14336, 8, 131072, 4096, false, false},
    {"qwen2", 151936, 22016, 32, 32768, 4096, false, true},
};

static vlm_status find_family(const vlm_json *node, const text_family **out, vlm_error *err)
{
    vlm_bytes name = vlm_bytes_of("llama");
    VLM_TRY(vlm_json_opt_string(node, "model_type", &name, err));
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (!vlm_bytes_eq_str(name, families[i].model_type)) continue;
        *out = &families[i];
        return VLM_OK;
    }
    return vlm_fail(err, VLM_UNIMPLEMENTED,
                    "model_type %.*s is not supported; llama, mistral and qwen2 are",
                    (int)(name.len < 64 ? name.len : 64), name.ptr);
}

/* A field of rope_parameters or rope_scaling. */
static vlm_status rope_number(const vlm_json *rope, const char *key, double min, double *out,
                              vlm_error *err)
{
    return vlm_json_opt_double(rope, key, min, 1e9, out, err);
}

static vlm_status rope_type(const vlm_json *rope, vlm_rope_type *out, vlm_error *err)
{
    vlm_bytes name = vlm_bytes_of("default");
    VLM_TRY(vlm_json_opt_string(rope, "type", &name, err));
    VLM_TRY(vlm_json_opt_string(rope, "rope_type", &name, err));
#define ROPE_MATCH(id, text)                                                                       \
    if (vlm_bytes_eq_str(name, text)) {                                                            \
        *out = VLM_ROPE_##id;                                                                      \
        return VLM_OK;                                                                             \
    }
    VLM_ROPE_LIST(ROPE_MATCH)
#undef ROPE_MATCH
    return vlm_fail(err, VLM_UNIMPLEMENTED,
                    "rope_type %.*s is not supported; default, linear, llama3 and yarn are",
                    (int)(name.len < 32 ? name.len : 32), name.ptr);
}

static vlm_status check_rope(const vlm_text_config *t, const vlm_json *rope, vlm_error *err)
{
    const vlm_rope_scaling *s = &t->rope_scaling;
    if (s->type == VLM_ROPE_NONE) return VLM_OK;
    if (vlm_json_get(rope, "factor") == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "rope_type %s needs a factor",
                        vlm_rope_type_name(s->type));
    if (s->type == VLM_ROPE_LLAMA3 && (vlm_json_get(rope, "low_freq_factor") == NULL ||
                                       vlm_json_get(rope, "high_freq_factor") == NULL ||
                                       s->high_freq_factor <= s->low_freq_factor))
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "rope_type llama3 needs low_freq_factor below high_freq_factor");
    if (s->type == VLM_ROPE_YARN && s->beta_fast < s->beta_slow)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "beta_fast must not be below beta_slow");
    return VLM_OK;
}

/* The older rope_scaling wins over rope_parameters.  One with parameters for each kind of layer
 * would be read wrongly, as it has its numbers a level deeper. */
static vlm_status find_rope(const vlm_json *text, const vlm_json **out, vlm_error *err)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    *out = NULL;
    for (size_t i = 0; i < 2; i++) {
        const vlm_json *rope = vlm_json_get(text, keys[i]);
        if (rope != NULL && vlm_json_typeof(rope) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be an object, not %s", keys[i],
                            vlm_json_type_name(rope));
        for (vlm_json_iter it = vlm_json_iter_begin(rope); vlm_json_iter_next(&it);)
            if (vlm_json_typeof(it.value) == VLM_JSON_OBJECT)
                return vlm_fail(err, VLM_UNIMPLEMENTED,
                                "%s.%s: parameters for each kind of layer are not supported",
                                keys[i], it.key);
        if (*out == NULL && vlm_json_object_len(rope) > 0) *out = rope;
    }
    return VLM_OK;
}

vlm_status vlm_config_parse_rope(const vlm_json *text, vlm_text_config *out, vlm_error *err)
{
    vlm_rope_scaling *s = &out->rope_scaling;
    double partial = 1.0;
    *s = (vlm_rope_scaling){
        .factor = 1.0,
        .original_max_positions = out->max_positions,
        .beta_fast = 32.0,
        .beta_slow = 1.0,
        .truncate = true,
    };
    /* A theta inside wins over one outside. */
    const vlm_json *rope;
    VLM_TRY(find_rope(text, &rope, err));
    out->rope_theta = 10000.0;
    VLM_TRY(vlm_json_opt_double(text, "rope_theta", 1.0 + 1e-6, 1e12, &out->rope_theta, err));
    VLM_TRY(vlm_json_opt_double(rope, "rope_theta", 1.0 + 1e-6, 1e12, &out->rope_theta, err));
    VLM_TRY(vlm_json_opt_double(text, "partial_rotary_factor", 0.0, 1.0, &partial, err));
    VLM_TRY(vlm_json_opt_double(rope, "partial_rotary_factor", 0.0, 1.0, &partial, err));
    if (partial != 1.0)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "partial_rotary_factor %g is not supported",
                        partial);

    VLM_TRY(rope_type(rope, &s->type, err));
    VLM_TRY(rope_number(rope, "factor", 1.0, &s->factor, err));
    VLM_TRY(rope_number(rope, "low_freq_factor", 1e-6, &s->low_freq_factor, err));
    VLM_TRY(rope_number(rope, "high_freq_factor", 1e-6, &s->high_freq_factor, err));
    const char *const original = "original_max_position_embeddings";
    VLM_TRY(rope_number(rope, original, 1.0, &s->original_max_positions, err));
    VLM_TRY(rope_number(text, original, 1.0, &s->original_max_positions, err));
    VLM_TRY(rope_number(rope, "beta_fast", 1e-6, &s->beta_fast, err));
    VLM_TRY(rope_number(rope, "beta_slow", 1e-6, &s->beta_slow, err));
    VLM_TRY(rope_number(rope, "attention_factor", 1e-6, &s->attention_factor, err));
    VLM_TRY(rope_number(rope, "mscale", 0.0, &s->mscale, err));
    VLM_TRY(rope_number(rope, "mscale_all_dim", 0.0, &s->mscale_all_dim, err));
    VLM_TRY(vlm_json_opt_bool(rope, "truncate", &s->truncate, err));
    return check_rope(out, rope, err);
}

/* A number whose null means the same as its absence in Transformers. */
static vlm_status sizes(const vlm_json *node, const text_family *family, vlm_text_config *out,
                        vlm_error *err)
{
    VLM_TRY(vlm_json_opt_u32(node, "vocab_size", 1, VLM_VOCAB_MAX, &out->vocab_size, err));
    VLM_TRY(vlm_json_opt_u32(node, "hidden_size", 2, VLM_HIDDEN_MAX, &out->hidden_size, err));
    VLM_TRY(
        vlm_json_opt_u32(node, "intermediate_size", 1, VLM_MLP_MAX, &out->intermediate_size, err));
    VLM_TRY(vlm_json_opt_u32(node, "num_hidden_layers", 1, VLM_LAYERS_MAX, &out->n_layers, err));
    VLM_TRY(vlm_json_opt_u32(node, "num_attention_heads", 1, VLM_HEADS_MAX, &out->n_heads, err));
    /* null stands for as many as heads, absence for the family's number. */
    out->n_kv_heads = family->n_kv_heads;
    if (vlm_json_has(node, "num_key_value_heads")) out->n_kv_heads = 0;
    if (out->n_kv_heads == 0) out->n_kv_heads = out->n_heads;
    VLM_TRY(vlm_json_opt_u32(node, "num_key_value_heads", 1, VLM_HEADS_MAX, &out->n_kv_heads, err));
    out->head_dim = out->hidden_size / out->n_heads;
    VLM_TRY(vlm_json_opt_u32(node, "head_dim", 2, VLM_HEAD_DIM_MAX, &out->head_dim, err));
    VLM_TRY(vlm_json_opt_u32(node, "max_position_embeddings", 1, VLM_POSITIONS_MAX,
                             &out->max_positions, err));
    if (vlm_json_get(node, "head_dim") == NULL && out->hidden_size % out->n_heads != 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "hidden_size %u is no multiple of num_attention_heads %u", out->hidden_size,
                        out->n_heads);
    if (out->head_dim < 2 || out->head_dim % 2 != 0 || out->head_dim > VLM_HEAD_DIM_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "head_dim %u must be even and 2 to %d",
                        out->head_dim, VLM_HEAD_DIM_MAX);
    if (out->n_heads % out->n_kv_heads != 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "num_attention_heads %u is no multiple of num_key_value_heads %u",
                        out->n_heads, out->n_kv_heads);
    return VLM_OK;
}

/* layer_types of Qwen2: a name for each layer. */
static vlm_status layer_types(const vlm_json *types, vlm_text_config *out, vlm_error *err)
{
    if (vlm_json_array_len(types) != out->n_layers)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "layer_types must be an array of %u names",
                        out->n_layers);
    for (uint32_t i = 0; i < out->n_layers; i++) {
        const vlm_json *name = vlm_json_at(types, i);
        const bool is_string = vlm_json_typeof(name) == VLM_JSON_STRING;
        if (is_string && vlm_bytes_eq_str(vlm_json_string(name), "full_attention"))
            out->layer_window[i] = false;
        else if (is_string && vlm_bytes_eq_str(vlm_json_string(name), "sliding_attention"))
            out->layer_window[i] = true;
        else
            return vlm_fail(err, VLM_UNIMPLEMENTED,
                            "layer_types[%u] must be full_attention or sliding_attention", i);
    }
    return VLM_OK;
}

/* Mistral: one window for all layers, unless null.  Qwen2: only with use_sliding_window, for the
 * layers from max_window_layers on or those that layer_types names.  LLaMA: none. */
static vlm_status window(const vlm_json *node, const text_family *family, vlm_text_config *out,
                         vlm_error *err)
{
    const bool is_qwen = strcmp(family->model_type, "qwen2") == 0;
    if (family->sliding_window == 0) return VLM_OK;
    if (!vlm_json_has(node, "sliding_window")) out->sliding_window = family->sliding_window;
    VLM_TRY(vlm_json_opt_u32(node, "sliding_window", 1, UINT32_MAX, &out->sliding_window, err));
    uint32_t first = 0;
    if (is_qwen) {
        bool use = false;
        VLM_TRY(vlm_json_opt_bool(node, "use_sliding_window", &use, err));
        if (!use) out->sliding_window = 0;
        first = 28;
        VLM_TRY(vlm_json_opt_u32(node, "max_window_layers", 0, UINT32_MAX, &first, err));
    }
    for (uint32_t i = 0; i < out->n_layers; i++)
        out->layer_window[i] = out->sliding_window > 0 && i >= first;
    const vlm_json *types = vlm_json_get(node, "layer_types");
    if (is_qwen && types != NULL && out->sliding_window > 0) VLM_TRY(layer_types(types, out, err));
    return VLM_OK;
}

static vlm_status biases(const vlm_json *node, const text_family *family, vlm_text_config *out,
                         vlm_error *err)
{
    out->attention_bias_qkv = family->has_qkv_bias;
    if (!family->has_biases_of_llama) return VLM_OK;
    VLM_TRY(vlm_json_opt_bool(node, "attention_bias", &out->attention_bias_qkv, err));
    out->attention_bias_o = out->attention_bias_qkv;
    return vlm_json_opt_bool(node, "mlp_bias", &out->mlp_bias, err);
}

vlm_status vlm_config_parse_text(const vlm_json *node, vlm_text_config *out, vlm_error *err)
{
    const text_family *family;
    VLM_TRY(find_family(node, &family, err));
    *out = (vlm_text_config){
        .model_type = family->model_type,
        .vocab_size = family->vocab_size,
        .hidden_size = 4096,
        .intermediate_size = family->intermediate_size,
        .n_layers = 32,
        .n_heads = 32,
        .max_positions = family->max_positions,
        .rms_norm_eps = 1e-6f,
        .hidden_act = VLM_ACT_SILU,
    };
    VLM_TRY(sizes(node, family, out, err));
    VLM_TRY(vlm_json_opt_float(node, "rms_norm_eps", 0.0, 1.0, &out->rms_norm_eps, err));
    VLM_TRY(vlm_config_parse_act(node, "hidden_act", &out->hidden_act, err));
    VLM_TRY(biases(node, family, out, err));
    VLM_TRY(window(node, family, out, err));
    return vlm_config_parse_rope(node, out, err);
}
