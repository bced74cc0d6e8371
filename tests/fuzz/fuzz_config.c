/* fuzz_config.c - hostile config.json and generation_config.json, a NUL byte between them.  What is
 * accepted must keep every promise that later arithmetic and loops rely on. */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "fuzz/fuzz.h"
#include "model/config.h"

static void check_decoder(const vlm_text_config *t)
{
    FUZZ_CHECK(t->vocab_size >= 1 && t->vocab_size <= VLM_VOCAB_MAX);
    FUZZ_CHECK(t->hidden_size >= 1 && t->hidden_size <= VLM_HIDDEN_MAX);
    FUZZ_CHECK(t->intermediate_size >= 1 && t->intermediate_size <= VLM_MLP_MAX);
    FUZZ_CHECK(t->n_layers >= 1 && t->n_layers <= VLM_LAYERS_MAX);
    FUZZ_CHECK(t->n_heads >= 1 && t->n_heads <= VLM_HEADS_MAX);
    FUZZ_CHECK(t->n_kv_heads >= 1 && t->n_heads % t->n_kv_heads == 0);
    FUZZ_CHECK(t->head_dim >= 2 && t->head_dim % 2 == 0 && t->head_dim <= VLM_HEAD_DIM_MAX);
    FUZZ_CHECK(t->max_positions >= 1 && t->max_positions <= VLM_POSITIONS_MAX);
    FUZZ_CHECK(isfinite(t->rms_norm_eps) && t->rms_norm_eps >= 0);
    FUZZ_CHECK((unsigned)t->hidden_act < VLM_N_ACTS);
    FUZZ_CHECK(isfinite(t->rope_theta) && t->rope_theta > 1.0);
    FUZZ_CHECK(isfinite(t->rope_scaling.factor) && t->rope_scaling.factor >= 1.0);
    FUZZ_CHECK(vlm_rope_type_name(t->rope_scaling.type) != NULL);
    for (uint32_t i = 0; i < t->n_layers; i++)
        FUZZ_CHECK(!t->layer_window[i] || t->sliding_window >= 1);
}

static void check_config(const vlm_config *c)
{
    const vlm_vision_config *v = &c->vision;
    check_decoder(&c->text);
    FUZZ_CHECK(v->hidden_size >= 1 && v->hidden_size <= VLM_HIDDEN_MAX);
    FUZZ_CHECK(v->intermediate_size >= 1 && v->intermediate_size <= VLM_MLP_MAX);
    FUZZ_CHECK(v->n_layers >= 1 && v->n_layers <= VLM_LAYERS_MAX);
    FUZZ_CHECK(v->n_heads >= 1 && v->hidden_size % v->n_heads == 0);
    FUZZ_CHECK(v->patch_size >= 1 && v->patch_size <= v->image_size);
    FUZZ_CHECK(v->image_size <= VLM_IMAGE_SIZE_MAX && v->n_channels == 3);
    FUZZ_CHECK(c->n_feature_layers >= 1 && c->n_feature_layers <= VLM_FEATURE_LAYERS_MAX);
    for (uint32_t i = 0; i < c->n_feature_layers; i++)
        FUZZ_CHECK(c->feature_layers[i] <= v->n_layers);
    const uint32_t side = v->image_size / v->patch_size;
    FUZZ_CHECK(c->n_image_tokens == side * side + (c->feature_full ? 1 : 0));
    FUZZ_CHECK(c->image_token_id < c->text.vocab_size);
    FUZZ_CHECK(c->n_eos <= VLM_EOS_MAX);
    FUZZ_CHECK(isfinite(c->generation.temperature) && isfinite(c->generation.top_p));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    const char *nul = len == 0 ? NULL : memchr(text, '\0', len);
    const size_t config_len = nul == NULL ? len : (size_t)(nul - text);
    vlm_json_doc *config = NULL, *generation = NULL;
    vlm_error err;
    if (vlm_json_parse(text, config_len, &vlm_json_limits_default, &config, &err) != VLM_OK)
        return 0;
    const bool has_generation =
        nul != NULL && vlm_json_parse(nul + 1, len - config_len - 1, &vlm_json_limits_default,
                                      &generation, &err) == VLM_OK;
    vlm_config c;
    const vlm_status status = vlm_config_parse(
        vlm_json_root(config), has_generation ? vlm_json_root(generation) : NULL, &c, &err);
    if (status == VLM_OK)
        check_config(&c);
    else
        FUZZ_CHECK(err.code == status && strstr(err.msg, "config.json") != NULL);
    vlm_json_free(config);
    vlm_json_free(generation);
    return 0;
}
