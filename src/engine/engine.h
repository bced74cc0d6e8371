/* engine.h - the narrow facade of the engine: conversations with pictures in, text out.
 * It takes RGB8, never files: a decoder that dies on a hostile picture takes no model with it.
 * Not: HTTP, gRPC, image formats; nor threads of its own: somebody calls step.
 * Ownership: prepare copies what it keeps, but for the pictures, to which it takes a reference of
 * its own; what an event points to lives until the next call of next_event or step.
 * Threads: pictures_new, pictures_add, pictures_free, prepare, job_free, info, tokenize and
 * detokenize from any; everything else from one at a time, the step thread. */
#ifndef VLM_ENGINE_ENGINE_H
#define VLM_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cpu.h"
#include "base/status.h"
#include "engine/sampler.h"
#include "image/image.h"
#include "model/folder.h"
#include "model/weights.h"

enum {
    VLM_REQUEST_IMAGES_MAX = 16,
    VLM_REQUEST_CHOICES_MAX = 8,
    VLM_REQUEST_MESSAGES_MAX = 4096,
    VLM_REQUEST_TOP_LOGPROBS_MAX = 20,
};

/* Pictures made ready for one engine, in the order in which they were added.  Shared by reference
 * counts: a request's job keeps its own reference. */
typedef struct vlm_pictures vlm_pictures;

/* A piece of a message: a picture or text (UTF-8). */
typedef struct vlm_part {
    bool is_picture; /* the next one of the request's pictures */
    vlm_bytes text;
} vlm_part;

typedef struct vlm_message {
    vlm_bytes role; /* "system", "user", "assistant", ... */
    const vlm_part *parts;
    size_t n_parts;
} vlm_message;

typedef struct vlm_request {
    const vlm_message *messages; /* in order; through the model's chat template */
    size_t n_messages;
    /* Instead of messages: the whole prompt, its placeholders standing for images in order. */
    const vlm_bytes *raw_prompt;
    /* NULL: none; one for each picture part in order, or for each placeholder of raw_prompt. */
    const vlm_pictures *pictures;

    vlm_sampling sampling;
    uint32_t n_choices;    /* 0 counts as 1 */
    uint32_t max_tokens;   /* 0, or more than fits: as many as the context holds */
    const vlm_bytes *stop; /* [n_stop] texts that end the answer and are not part of it */
    size_t n_stop;
    bool ignore_eos;
    bool logprobs;
    uint32_t n_top_logprobs; /* the likeliest tokens beside the one drawn, with logprobs */

    /* Copied by prepare; both may be empty.  Requests find each other's computed prompts only
     * within one salt.  Tenants get equal shares while several wait. */
    vlm_bytes cache_salt, tenant;
} vlm_request;

/* A request that has been checked, rendered and tokenized: all that needs no device.  Of the engine
 * that made it. */
typedef struct vlm_job vlm_job;

typedef enum vlm_event_type {
    VLM_EVENT_STARTED, /* the request has left the queue */
    /* Each token drawn but one that ends the sequence, and at most once per choice the text that
     * was held back at its end. */
    VLM_EVENT_TEXT,
    VLM_EVENT_DONE, /* a choice has ended; after the last choice's the request is gone */
    VLM_EVENT_ERROR /* the request has failed and is gone */
} vlm_event_type;

typedef enum vlm_finish { VLM_FINISH_STOP, VLM_FINISH_LENGTH, VLM_FINISH_CANCELLED } vlm_finish;

typedef struct vlm_usage {
    uint32_t n_prompt, n_completion; /* tokens; completion is of this choice */
    uint32_t n_image, n_cached;      /* of the prompt */
} vlm_usage;

typedef struct vlm_timings {
    double queue_s, image_s, prefill_s, decode_s;
} vlm_timings;

typedef struct vlm_top_logprob {
    uint32_t id;
    float logprob;
    vlm_bytes bytes;
} vlm_top_logprob;

/* Logarithms of the probabilities that the logits say, before any sampling parameter. */
typedef struct vlm_token_logprob {
    float logprob;
    vlm_bytes bytes;            /* the token's own, perhaps not whole code points */
    const vlm_top_logprob *top; /* [n_top], likeliest first */
    uint32_t n_top;
} vlm_token_logprob;

