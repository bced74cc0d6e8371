#include "engine/logprobs.h"

#include <math.h>

static float value_of(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

/* logit - max where one of them may be infinite. */
static float below_max(float logit, float max)
{
    return value_of(logit) == max ? 0.0f : value_of(logit) - max;
}

vlm_log_softmax vlm_log_softmax_of(const float *logits, uint32_t n)
{
    vlm_log_softmax s = {.max = -INFINITY};
    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > s.max) s.max = logits[i];
    double sum = 0.0;
    for (uint32_t i = 0; i < n; i++) sum += (double)expf(below_max(logits[i], s.max));
    s.log_sum = log(sum);
    return s;
}

float vlm_logprob(vlm_log_softmax s, float logit)
{
    const float value = value_of(logit);
    if (value == -INFINITY) return -INFINITY;
    const double below = value == s.max ? 0.0 : (double)value - (double)s.max;
    return (float)(below - s.log_sum);
}

uint32_t vlm_logprobs_top(const float *logits, uint32_t n, uint32_t n_top, uint32_t *ids)
{
    uint32_t n_kept = 0;
    for (uint32_t id = 0; id < n && n_top > 0; id++) {
        const float value = value_of(logits[id]);
        if (n_kept == n_top && !(value > value_of(logits[ids[n_kept - 1]]))) continue;
        uint32_t at = n_kept < n_top ? n_kept++ : n_kept - 1;
        for (; at > 0 && value > value_of(logits[ids[at - 1]]); at--) ids[at] = ids[at - 1];
        ids[at] = id;
    }
    return n_kept;
}
