/* decoder_child.h - one decoder: takes files, gives pixels, until its socket ends.
 * Not: its birth (decoder_zygote.h), nor what it may do (sandbox.h).
 * Threads: a forked process with one thread. */
#ifndef VLM_WORKER_DECODER_CHILD_H
#define VLM_WORKER_DECODER_CHILD_H

#include "worker/decoder_wire.h"

/* socket is its end; in_fd and out_fd are memfds of the set-up's sizes.  Enters the sandbox,
 * greets, and serves; returns when there is nothing more to do, and the process is to end. */
void vlm_decoder_child_run(const vlm_decoder_setup *setup, int socket, int in_fd, int out_fd);

#endif
