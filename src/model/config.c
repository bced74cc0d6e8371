#include "model/config.h"

#include <string.h>

#include "model/config_parts.h"

const char *vlm_rope_type_name(vlm_rope_type type)
{
    switch (type) {
#define ROPE_NAME(id, text)                                                                        \
    case VLM_ROPE_##id: return text;
        VLM_ROPE_LIST(ROPE_NAME)
#undef ROPE_NAME
    }
    return "unknown";
}

vlm_status vlm_config_parse_act(const vlm_json *node, const char *key, vlm_act *out, vlm_error *err)
{
    vlm_bytes name = {0};
    VLM_TRY(vlm_json_opt_string(node, key, &name, err));
    if (name.ptr == NULL || vlm_act_parse(name.ptr, name.len, out)) return VLM_OK;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "%s %.*s is not supported", key,
                    (int)(name.len < 32 ? name.len : 32), name.ptr);
}

static vlm_status check_type(const vlm_json *node, const char *want, vlm_error *err)
{
    vlm_bytes name = vlm_bytes_of(want);
    VLM_TRY(vlm_json_opt_string(node, "model_type", &name, err));
    if (vlm_bytes_eq_str(name, want)) return VLM_OK;
    return vlm_fail(err, VLM_UNIMPLEMENTED, "model_type %.*s is not supported; %s is",
                    (int)(name.len < 64 ? name.len : 64), name.ptr, want);
}

/* CLIPVisionConfig.  Without a vision_config LLaVA takes CLIP-L/336, with one CLIP's own defaults
 * for what it leaves out. */
static vlm_status parse_vision(const vlm_json *node, vlm_vision_config *out, vlm_error *err)
{
    *out = (vlm_vision_config){
        .hidden_size = 768,
        .intermediate_size = 3072,
        .n_layers = 12,
        .n_heads = 12,
        .image_size = 224,
        .patch_size = 32,
        .n_channels = 3,
        .layer_norm_eps = 1e-5f,
        .hidden_act = VLM_ACT_QUICK_GELU,
    };
    if (node == NULL) {
        out->hidden_size = 1024;
        out->intermediate_size = 4096;
        out->n_layers = 24;
        out->n_heads = 16;
        out->image_size = 336;
        out->patch_size = 14;
        return VLM_OK;
    }
    VLM_TRY(check_type(node, "clip_vision_model", err));
    VLM_TRY(vlm_json_opt_u32(node, "hidden_size", 1, VLM_HIDDEN_MAX, &out->hidden_size, err));
    VLM_TRY(
        vlm_json_opt_u32(node, "intermediate_size", 1, VLM_MLP_MAX, &out->intermediate_size, err));
    VLM_TRY(vlm_json_opt_u32(node, "num_hidden_layers", 1, VLM_LAYERS_MAX, &out->n_layers, err));
    VLM_TRY(vlm_json_opt_u32(node, "num_attention_heads", 1, VLM_HEADS_MAX, &out->n_heads, err));
    VLM_TRY(vlm_json_opt_u32(node, "image_size", 1, VLM_IMAGE_SIZE_MAX, &out->image_size, err));
    VLM_TRY(vlm_json_opt_u32(node, "patch_size", 1, VLM_IMAGE_SIZE_MAX, &out->patch_size, err));
    VLM_TRY(vlm_json_opt_u32(node, "num_channels", 1, 64, &out->n_channels, err));
    VLM_TRY(vlm_json_opt_float(node, "layer_norm_eps", 0.0, 1.0, &out->layer_norm_eps, err));
    VLM_TRY(vlm_config_parse_act(node, "hidden_act", &out->hidden_act, err));
    if (out->n_channels != 3)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "num_channels %u is not supported; 3 is",
                        out->n_channels);
    if (out->hidden_size % out->n_heads != 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "hidden_size %u is no multiple of num_attention_heads %u", out->hidden_size,
                        out->n_heads);
    if (out->patch_size > out->image_size)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "patch_size %u is larger than image_size %u",
                        out->patch_size, out->image_size);
    return VLM_OK;
}

static vlm_status add_feature_layer(const vlm_json *node, vlm_config *out, vlm_error *err)
{
    const int64_t n = out->vision.n_layers;
    const int64_t layer = vlm_json_typeof(node) == VLM_JSON_INT ? vlm_json_int(node) : INT64_MAX;
    if (layer < -(n + 1) || layer > n)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "vision_feature_layer must be integers between %lld and %lld",
                        (long long)-(n + 1), (long long)n);
    out->feature_layers[out->n_feature_layers++] = (uint32_t)(layer < 0 ? n + 1 + layer : layer);
    return VLM_OK;
}

