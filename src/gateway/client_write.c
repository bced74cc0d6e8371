#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "gateway/client_parts.h"
#include "net/http1_write.h"

enum { FIELDS_MAX = 12 + VLM_RESPONSE_MORE_MAX, NUMBER_LEN_MAX = 16, DISCARD_MAX = 64 << 10 };

/* The fields of an answer's head, with room for the numbers in them. */
typedef struct head {
    vlm_http1_out_field fields[FIELDS_MAX];
    size_t n;
    char retry_after[NUMBER_LEN_MAX];
} head;

static void add_field(head *h, const char *name, const char *value)
{
    h->fields[h->n++] =
        (vlm_http1_out_field){.name = vlm_bytes_of(name), .value = vlm_bytes_of(value)};
}

static void add_cors(const vlm_client *c, head *h, bool is_preflight)
{
    const char *origin = c->set->options.cors_origin;
    if (origin == NULL) return;
    add_field(h, "Access-Control-Allow-Origin", origin);
    if (strcmp(origin, "*") != 0) add_field(h, "Vary", "Origin");
    add_field(h, "Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    if (!is_preflight) return;
    add_field(h, "Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    add_field(h, "Access-Control-Allow-Headers",
              "Authorization, Content-Type, X-Api-Key, X-Request-Id, X-Request-Timeout");
    add_field(h, "Access-Control-Max-Age", "600");
}

static void fill_head(const vlm_client *c, const vlm_response *r, head *h)
{
    *h = (head){0};
    if (r->content_type != NULL) add_field(h, "Content-Type", r->content_type);
    if (c->x->request_id[0] != '\0') add_field(h, "X-Request-Id", c->x->request_id);
    add_cors(c, h, r->is_preflight);
    if (r->retry_after_s > 0) {
        (void)snprintf(h->retry_after, sizeof h->retry_after, "%u", r->retry_after_s);
        add_field(h, "Retry-After", h->retry_after);
    }
    if (r->allow != NULL) add_field(h, "Allow", r->allow);
    if (r->authenticate) add_field(h, "WWW-Authenticate", "Bearer");
    assert(r->n_more <= VLM_RESPONSE_MORE_MAX);
    for (size_t i = 0; i < r->n_more; i++) h->fields[h->n++] = r->more[i];
}

/* May the connection be used again when the rest of the request's body is dropped? */
static bool may_discard(const vlm_client *c)
{
    const vlm_http1_request *r = vlm_http1_request_get(&c->parser);
    if (!r->has_body) return true;
    if (r->expect_continue) return false; /* the peer may never send it */
    return !r->chunked && r->content_length <= DISCARD_MAX;
}

void vlm_client_respond(vlm_client *c, const vlm_response *r)
{
    vlm_exchange *x = c->x;
    head h;
    const bool in_body = c->state == CLIENT_BODY || c->state == CLIENT_HEAD;
    bool keep = x->keep_alive && !r->close && !c->set->draining;
    if (in_body && keep) keep = may_discard(c);
    fill_head(c, r, &h);
    x->status = r->status;
    x->answered = true;
    x->keep_alive = keep;
    /* A failure to write for want of memory ends the connection: the peer sees it cut. */
    const vlm_http1_body_kind kind =
        r->status == 204 || r->status == 304 ? VLM_HTTP1_BODY_NONE : VLM_HTTP1_BODY_LENGTH;
    vlm_status status = vlm_http1_write_head(&c->out, r->status, x->minor_version, h.fields, h.n,
                                             kind, r->body.len, keep, NULL);
    if (status == VLM_OK && !x->is_head)
        status = vlm_buf_append(&c->out, r->body.ptr, r->body.len, NULL);
    if (status != VLM_OK) {
        vlm_client_close(c);
        return;
    }
    if (in_body && keep) {
        x->discard = true;
        vlm_client_mark_dirty(c);
        return;
    }
    vlm_client_next_request(c, keep);
}

void vlm_client_stream_start(vlm_client *c)
{
    vlm_exchange *x = c->x;
    const vlm_response r = {.status = 200, .content_type = "text/event-stream; charset=utf-8"};
    head h;
    fill_head(c, &r, &h);
    add_field(&h, "Cache-Control", "no-cache");
    add_field(&h, "X-Accel-Buffering", "no");
    x->status = 200;
    x->streaming = true;
    if (x->minor_version == 0) x->keep_alive = false;
    if (vlm_http1_write_head(&c->out, 200, x->minor_version, h.fields, h.n, VLM_HTTP1_BODY_CHUNKED,
                             0, x->keep_alive, NULL) != VLM_OK)
        vlm_stream_shutdown(c->stream);
    vlm_client_mark_dirty(c);
}

void vlm_client_stream_write(vlm_client *c, vlm_bytes data)
{
    const bool chunked = c->x->minor_version > 0;
    if (data.len == 0) return;
    const vlm_status status = chunked ? vlm_http1_write_chunk(&c->out, data, NULL)
                                      : vlm_buf_append(&c->out, data.ptr, data.len, NULL);
    /* The peer must not see a stream with a hole. */
    if (status != VLM_OK) vlm_stream_shutdown(c->stream);
    vlm_client_mark_dirty(c);
}

void vlm_client_stream_end(vlm_client *c, bool keep)
{
    vlm_exchange *x = c->x;
    x->answered = true;
    if (x->minor_version > 0 && vlm_http1_write_last_chunk(&c->out, NULL) != VLM_OK) keep = false;
    vlm_client_next_request(c, keep && x->keep_alive);
}

bool vlm_client_is_slow(const vlm_client *c)
{
    return vlm_stream_unsent(c->stream) + c->out.len > c->set->options.unsent_max;
}

uint64_t vlm_client_last_write_ns(const vlm_client *c)
{
    return vlm_stream_unsent(c->stream) > 0 ? c->wrote_ns : 0;
}
