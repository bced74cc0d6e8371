/* worker.h - a worker process from its start to its end: loop, signals, drain.
 * Not: opening the engine (cli).  Threads: the main thread. */
#ifndef VLM_WORKER_WORKER_H
#define VLM_WORKER_WORKER_H

#include "worker/service.h"

typedef struct vlm_worker_options {
    vlm_addr listen;
    const char *model;
    uint32_t running_max, waiting_max, prepare_max;
    size_t unsent_max;
    uint64_t slow_ns, step_limit_ns, shutdown_ns;
    /* A gateway started this process: it ends with that one (end of standard input), and says
     * "ready" on standard output. */
    bool supervised;
} vlm_worker_options;

/* Threads that wait for decoders or render templates, prepare_max of them; to be called before
 * anything else runs. */
void vlm_worker_set_threads(uint32_t n);

/* Serve until SIGTERM or SIGINT has been obeyed.  *in_use: it had to end at once, and threads still
 * work with engine and decoders, which must not be closed.  UNAVAILABLE when the address cannot be
 * had. */
VLM_MUST_USE vlm_status vlm_worker_run(const vlm_worker_options *options, vlm_engine *engine,
                                       vlm_decoders *decoders, bool *in_use, vlm_error *err);

#endif
