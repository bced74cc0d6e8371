/* test_tied_head.c - which matrix makes the logits: the head of the files where there is one, also
 * when config.json says that it is tied; the embeddings where there is none and it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "../model/one_sequence.h"
#include "model/model.h"

#define FOLDER VLM_SOURCE_DIR "/tests/golden/llava-odd"

enum { N_IDS = 3, TEXT_LEN_MAX = 4096 };
static const uint32_t ids[N_IDS] = {1, 700, 42};

/* The golden model with another config.json, and its head under another name when head is false. */
static vlm_status logits_of(const char *tie, bool head, float **logits, uint32_t *n, vlm_error *err)
{
    vlm_folder *disk = NULL, *folder = NULL;
    vlm_bytes config, weights;
    char text[TEXT_LEN_MAX];
    assert_int_equal(vlm_folder_open(FOLDER, &disk, err), VLM_OK);
    assert_int_equal(vlm_folder_bytes(disk, "config.json", &config, err), VLM_OK);
    assert_int_equal(vlm_folder_bytes(disk, "model.safetensors", &weights, err), VLM_OK);
    assert_true(config.len + 64 < sizeof text && config.ptr[0] == '{');
    (void)snprintf(text, sizeof text, "{\"tie_word_embeddings\":%s,%.*s", tie,
                   (int)(config.len - 1), config.ptr + 1);
    char *copy = malloc(weights.len);
    assert_non_null(copy);
    memcpy(copy, weights.ptr, weights.len);
    if (!head) {
        char *name = memmem(copy, weights.len, "\"lm_head.weight\"", 16);
        assert_non_null(name);
        memcpy(name, "\"xx_head.weight\"", 16);
    }
    const vlm_builtin_file files[] = {{"config.json", text, strlen(text)},
                                      {"model.safetensors", copy, weights.len}};
    assert_int_equal(vlm_folder_open_builtin(files, 2, &folder, err), VLM_OK);

    vlm_backend *backend;
    vlm_model *model = NULL;
    const vlm_model_options options = {.n_ctx = 16};
    assert_int_equal(vlm_backend_cpu_open(1, VLM_CPU_REFERENCE, &backend, err), VLM_OK);
    const vlm_status status = vlm_model_open(folder, backend, &options, &model, err);
    if (status == VLM_OK) {
        const vlm_text_config *t = &vlm_model_config(model)->text;
        one_sequence cache;
        float *x = calloc((size_t)N_IDS * t->hidden_size, sizeof *x);
        *n = t->vocab_size;
        *logits = calloc(*n, sizeof **logits);
        assert_true(x != NULL && *logits != NULL);
        assert_int_equal(one_sequence_open(&cache, model, err), VLM_OK);
        vlm_model_embed_text(model, x, ids, N_IDS);
        one_sequence_forward(&cache, x, N_IDS, 0);
        vlm_model_logits(model, *logits, x + (size_t)(N_IDS - 1) * t->hidden_size, 1);
        one_sequence_close(&cache);
        free(x);
    }
    vlm_model_close(model);
    backend->ops->close(backend);
    vlm_folder_close(folder);
    vlm_folder_close(disk);
    free(copy);
    return status;
}

static void test_which_head(void **state)
{
    (void)state;
    float *untied, *tied, *embeddings;
    uint32_t n;
    vlm_error err = {0};
    assert_int_equal(logits_of("false", true, &untied, &n, &err), VLM_OK);
    assert_int_equal(logits_of("true", true, &tied, &n, &err), VLM_OK);
    assert_int_equal(logits_of("true", false, &embeddings, &n, &err), VLM_OK);
    assert_memory_equal(tied, untied, n * sizeof *tied);
    assert_memory_not_equal(embeddings, untied, n * sizeof *tied);
    free(untied);
    free(tied);
    free(embeddings);
}

static void test_no_head(void **state)
{
    (void)state;
    float *logits;
    uint32_t n;
    vlm_error err = {0};
    assert_int_equal(logits_of("false", false, &logits, &n, &err), VLM_NOT_FOUND);
    assert_non_null(strstr(err.msg, "lm_head.weight is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_which_head),
                                       cmocka_unit_test(test_no_head)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
