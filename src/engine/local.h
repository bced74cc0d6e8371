/* local.h - what the engine of a model on this machine is made of; for the files local*.c alone. */
#ifndef VLM_ENGINE_LOCAL_H
#define VLM_ENGINE_LOCAL_H

#include "engine/engine.h"
#include "engine/pictures.h"
#include "engine/prepare.h"
#include "engine/stop.h"
#include "model/model.h"

enum {
    VLM_LOCAL_EVENTS_MAX = 3, /* of one step: a text, an end, an error */
    VLM_LOCAL_TEXT_LEN_MAX = 1 << 20
};

/* vlm_job of this engine. */
typedef struct vlm_local_job {
    struct vlm_local_job *next;
    uint64_t id;
    bool cancelled;
    vlm_prompt prompt;
    vlm_sampling sampling;
    vlm_logit_bias *logit_bias; /* copy that sampling points to */
    uint32_t n_choices, max_tokens;
    char *stop_text; /* copies of the stop strings, end to end */
    vlm_bytes stop_strings[VLM_STOP_STRINGS_MAX];
    size_t n_stop;
    bool ignore_eos, logprobs;
    uint32_t n_top_logprobs;
    uint64_t submitted_ns;
} vlm_local_job;

typedef enum vlm_local_phase {
    VLM_LOCAL_ENCODE,
    VLM_LOCAL_PREFILL,
    VLM_LOCAL_DECODE
} vlm_local_phase;

/* The request being computed; job NULL: none. */
typedef struct vlm_local_run {
    vlm_local_job *job;
    vlm_local_phase phase;
    uint32_t piece;     /* the next one of the image, the chunk or the token in hand */
    uint32_t n_encoded; /* images */
    uint32_t n_filled;  /* prompt tokens in the cache */
    uint32_t n_chunk;   /* prompt tokens in hand */
    size_t feature_row; /* next row of features to splice in */
    uint32_t choice;
    uint32_t n_answered; /* tokens of this choice */
    uint32_t last_id;
    vlm_detok *detok;
    vlm_stop stop;
    vlm_timings timings;
    uint64_t mark_ns; /* up to here the time is in timings */
} vlm_local_run;

/* Of the token in the event. */
typedef struct vlm_local_logprobs {
    vlm_token_logprob token;
    vlm_top_logprob top[VLM_REQUEST_TOP_LOGPROBS_MAX];
    vlm_buf bytes;
} vlm_local_logprobs;

typedef struct vlm_local_queue {
    vlm_local_job *first, *last;
    uint32_t n;
} vlm_local_queue;

typedef struct vlm_local {
    vlm_engine base;
    vlm_backend *backend;
    vlm_model *model;
    vlm_prepare prepare;
    vlm_llama_cache cache;
    vlm_sampler *sampler;
    float *x;             /* [n_rows_max, hidden] on the device */
    float *logits_device; /* [n_vocab] */
    float *logits;        /* [n_vocab] */
    float *raw_logits;    /* [n_vocab], before the sampler changes them */
    float *prompt_logits; /* [n_vocab], after the prompt: where every choice starts */
    float *features;      /* [VLM_REQUEST_IMAGES_MAX * n_image_tokens, hidden], lazily backed */
    uint32_t n_threads, waiting_max;
    vlm_pictures_budget pictures_budget;
    uint64_t step_ns;
    vlm_cpu_level cpu_level;
    uint64_t last_request_id;
    vlm_local_queue waiting;
    vlm_local_queue dropped; /* cancelled while they waited, not yet told */
    vlm_local_run run;
    vlm_event events[VLM_LOCAL_EVENTS_MAX];
    uint32_t n_events, next_event;
    vlm_buf text; /* the text of the event in events */
    vlm_local_logprobs logprobs;
} vlm_local;

/* local_job.c: those of vlm_engine_ops that any thread may call with a request. */
VLM_MUST_USE vlm_status vlm_local_pictures_new(vlm_engine *e, uint32_t n_max, vlm_pictures **out,
                                               vlm_error *err);
VLM_MUST_USE vlm_status vlm_local_pictures_add(vlm_engine *e, vlm_pictures *set,
                                               const vlm_image *image, vlm_error *err);
void vlm_local_pictures_free(vlm_engine *e, vlm_pictures *set);
VLM_MUST_USE vlm_status vlm_local_prepare(vlm_engine *e, const vlm_request *request, vlm_job **out,
                                          vlm_error *err);
void vlm_local_job_free(vlm_engine *e, vlm_job *job);

/* local_run.c.  Each leaves its events in l->events. */

/* Begin with a job, which the run owns from here on, also when it fails. */
void vlm_local_run_start(vlm_local *l, vlm_local_job *job);
/* Go on for about l->step_ns, at most to the next event. */
void vlm_local_run_step(vlm_local *l);
/* Forget the request in hand, if any, without an event. */
void vlm_local_run_end(vlm_local *l);
vlm_event *vlm_local_add_event(vlm_local *l, vlm_event_type type, uint64_t request_id);
vlm_usage vlm_local_prompt_usage(const vlm_local *l, const vlm_local_job *job);

#endif
