/* http1_trace.h - runs the HTTP/1.1 parser over bytes that are cut in some way and writes down what
 * it said, so that two ways of cutting can be compared.  For tests and the fuzz target. */
#ifndef VLM_TESTS_NET_HTTP1_TRACE_H
#define VLM_TESTS_NET_HTTP1_TRACE_H

#include <stdlib.h>
#include <string.h>

#include "net/http1.h"

typedef struct http1_trace {
    vlm_buf full;     /* every event with all it carries; pieces of a body are joined */
    vlm_buf brief;    /* "GET /path[body] POST /x[] 400"; "more" when a message is not complete */
    size_t n_used;    /* bytes consumed */
    size_t n_pending; /* of them since the last END */
    size_t n_heads, n_ends, body_bytes;
    bool in_message, in_body, failed;
} http1_trace;

/* An unmet condition ends the program: the trace itself must be right. */
static inline void http1_must(bool cond)
{
    if (!cond) abort();
}

static inline void http1_put(vlm_buf *buf, const char *text)
{
    http1_must(vlm_buf_append_str(buf, text, NULL) == VLM_OK);
}

static inline void http1_put_bytes(vlm_buf *buf, const char *before, vlm_bytes bytes)
{
    http1_put(buf, before);
    http1_must(vlm_buf_append(buf, bytes.ptr, bytes.len, NULL) == VLM_OK);
}

static inline void http1_trace_init(http1_trace *t)
{
    *t = (http1_trace){0};
    vlm_buf_init(&t->full, (size_t)1 << 30);
    vlm_buf_init(&t->brief, (size_t)1 << 30);
}

static inline void http1_trace_fini(http1_trace *t)
{
    vlm_buf_fini(&t->full);
    vlm_buf_fini(&t->brief);
}

static inline void http1_trace_head(http1_trace *t, const vlm_http1_request *r)
{
    http1_must(r != NULL);
    t->n_heads++;
    t->in_message = true;
    http1_put_bytes(&t->full, "HEAD ", r->method);
    http1_put_bytes(&t->full, " ", r->target);
    http1_put_bytes(&t->full, " ", r->path);
    http1_put_bytes(&t->full, " ?", r->query);
    http1_must(vlm_buf_printf(&t->full, NULL, " 1.%d%s%s%s%s %llu\n", r->minor_version,
                              r->has_body ? " body" : "", r->chunked ? " chunked" : "",
                              r->expect_continue ? " expect" : "", r->keep_alive ? " keep" : "",
                              (unsigned long long)r->content_length) == VLM_OK);
    for (size_t i = 0; i < r->n_fields; i++) {
        http1_put_bytes(&t->full, "  ", r->fields[i].name);
        http1_put_bytes(&t->full, ": ", r->fields[i].value);
        http1_put(&t->full, "\n");
    }
    http1_put_bytes(&t->brief, t->brief.len > 0 ? " " : "", r->method);
    http1_put_bytes(&t->brief, " ", r->path);
    if (r->query.len > 0) http1_put_bytes(&t->brief, "?", r->query);
    http1_put(&t->brief, "[");
}

static inline void http1_trace_event(http1_trace *t, const vlm_http1 *p, vlm_http1_event event,
                                     vlm_bytes body)
{
    switch (event) {
    case VLM_HTTP1_NEED_MORE: break;
    case VLM_HTTP1_HEAD: http1_trace_head(t, vlm_http1_request_get(p)); break;
    case VLM_HTTP1_BODY:
        http1_must(body.len > 0 && t->in_message);
        http1_put_bytes(&t->full, t->in_body ? "" : "BODY ", body);
        http1_put_bytes(&t->brief, "", body);
        t->in_body = true;
        t->body_bytes += body.len;
        break;
    case VLM_HTTP1_END:
        http1_must(t->in_message && vlm_http1_request_get(p) != NULL);
        http1_put(&t->full, t->in_body ? "\nEND\n" : "END\n");
        http1_put(&t->brief, "]");
        t->in_message = t->in_body = false;
        t->n_ends++;
        break;
    case VLM_HTTP1_ERROR:
        t->failed = true;
        http1_must(vlm_http1_error_text(p)[0] != '\0');
        http1_must(vlm_buf_printf(&t->full, NULL, "ERROR %d %s\n", vlm_http1_error_status(p),
                                  vlm_http1_error_text(p)) == VLM_OK);
        http1_must(vlm_buf_printf(&t->brief, NULL, "%s%d", t->brief.len > 0 ? " " : "",
                                  vlm_http1_error_status(p)) == VLM_OK);
        break;
    }
}

/* Feed one piece, until it is used up or the parser fails. */
static inline void http1_trace_feed(http1_trace *t, vlm_http1 *p, const char *data, size_t len)
{
    size_t off = 0;
    /* Exactly len bytes, so that a sanitizer sees a read beyond the end. */
    char *const copy = malloc(len);
    http1_must(copy != NULL || len == 0);
    if (len > 0) memcpy(copy, data, len);
    for (vlm_http1_event event = VLM_HTTP1_HEAD; event != VLM_HTTP1_NEED_MORE;) {
        size_t n_used;
        vlm_bytes body;
        event = vlm_http1_next(p, len > off ? copy + off : NULL, len - off, &n_used, &body);
        http1_must(n_used <= len - off);
        http1_must(event == VLM_HTTP1_BODY || body.len == 0);
        http1_must(body.len == 0 || (body.ptr >= copy + off && body.len <= n_used &&
                                     body.ptr + body.len == copy + off + n_used));
        off += n_used;
        t->n_used += n_used;
        t->n_pending = event == VLM_HTTP1_END ? 0 : t->n_pending + n_used;
        http1_must(event != VLM_HTTP1_NEED_MORE || off == len);
        http1_trace_event(t, p, event, body);
        if (event == VLM_HTTP1_ERROR) {
            const int status = vlm_http1_error_status(p);
            http1_must(vlm_http1_next(p, copy, len, &n_used, &body) == VLM_HTTP1_ERROR);
            http1_must(n_used == 0 && vlm_http1_error_status(p) == status);
            break;
        }
    }
    free(copy);
}

/* After the last piece. */
static inline void http1_trace_finish(http1_trace *t)
{
    if (!t->failed && t->n_pending > 0) http1_put(&t->brief, t->brief.len > 0 ? " more" : "more");
}

#endif