typedef struct vlm_event {
    vlm_event_type type;
    uint64_t request_id;
    uint32_t choice;
    vlm_bytes text;                   /* TEXT: whole code points, perhaps none */
    bool has_token;                   /* TEXT: false for what was held back */
    uint32_t token_id;                /* TEXT with a token */
    const vlm_token_logprob *logprob; /* TEXT with a token, NULL unless asked for */
    vlm_finish finish;                /* DONE */
    bool last;                        /* DONE: no choice is left */
    vlm_usage usage;                  /* STARTED, DONE */
    vlm_timings timings;              /* DONE */
    vlm_error error;                  /* ERROR */
} vlm_event;

typedef struct vlm_engine_info {
    const char *model_type, *device, *cpu_level, *tokenizer, *chat_template;
    uint32_t n_ctx, n_image_tokens, n_vocab, n_threads;
    size_t weight_bytes;
    uint32_t n_kv_tokens; /* that the key/value cache holds in all */
    size_t kv_bytes, encoder_cache_bytes;
    /* What generation_config.json recommends, as sampling parameters: greedy unless it says
     * do_sample. */
    vlm_sampling sampling_default;
} vlm_engine_info;

typedef struct vlm_engine_progress {
    uint32_t n_images_done, n_images;
    uint32_t n_prompt_done, n_prompt; /* tokens in the cache, of */
} vlm_engine_progress;

typedef struct vlm_engine_stats {
    uint32_t n_running, n_waiting;            /* requests */
    double kv_usage;                          /* of the key/value cache, 0 to 1 */
    uint64_t n_prefix_queries, n_prefix_hits; /* tokens */
    uint64_t n_image_queries, n_image_hits;   /* pictures */
    uint64_t n_preemptions;                   /* answers put off and computed anew */
    bool is_settling;                         /* memory is still made ready in the background */
} vlm_engine_stats;

typedef struct vlm_engine vlm_engine;

typedef struct vlm_engine_ops {
    void (*close)(vlm_engine *e);

    /* Room for n_max pictures, reserved at once.  INVALID_ARGUMENT above VLM_REQUEST_IMAGES_MAX;
     * RESOURCE_EXHAUSTED when memory is short or all requests' pictures take too much of it: known
     * before any picture has been decoded.  Any thread. */
    VLM_MUST_USE vlm_status (*pictures_new)(vlm_engine *e, uint32_t n_max, vlm_pictures **out,
                                            vlm_error *err);
    /* Make image ready and keep it; at most n_max times.  The caller may free image then.  Any
     * thread, one at a time for one set. */
    VLM_MUST_USE vlm_status (*pictures_add)(vlm_engine *e, vlm_pictures *set,
                                            const vlm_image *image, vlm_error *err);
    /* Drop a reference; legal on NULL.  Any thread. */
    void (*pictures_free)(vlm_engine *e, vlm_pictures *set);

    /* Check and prepare a request: template, tokens.  Any thread, any number at a time.
     * INVALID_ARGUMENT names the parameter; OUT_OF_RANGE when the prompt is longer than the
     * context; RESOURCE_EXHAUSTED when memory is short. */
    VLM_MUST_USE vlm_status (*prepare)(vlm_engine *e, const vlm_request *request, vlm_job **out,
                                       vlm_error *err);
    /* Of a job that was not submitted.  Legal on NULL. */
    void (*job_free)(vlm_engine *e, vlm_job *job);

    /* Takes the job over on success.  The id is never used again.  RESOURCE_EXHAUSTED when too many
     * wait. */
    VLM_MUST_USE vlm_status (*submit)(vlm_engine *e, vlm_job *job, uint64_t *id, vlm_error *err);
    /* The request ends at the next step with one DONE/CANCELLED, waiting ones too, which then had
     * no STARTED.  An unknown id is ignored. */
    void (*cancel)(vlm_engine *e, uint64_t id);

    /* Work for a moment, at most to the next event: a model takes several steps for a picture, a
     * long prompt or a token of its own.  Does nothing while events wait to be fetched.  False when
     * there is nothing to do. */
    bool (*step)(vlm_engine *e);

    /* When step has returned false: the time (vlm_clock_ns) at which there will be work again by
     * itself; UINT64_MAX: not before a submit. */
    uint64_t (*wake_ns)(const vlm_engine *e);

    /* NULL when the engine does not need it.  While paused a request makes no events: its reader is
     * slow. */
    void (*pause)(vlm_engine *e, uint64_t id, bool paused);

    /* How far the request being computed is; all zero when there is none. */
    void (*progress)(const vlm_engine *e, vlm_engine_progress *out);

    /* The next event, if any. */
    bool (*next_event)(vlm_engine *e, vlm_event *out);

    void (*info)(const vlm_engine *e, vlm_engine_info *out);
    void (*stats)(const vlm_engine *e, vlm_engine_stats *out);

    /* *ids is malloc'ed, [n].  Any thread. */
    VLM_MUST_USE vlm_status (*tokenize)(vlm_engine *e, vlm_bytes text, bool add_special, bool plain,
                                        uint32_t **ids, size_t *n, vlm_error *err);
    VLM_MUST_USE vlm_status (*detokenize)(vlm_engine *e, const uint32_t *ids, size_t n,
                                          bool keep_special, vlm_buf *out, vlm_error *err);
} vlm_engine_ops;

