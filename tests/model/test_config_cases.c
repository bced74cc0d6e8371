/* test_config_cases.c - partial configurations against what Transformers makes of them: sizes,
 * defaults, biases that exist, windows of layers, rotary frequencies.  The cases are written by
 * make_config_cases.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "model/config.h"
#include "model/rope.h"

static const char *case_name; /* of the case at hand, for messages */

static void expect_u32(const char *what, uint32_t got, const vlm_json *want)
{
    if (vlm_json_typeof(want) != VLM_JSON_INT || vlm_json_int(want) != (int64_t)got)
        fail_msg("%s: %s is %u, Transformers has %lld", case_name, what, got,
                 want == NULL ? -1LL : (long long)vlm_json_int(want));
}

static void expect_list(const char *what, const uint32_t *got, size_t n, const vlm_json *want)
{
    if (vlm_json_array_len(want) != n)
        fail_msg("%s: %s has %zu entries, Transformers has %zu", case_name, what, n,
                 vlm_json_array_len(want));
    for (size_t i = 0; i < n; i++) expect_u32(what, got[i], vlm_json_at(want, i));
}

static void expect_bool(const char *what, bool got, const vlm_json *want)
{
    if (vlm_json_typeof(want) != VLM_JSON_BOOL || vlm_json_bool(want) != got)
        fail_msg("%s: %s is %d", case_name, what, got);
}

static void expect_float(const char *what, float got, const vlm_json *want)
{
    if (got != (float)vlm_json_double(want))
        fail_msg("%s: %s is %g, Transformers has %g", case_name, what, (double)got,
                 vlm_json_double(want));
}

static void expect_text(const char *what, const char *got, const vlm_json *want)
{
    if (!vlm_bytes_eq_str(vlm_json_string(want), got))
        fail_msg("%s: %s is %s, Transformers has %s", case_name, what, got,
                 vlm_json_string(want).ptr);
}

static void expect_act(const char *what, vlm_act got, const vlm_json *want)
{
    expect_text(what, vlm_act_name(got), want);
}

/* The angles of position 1 are the frequencies, the length of (cos, sin) is the scaling. */
static void expect_rope(const vlm_text_config *t, const vlm_json *expect)
{
    const vlm_json *inv_freq = vlm_json_get(expect, "inv_freq");
    const double scaling = vlm_json_double(vlm_json_get(expect, "rope_scaling"));
    float *table;
    vlm_error err;
    assert_int_equal(vlm_rope_table(t, 2, &table, &err), VLM_OK);
    assert_int_equal(vlm_json_array_len(inv_freq), t->head_dim / 2);
    for (uint32_t i = 0; i < t->head_dim / 2; i++) {
        const float *pair = table + ((size_t)t->head_dim / 2 + i) * 2;
        const double want = vlm_json_double(vlm_json_at(inv_freq, i));
        const double cos_want = cos(want) * scaling, sin_want = sin(want) * scaling;
        /* A few units in the last place of float32: both sides round their steps. */
        if (fabs((double)pair[0] - cos_want) > 1e-6 * scaling ||
            fabs((double)pair[1] - sin_want) > 1e-6 * scaling * fmin(1.0, want) + 1e-12)
            fail_msg("%s: rope frequency %u: (%.9g, %.9g), Transformers has (%.9g, %.9g)",
                     case_name, i, (double)pair[0], (double)pair[1], cos_want, sin_want);
    }
    free(table);
}

