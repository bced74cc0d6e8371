/* request.h - one Generate call between its arrival and the step thread: unpack, check, decode the
 * pictures in child processes, render and tokenize.  Runs on a thread that may wait.
 * Not: the call itself (service.h).  Threads: one at a time, but for the cancel flag. */
#ifndef VLM_WORKER_REQUEST_H
#define VLM_WORKER_REQUEST_H

#include <stdatomic.h>

#include "base/buf.h"
#include "engine/engine.h"
#include "worker/decoders.h"

typedef struct vlm_worker_request {
    vlm_buf message; /* the packed GenerateRequest; freed by run */
    atomic_bool cancel;

    /* What run has made. */
    vlm_status status;
    vlm_error error;
    const char *reason; /* of a failure: the trailer vlmd-reason, or NULL */
    vlm_job *job;
    bool logprobs;
    uint32_t n_images;
    double image_ms; /* spent decoding */
} vlm_worker_request;

/* Sets status, and error and reason or job. */
void vlm_worker_request_run(vlm_worker_request *r, vlm_engine *engine, vlm_decoders *decoders,
                            const char *model);

#endif
