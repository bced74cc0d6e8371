/* logprobs.h - logarithms of the probabilities that logits say: log softmax, and the likeliest.
 * A NaN counts as minus infinity; plus infinities share all probability.
 * Not: sampling, whose parameters change nothing here (sampler.h).  Threads: pure. */
#ifndef VLM_ENGINE_LOGPROBS_H
#define VLM_ENGINE_LOGPROBS_H

#include <stdint.h>

/* What the logits of one position have in common. */
typedef struct vlm_log_softmax {
    float max;
    double log_sum; /* log of the sum of exp(logit - max), added in the order of ids */
} vlm_log_softmax;

/* logits [n], n >= 1. */
vlm_log_softmax vlm_log_softmax_of(const float *logits, uint32_t n);

/* logit - max - log_sum; -INFINITY where the probability is none. */
float vlm_logprob(vlm_log_softmax s, float logit);

/* The ids of the n_top largest logits [n], largest first, the lower id first on ties.  Returns how
 * many: n_top, or n if that is less. */
uint32_t vlm_logprobs_top(const float *logits, uint32_t n, uint32_t n_top, uint32_t *ids);

#endif
