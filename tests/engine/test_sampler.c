/* test_sampler.c - the generator against its published vectors, each parameter against its
 * definition, and the shares of many draws against the probabilities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "engine/sampler.h"

enum { N_VOCAB = 8, N_DRAWS = 20000 };

/* Known answers of Random123's kat_vectors for philox4x32-10. */
/* What each sampler has been told and has drawn since it was started. */
typedef struct run {
    const vlm_sampler *s;
    vlm_sampling params;
    const uint32_t *prompt;
    size_t n_prompt, n_answer;
    uint32_t answer[1 << 17];
} run;

static run *run_of(const vlm_sampler *s)
{
    static run runs[2];
    static unsigned n_replaced;
    for (size_t i = 0; i < 2; i++)
        if (runs[i].s == s) return &runs[i];
    run *r = &runs[n_replaced++ % 2];
    r->s = s;
    return r;
}

static void start(const vlm_sampler *s, const vlm_sampling *params, const uint32_t *prompt,
                  size_t n_prompt)
{
    run *r = run_of(s);
    r->params = *params;
    r->prompt = prompt;
    r->n_prompt = n_prompt;
    r->n_answer = 0;
}

static uint32_t next(vlm_sampler *s, float *logits, uint64_t position)
{
    run *r = run_of(s);
    const vlm_token_history history = {
        .prompt = r->prompt, .n_prompt = r->n_prompt, .answer = r->answer, .n_answer = r->n_answer};
    const uint32_t id = vlm_sampler_next(s, &r->params, &history, logits, position);
    assert_true(r->n_answer < sizeof r->answer / sizeof r->answer[0]);
    r->answer[r->n_answer++] = id;
    return id;
}

static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];
        vlm_philox(vectors[i].counter, vectors[i].key, out);
        assert_memory_equal(out, vectors[i].want, sizeof out);
    }
}

/* Shares of ids over many positions. */
static void draw(const vlm_sampling *params, const float *logits, const uint32_t *prompt,
                 size_t n_prompt, double share[N_VOCAB])
{
    vlm_sampler *s;
    vlm_error err;
    assert_int_equal(vlm_sampler_new(N_VOCAB, &s, &err), VLM_OK);
    uint32_t count[N_VOCAB] = {0};
    for (uint64_t i = 0; i < N_DRAWS; i++) {
        float copy[N_VOCAB];
        memcpy(copy, logits, sizeof copy);
        start(s, params, prompt, n_prompt);
        count[next(s, copy, i)]++;
    }
    for (int i = 0; i < N_VOCAB; i++) share[i] = (double)count[i] / N_DRAWS;
    vlm_sampler_free(s);
}

/* Five standard deviations of a share of N_DRAWS. */
static void assert_share(double got, double want)
{
    const double slack = 5.0 * sqrt(want * (1.0 - want) / N_DRAWS) + 1e-9;
    assert_true(fabs(got - want) <= slack);
}

static const float LOGITS[N_VOCAB] = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, -INFINITY, NAN, 1.5f};

static void softmax(const float *logits, double temperature, double p[N_VOCAB])
{
    double sum = 0.0;
    for (int i = 0; i < N_VOCAB; i++) {
        p[i] = isnan(logits[i]) ? 0.0 : exp((double)logits[i] / temperature);
        sum += p[i];
    }
    for (int i = 0; i < N_VOCAB; i++) p[i] /= sum;
}

static void test_temperature(void **state)
{
    (void)state;
    static const float temperatures[] = {0.25f, 1.0f, 2.0f};
    for (size_t t = 0; t < 3; t++) {
        vlm_sampling params = vlm_sampling_default;
        double share[N_VOCAB], p[N_VOCAB];
        params.temperature = temperatures[t];
        params.seed = 7 + t;
        draw(&params, LOGITS, NULL, 0, share);
        softmax(LOGITS, (double)temperatures[t], p);
        for (int i = 0; i < N_VOCAB; i++) assert_share(share[i], p[i]);
    }
}