static void expect_decoder(const vlm_text_config *t, const vlm_json *expect)
{
    const uint32_t sizes[] = {t->vocab_size, t->hidden_size,  t->intermediate_size,
                              t->n_layers,   t->n_heads,      t->n_kv_heads,
                              t->head_dim,   t->max_positions};
    const vlm_json *biases = vlm_json_get(expect, "biases");
    uint32_t windows[VLM_LAYERS_MAX];
    for (uint32_t i = 0; i < t->n_layers; i++)
        windows[i] = t->layer_window[i] ? t->sliding_window : 0;
    expect_text("model_type", t->model_type, vlm_json_get(expect, "model_type"));
    expect_list("text size", sizes, sizeof sizes / sizeof sizes[0], vlm_json_get(expect, "text"));
    expect_float("rms_norm_eps", t->rms_norm_eps, vlm_json_get(expect, "rms_norm_eps"));
    expect_act("hidden_act", t->hidden_act, vlm_json_get(expect, "hidden_act"));
    expect_bool("bias of q, k, v", t->attention_bias_qkv, vlm_json_at(biases, 0));
    expect_bool("bias of o", t->attention_bias_o, vlm_json_at(biases, 1));
    expect_bool("bias of the MLP", t->mlp_bias, vlm_json_at(biases, 2));
    expect_bool("tie_word_embeddings", t->tie_word_embeddings, vlm_json_get(expect, "tied"));
    expect_text("rope type", vlm_rope_type_name(t->rope_scaling.type),
                vlm_json_get(expect, "rope_type"));
    expect_list("window", windows, t->n_layers, vlm_json_get(expect, "windows"));
    expect_rope(t, expect);
}

static void expect_rest(const vlm_config *c, const vlm_json *expect)
{
    const vlm_vision_config *v = &c->vision;
    const uint32_t sizes[] = {v->hidden_size, v->intermediate_size, v->n_layers,  v->n_heads,
                              v->image_size,  v->patch_size,        v->n_channels};
    expect_list("vision size", sizes, sizeof sizes / sizeof sizes[0],
                vlm_json_get(expect, "vision"));
    expect_act("vision hidden_act", v->hidden_act, vlm_json_get(expect, "vision_act"));
    expect_float("layer_norm_eps", v->layer_norm_eps, vlm_json_get(expect, "layer_norm_eps"));
    expect_u32("image token", c->image_token_id, vlm_json_get(expect, "image_token"));
    expect_list("feature layer", c->feature_layers, c->n_feature_layers,
                vlm_json_get(expect, "features"));
    expect_bool("strategy full", c->feature_full, vlm_json_get(expect, "full"));
    expect_act("projector_hidden_act", c->projector_act, vlm_json_get(expect, "projector_act"));
    expect_bool("projector bias", c->projector_bias, vlm_json_get(expect, "projector_bias"));
    expect_u32("image tokens", c->n_image_tokens, vlm_json_get(expect, "image_tokens"));
    const vlm_json *eos = vlm_json_get(expect, "eos");
    if (eos != NULL) expect_list("eos", c->eos_ids, c->n_eos, eos);
}

static void test_cases(void **state)
{
    (void)state;
    vlm_buf text;
    vlm_error err;
    vlm_json_doc *doc;
    assert_int_equal(vlm_file_read(VLM_TEST_DATA "/model/config_cases.json", "config_cases.json",
                                   1 << 22, &text, &err),
                     VLM_OK);
    assert_int_equal(vlm_json_parse(text.data, text.len, &vlm_json_limits_default, &doc, &err),
                     VLM_OK);
    vlm_buf_fini(&text);
    const vlm_json *cases = vlm_json_root(doc);
    assert_true(vlm_json_array_len(cases) >= 50);
    for (size_t i = 0; i < vlm_json_array_len(cases); i++) {
        const vlm_json *one = vlm_json_at(cases, i), *expect = vlm_json_get(one, "expect");
        vlm_config c;
        case_name = vlm_json_string(vlm_json_get(one, "name")).ptr;
        if (vlm_config_parse(vlm_json_get(one, "config"), vlm_json_get(one, "generation"), &c,
                             &err) != VLM_OK)
            fail_msg("%s: refused: %s", case_name, err.msg);
        expect_decoder(&c.text, expect);
        expect_rest(&c, expect);
    }
    vlm_json_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
