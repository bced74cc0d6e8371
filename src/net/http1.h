/* http1.h - a strict parser of HTTP/1.1 requests (RFC 9112, RFC 9110): bytes in, events out.
 * What two readers could understand in two ways is refused: lines end in CRLF alone, no folded
 * fields, no white space before a colon, one way to tell a body's length, one Host.
 * Not: sockets, time-outs, routing, decoding of %XX, content codings, CONNECT, HTTP/0.9 and 2.
 * Ownership: the request and everything it points to belong to the parser.  Body bytes are views of
 * what the caller passed in and are never kept.  One connection holds at most about
 * 1.5 * (request_line_max + header_bytes_max) + 64 * header_fields_max bytes, and nothing between
 * messages after vlm_http1_release.  The time is linear in the bytes, however they are cut.
 * Threads: one at a time. */
#ifndef VLM_NET_HTTP1_H
#define VLM_NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

typedef struct vlm_http1_limits {
    size_t request_line_max;    /* bytes without the CRLF; beyond it 414 */
    size_t header_bytes_max;    /* of all field lines and trailers with their CRLF; 431 */
    uint32_t header_fields_max; /* field lines and trailers; 431 */
    uint64_t body_max;          /* bytes without chunk framing; 413 */
} vlm_http1_limits;

/* 8 KiB, 32 KiB, 100, 64 MiB. */
extern const vlm_http1_limits vlm_http1_limits_default;

typedef enum vlm_http1_event {
    VLM_HTTP1_NEED_MORE, /* everything was consumed */
    VLM_HTTP1_HEAD,      /* the request is there, its body not yet */
    VLM_HTTP1_BODY,      /* some bytes of the body, at least one */
    VLM_HTTP1_END,       /* the message is complete; what follows is the next one */
    VLM_HTTP1_ERROR,     /* for good: answer with vlm_http1_error_status and close */
} vlm_http1_event;

typedef struct vlm_http1_field {
    vlm_bytes name;  /* lower case */
    vlm_bytes value; /* without white space around it; may hold bytes >= 0x80, no control
                        characters but tabs */
} vlm_http1_field;

typedef struct vlm_http1_request {
    vlm_bytes method; /* as sent, 1..32 bytes */
    vlm_bytes target; /* as sent: visible ASCII without '#' */
    vlm_bytes path;   /* of the target, raw: begins with '/', or is "*" for OPTIONS.  The scheme and
                         authority of an absolute target are left out */
    vlm_bytes query;  /* raw, what follows the first '?'; empty if there is none */
    int minor_version;             /* HTTP/1.0 or HTTP/1.1 */
    const vlm_http1_field *fields; /* in the order sent, repetitions included */
    size_t n_fields;
    bool has_body; /* chunked, or content_length > 0 */
    bool chunked;
    bool expect_continue;    /* the client waits for VLM_HTTP1_CONTINUE before it sends the body */
    bool keep_alive;         /* the client lets the connection be used again */
    uint64_t content_length; /* 0 if chunked */
} vlm_http1_request;

/* The fields are the parser's own; look at them through the functions alone. */
typedef struct vlm_http1 {
    vlm_http1_limits limits;
    struct vlm_http1_store *store; /* the message's bytes and fields; NULL between messages */
    const char *error_text;
    uint64_t body_bytes;     /* of this message so far */
    uint64_t left;           /* bytes to come of this body or chunk; the size while it is read */
    uint64_t overhead_bytes; /* chunk framing of this message so far */
    size_t line_bytes;       /* of the request line so far */
    size_t header_bytes;     /* of all field lines and trailers so far */
    uint32_t n_fields;       /* the same in lines */
    uint16_t error_status;
    uint16_t n_ext; /* bytes of this chunk's extensions so far */
    uint8_t state;
    uint8_t n_digits; /* of this chunk's size so far */
    uint8_t n_name;   /* of a trailer's name so far */
    bool in_trailer;
    bool skipped_crlf; /* the one that is let pass before a request line */
    char name[20];     /* of a trailer, lower case, cut */
} vlm_http1;

/* No memory is taken before the first byte of a message. */
void vlm_http1_init(vlm_http1 *p, const vlm_http1_limits *limits);
void vlm_http1_fini(vlm_http1 *p);

/* Take bytes from data and return the next event; *n_used says how many were taken: all of them on
 * NEED_MORE, on ERROR those up to the one that made the message wrong.  The caller goes on with the
 * rest until NEED_MORE.  An event may need no bytes: call with what is left even if that is nothing
 * (data may be NULL then). *body is set for BODY only, a view of data.  After ERROR every call
 * returns ERROR.  Memory that runs out is an ERROR with status 503. */
vlm_http1_event vlm_http1_next(vlm_http1 *p, const void *data, size_t len, size_t *n_used,
                               vlm_bytes *body);

/* The request: from HEAD until the call of vlm_http1_next after END, or vlm_http1_release; NULL
 * outside that time. */
const vlm_http1_request *vlm_http1_request_get(const vlm_http1 *p);

/* The first field of that name (lower case), NULL if there is none. */
const vlm_http1_field *vlm_http1_find(const vlm_http1_request *request, const char *name);

/* After ERROR: 400, 413, 414, 417, 431, 501, 503 or 505, and one line that names what is wrong and
 * repeats nothing the client sent.  0 and "" otherwise. */
int vlm_http1_error_status(const vlm_http1 *p);
const char *vlm_http1_error_text(const vlm_http1 *p);

/* After END, after ERROR or before the first byte of a message: free all memory, so that an idle
 * connection costs only the struct.  Does nothing within a message. */
void vlm_http1_release(vlm_http1 *p);

#endif
