/* http1_write.h - writes the heads and chunks of HTTP/1.1 answers.
 * A value that could end its line is refused, so that no input can split an answer in two.
 * Not: sockets, nor what goes into an answer.  Threads: pure but for the clock behind Date. */
#ifndef VLM_NET_HTTP1_WRITE_H
#define VLM_NET_HTTP1_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* What a client that sent `Expect: 100-continue` waits for. */
#define VLM_HTTP1_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

typedef struct vlm_http1_out_field {
    vlm_bytes name; /* a token, written as it is */
    vlm_bytes value;
} vlm_http1_out_field;

typedef enum vlm_http1_body_kind {
    VLM_HTTP1_BODY_NONE,    /* there is none: 204, 304; elsewhere `Content-Length: 0` is written */
    VLM_HTTP1_BODY_LENGTH,  /* of body_len bytes; also for the answer to HEAD */
    VLM_HTTP1_BODY_CHUNKED, /* of unknown length: chunks, or for HTTP/1.0 everything until the
                               connection is closed */
} vlm_http1_body_kind;

/* Append status line, Date, the n fields, Connection and what tells the body's length.
 * minor_version is the client's.  An HTTP/1.0 client with a CHUNKED body gets `Connection: close`
 * whatever keep_alive says, the body must follow without chunks, and the connection must be closed.
 * All or nothing.  INVALID_ARGUMENT: a status outside 200..599, a body for 204, a name that is no
 * token or one that is the writer's own (Date, Connection, Content-Length, Transfer-Encoding), a
 * value with a control character other than a tab.  RESOURCE_EXHAUSTED: out is full. */
VLM_MUST_USE vlm_status vlm_http1_write_head(vlm_buf *out, int status, int minor_version,
                                             const vlm_http1_out_field *fields, size_t n,
                                             vlm_http1_body_kind kind, uint64_t body_len,
                                             bool keep_alive, vlm_error *err);

/* Append data as one chunk; nothing for no data, since an empty chunk ends a body.  All or
 * nothing.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_http1_write_chunk(vlm_buf *out, vlm_bytes data, vlm_error *err);
VLM_MUST_USE vlm_status vlm_http1_write_last_chunk(vlm_buf *out, vlm_error *err);

/* "Not Found" for 404; "" for a status without a known name. */
const char *vlm_http1_reason(int status);

enum { VLM_HTTP1_DATE_LEN = 29 };
/* Seconds since 1970, 0..253402300799 (the year 9999; others are taken as the nearest), as
 * "Sun, 06 Nov 1994 08:49:37 GMT". */
void vlm_http1_date(int64_t unix_s, char out[VLM_HTTP1_DATE_LEN + 1]);

#endif
