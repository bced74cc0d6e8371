/* stop.h - cuts a streamed text at the first of several stop strings, which may arrive split over
 * any number of pieces.  Text that could still become a stop string is held back.
 * Not: end-of-sequence tokens (engine.c).  Threads: one at a time. */
#ifndef VLM_ENGINE_STOP_H
#define VLM_ENGINE_STOP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

enum { VLM_STOP_STRINGS_MAX = 16, VLM_STOP_LEN_MAX = 256 };

typedef struct vlm_stop {
    vlm_bytes strings[VLM_STOP_STRINGS_MAX]; /* owned by the caller, who keeps them */
    size_t n_strings;
    vlm_buf held; /* the text that may be the beginning of a stop string */
    bool hit;
} vlm_stop;

/* INVALID_ARGUMENT "stop ..." for more than VLM_STOP_STRINGS_MAX strings, an empty one or one
 * longer than VLM_STOP_LEN_MAX bytes. */
VLM_MUST_USE vlm_status vlm_stop_init(vlm_stop *stop, const vlm_bytes *strings, size_t n_strings,
                                      vlm_error *err);
void vlm_stop_fini(vlm_stop *stop);

/* Take the next piece of text; append to out what is certain not to belong to a stop string.
 * Once a stop string is complete stop->hit is true, everything before it has been appended, and
 * further pieces are dropped.  The stop string that is complete first wins, the longest of those
 * that end together. */
VLM_MUST_USE vlm_status vlm_stop_push(vlm_stop *stop, vlm_bytes piece, vlm_buf *out,
                                      vlm_error *err);

/* The end of the answer: append what was held back. */
VLM_MUST_USE vlm_status vlm_stop_flush(vlm_stop *stop, vlm_buf *out, vlm_error *err);

#endif
