/* test_config.c - defaults as Transformers has them, both generations of field names, every refusal
 * by name, and no number that gets through unchecked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "model/config.h"

static vlm_status parse_text(const char *json, const char *generation, vlm_config *out,
                             vlm_error *err)
{
    vlm_json_doc *config = NULL, *gen = NULL;
    vlm_error parse_err;
    if (vlm_json_parse(json, strlen(json), &vlm_json_limits_default, &config, &parse_err) != VLM_OK)
        fail_msg("%s: %s", json, parse_err.msg);
    if (generation != NULL)
        assert_int_equal(vlm_json_parse(generation, strlen(generation), &vlm_json_limits_default,
                                        &gen, &parse_err),
                         VLM_OK);
    const vlm_status status =
        vlm_config_parse(vlm_json_root(config), gen == NULL ? NULL : vlm_json_root(gen), out, err);
    vlm_json_free(config);
    vlm_json_free(gen);
    return status;
}

static void read_json(const char *name, vlm_json_doc **doc)
{
    char path[512];
    vlm_buf text;
    vlm_error err;
    (void)snprintf(path, sizeof path, VLM_TEST_DATA "/model/llava-1.5-7b/%s", name);
    assert_int_equal(vlm_file_read(path, name, 1 << 20, &text, &err), VLM_OK);
    assert_int_equal(vlm_json_parse(text.data, text.len, &vlm_json_limits_default, doc, &err),
                     VLM_OK);
    vlm_buf_fini(&text);
}

static uint32_t number(const vlm_json *obj, const char *key)
{
    const vlm_json *node = vlm_json_get(obj, key);
    assert_non_null(node);
    return (uint32_t)vlm_json_int(node);
}

/* The published LLaVA-1.5-7B leaves most fields out; expected.json holds what it means. */
static void test_llava_7b(void **state)
{
    (void)state;
    vlm_json_doc *config, *generation, *expected;
    vlm_config c;
    vlm_error err;
    read_json("config.json", &config);
    read_json("generation_config.json", &generation);
    read_json("expected.json", &expected);
    assert_int_equal(vlm_config_parse(vlm_json_root(config), vlm_json_root(generation), &c, &err),
                     VLM_OK);
    const vlm_json *want = vlm_json_root(expected);
    const vlm_json *text = vlm_json_get(want, "text"), *vision = vlm_json_get(want, "vision");
    assert_int_equal(c.image_token_id, number(want, "image_token_index"));
    assert_int_equal(c.n_image_tokens, number(want, "image_tokens"));
    assert_int_equal(c.n_feature_layers, 1);
    assert_int_equal(c.feature_layers[0], 23);
    assert_false(c.feature_full);
    assert_true(c.projector_bias);
    assert_string_equal(vlm_act_name(c.projector_act), "gelu");
    assert_string_equal(c.text.model_type, "llama");
    assert_int_equal(c.text.vocab_size, number(text, "vocab_size"));
    assert_int_equal(c.text.hidden_size, number(text, "hidden_size"));
    assert_int_equal(c.text.intermediate_size, number(text, "intermediate_size"));
    assert_int_equal(c.text.n_layers, number(text, "num_hidden_layers"));
    assert_int_equal(c.text.n_heads, number(text, "num_attention_heads"));
    assert_int_equal(c.text.n_kv_heads, number(text, "num_key_value_heads"));
    assert_int_equal(c.text.head_dim, number(text, "head_dim"));
    assert_int_equal(c.text.max_positions, number(text, "max_position_embeddings"));
    assert_string_equal(vlm_act_name(c.text.hidden_act), "silu");
    assert_true(fabsf(c.text.rms_norm_eps - 1e-5f) < 1e-12f);
    assert_true(c.text.rope_theta == 10000.0);
    assert_int_equal(c.text.rope_scaling.type, VLM_ROPE_NONE);
    assert_false(c.text.attention_bias_qkv || c.text.attention_bias_o || c.text.mlp_bias);
    assert_false(c.text.tie_word_embeddings);
    assert_int_equal(c.vision.hidden_size, number(vision, "hidden_size"));
    assert_int_equal(c.vision.intermediate_size, number(vision, "intermediate_size"));
    assert_int_equal(c.vision.n_layers, number(vision, "num_hidden_layers"));
    assert_int_equal(c.vision.n_heads, number(vision, "num_attention_heads"));
    assert_int_equal(c.vision.image_size, number(vision, "image_size"));
    assert_int_equal(c.vision.patch_size, number(vision, "patch_size"));
    assert_string_equal(vlm_act_name(c.vision.hidden_act), "quick_gelu");
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos_ids[0], 2);
    vlm_json_free(config);
    vlm_json_free(generation);
    vlm_json_free(expected);
}

