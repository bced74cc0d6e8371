/* test_logprobs.c - log probabilities: of plain logits, infinities and NaN; of an engine's tokens,
 * which must be those of the logits before any sampling parameter and agree with Transformers. */
#include "engine/engine_case.h"

#include <math.h>

#include "../model/one_sequence.h"
#include "base/file.h"
#include "base/json.h"
#include "engine/logprobs.h"
#include "model/model.h"
#include "model/safetensors.h"

static void test_of_logits(void **state)
{
    (void)state;
    const float inf = INFINITY;
    const struct {
        float logits[4], want[4];
        uint32_t top[4];
    } cases[] = {
        {{0, 0, 0, 0}, {-1.3862944f, -1.3862944f, -1.3862944f, -1.3862944f}, {0, 1, 2, 3}},
        {{1, 2, 3, 2}, {-2.6265234f, -1.6265234f, -0.6265234f, -1.6265234f}, {2, 1, 3, 0}},
        {{1000, 0, -1000, 1000},
         {-0.6931472f, -1000.6931f, -2000.6931f, -0.6931472f},
         {0, 3, 1, 2}},
        {{-inf, 5, NAN, -inf}, {-inf, 0, -inf, -inf}, {1, 0, 2, 3}},
        {{inf, 5, NAN, inf}, {-0.6931472f, -inf, -inf, -0.6931472f}, {0, 3, 1, 2}},
        {{-inf, -inf, NAN, -inf}, {-inf, -inf, -inf, -inf}, {0, 1, 2, 3}},
        {{-3e38f, 3e38f, 0, 1}, {-inf, 0, -3e38f, -3e38f}, {1, 3, 2, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const vlm_log_softmax s = vlm_log_softmax_of(cases[i].logits, 4);
        for (size_t k = 0; k < 4; k++) {
            const float got = vlm_logprob(s, cases[i].logits[k]), want = cases[i].want[k];
            if (!(got == want || fabsf(got - want) <= 1e-6f * fabsf(want)))
                fail_msg("case %zu, %zu: %g, want %g", i, k, (double)got, (double)want);
        }
        for (uint32_t n_top = 0; n_top <= 5; n_top++) {
            uint32_t ids[5] = {9, 9, 9, 9, 9};
            const uint32_t n = vlm_logprobs_top(cases[i].logits, 4, n_top, ids);
            assert_int_equal(n, n_top < 4 ? n_top : 4);
            assert_memory_equal(ids, cases[i].top, n * sizeof ids[0]);
            assert_int_equal(ids[n < 4 ? n : 4], 9);
        }
    }
}

/* Against the definition, in double, over many logits. */
static void test_of_many(void **state)
{
    (void)state;
    enum { N = 32003 };
    static float logits[N];
    double max = -1e9, sum = 0.0;
    for (uint32_t i = 0; i < N; i++) {
        logits[i] = (float)((i * 2654435761u >> 8) % 4001) / 100.0f - 20.0f;
        if ((double)logits[i] > max) max = (double)logits[i];
    }
    for (uint32_t i = 0; i < N; i++) sum += exp((double)logits[i] - max);
    const vlm_log_softmax s = vlm_log_softmax_of(logits, N);
    for (uint32_t i = 0; i < N; i++)
        assert_true(fabs((double)vlm_logprob(s, logits[i]) - ((double)logits[i] - max - log(sum))) <
                    4e-6);
    uint32_t ids[20];
    assert_int_equal(vlm_logprobs_top(logits, N, 20, ids), 20);
    for (uint32_t k = 0; k < 20; k++) {
        /* As many are before it as its rank says. */
        uint32_t n_before = 0;
        for (uint32_t i = 0; i < N; i++)
            n_before += logits[i] > logits[ids[k]] || (logits[i] == logits[ids[k]] && i < ids[k]);
        assert_int_equal(n_before, k);
    }
}

/* What the model says about a sequence of tokens: logits [n, n_vocab]. */
static float *model_logits(const uint32_t *ids, uint32_t n, uint32_t *n_vocab)
{
    vlm_error err;
    vlm_backend *b;
    vlm_model *m;
    one_sequence cache;
    const vlm_model_options options = {.n_ctx = 512};
    assert_int_equal(vlm_backend_cpu_open(1, vlm_cpu_level_best(), &b, &err), VLM_OK);
    assert_int_equal(vlm_model_open(folder, b, &options, &m, &err), VLM_OK);
    assert_int_equal(one_sequence_open(&cache, m, &err), VLM_OK);
    *n_vocab = vlm_model_config(m)->text.vocab_size;
    float *x = calloc((size_t)n * vlm_model_config(m)->text.hidden_size, sizeof *x);
    float *logits = calloc((size_t)n * *n_vocab, sizeof *logits);
    assert_true(x != NULL && logits != NULL);
    vlm_model_embed_text(m, x, ids, n);
    one_sequence_forward(&cache, x, n, 0);
    vlm_model_logits(m, logits, x, n);
    free(x);
    one_sequence_close(&cache);
    vlm_model_close(m);
    b->ops->close(b);
    return logits;
}

enum { N_TOKENS = 12, N_TOP = 5 };

typedef struct seen {
    uint32_t id;
    float logprob;
    uint32_t n_top, top_id[VLM_REQUEST_TOP_LOGPROBS_MAX];
    float top[VLM_REQUEST_TOP_LOGPROBS_MAX];
} seen;

static void check_bytes(vlm_engine *e, uint32_t id, vlm_bytes bytes)
{
    /* A token between two others decodes to its own bytes, unless they are half a character. */
    const uint32_t ids[] = {300, id, 300};
    vlm_buf all, around;
    vlm_error err;
    vlm_buf_init(&all, 4096);
    vlm_buf_init(&around, 4096);
    assert_int_equal(e->ops->detokenize(e, ids, 3, true, &all, &err), VLM_OK);
    assert_int_equal(e->ops->detokenize(e, ids, 1, true, &around, &err), VLM_OK);
    if (strstr(all.data, "\xEF\xBF\xBD") == NULL) {
        assert_true(all.len >= around.len + bytes.len);
        assert_memory_equal(all.data + around.len, bytes.ptr, bytes.len);
    } else {
        assert_true(bytes.len > 0);
    }
    vlm_buf_fini(&all);
    vlm_buf_fini(&around);
}

static uint32_t ask_seen(vlm_engine *e, const vlm_request *request, seen *out, uint32_t n_max)
{
    uint64_t id;
    vlm_error err;
    vlm_event event;
    uint32_t n = 0;
    answers a;
    answers_init(&a);
    if (vlm_engine_submit(e, request, &id, &err) != VLM_OK) fail_msg("%s", err.msg);
    while (!a.over && e->ops->step(e))
        while (e->ops->next_event(e, &event)) {
            take_event(&a, &event);
            if (event.type != VLM_EVENT_TEXT || !event.has_token) continue;
            assert_true(n < n_max && event.logprob != NULL);
            const vlm_token_logprob *p = event.logprob;
            out[n] = (seen){.id = event.token_id, .logprob = p->logprob, .n_top = p->n_top};
            check_bytes(e, event.token_id, p->bytes);
            for (uint32_t i = 0; i < p->n_top; i++) {
                out[n].top_id[i] = p->top[i].id;
                out[n].top[i] = p->top[i].logprob;
                check_bytes(e, p->top[i].id, p->top[i].bytes);
            }
            n++;
        }
    assert_false(a.failed);
    forget(&a);
    return n;
}

/* To the bit those of the raw logits, whatever the sampling does to them. */
static void test_raw_logits(void **state)
{
    (void)state;
    const vlm_logit_bias bias[] = {{.id = 400, .bias = 8.0f}, {.id = 401, .bias = -100.0f}};
    const vlm_bytes prompt = vlm_bytes_of("Hello world, say more");
    vlm_request request = {.raw_prompt = &prompt,
                           .max_tokens = N_TOKENS,
                           .ignore_eos = true,
                           .logprobs = true,
                           .n_top_logprobs = N_TOP,
                           .sampling = vlm_sampling_default};
    request.sampling.temperature = 1.7f;
    request.sampling.top_k = 40;
    request.sampling.repetition_penalty = 1.3f;
    request.sampling.presence_penalty = 0.5f;
    request.sampling.logit_bias = bias;
    request.sampling.n_logit_bias = 2;
    request.sampling.seed = 5;
    vlm_engine *e = open_engine(2, vlm_cpu_level_best());
    seen got[N_TOKENS];
    vlm_error err;
    uint32_t ids[256], *prompt_ids, n_vocab;
    size_t n_prompt;
    assert_int_equal(ask_seen(e, &request, got, N_TOKENS), N_TOKENS);
    assert_int_equal(e->ops->tokenize(e, prompt, true, false, &prompt_ids, &n_prompt, &err),
                     VLM_OK);
    assert_true(n_prompt + N_TOKENS < 256);
    memcpy(ids, prompt_ids, n_prompt * sizeof *ids);
    free(prompt_ids);
    for (size_t i = 0; i < N_TOKENS; i++) ids[n_prompt + i] = got[i].id;
    float *logits = model_logits(ids, (uint32_t)n_prompt + N_TOKENS, &n_vocab);
    for (size_t i = 0; i < N_TOKENS; i++) {
        const float *row = logits + (n_prompt + i - 1) * n_vocab;
        const vlm_log_softmax s = vlm_log_softmax_of(row, n_vocab);
        uint32_t top[N_TOP];
        const float want = vlm_logprob(s, row[got[i].id]);
        assert_memory_equal(&got[i].logprob, &want, sizeof want);
        assert_int_equal(got[i].n_top, N_TOP);
        assert_int_equal(vlm_logprobs_top(row, n_vocab, N_TOP, top), N_TOP);
        assert_memory_equal(got[i].top_id, top, sizeof top);
        for (size_t k = 0; k < N_TOP; k++) {
            const float want_top = vlm_logprob(s, row[top[k]]);
            assert_memory_equal(&got[i].top[k], &want_top, sizeof want_top);
        }
    }
    free(logits);

    /* None of the others, or no log probabilities at all. */
    request.n_top_logprobs = 0;
    seen bare[N_TOKENS];
    assert_int_equal(ask_seen(e, &request, bare, N_TOKENS), N_TOKENS);
    for (size_t i = 0; i < N_TOKENS; i++)
        assert_true(bare[i].id == got[i].id && bare[i].logprob == got[i].logprob &&
                    bare[i].n_top == 0);
    request.logprobs = false;
    uint64_t id;
    vlm_event event;
    assert_int_equal(vlm_engine_submit(e, &request, &id, &err), VLM_OK);
    while (e->ops->step(e))
        while (e->ops->next_event(e, &event)) assert_null(event.logprob);
    e->ops->close(e);
}

typedef struct golden {
    vlm_buf trace;
    vlm_safetensors *tensors;
    vlm_image images[8];
    vlm_part parts[9];
    size_t n_images;
} golden;

static void read_images(golden *g, const vlm_json *names)
{
    vlm_error err;
    char path[512];
    g->n_images = vlm_json_array_len(names);
    assert_true(g->n_images <= 8);
    for (size_t i = 0; i < g->n_images; i++) {
        const vlm_bytes name = vlm_json_string(vlm_json_at(names, i));
        vlm_buf file;
        (void)snprintf(path, sizeof path, "%s/tests/golden/images/%.*s", VLM_SOURCE_DIR,
                       (int)name.len, name.ptr);
        assert_int_equal(vlm_file_read(path, "image", 1 << 24, &file, &err), VLM_OK);
        assert_int_equal(
            vlm_image_decode(file.data, file.len, &vlm_image_limits_default, &g->images[i], &err),
            VLM_OK);
        g->parts[i] = (vlm_part){.is_picture = true};
        vlm_buf_fini(&file);
    }
}

/* The row of Transformers' logits from which the answer's first token is drawn. */
static const float *last_row(const golden *g, uint32_t n_vocab)
{
    const vlm_st_tensor *t = vlm_safetensors_find(g->tensors, "logits");
    if (t == NULL) t = vlm_safetensors_find(g->tensors, "logits_last");
    assert_non_null(t);
    assert_true(t->dtype == VLM_DTYPE_F32 && t->shape[t->rank - 1] == n_vocab);
    return (const float *)t->data + t->n_bytes / sizeof(float) - n_vocab;
}

static void check_golden_case(vlm_engine *e, const char *model, const vlm_json *c, golden *g)
{
    vlm_error err;
    char path[512];
    const vlm_bytes file = vlm_json_string(vlm_json_get(c, "file"));
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s/golden/%.*s", VLM_SOURCE_DIR, model,
                   (int)file.len, file.ptr);
    assert_int_equal(vlm_file_read(path, "trace", 1 << 26, &g->trace, &err), VLM_OK);
    assert_int_equal(
        vlm_safetensors_open_bytes(vlm_buf_bytes(&g->trace), "trace", &g->tensors, &err), VLM_OK);
    read_images(g, vlm_json_get(c, "images"));
    const vlm_bytes prompt = vlm_json_string(vlm_json_get(c, "prompt"));
    g->parts[g->n_images] = (vlm_part){.text = prompt};
    const vlm_message message = user_message(g->parts, g->n_images + 1);
    vlm_request request = {.messages = &message, .n_messages = 1};
    if (vlm_json_bool(vlm_json_get(c, "raw"))) request = (vlm_request){.raw_prompt = &prompt};
    vlm_pictures *set = make_pictures(e, g->images, (uint32_t)g->n_images);
    request.pictures = set;
    request.sampling = vlm_sampling_default;
    request.sampling.temperature = 0.0f;
    request.logprobs = true;
    request.n_top_logprobs = VLM_REQUEST_TOP_LOGPROBS_MAX;
    request.max_tokens = (uint32_t)vlm_json_int(vlm_json_get(c, "n"));

    seen got[64];
    vlm_engine_info info;
    e->ops->info(e, &info);
    const uint32_t n = ask_seen(e, &request, got, 64);
    e->ops->pictures_free(e, set);
    const vlm_st_tensor *output = vlm_safetensors_find(g->tensors, "output_ids");
    const size_t n_output = output->n_bytes / sizeof(int64_t);
    /* All but the token that ended it. */
    assert_true(n == n_output || n + 1 == n_output);
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        memcpy(&id, (const char *)output->data + i * sizeof id, sizeof id);
        assert_int_equal(got[i].id, id);
        assert_int_equal(got[i].top_id[0], id);
        assert_true(got[i].top[0] == got[i].logprob);
    }
    if (n == 0) return;
    const float *row = last_row(g, info.n_vocab);
    float most = 0.0f;
    for (uint32_t i = 0; i < info.n_vocab; i++) most = fmaxf(most, fabsf(row[i]));
    const vlm_log_softmax s = vlm_log_softmax_of(row, info.n_vocab);
    for (uint32_t k = 0; k < got[0].n_top; k++) {
        const float want = vlm_logprob(s, row[got[0].top_id[k]]);
        assert_true(fabsf(got[0].top[k] - want) <= 4e-4f * most);
        assert_true(k == 0 || got[0].top[k] <= got[0].top[k - 1]);
    }
}

