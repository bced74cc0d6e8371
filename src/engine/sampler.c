#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

const vlm_sampling vlm_sampling_default = {
    .temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};

typedef struct candidate {
    float p; /* logit, then probability up to a common factor */
    uint32_t id;
} candidate;

struct vlm_sampler {
    uint32_t n_vocab;
    uint32_t *n_in_answer; /* [n_vocab], all 0 between calls */
    bool *in_prompt;       /* [n_vocab], all false between calls */
    candidate *heap;       /* [n_vocab] */
    candidate *kept;       /* [n_vocab] */
};

static bool in_range(float value, float min, float max)
{
    return value >= min && value <= max;
}

vlm_status vlm_sampling_check(const vlm_sampling *s, uint32_t n_vocab, vlm_error *err)
{
    const vlm_status bad = VLM_INVALID_ARGUMENT;
    if (!in_range(s->temperature, 0.0f, 2.0f))
        return vlm_fail(err, bad, "temperature must be between 0 and 2");
    if (!in_range(s->top_p, 0.0f, 1.0f) || s->top_p <= 0.0f)
        return vlm_fail(err, bad, "top_p must be above 0 and at most 1");
    if (!in_range(s->min_p, 0.0f, 1.0f)) return vlm_fail(err, bad, "min_p must be between 0 and 1");
    if (!in_range(s->repetition_penalty, 0.01f, 100.0f))
        return vlm_fail(err, bad, "repetition_penalty must be between 0.01 and 100");
    if (!in_range(s->frequency_penalty, -2.0f, 2.0f))
        return vlm_fail(err, bad, "frequency_penalty must be between -2 and 2");
    if (!in_range(s->presence_penalty, -2.0f, 2.0f))
        return vlm_fail(err, bad, "presence_penalty must be between -2 and 2");
    if (s->n_logit_bias > VLM_LOGIT_BIAS_MAX)
        return vlm_fail(err, bad, "logit_bias holds more than %d entries", VLM_LOGIT_BIAS_MAX);
    for (uint32_t i = 0; i < s->n_logit_bias; i++) {
        if (s->logit_bias[i].id >= n_vocab)
            return vlm_fail(err, bad, "logit_bias names token %u, the vocabulary has %u",
                            s->logit_bias[i].id, n_vocab);
        if (!in_range(s->logit_bias[i].bias, -100.0f, 100.0f))
            return vlm_fail(err, bad, "logit_bias values must be between -100 and 100");
    }
    return VLM_OK;
}

vlm_status vlm_sampler_new(uint32_t n_vocab, vlm_sampler **out, vlm_error *err)
{
    *out = NULL;
    vlm_sampler *s = calloc(1, sizeof *s);
    if (s == NULL) return vlm_fail_memory(err, "sampler");
    s->n_vocab = n_vocab;
    s->n_in_answer = vlm_calloc(n_vocab, sizeof *s->n_in_answer);
    s->in_prompt = vlm_calloc(n_vocab, sizeof *s->in_prompt);
    s->heap = vlm_calloc(n_vocab, sizeof *s->heap);
    s->kept = vlm_calloc(n_vocab, sizeof *s->kept);
    if (s->n_in_answer == NULL || s->in_prompt == NULL || s->heap == NULL || s->kept == NULL) {
        vlm_sampler_free(s);
        return vlm_fail_memory(err, "sampler");
    }
    *out = s;
    return VLM_OK;
}

void vlm_sampler_free(vlm_sampler *s)
{
    if (s == NULL) return;
    free(s->n_in_answer);
    free(s->in_prompt);
    free(s->heap);
    free(s->kept);
    free(s);
}

void vlm_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1,
                                  (uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

/* Uniform in [0, 1) with 53 bits. */
static double uniform(const vlm_sampling *params, uint64_t position)
{
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), params->choice, 0};
    const uint32_t key[2] = {(uint32_t)params->seed, (uint32_t)(params->seed >> 32)};
    uint32_t r[4];
    vlm_philox(counter, key, r);
    const uint64_t bits = ((uint64_t)r[0] << 32 | r[1]) >> 11;
    return (double)bits * 0x1p-53;
}