/* LlavaConfig's own image token, 32000, is just outside LlamaConfig's vocabulary. */
#define START "{\"model_type\":\"llava\",\"image_token_index\":31999,"
#define TEXT(members) START "\"text_config\":{" members "}}"
#define VISION(members) START "\"vision_config\":{" members "}}"
#define TOP(members) START members "}"

/* What LlavaConfig makes of the same objects. */
static void test_defaults(void **state)
{
    (void)state;
    vlm_config c;
    vlm_error err;
    assert_int_equal(parse_text(TOP("\"text_config\":null"), NULL, &c, &err), VLM_OK);
    assert_int_equal(c.vision.hidden_size, 1024);
    assert_int_equal(c.vision.image_size, 336);
    assert_int_equal(c.text.max_positions, 2048);
    assert_int_equal(c.n_image_tokens, 576);

    /* A vision_config that leaves things out takes CLIP's own defaults, not LLaVA's. */
    assert_int_equal(
        parse_text(VISION("\"hidden_size\":512,\"num_attention_heads\":8"), NULL, &c, &err),
        VLM_OK);
    assert_int_equal(c.vision.image_size, 224);
    assert_int_equal(c.vision.patch_size, 32);
    assert_int_equal(c.vision.n_layers, 12);

    assert_int_equal(parse_text(TEXT("\"model_type\":\"mistral\""), NULL, &c, &err), VLM_OK);
    assert_int_equal(c.text.n_kv_heads, 8);
    assert_int_equal(c.text.intermediate_size, 14336);
    assert_int_equal(c.text.sliding_window, 4096);
    assert_true(c.text.layer_window[0] && c.text.layer_window[31]);
    assert_int_equal(
        parse_text(TEXT("\"model_type\":\"mistral\",\"sliding_window\":null"), NULL, &c, &err),
        VLM_OK);
    assert_int_equal(c.text.sliding_window, 0);
    assert_int_equal(
        parse_text(TEXT("\"model_type\":\"mistral\",\"num_key_value_heads\":null"), NULL, &c, &err),
        VLM_OK);
    assert_int_equal(c.text.n_kv_heads, 32);

    assert_int_equal(parse_text(TEXT("\"model_type\":\"qwen2\""), NULL, &c, &err), VLM_OK);
    assert_int_equal(c.text.vocab_size, 151936);
    assert_int_equal(c.text.sliding_window, 0);
    assert_true(c.text.attention_bias_qkv);
    assert_false(c.text.attention_bias_o);
    assert_int_equal(c.n_eos, 0);
    assert_int_equal(parse_text(TEXT("\"model_type\":\"qwen2\",\"use_sliding_window\":true,"
                                     "\"num_hidden_layers\":4,\"max_window_layers\":2"),
                                NULL, &c, &err),
                     VLM_OK);
    assert_int_equal(c.text.sliding_window, 4096);
    assert_false(c.text.layer_window[1]);
    assert_true(c.text.layer_window[2]);
}

static void test_variations(void **state)
{
    (void)state;
    vlm_config c;
    vlm_error err;
    assert_int_equal(parse_text(TEXT("\"rope_theta\":9.0,\"rope_scaling\":{\"rope_type\":\"yarn\","
                                     "\"factor\":2.0,\"rope_theta\":7.0}"),
                                NULL, &c, &err),
                     VLM_OK);
    assert_true(c.text.rope_theta == 7.0);
    assert_int_equal(c.text.rope_scaling.type, VLM_ROPE_YARN);
    assert_true(c.text.rope_scaling.original_max_positions == 2048.0);
    assert_int_equal(
        parse_text(TEXT("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}"), NULL, &c, &err),
        VLM_OK);
    assert_int_equal(c.text.rope_scaling.type, VLM_ROPE_LINEAR);
    assert_true(c.text.rope_scaling.factor == 4.0);
    assert_int_equal(parse_text(TEXT("\"attention_bias\":true,\"mlp_bias\":true,\"head_dim\":64"),
                                NULL, &c, &err),
                     VLM_OK);
    assert_true(c.text.attention_bias_qkv && c.text.attention_bias_o && c.text.mlp_bias);
    assert_int_equal(c.text.head_dim, 64);

    assert_int_equal(parse_text(TOP("\"vision_feature_layer\":[-1,0,3],"
                                    "\"vision_feature_select_strategy\":\"full\""),
                                NULL, &c, &err),
                     VLM_OK);
    assert_int_equal(c.n_feature_layers, 3);
    assert_int_equal(c.feature_layers[0], 24);
    assert_int_equal(c.feature_layers[1], 0);
    assert_int_equal(c.n_image_tokens, 577);
    assert_int_equal(
        parse_text(TOP("\"image_token_id\":5,\"tie_word_embeddings\":true"), NULL, &c, &err),
        VLM_OK);
    assert_int_equal(c.image_token_id, 5);
    assert_true(c.text.tie_word_embeddings);
    assert_int_equal(parse_text(TEXT("\"tie_word_embeddings\":true"), NULL, &c, &err), VLM_OK);
    assert_true(c.text.tie_word_embeddings);
}