static void test_greedy(void **state)
{
    (void)state;
    vlm_sampling params = vlm_sampling_default;
    double share[N_VOCAB];
    params.temperature = 0.0f;
    draw(&params, LOGITS, NULL, 0, share);
    assert_true(share[2] == 1.0);
    /* The lowest id wins a tie. */
    const float tied[N_VOCAB] = {0, 3, 3, 3, 0, 0, 0, 3};
    draw(&params, tied, NULL, 0, share);
    assert_true(share[1] == 1.0);
}

/* Ids by falling probability: 2, 7, 1, 4, 0, 3. */
static void assert_only(const vlm_sampling *params, const int *kept, int n_kept)
{
    double share[N_VOCAB], p[N_VOCAB], sum = 0.0;
    draw(params, LOGITS, NULL, 0, share);
    softmax(LOGITS, 1.0, p);
    for (int i = 0; i < n_kept; i++) sum += p[kept[i]];
    double want[N_VOCAB] = {0};
    for (int i = 0; i < n_kept; i++) want[kept[i]] = p[kept[i]] / sum;
    for (int i = 0; i < N_VOCAB; i++) assert_share(share[i], want[i]);
}

static void test_truncation(void **state)
{
    (void)state;
    static const int order[] = {2, 7, 1, 4, 0, 3};
    double p[N_VOCAB];
    softmax(LOGITS, 1.0, p);
    for (int k = 1; k <= 6; k++) {
        vlm_sampling params = vlm_sampling_default;
        params.top_k = (uint32_t)k;
        assert_only(&params, order, k);
    }
    double reached = 0.0;
    for (int k = 1; k < 6; k++) {
        vlm_sampling params = vlm_sampling_default;
        params.top_p = (float)(reached + 0.5 * p[order[k - 1]]); /* inside the k-th */
        reached += p[order[k - 1]];
        assert_only(&params, order, k);
        params.top_p = 1.0f;
        params.min_p = (float)(0.5 * (p[order[k - 1]] + p[order[k]]) / p[order[0]]);
        assert_only(&params, order, k);
    }
    /* top_p counts within what top_k has kept. */
    vlm_sampling both = vlm_sampling_default;
    both.top_k = 2;
    both.top_p = 0.6f;
    assert_only(&both, order, p[2] / (p[2] + p[7]) >= 0.6 ? 1 : 2);
}

static void test_penalties(void **state)
{
    (void)state;
    vlm_sampler *s;
    vlm_error err;
    const uint32_t prompt[] = {0, 0, 1, 99};
    vlm_sampling params = vlm_sampling_default;
    params.temperature = 0.0f;
    params.repetition_penalty = 2.0f;
    params.frequency_penalty = 0.25f;
    params.presence_penalty = 0.5f;
    const vlm_logit_bias bias = {.id = 3, .bias = 10.0f};
    params.logit_bias = &bias;
    params.n_logit_bias = 1;
    assert_int_equal(vlm_sampler_new(N_VOCAB, &s, &err), VLM_OK);
    start(s, &params, prompt, 4);

    float first[N_VOCAB] = {4, -4, 1, 0, 1, 1, 1, 1};
    assert_int_equal(next(s, first, 4), 3);
    assert_float_equal(first[0], 2.0f, 0);  /* in the prompt, positive: halved */
    assert_float_equal(first[1], -8.0f, 0); /* in the prompt, negative: doubled */
    assert_float_equal(first[2], 1.0f, 0);
    assert_float_equal(first[3], 10.0f, 0);

    float second[N_VOCAB] = {4, -4, 1, 0, 1, 1, 1, 1};
    assert_int_equal(next(s, second, 5), 3);
    assert_float_equal(second[3], 10.0f / 2 - 0.5f - 0.25f, 0);
    float third[N_VOCAB] = {4, -4, 1, 0, 1, 1, 1, 1};
    assert_int_equal(next(s, third, 6), 3);
    assert_float_equal(third[3], 10.0f / 2 - 0.5f - 2 * 0.25f, 0);

    /* A new answer forgets. */
    start(s, &params, NULL, 0);
    float fresh[N_VOCAB] = {4, -4, 1, 0, 1, 1, 1, 1};
    (void)next(s, fresh, 4);
    assert_float_equal(fresh[0], 4.0f, 0);
    vlm_sampler_free(s);
}