/* Hidden states count from 0, before the first layer; negative ones from the end. */
static vlm_status parse_features(const vlm_json *config, vlm_config *out, vlm_error *err)
{
    const vlm_json *layers = vlm_json_get(config, "vision_feature_layer");
    vlm_bytes strategy = vlm_bytes_of("default");
    out->n_feature_layers = 0;
    if (layers == NULL) {
        out->n_feature_layers = 1;
        out->feature_layers[0] = out->vision.n_layers - 1; /* -2 */
    } else if (vlm_json_typeof(layers) == VLM_JSON_ARRAY) {
        const size_t n = vlm_json_array_len(layers);
        if (n == 0 || n > VLM_FEATURE_LAYERS_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "vision_feature_layer must list 1 to %d layers",
                            VLM_FEATURE_LAYERS_MAX);
        for (size_t i = 0; i < n; i++) VLM_TRY(add_feature_layer(vlm_json_at(layers, i), out, err));
    } else {
        VLM_TRY(add_feature_layer(layers, out, err));
    }

    VLM_TRY(vlm_json_opt_string(config, "vision_feature_select_strategy", &strategy, err));
    out->feature_full = vlm_bytes_eq_str(strategy, "full");
    if (!out->feature_full && !vlm_bytes_eq_str(strategy, "default"))
        return vlm_fail(
            err, VLM_UNIMPLEMENTED,
            "vision_feature_select_strategy %.*s is not supported; default and full are",
            (int)(strategy.len < 32 ? strategy.len : 32), strategy.ptr);
    const uint32_t side = out->vision.image_size / out->vision.patch_size;
    out->n_image_tokens = side * side + (out->feature_full ? 1 : 0);
    return VLM_OK;
}

static vlm_status add_eos(const vlm_json *node, vlm_config *out, vlm_error *err)
{
    if (vlm_json_typeof(node) != VLM_JSON_INT || !vlm_json_int_fits(node) ||
        vlm_json_int(node) < 0 || vlm_json_int(node) > UINT32_MAX || out->n_eos == VLM_EOS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "eos_token_id must be 1 to %d token ids",
                        VLM_EOS_MAX);
    out->eos_ids[out->n_eos++] = (uint32_t)vlm_json_int(node);
    return VLM_OK;
}

/* A number or a list; true in *found when the object says anything. */
static vlm_status parse_eos(const vlm_json *node, vlm_config *out, bool *found, vlm_error *err)
{
    const vlm_json *eos = vlm_json_get(node, "eos_token_id");
    *found = eos != NULL;
    if (eos == NULL) return VLM_OK;
    if (vlm_json_typeof(eos) != VLM_JSON_ARRAY) return add_eos(eos, out, err);
    for (size_t i = 0; i < vlm_json_array_len(eos); i++)
        VLM_TRY(add_eos(vlm_json_at(eos, i), out, err));
    return VLM_OK;
}

/* generation_config.json decides; else config.json, its text_config, the family's default. */
static vlm_status find_eos(const vlm_json *config, const vlm_json *generation, vlm_config *out,
                           vlm_error *err)
{
    const vlm_json *const places[] = {generation, config, vlm_json_get(config, "text_config")};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        bool found;
        const vlm_status status = parse_eos(places[i], out, &found, err);
        if (status != VLM_OK)
            return vlm_fail_prefix(err, status, "%s",
                                   i == 0 ? "generation_config.json" : "config.json");
        if (found) return VLM_OK;
    }
    if (strcmp(out->text.model_type, "qwen2") != 0) out->eos_ids[out->n_eos++] = 2;
    return VLM_OK;
}