static void test_end_tokens(void **state)
{
    (void)state;
    vlm_config c;
    vlm_error err;
    const char *config = TOP("\"eos_token_id\":[3,4],\"text_config\":{\"eos_token_id\":9}");
    assert_int_equal(parse_text(config, "{\"eos_token_id\":[5,6,7]}", &c, &err), VLM_OK);
    assert_int_equal(c.n_eos, 3);
    assert_int_equal(c.eos_ids[2], 7);
    assert_int_equal(parse_text(config, "{}", &c, &err), VLM_OK);
    assert_int_equal(c.n_eos, 2);
    assert_int_equal(c.eos_ids[0], 3);
    assert_int_equal(parse_text(TEXT("\"eos_token_id\":9"), NULL, &c, &err), VLM_OK);
    assert_int_equal(c.n_eos, 1);
    assert_int_equal(c.eos_ids[0], 9);
}

typedef struct refusal {
    const char *json, *want;
    vlm_status status;
} refusal;

static const refusal refusals[] = {
    {"{}", "model_type is missing", VLM_INVALID_ARGUMENT},
    {"{\"model_type\":\"llama\"}", "llama is not supported", VLM_UNIMPLEMENTED},
    {"{\"model_type\":\"llava_next\"}", "llava_next", VLM_UNIMPLEMENTED},
    {"{\"model_type\":7}", "model_type must be a string", VLM_INVALID_ARGUMENT},
    {TEXT("\"model_type\":\"gemma\""), "text_config: model_type gemma", VLM_UNIMPLEMENTED},
    {VISION("\"model_type\":\"siglip_vision_model\""), "siglip", VLM_UNIMPLEMENTED},
    {"{\"model_type\":\"llava\",\"text_config\":[]}", "text_config", VLM_INVALID_ARGUMENT},
    {"{\"model_type\":\"llava\",\"vision_config\":\"x\"}", "vision_config", VLM_INVALID_ARGUMENT},
    {TOP("\"quantization_config\":{}"), "quantization_config", VLM_UNIMPLEMENTED},
    {TEXT("\"quantization_config\":{\"bits\":4}"), "quantization_config", VLM_UNIMPLEMENTED},
    {TEXT("\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), "dynamic", VLM_UNIMPLEMENTED},
    {TEXT("\"rope_scaling\":{\"type\":\"longrope\"}"), "longrope", VLM_UNIMPLEMENTED},
    {TEXT("\"rope_scaling\":{\"type\":\"linear\"}"), "factor", VLM_INVALID_ARGUMENT},
    {TEXT("\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}"), "low_freq_factor",
     VLM_INVALID_ARGUMENT},
    {TEXT("\"rope_parameters\":[1]"), "rope_parameters", VLM_INVALID_ARGUMENT},
    {TEXT("\"rope_scaling\":\"linear\""), "rope_scaling must be an object", VLM_INVALID_ARGUMENT},
    {TEXT("\"model_type\":\"qwen2\",\"rope_parameters\":{\"full_attention\":{\"rope_theta\":5}}"),
     "rope_parameters.full_attention", VLM_UNIMPLEMENTED},
    {TOP("\"architectures\":[\"LlavaLlamaForCausalLM\"]"), "LlavaLlamaForCausalLM",
     VLM_UNIMPLEMENTED},
    {TEXT("\"partial_rotary_factor\":0.5"), "partial_rotary_factor", VLM_UNIMPLEMENTED},
    {TEXT("\"hidden_act\":\"swigluoai\""), "hidden_act swigluoai", VLM_UNIMPLEMENTED},
    {TEXT("\"num_attention_heads\":3"), "num_attention_heads", VLM_INVALID_ARGUMENT},
    {TEXT("\"num_key_value_heads\":5"), "num_key_value_heads", VLM_INVALID_ARGUMENT},
    {TEXT("\"head_dim\":63"), "head_dim", VLM_INVALID_ARGUMENT},
    {TEXT("\"num_hidden_layers\":257"), "num_hidden_layers", VLM_INVALID_ARGUMENT},
    {TEXT("\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"layer_types\":[1]"),
     "layer_types", VLM_INVALID_ARGUMENT},
    {"{\"model_type\":\"llava\"}", "image_token_index 32000", VLM_INVALID_ARGUMENT},
    {TEXT("\"vocab_size\":100"), "image_token_index", VLM_INVALID_ARGUMENT},
    {VISION("\"num_channels\":1"), "num_channels", VLM_UNIMPLEMENTED},
    {VISION("\"patch_size\":500"), "patch_size", VLM_INVALID_ARGUMENT},
    {VISION("\"hidden_size\":100"), "hidden_size", VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_layer\":25"), "vision_feature_layer", VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_layer\":-26"), "vision_feature_layer", VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_layer\":[]"), "vision_feature_layer", VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_layer\":[1,2,3,4,5,6,7,8,9]"), "vision_feature_layer",
     VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_layer\":1.5"), "vision_feature_layer", VLM_INVALID_ARGUMENT},
    {TOP("\"vision_feature_select_strategy\":\"cls\""), "cls", VLM_UNIMPLEMENTED},
    {TOP("\"eos_token_id\":\"2\""), "eos_token_id", VLM_INVALID_ARGUMENT},
    {TOP("\"eos_token_id\":-1"), "eos_token_id", VLM_INVALID_ARGUMENT},
    {TOP("\"tie_word_embeddings\":1"), "tie_word_embeddings", VLM_INVALID_ARGUMENT},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        vlm_config c;
        vlm_error err = {0};
        const vlm_status status = parse_text(refusals[i].json, NULL, &c, &err);
        if (status != refusals[i].status || strstr(err.msg, refusals[i].want) == NULL)
            print_error("%s: status %d, \"%s\"\n", refusals[i].json, (int)status, err.msg);
        assert_int_equal(status, refusals[i].status);
        assert_non_null(strstr(err.msg, refusals[i].want));
        assert_non_null(strstr(err.msg, "config.json"));
    }
}

