/* supervisor.h - a worker process that is started again when it dies: with growing pauses while it
 * does not come up, at once killed when it is stuck.  It can be stopped and started at will.
 * Not: what it computes.  Threads: the loop's. */
#ifndef VLM_CLI_SUPERVISOR_H
#define VLM_CLI_SUPERVISOR_H

#include <stdbool.h>
#include <uv.h>

#include "base/status.h"

typedef struct vlm_supervisor vlm_supervisor;

typedef struct vlm_supervisor_options {
    uv_loop_t *loop;
    char *const *argv;         /* of the program itself, NULL at the end; outlives the supervisor */
    void (*ready)(void *user); /* it listens */
    void (*died)(void *user, bool is_looping); /* and is started again; is_looping: too often */
    void (*failed)(void *user);                /* it never came up: not tried again */
    void (*stopped)(void *user);               /* it is gone, as vlm_supervisor_stop wanted */
    /* Is it known to work?  Asked twenty times a second. */
    bool (*is_healthy)(void *user);
    void *user;
} vlm_supervisor_options;

/* Nothing is started yet. */
VLM_MUST_USE vlm_status vlm_supervisor_open(const vlm_supervisor_options *options,
                                            vlm_supervisor **out, vlm_error *err);
/* Start the worker, or do nothing when it is there.  Not while it is being stopped. */
void vlm_supervisor_start(vlm_supervisor *s);
/* Let it end without waiting: SIGTERM, then SIGKILL, then stopped is called. */
void vlm_supervisor_stop(vlm_supervisor *s);
/* Let it end: SIGTERM, then SIGKILL.  Runs the loop until it is gone. */
void vlm_supervisor_close(vlm_supervisor *s);

#endif
