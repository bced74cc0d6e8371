/* config.h - config.json and generation_config.json of a vision-language model, with the family's
 * defaults for what they leave out, as plain data.
 * Source of the defaults: Transformers' LlavaConfig, CLIPVisionConfig, LlamaConfig, MistralConfig,
 * Qwen2Config.  Both generations of field names are read.
 * What is not supported is refused here by name, never computed wrongly.  Every number is bounded
 * so that later products of two of them cannot overflow 64 bits. Not: whether the weights fit
 * (weights.h).  Threads: pure. */
#ifndef VLM_MODEL_CONFIG_H
#define VLM_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"
#include "base/status.h"
#include "tensor/backend.h"

enum {
    VLM_LAYERS_MAX = 256,
    VLM_HIDDEN_MAX = 65536,
    VLM_MLP_MAX = 1 << 20,
    VLM_VOCAB_MAX = 1 << 22,
    VLM_POSITIONS_MAX = 1 << 24,
    VLM_HEADS_MAX = 1024,
    VLM_HEAD_DIM_MAX = 1024,
    VLM_IMAGE_SIZE_MAX = 4096,
    VLM_FEATURE_LAYERS_MAX = 8,
    VLM_EOS_MAX = 16,
};

/* X(enum, rope_type) */
#define VLM_ROPE_LIST(X)                                                                           \
    X(NONE, "default")                                                                             \
    X(LINEAR, "linear")                                                                            \
    X(LLAMA3, "llama3")                                                                            \
    X(YARN, "yarn")

typedef enum vlm_rope_type {
#define VLM_ROPE_ENUM(name, text) VLM_ROPE_##name,
    VLM_ROPE_LIST(VLM_ROPE_ENUM)
#undef VLM_ROPE_ENUM
} vlm_rope_type;

const char *vlm_rope_type_name(vlm_rope_type type);

typedef struct vlm_rope_scaling {
    vlm_rope_type type;
    double factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double original_max_positions;            /* llama3, yarn */
    double beta_fast, beta_slow;              /* yarn */
    double attention_factor;                  /* yarn; 0: from factor */
    double mscale, mscale_all_dim;            /* yarn; 0: not given */
    bool truncate;                            /* yarn */
} vlm_rope_scaling;

typedef struct vlm_text_config {
    const char *model_type; /* "llama", "mistral", "qwen2"; a constant */
    uint32_t vocab_size, hidden_size, intermediate_size;
    uint32_t n_layers, n_heads, n_kv_heads, head_dim;
    uint32_t max_positions;
    float rms_norm_eps;
    vlm_act hidden_act;
    bool attention_bias_qkv, attention_bias_o, mlp_bias;
    bool tie_word_embeddings;
    double rope_theta;
    vlm_rope_scaling rope_scaling;
    uint32_t sliding_window;           /* tokens; 0: none */
    bool layer_window[VLM_LAYERS_MAX]; /* layers that it applies to */
} vlm_text_config;

typedef struct vlm_vision_config {
    uint32_t hidden_size, intermediate_size, n_layers, n_heads;
    uint32_t image_size, patch_size, n_channels; /* pixels, pixels, 3 */
    float layer_norm_eps;
    vlm_act hidden_act;
} vlm_vision_config;

/* What generation_config.json recommends. */
typedef struct vlm_generation_config {
    bool do_sample;
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_repetition_penalty;
    float temperature, top_p, min_p, repetition_penalty;
    uint32_t top_k;
} vlm_generation_config;

typedef struct vlm_config {
    const char *model_type; /* "llava"; a constant */
    vlm_text_config text;
    vlm_vision_config vision;
    uint32_t image_token_id;
    /* Hidden states of the tower that are used, side by side: 0 is before the first layer. */
    uint32_t feature_layers[VLM_FEATURE_LAYERS_MAX];
    uint32_t n_feature_layers;
    bool feature_full; /* strategy "full": the class token is kept; "default": dropped */
    vlm_act projector_act;
    bool projector_bias;
    uint32_t n_image_tokens; /* of one image */
    uint32_t eos_ids[VLM_EOS_MAX];
    uint32_t n_eos;
    vlm_generation_config generation;
} vlm_config;

/* generation_config may be NULL.  INVALID_ARGUMENT names the file and field that is wrong,
 * UNIMPLEMENTED what is not supported. */
VLM_MUST_USE vlm_status vlm_config_parse(const vlm_json *config, const vlm_json *generation_config,
                                         vlm_config *out, vlm_error *err);

#endif
