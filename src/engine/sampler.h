/* sampler.h - from the logits of one position to the next token id.
 * Random numbers come from a counter-based generator keyed by (seed, choice, position), so that a
 * token never depends on what else ran before or beside it.
 * Not: stop conditions (stop.h) nor the forward pass.  Threads: one sampler, one thread. */
#ifndef VLM_ENGINE_SAMPLER_H
#define VLM_ENGINE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { VLM_LOGIT_BIAS_MAX = 1024 };

typedef struct vlm_logit_bias {
    uint32_t id;
    float bias; /* added to the logit, -100..100 */
} vlm_logit_bias;

typedef struct vlm_sampling {
    float temperature; /* 0: the largest logit, lowest id on ties */
    uint32_t top_k;    /* keep the k largest; 0: all */
    float top_p;       /* (0, 1]: keep the fewest whose probabilities reach it */
    float min_p;       /* [0, 1]: keep those of at least min_p times the largest probability */
    float repetition_penalty; /* > 0, 1: none.  Of ids in prompt or answer: positive logits are
                                 divided by it, others multiplied (Transformers,
                                 RepetitionPenaltyLogitsProcessor) */
    float frequency_penalty;  /* -2..2, of ids in the answer: logit -= count * penalty (OpenAI) */
    float presence_penalty;   /* -2..2, of ids in the answer: logit -= penalty (OpenAI) */
    uint64_t seed;
    uint32_t choice;                  /* which of n answers to the same prompt */
    const vlm_logit_bias *logit_bias; /* [n_logit_bias], ids < n_vocab */
    uint32_t n_logit_bias;
} vlm_sampling;

/* Temperature 1, everything else off. */
extern const vlm_sampling vlm_sampling_default;

/* INVALID_ARGUMENT naming the parameter that is out of range. */
VLM_MUST_USE vlm_status vlm_sampling_check(const vlm_sampling *s, uint32_t n_vocab, vlm_error *err);

typedef struct vlm_sampler vlm_sampler;

/* Working memory over n_vocab ids, for one sequence after the other.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_sampler_new(uint32_t n_vocab, vlm_sampler **out, vlm_error *err);
void vlm_sampler_free(vlm_sampler *s);

/* The ids before the one to be drawn. */
typedef struct vlm_token_history {
    const uint32_t *prompt; /* [n_prompt]; ids >= n_vocab are skipped */
    size_t n_prompt;
    const uint32_t *answer; /* [n_answer], each < n_vocab */
    size_t n_answer;
} vlm_token_history;

/* The token after position `position` (the index in the sequence that it will have).  logits
 * [n_vocab] are changed in place: bias, penalties.  A NaN counts as minus infinity.  Nothing is
 * remembered from one call to the next. */
uint32_t vlm_sampler_next(vlm_sampler *s, const vlm_sampling *params,
                          const vlm_token_history *history, float *logits, uint64_t position);

/* Four uniform 32-bit numbers of a counter and a key (Philox 4x32-10; Salmon et al., "Parallel
 * random numbers: as easy as 1, 2, 3", 2011). */
void vlm_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
