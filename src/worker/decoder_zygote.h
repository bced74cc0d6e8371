/* decoder_zygote.h - the fork server of the decoders: a process with one thread that forks children
 * on request, ends them, and reaps them, so that a worker with threads and a model need not.
 * It never sees a byte of a picture.  It ends, and its children with it, when the worker's end of
 * the control socket is gone.
 * Not: which child works on what (decoders.c).
 * Threads: start and stop from one; spawn and kill from any number. */
#ifndef VLM_WORKER_DECODER_ZYGOTE_H
#define VLM_WORKER_DECODER_ZYGOTE_H

#include <sys/types.h>

#include "worker/decoder_wire.h"

typedef struct vlm_decoder_zygote vlm_decoder_zygote;

/* The worker's ends of one child; the caller closes them. */
typedef struct vlm_decoder_fds {
    int socket, in, out; /* -1: none */
} vlm_decoder_fds;

/* Fork the server.  Children are numbered 0 to n_slots - 1.
 * UNAVAILABLE when it cannot be forked, RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_decoder_zygote_start(const vlm_decoder_setup *setup, uint32_t n_slots,
                                                 vlm_decoder_zygote **out, vlm_error *err);
/* Ends all children and the server, and waits until they are gone.  Legal on NULL. */
void vlm_decoder_zygote_stop(vlm_decoder_zygote *z);

/* A new child in the slot; one that is still there is killed.  Returns before the child is ready:
 * its greeting tells.  UNAVAILABLE, with *fds all -1. */
VLM_MUST_USE vlm_status vlm_decoder_zygote_spawn(vlm_decoder_zygote *z, uint32_t slot_idx,
                                                 vlm_decoder_fds *fds, vlm_error *err);
/* Kill the slot's child, if any.  Does not wait. */
void vlm_decoder_zygote_kill(vlm_decoder_zygote *z, uint32_t slot_idx);

#endif
