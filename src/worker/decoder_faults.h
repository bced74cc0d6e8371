/* decoder_faults.h - what a taken-over decoder would do, on cue, so that tests can watch the worker
 * survive it.  Only a set opened with `faults` looks for the cue.
 * Threads: a decoder child's. */
#ifndef VLM_WORKER_DECODER_FAULTS_H
#define VLM_WORKER_DECODER_FAULTS_H

#include "worker/decoder_wire.h"

/* A file that opens with it; the rest is one of the words in decoder_faults.c. */
#define VLM_DECODER_FAULT_MARK "VLMD-FAULT "

bool vlm_decoder_fault_is_marked(const void *data, size_t len);

/* False when the file is not marked.  Otherwise does what the word says; if the process survives
 * that, *reply is the answer to send: of a forbidden call that was let through, a picture of one
 * pixel. */
bool vlm_decoder_fault(const void *data, size_t len, vlm_decoder_reply *reply);

#endif