/* A draw depends on seed, choice and position alone. */
static void test_replay(void **state)
{
    (void)state;
    vlm_sampler *a, *b;
    vlm_error err;
    assert_int_equal(vlm_sampler_new(N_VOCAB, &a, &err), VLM_OK);
    assert_int_equal(vlm_sampler_new(N_VOCAB, &b, &err), VLM_OK);
    vlm_sampling params = vlm_sampling_default;
    params.seed = 123456789012345;
    start(a, &params, NULL, 0);
    int n_other_choice = 0;
    for (uint64_t i = 0; i < 200; i++) {
        float x[N_VOCAB], y[N_VOCAB], z[N_VOCAB];
        memcpy(x, LOGITS, sizeof x);
        memcpy(y, LOGITS, sizeof y);
        memcpy(z, LOGITS, sizeof z);
        const uint32_t got = next(a, x, i);
        start(b, &params, NULL, 0);
        assert_int_equal(next(b, y, i), got);
        vlm_sampling other = params;
        other.choice = 1;
        start(b, &other, NULL, 0);
        n_other_choice += next(b, z, i) != got;
    }
    assert_true(n_other_choice > 50);
    vlm_sampler_free(a);
    vlm_sampler_free(b);
}

static void test_hopeless_logits(void **state)
{
    (void)state;
    vlm_sampler *s;
    vlm_error err;
    assert_int_equal(vlm_sampler_new(N_VOCAB, &s, &err), VLM_OK);
    start(s, &vlm_sampling_default, NULL, 0);
    float nan[N_VOCAB], low[N_VOCAB], high[N_VOCAB] = {0};
    for (int i = 0; i < N_VOCAB; i++) {
        nan[i] = NAN;
        low[i] = -INFINITY;
    }
    high[3] = INFINITY;
    assert_int_equal(next(s, nan, 0), 0);
    assert_int_equal(next(s, low, 1), 0);
    assert_int_equal(next(s, high, 2), 3);
    vlm_sampler_free(s);
}

static void test_check(void **state)
{
    (void)state;
    vlm_error err;
    assert_int_equal(vlm_sampling_check(&vlm_sampling_default, N_VOCAB, &err), VLM_OK);
    const float bad[] = {-1.0f, NAN, INFINITY, -INFINITY, 1e30f};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vlm_sampling s[6];
        for (int k = 0; k < 6; k++) s[k] = vlm_sampling_default;
        s[0].temperature = s[1].top_p = s[2].min_p = s[3].repetition_penalty = bad[i];
        s[4].frequency_penalty = s[5].presence_penalty = bad[i] == -1.0f ? -3.0f : bad[i];
        static const char *const names[] = {
            "temperature",       "top_p",           "min_p", "repetition_penalty",
            "frequency_penalty", "presence_penalty"};
        for (int k = 0; k < 6; k++) {
            assert_int_equal(vlm_sampling_check(&s[k], N_VOCAB, &err), VLM_INVALID_ARGUMENT);
            assert_non_null(strstr(err.msg, names[k]));
        }
    }
    vlm_sampling s = vlm_sampling_default;
    const vlm_logit_bias bias = {.id = N_VOCAB, .bias = 1.0f};
    s.logit_bias = &bias;
    s.n_logit_bias = 1;
    assert_int_equal(vlm_sampling_check(&s, N_VOCAB, &err), VLM_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),          cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_greedy),          cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_penalties),       cmocka_unit_test(test_replay),
        cmocka_unit_test(test_hopeless_logits), cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
