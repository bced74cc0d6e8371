/* bench_record.h - all that a request said, kept to be compared with what it says another time.
 * Not kept: times and how much was found in caches; those may differ.
 * Ownership: a record owns its tokens and texts.  Threads: one. */
#ifndef VLM_CLI_BENCH_RECORD_H
#define VLM_CLI_BENCH_RECORD_H

#include "engine/engine.h"

typedef struct vlm_record_top {
    uint32_t id, logprob_bits;
} vlm_record_top;

/* A TEXT event. */
typedef struct vlm_record_token {
    bool has_token, has_logprob;
    uint32_t id, logprob_bits;
    uint32_t n_top;
    vlm_record_top top[VLM_REQUEST_TOP_LOGPROBS_MAX];
    size_t text_len, bytes_len; /* of what the choice said: the text, then the logprobs' bytes */
} vlm_record_token;

typedef struct vlm_record_choice {
    vlm_record_token *tokens; /* [n] */
    size_t n, cap;
    vlm_buf said; /* texts and bytes of all tokens, end to end */
    bool done;
    vlm_finish finish;
    uint32_t n_prompt, n_image, n_completion;
} vlm_record_choice;

typedef struct vlm_record {
    vlm_record_choice choices[VLM_REQUEST_CHOICES_MAX];
    bool failed;
    vlm_error error; /* when failed */
} vlm_record;

void vlm_record_init(vlm_record *r);
void vlm_record_fini(vlm_record *r);

/* Keep an event.  INTERNAL when the engine says what it never should (a choice that is none, a word
 * after the end); RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_record_add(vlm_record *r, const vlm_event *event, vlm_error *err);

typedef struct vlm_record_difference {
    uint32_t choice;
    size_t token;     /* the first that differs; their number when only the end does */
    const char *what; /* "token id", "text", "logprob", "finish reason", ... */
} vlm_record_difference;

/* False when they are the same to the bit; else where they first are not, choice by choice. */
bool vlm_record_differ(const vlm_record *a, const vlm_record *b, vlm_record_difference *out);

#endif