struct vlm_engine {
    const vlm_engine_ops *ops;
};

/* pictures_new and pictures_add, for who has all images [n] at hand.  NULL when n is 0. */
VLM_MUST_USE vlm_status vlm_engine_pictures(vlm_engine *e, const vlm_image *images, uint32_t n,
                                            vlm_pictures **out, vlm_error *err);

/* prepare and submit, for who does both on the step thread. */
VLM_MUST_USE vlm_status vlm_engine_submit(vlm_engine *e, const vlm_request *request, uint64_t *id,
                                          vlm_error *err);

typedef struct vlm_engine_options {
    vlm_weight_dtype dtype, vision_dtype; /* model/weights.h */
    size_t pack_cache_bytes; /* of files that keep packed weights for the next start; 0: none */
    void (*load_progress)(void *user, uint64_t n_done, uint64_t n_total); /* or NULL */
    void *load_user;
    uint32_t n_ctx;       /* 0: the model's */
    uint32_t n_threads;   /* 0: one per CPU */
    bool cpu_level_given; /* false: the best that this CPU has */
    vlm_cpu_level cpu_level;
    uint32_t running_max; /* requests that are computed at once; 0: 64 */
    uint32_t waiting_max; /* 0: 256 */
    uint32_t chunk_max;   /* prompt tokens of one step at most; 0: as many as keep steps short */
    vlm_dtype kv_dtype;   /* of the key/value cache: VLM_DTYPE_F32 or VLM_DTYPE_F16 */
    /* Bytes of weights, caches and working memory together; 0: a share of what is free. */
    size_t memory_max;
    size_t kv_bytes;            /* of the key/value cache alone, 0: what memory_max leaves */
    size_t encoder_cache_bytes; /* features of pictures, one picture's at least; 0: 256 MiB */
    bool no_prefix_cache;       /* compute every prompt anew */
    uint32_t step_us;           /* a step ends at the first chance after so long; 0: 50,000 */
    size_t pixels_max;          /* bytes of all sets of pictures together; 0: 2 GiB */
} vlm_engine_options;

/* The engine of a model folder on the CPU.  The folder must outlive it.  Every status, with the
 * file and the field or tensor named. */
VLM_MUST_USE vlm_status vlm_engine_open(vlm_folder *folder, const vlm_engine_options *options,
                                        vlm_engine **out, vlm_error *err);

/* The smallest memory_max with which the model has room for one context and some pictures; its
 * weights are not read.  Every status, as vlm_engine_open. */
VLM_MUST_USE vlm_status vlm_engine_memory_need(vlm_folder *folder,
                                               const vlm_engine_options *options, size_t *n_bytes,
                                               vlm_error *err);

#endif
