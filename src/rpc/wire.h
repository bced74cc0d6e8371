/* wire.h - what gRPC puts on HTTP/2: length-prefixed messages, percent-encoded status texts and
 * time-outs (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 * Not: HTTP/2 itself.  Threads: pure, or writes only to its arguments. */
#ifndef VLM_RPC_WIRE_H
#define VLM_RPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum { VLM_RPC_PREFIX_LEN = 5 };

/* Largest message that either side takes: a 64 MiB HTTP body and what is around it. */
#define VLM_RPC_MESSAGE_LEN_MAX ((size_t)72 << 20)

/* The prefix of an uncompressed message of len bytes. */
void vlm_rpc_prefix_write(uint8_t out[VLM_RPC_PREFIX_LEN], uint32_t len);

/* Gathers one message after another from pieces cut anywhere. */
typedef struct vlm_rpc_reader {
    uint8_t prefix[VLM_RPC_PREFIX_LEN];
    uint32_t n_prefix;
    uint32_t message_len;
    vlm_buf message;
} vlm_rpc_reader;

void vlm_rpc_reader_init(vlm_rpc_reader *r, size_t message_len_max);
void vlm_rpc_reader_fini(vlm_rpc_reader *r);

/* Take bytes; *n_used says how many.  When *complete, r->message is a whole message, to be read
 * before the next call.  Memory grows with what has arrived, not with what was announced.
 * UNIMPLEMENTED: compressed; INTERNAL: bad flag; RESOURCE_EXHAUSTED: too long. */
VLM_MUST_USE vlm_status vlm_rpc_reader_push(vlm_rpc_reader *r, const uint8_t *data, size_t len,
                                            size_t *n_used, bool *complete, vlm_error *err);
/* Bytes of a message that is not whole yet. */
bool vlm_rpc_reader_is_inside(const vlm_rpc_reader *r);

/* grpc-message: percent-encoded UTF-8.  Broken escapes are kept as they are. */
VLM_MUST_USE vlm_status vlm_rpc_message_encode(vlm_bytes text, vlm_buf *out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_rpc_message_decode(vlm_bytes text, vlm_buf *out, vlm_error *err);

/* grpc-timeout: at most 8 digits and a unit (H M S m u n).  False for anything else. */
bool vlm_rpc_timeout_parse(vlm_bytes text, uint64_t *ns);
enum { VLM_RPC_TIMEOUT_LEN_MAX = 16 };
void vlm_rpc_timeout_format(uint64_t ns, char out[VLM_RPC_TIMEOUT_LEN_MAX]);

/* grpc-status as text to a code; UNKNOWN for what is none. */
vlm_status vlm_rpc_status_parse(vlm_bytes text);
/* What an HTTP status without grpc-status means to a client. */
vlm_status vlm_rpc_status_of_http(uint32_t http_status);

#endif