/* Every numeric field times every kind of bad number: a value within its bounds, or an error that
 * names the field. */
static void test_number_abuse(void **state)
{
    (void)state;
    static const char *const text_fields[] = {"vocab_size",
                                              "hidden_size",
                                              "intermediate_size",
                                              "num_hidden_layers",
                                              "num_attention_heads",
                                              "num_key_value_heads",
                                              "head_dim",
                                              "max_position_embeddings",
                                              "rms_norm_eps",
                                              "rope_theta",
                                              "sliding_window",
                                              "max_window_layers"};
    static const char *const vision_fields[] = {
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "image_size",  "patch_size",        "num_channels",      "layer_norm_eps"};
    static const char *const values[] = {"-1",
                                         "0",
                                         "1",
                                         "2147483647",
                                         "2147483648",
                                         "4294967296",
                                         "9007199254740993",
                                         "9223372036854775807",
                                         "18446744073709551616",
                                         "-9223372036854775808",
                                         "1e308",
                                         "-0.0",
                                         "1e-320",
                                         "\"7\"",
                                         "null",
                                         "true",
                                         "[1]",
                                         "{}"};
    char json[256];
    for (size_t f = 0; f < 20; f++)
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            const bool text = f < 12;
            const char *field = text ? text_fields[f] : vision_fields[f - 12];
            (void)snprintf(json, sizeof json, text ? TEXT("\"%s\":%s") : VISION("\"%s\":%s"), field,
                           values[v]);
            vlm_config c;
            vlm_error err = {0};
            if (parse_text(json, NULL, &c, &err) != VLM_OK) {
                if (strstr(err.msg, "config.json") == NULL) fail_msg("%s: %s", json, err.msg);
                continue;
            }
            assert_in_range(c.text.n_layers, 1, VLM_LAYERS_MAX);
            assert_in_range(c.text.hidden_size, 1, VLM_HIDDEN_MAX);
            assert_in_range(c.text.head_dim, 2, VLM_HEAD_DIM_MAX);
            assert_in_range(c.text.max_positions, 1, VLM_POSITIONS_MAX);
            assert_in_range(c.vision.image_size, 1, VLM_IMAGE_SIZE_MAX);
            assert_int_equal(c.text.n_heads % c.text.n_kv_heads, 0);
            assert_true(isfinite(c.text.rms_norm_eps) && isfinite(c.vision.layer_norm_eps));
            assert_true(isfinite(c.text.rope_theta));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llava_7b),   cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_variations), cmocka_unit_test(test_end_tokens),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_number_abuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