static void apply_penalties(vlm_sampler *s, const vlm_sampling *p, const vlm_token_history *h,
                            float *logits)
{
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (isnan(logits[i])) logits[i] = -INFINITY;
    for (uint32_t i = 0; i < p->n_logit_bias; i++)
        logits[p->logit_bias[i].id] += p->logit_bias[i].bias;
    if (p->repetition_penalty == 1.0f && p->frequency_penalty == 0.0f &&
        p->presence_penalty == 0.0f)
        return;
    for (size_t i = 0; i < h->n_prompt; i++)
        if (h->prompt[i] < s->n_vocab) s->in_prompt[h->prompt[i]] = true;
    for (size_t i = 0; i < h->n_answer; i++) s->n_in_answer[h->answer[i]]++;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        const uint32_t n = s->n_in_answer[i];
        if (n > 0 || s->in_prompt[i])
            logits[i] = logits[i] > 0.0f ? logits[i] / p->repetition_penalty
                                         : logits[i] * p->repetition_penalty;
        if (n > 0) logits[i] -= p->presence_penalty + (float)n * p->frequency_penalty;
    }
    for (size_t i = 0; i < h->n_prompt; i++)
        if (h->prompt[i] < s->n_vocab) s->in_prompt[h->prompt[i]] = false;
    for (size_t i = 0; i < h->n_answer; i++) s->n_in_answer[h->answer[i]] = 0;
}

static uint32_t largest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

/* Heap order: larger probability first, lower id on ties. */
static bool before(candidate a, candidate b)
{
    return a.p > b.p || (a.p == b.p && a.id < b.id);
}

static void sift_down(candidate *heap, uint32_t n, uint32_t at)
{
    for (;;) {
        uint32_t best = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (before(heap[child], heap[best])) best = child;
        if (best == at) return;
        const candidate swap = heap[at];
        heap[at] = heap[best];
        heap[best] = swap;
        at = best;
    }
}

static candidate pop(candidate *heap, uint32_t *n)
{
    const candidate top = heap[0];
    heap[0] = heap[--*n];
    sift_down(heap, *n, 0);
    return top;
}

/* The candidates in descending order as far as top_k and top_p ask; returns how many. */
static uint32_t keep_best(vlm_sampler *s, const vlm_sampling *p, uint32_t n, double sum)
{
    for (uint32_t i = n / 2; i-- > 0;) sift_down(s->heap, n, i);
    const uint32_t k = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    uint32_t n_kept = 0;
    while (n_kept < k) s->kept[n_kept++] = pop(s->heap, &n);
    if (p->top_p >= 1.0f) return n_kept;
    if (p->top_k > 0) {
        sum = 0.0;
        for (uint32_t i = 0; i < n_kept; i++) sum += (double)s->kept[i].p;
    }
    double reached = 0.0;
    for (uint32_t i = 0; i < n_kept; i++) {
        reached += (double)s->kept[i].p;
        if (reached >= (double)p->top_p * sum) return i + 1;
    }
    return n_kept;
}

uint32_t vlm_sampler_next(vlm_sampler *s, const vlm_sampling *p, const vlm_token_history *history,
                          float *logits, uint64_t position)
{
    apply_penalties(s, p, history, logits);
    const uint32_t best = largest(logits, s->n_vocab);
    uint32_t chosen = best;
    if (p->temperature > 0.0f && isfinite(logits[best])) {
        /* Probabilities relative to the largest, which is 1. */
        const float max = logits[best];
        double sum = 0.0;
        uint32_t n = 0;
        for (uint32_t i = 0; i < s->n_vocab; i++) {
            const float weight = expf((logits[i] - max) / p->temperature);
            if (weight < p->min_p || !(weight > 0.0f)) continue;
            s->heap[n++] = (candidate){.p = weight, .id = i};
            sum += (double)weight;
        }
        const candidate *from = s->heap;
        if ((p->top_k > 0 && p->top_k < n) || p->top_p < 1.0f) {
            n = keep_best(s, p, n, sum);
            from = s->kept;
            sum = 0.0;
            for (uint32_t i = 0; i < n; i++) sum += (double)from[i].p;
        }
        double left = uniform(p, position) * sum;
        chosen = from[n - 1].id;
        for (uint32_t i = 0; i < n; i++) {
            left -= (double)from[i].p;
            if (left < 0.0) {
                chosen = from[i].id;
                break;
            }
        }
    }
    return chosen;
}
