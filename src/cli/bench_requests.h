/* bench_requests.h - requests that measurements and checks make up: what one is, how it is given to
 * an engine, many at once, and random ones from a seed.
 * Not: what is measured (bench_runs.h) or compared (determinism.h).
 * Threads: the step thread of the engine. */
#ifndef VLM_CLI_BENCH_REQUESTS_H
#define VLM_CLI_BENCH_REQUESTS_H

#include "base/mem.h"
#include "engine/engine.h"

enum { VLM_BENCH_IMAGES_MAX = 2, VLM_BENCH_STOPS_MAX = 2, VLM_BENCH_FLIGHT_MAX = 64 };

typedef enum vlm_bench_form {
    VLM_BENCH_CHAT, /* through the model's chat template */
    VLM_BENCH_TALK, /* LLaVA's "USER: ... ASSISTANT:", where that template is of no use */
    VLM_BENCH_WHOLE /* prompt is the whole text; no pictures, no second turn */
} vlm_bench_form;

typedef struct vlm_bench_request {
    vlm_bench_form form;
    vlm_bytes prompt;       /* of the first turn, after the pictures */
    vlm_bytes answer, next; /* what came of it and what is asked then; next empty: one turn */
    uint32_t images[VLM_BENCH_IMAGES_MAX]; /* numbers for vlm_bench_picture */
    size_t n_images;
    vlm_sampling sampling;
    uint32_t n_choices, max_tokens, n_top_logprobs;
    bool ignore_eos, logprobs;
    vlm_bytes stops[VLM_BENCH_STOPS_MAX];
    size_t n_stops;
    vlm_bytes cache_salt, tenant;
} vlm_bench_request;

/* CHAT when the engine takes messages with a picture, else TALK. */
vlm_bench_form vlm_bench_form_of(vlm_engine *engine);

/* Whether the engine would take it: every status of prepare. */
VLM_MUST_USE vlm_status vlm_bench_try(vlm_engine *engine, const vlm_bench_request *request,
                                      vlm_error *err);

/* Something that one of the requests said. */
typedef struct vlm_bench_said {
    size_t idx;         /* of the request */
    uint64_t submit_ns; /* when it was given to the engine: pictures were there, ids were not */
    uint64_t step_ns;   /* end of the step that made the event */
    const vlm_event *event;
} vlm_bench_said;

/* What it returns ends the run unless it is VLM_OK. */
typedef vlm_status vlm_bench_said_fn(void *user, const vlm_bench_said *said, vlm_error *err);

/* Have requests[order[0]], requests[order[1]], ... answered, n of them, at most n_flight at a time
 * (<= VLM_BENCH_FLIGHT_MAX); order NULL: as they stand.  A request that the engine does not take
 * says an ERROR.  What was still running when a run ends early is cancelled.
 * Every status of said; INTERNAL when the engine stops with requests left. */
VLM_MUST_USE vlm_status vlm_bench_answer(vlm_engine *engine, const vlm_bench_request *requests,
                                         const size_t *order, size_t n, size_t n_flight,
                                         vlm_bench_said_fn *said, void *user, vlm_error *err);

/* Random numbers of a seed, one after the other. */
typedef struct vlm_bench_dice {
    uint64_t seed, n_rolled;
} vlm_bench_dice;

/* 0 to n_sides - 1. */
uint32_t vlm_bench_roll(vlm_bench_dice *dice, uint32_t n_sides);

/* Append n_words random words, a space between them. */
VLM_MUST_USE vlm_status vlm_bench_words(vlm_bench_dice *dice, uint32_t n_words, vlm_buf *out,
                                        vlm_error *err);

/* Random requests, texts included. */
typedef struct vlm_bench_set {
    vlm_bench_request *items; /* [n] */
    size_t n;
    vlm_arena arena;
} vlm_bench_set;

/* n requests of every kind: with and without pictures, of one or more choices, greedy and drawn,
 * with stop texts, penalties, logprobs; some have a picture, the beginning of the text or all of it
 * in common.  Most fit into n_ctx tokens, n_image_tokens a picture.  The same arguments give
 * the same requests. */
VLM_MUST_USE vlm_status vlm_bench_set_make(vlm_bench_set *set, size_t n, uint64_t seed,
                                           vlm_bench_form form, uint32_t n_ctx,
                                           uint32_t n_image_tokens, vlm_error *err);
void vlm_bench_set_fini(vlm_bench_set *set);

/* Shorten those that are too long for the engine.  Every status of prepare. */
VLM_MUST_USE vlm_status vlm_bench_set_fit(vlm_bench_set *set, vlm_engine *engine, vlm_error *err);

#endif