static vlm_status parse_generation(const vlm_json *node, vlm_generation_config *out, vlm_error *err)
{
    *out = (vlm_generation_config){.temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
    out->has_temperature = vlm_json_get(node, "temperature") != NULL;
    out->has_top_p = vlm_json_get(node, "top_p") != NULL;
    out->has_top_k = vlm_json_get(node, "top_k") != NULL;
    out->has_min_p = vlm_json_get(node, "min_p") != NULL;
    out->has_repetition_penalty = vlm_json_get(node, "repetition_penalty") != NULL;
    VLM_TRY(vlm_json_opt_bool(node, "do_sample", &out->do_sample, err));
    VLM_TRY(vlm_json_opt_float(node, "temperature", 0.0, 100.0, &out->temperature, err));
    VLM_TRY(vlm_json_opt_float(node, "top_p", 1e-6, 1.0, &out->top_p, err));
    VLM_TRY(vlm_json_opt_u32(node, "top_k", 0, UINT32_MAX, &out->top_k, err));
    VLM_TRY(vlm_json_opt_float(node, "min_p", 0.0, 1.0, &out->min_p, err));
    return vlm_json_opt_float(node, "repetition_penalty", 0.01, 100.0, &out->repetition_penalty,
                              err);
}

/* The first LLaVA files have this model_type too, with other tensor names and fields. */
static vlm_status check_architecture(const vlm_json *config, vlm_error *err)
{
    const vlm_json *first = vlm_json_at(vlm_json_get(config, "architectures"), 0);
    if (vlm_json_typeof(first) != VLM_JSON_STRING) return VLM_OK;
    const vlm_bytes name = vlm_json_string(first);
    if (vlm_bytes_eq_str(name, "LlavaForConditionalGeneration")) return VLM_OK;
    return vlm_fail(err, VLM_UNIMPLEMENTED,
                    "architectures: %.*s is not supported; LlavaForConditionalGeneration is",
                    (int)(name.len < 64 ? name.len : 64), name.ptr);
}

static vlm_status parse_top(const vlm_json *config, vlm_config *out, vlm_error *err)
{
    if (vlm_json_get(config, "model_type") == NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "model_type is missing");
    VLM_TRY(check_type(config, "llava", err));
    const vlm_json *text = vlm_json_get(config, "text_config");
    const vlm_json *const parts[] = {config, text, vlm_json_get(config, "vision_config")};
    for (size_t i = 0; i < 3; i++) {
        if (vlm_json_get(parts[i], "quantization_config") != NULL)
            return vlm_fail(err, VLM_UNIMPLEMENTED,
                            "quantization_config: files quantised by others are not supported");
        if (parts[i] != NULL && vlm_json_typeof(parts[i]) != VLM_JSON_OBJECT)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s must be an object, not %s",
                            i == 1 ? "text_config" : "vision_config", vlm_json_type_name(parts[i]));
    }
    VLM_TRY(check_architecture(config, err));
    out->model_type = "llava";
    out->image_token_id = 32000;
    out->projector_act = VLM_ACT_GELU;
    out->projector_bias = true;
    VLM_TRY(
        vlm_json_opt_u32(config, "image_token_index", 0, VLM_VOCAB_MAX, &out->image_token_id, err));
    VLM_TRY(
        vlm_json_opt_u32(config, "image_token_id", 0, VLM_VOCAB_MAX, &out->image_token_id, err));
    VLM_TRY(vlm_config_parse_act(config, "projector_hidden_act", &out->projector_act, err));
    VLM_TRY(vlm_json_opt_bool(config, "multimodal_projector_bias", &out->projector_bias, err));
    /* Tied when either place says so (LlavaConfig.__post_init__). */
    bool tied = false;
    VLM_TRY(vlm_json_opt_bool(config, "tie_word_embeddings", &tied, err));
    out->text.tie_word_embeddings = false;
    VLM_TRY(vlm_json_opt_bool(text, "tie_word_embeddings", &out->text.tie_word_embeddings, err));
    out->text.tie_word_embeddings |= tied;
    return VLM_OK;
}

vlm_status vlm_config_parse(const vlm_json *config, const vlm_json *generation_config,
                            vlm_config *out, vlm_error *err)
{
    vlm_status status;
    *out = (vlm_config){0};
    status = parse_top(config, out, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "config.json");
    const bool tied = out->text.tie_word_embeddings;
    status = vlm_config_parse_text(vlm_json_get(config, "text_config"), &out->text, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "config.json: text_config");
    out->text.tie_word_embeddings = tied;
    status = parse_vision(vlm_json_get(config, "vision_config"), &out->vision, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "config.json: vision_config");
    status = parse_features(config, out, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "config.json");
    if (out->image_token_id >= out->text.vocab_size)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "config.json: image_token_index %u is outside the vocabulary of %u",
                        out->image_token_id, out->text.vocab_size);
    VLM_TRY(find_eos(config, generation_config, out, err));
    status = parse_generation(generation_config, &out->generation, err);
    if (status != VLM_OK) return vlm_fail_prefix(err, status, "generation_config.json");
    return VLM_OK;
}