static void golden_fini(golden *g)
{
    for (size_t i = 0; i < g->n_images; i++) vlm_image_fini(&g->images[i]);
    vlm_safetensors_close(g->tensors);
    vlm_buf_fini(&g->trace);
}

static void test_golden(void **state)
{
    (void)state;
    static const char *const models[] = {"llava-spm",      "llava-bpe",    "llava-odd",
                                         "mistral-window", "qwen2-window", "yarn-biases",
                                         "linear-headdim", "mixed-dtypes"};
    vlm_folder *const saved = folder;
    size_t n_cases = 0;
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char path[512];
        vlm_error err;
        vlm_buf text;
        vlm_json_doc *doc;
        (void)snprintf(path, sizeof path, "%s/tests/golden/%s", VLM_SOURCE_DIR, models[i]);
        assert_int_equal(vlm_folder_open(path, &folder, &err), VLM_OK);
        (void)snprintf(path, sizeof path, "%s/tests/golden/%s/golden/cases.json", VLM_SOURCE_DIR,
                       models[i]);
        assert_int_equal(vlm_file_read(path, "cases", 1 << 24, &text, &err), VLM_OK);
        assert_int_equal(vlm_json_parse(text.data, text.len, &vlm_json_limits_large, &doc, &err),
                         VLM_OK);
        vlm_engine *e = open_with(&(vlm_engine_options){.n_threads = 1});
        const vlm_json *traces = vlm_json_get(vlm_json_root(doc), "trace");
        for (size_t k = 0; k < vlm_json_array_len(traces); k++, n_cases++) {
            golden g = {0};
            check_golden_case(e, models[i], vlm_json_at(traces, k), &g);
            golden_fini(&g);
        }
        e->ops->close(e);
        vlm_json_free(doc);
        vlm_buf_fini(&text);
        vlm_folder_close(folder);
    }
    folder = saved;
    assert_true(n_cases >= 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_logits),
        cmocka_unit_test(test_of_many),
        cmocka_unit_test(test_raw_logits),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
