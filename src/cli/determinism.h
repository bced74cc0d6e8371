/* determinism.h - the check that an answer does not depend on what else is computed beside it,
 * before it or in which pieces: the same random requests on engines opened in different ways, and
 * every bit of what they said compared.
 * Not: whether the answers are right.  Threads: the main thread. */
#ifndef VLM_CLI_DETERMINISM_H
#define VLM_CLI_DETERMINISM_H

#include "cli/bench_record.h"
#include "cli/options.h"
#include "engine/engine.h"

/* One run of all requests. */
typedef struct vlm_determinism_run {
    const char *dtype, *name;
    uint32_t n_threads;
    size_t n_flight; /* requests at once, at most */
    size_t n_requests, n_different;
    double seconds;
    uint64_t n_preemptions, n_prefix_hits, n_image_hits; /* as in vlm_engine_stats */
    /* When n_different > 0: the first of them. */
    size_t first;
    vlm_record_difference difference;
    vlm_error error; /* what it failed with, code VLM_OK: it did not */
} vlm_determinism_run;

/* Told after each run; what it returns ends the check unless it is VLM_OK. */
typedef vlm_status vlm_determinism_fn(void *user, const vlm_determinism_run *run, vlm_error *err);

/* The check of a model, --requests requests, for each dtype of weights unless --dtype names one.
 * Differences are no failure here.  Every status of vlm_engine_open; INTERNAL for an engine that
 * stops, or fails when it has all the room. */
VLM_MUST_USE vlm_status vlm_determinism_check(vlm_folder *folder, const vlm_options *opt,
                                              vlm_determinism_fn *told, void *user, vlm_error *err);

#endif
