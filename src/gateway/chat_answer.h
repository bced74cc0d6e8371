/* chat_answer.h - a worker's events as OpenAI's answers: chunks of a stream, or one object.
 * Not: sending them.  Ownership: an answer keeps no pointers.  Threads: one at a time. */
#ifndef VLM_GATEWAY_CHAT_ANSWER_H
#define VLM_GATEWAY_CHAT_ANSWER_H

#include <stdbool.h>
#include <vlm/v1/worker.pb-c.h>

#include "gateway/api_error.h"
#include "gateway/chat_request.h"

enum { VLM_CHAT_CHOICES_MAX = 8 };

typedef struct vlm_chat_choice {
    vlm_buf content, logprobs; /* of a plain answer */
    int finish;                /* a FinishReason; 0: not yet */
    uint32_t n_completion;
} vlm_chat_choice;

typedef struct vlm_chat_answer {
    uint32_t n;
    bool include_usage, logprobs;
    bool begun; /* the role chunks have been written */
    uint32_t n_finished;
    vlm_buf chunk_head; /* what every chunk begins with, "data: {...,"choices":[" */
    vlm_buf plain_head; /* what a plain answer begins with */
    size_t n_collected; /* bytes in choices */
    vlm_chat_choice choices[VLM_CHAT_CHOICES_MAX];
    uint32_t n_prompt, n_cached, n_image;
    /* The prompt is computed once for all choices: the most that one found of it, the fewest tokens
     * that were left.  Decoding is side by side: the longest time, all tokens. */
    bool has_timings;
    double queue_ms, image_ms, prefill_ms, decode_ms;
    uint32_t prefill_tokens, decode_tokens;
} vlm_chat_answer;

/* id and model are copied.  created: seconds since 1970.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_chat_answer_init(vlm_chat_answer *a, const vlm_chat_request *request,
                                             const char *id, int64_t created, const char *model,
                                             vlm_error *err);
void vlm_chat_answer_fini(vlm_chat_answer *a);

/* A stream: append the chunks of an event, the roles' before the first; at the end the usage if it
 * was asked for and [DONE]; or instead of that end an error.  An event without text or figures for
 * the client appends nothing; nor does a call that fails.
 * INTERNAL: events that do not fit together, or an end before every choice's; UNAVAILABLE: the
 * worker gave up; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_chat_answer_event(vlm_chat_answer *a,
                                              const Vlm__V1__GenerateEvent *event, vlm_buf *out,
                                              vlm_error *err);
VLM_MUST_USE vlm_status vlm_chat_answer_end(vlm_chat_answer *a, vlm_buf *out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_chat_answer_fail(const vlm_api_error *e, vlm_buf *out, vlm_error *err);

/* A plain answer: gather events, at most 64 MiB of text and log probabilities, then append the
 * whole object.  The same errors. */
VLM_MUST_USE vlm_status vlm_chat_answer_collect(vlm_chat_answer *a,
                                                const Vlm__V1__GenerateEvent *event,
                                                vlm_error *err);
VLM_MUST_USE vlm_status vlm_chat_answer_write(vlm_chat_answer *a, vlm_buf *out, vlm_error *err);

#endif
