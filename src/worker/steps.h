/* steps.h - the step thread: it alone drives an engine, takes requests from the loop's thread and
 * gives back events, packed as messages of the wire.  Neither thread waits for the other, but that
 * the step thread stops when too many events lie unread.
 * Ownership: a submitted job is the step thread's.  Threads: all functions from the loop's. */
#ifndef VLM_WORKER_STEPS_H
#define VLM_WORKER_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/engine.h"

typedef struct vlm_steps vlm_steps;

/* ready(user) is called on the step thread when events lie where none lay. */
VLM_MUST_USE vlm_status vlm_steps_open(vlm_engine *engine, void (*ready)(void *user), void *user,
                                       vlm_steps **out, vlm_error *err);
/* Joins the thread; what was running is dropped. */
void vlm_steps_close(vlm_steps *s);

typedef struct vlm_steps_job {
    vlm_job *job;
    uint64_t key; /* the caller's name for the request, never used again */
    bool logprobs;
    double queue_ms, image_ms; /* what was spent before, for the timings */
} vlm_steps_job;

/* Every submitted job ends with one record that is `last`.  RESOURCE_EXHAUSTED: job is the caller's
 * still. */
VLM_MUST_USE vlm_status vlm_steps_submit(vlm_steps *s, const vlm_steps_job *job, vlm_error *err);
void vlm_steps_cancel(vlm_steps *s, uint64_t key);
void vlm_steps_pause(vlm_steps *s, uint64_t key, bool paused);

typedef struct vlm_steps_record {
    uint64_t key;
    bool started, last;
    vlm_status failed;  /* VLM_OK, or why the request has failed; message is then the text */
    const char *reason; /* of the failure, or NULL */
    vlm_bytes message;  /* a packed GenerateEvent; empty: none.  Until the next call. */
} vlm_steps_record;

/* The next event; false when there is none left. */
bool vlm_steps_next(vlm_steps *s, vlm_steps_record *out);

void vlm_steps_stats(vlm_steps *s, vlm_engine_stats *out);

/* vlm_clock_ns since which the thread has been inside one step; 0 when it is not. */
uint64_t vlm_steps_busy_since(const vlm_steps *s);

#endif
