/* decoder_wire.h - what a worker and a decoder child say to each other.
 * One datagram each way on a SOCK_SEQPACKET pair; file and pixels lie in two memfds of fixed size,
 * which the child has mapped and the worker reads and writes as files: a lie about their content
 * can give wrong pixels, never a fault.
 * Not: the fork server's own socket (decoder_zygote.c), both ends of which are ours.
 * Threads: pure. */
#ifndef VLM_WORKER_DECODER_WIRE_H
#define VLM_WORKER_DECODER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "image/image.h"

enum { VLM_DECODER_MAGIC = 0x766c6d64 };

typedef struct vlm_decoder_request {
    uint32_t magic;
    uint32_t seq; /* of the answer too; 0 is the child's greeting */
    uint64_t len; /* bytes of the file */
} vlm_decoder_request;

/* The greeting is one of these: OK, or why there is no sandbox. */
typedef struct vlm_decoder_reply {
    uint32_t magic;
    uint32_t seq;
    uint32_t status; /* vlm_status */
    uint32_t width, height;
    uint8_t has_key, key[3];
    uint64_t pos; /* of an error, as msg */
    char msg[VLM_ERROR_MSG_LEN_MAX + 1];
} vlm_decoder_reply;

/* What every child of one set is started with. */
typedef struct vlm_decoder_setup {
    vlm_image_limits limits;
    size_t in_bytes, out_bytes; /* sizes of the memfds */
    size_t memory_max;          /* bytes beyond what the child starts with */
    uint32_t cpu_seconds_max;   /* over its life */
    bool faults;
} vlm_decoder_setup;

/* Whether n_bytes received into reply are an answer to request seq that can be believed: complete,
 * of the statuses OK, INVALID_ARGUMENT and RESOURCE_EXHAUSTED, a size within the limits, a text
 * that ends and is printable ASCII. */
bool vlm_decoder_reply_is_sane(const vlm_decoder_reply *reply, size_t n_bytes, uint32_t seq,
                               const vlm_image_limits *limits);

#endif
