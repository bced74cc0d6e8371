/* decoders.h - turns hostile image bytes into RGB8 in child processes that may die.
 * A small process, the fork server, is forked before the worker has threads or a model; it forks
 * the decoders and reaps them.  A decoder can read and write one socket and its own memory, nothing
 * else (sandbox.h).  The file and the pixels pass through memory shared with it, and every number
 * it sends is checked: whoever takes a decoder over can at most lie about the pictures that this
 * decoder is given until it is replaced.
 * Not: the formats and their limits (image/image.h), nor who may ask how often (service.c).
 * Host process: no signal handler is set.  The fork server is its child and ends with it, however
 * it ends; so do the decoders.  Signals that end or drain the worker (SIGTERM, SIGINT, SIGHUP,
 * SIGQUIT) are ignored by both, so that pictures of running requests are still decoded. */
#ifndef VLM_WORKER_DECODERS_H
#define VLM_WORKER_DECODERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "image/image.h"

typedef struct vlm_decoders vlm_decoders;

enum { VLM_DECODERS_MAX = 64 };

typedef struct vlm_decoders_options {
    uint32_t n; /* children, at most VLM_DECODERS_MAX; 0: one per core up to 4 */
    vlm_image_limits limits;
    uint32_t timeout_ms; /* wall clock of one picture, 0: 10000 */
    size_t memory_max;   /* bytes of address space a child may take for its work, 0: enough for
                            limits.pixels_max in every format */
    bool faults;         /* tests: a file that opens with decoder_faults.h's mark makes its child
                            misbehave */
} vlm_decoders_options;

/* Starts the fork server and the children, and waits until the first one is ready.  To be called
 * while the process has one thread and little memory.
 * FAILED_PRECONDITION when the sandbox cannot be had here (no seccomp filters), INVALID_ARGUMENT
 * for n or limits beyond reason, RESOURCE_EXHAUSTED, UNAVAILABLE when no process can be had. */
VLM_MUST_USE vlm_status vlm_decoders_open(const vlm_decoders_options *options, vlm_decoders **out,
                                          vlm_error *err);
/* Ends and reaps all processes.  No vlm_decoders_run may be under way.  Legal on NULL. */
void vlm_decoders_close(vlm_decoders *d);

/* Decode a whole file, as vlm_image_decode does, its texts included; *format is set on success.
 * Waits for a free child, first come first served; any number of threads.  A child that dies, hangs
 * or lies costs this picture alone: another child takes its place, and nothing is tried again.
 * cancel (may be NULL) ends the wait or the decoding within 20 ms once it is true.
 * INVALID_ARGUMENT: the picture is bad, or its child crashed, needed too much memory or time.
 * RESOURCE_EXHAUSTED: this process is out of memory.  CANCELLED.  UNAVAILABLE: no child can be
 * had. */
VLM_MUST_USE vlm_status vlm_decoders_run(vlm_decoders *d, const void *data, size_t len,
                                         const atomic_bool *cancel, vlm_image *out,
                                         vlm_image_format *format, vlm_error *err);

typedef struct vlm_decoders_stats {
    uint64_t n_decoded[VLM_IMAGE_BMP + 1]; /* by vlm_image_format */
    uint64_t n_failed;                     /* INVALID_ARGUMENT */
    uint64_t n_restarts;                   /* children replaced: dead, stuck, lying or cancelled */
} vlm_decoders_stats;

/* Any thread. */
void vlm_decoders_get_stats(vlm_decoders *d, vlm_decoders_stats *out);

#endif
