#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "gateway/client_parts.h"
#include "net/http1_write.h"

enum {
    TICK_MS = 100,
    PENDING_MAX = 64 << 10, /* of requests that wait for an answer before them */
    DISCARD_MAX = 64 << 10, /* of a refused body, to keep the connection */
    OUT_KEEP = 16 << 10,
};
#define SECOND_NS 1000000000u
#define LINGER_NS (2u * (uint64_t)SECOND_NS)
#define BODY_GRACE_NS (10u * (uint64_t)SECOND_NS)

static void set_state(vlm_client *c, vlm_client_state state)
{
    c->state = state;
    c->since_ns = vlm_clock_ns();
}

static void drop_body(vlm_client *c)
{
    if (c->x == NULL) return;
    c->set->n_body_bytes -= c->x->body.len;
    vlm_buf_fini(&c->x->body);
    vlm_buf_init(&c->x->body, (size_t)c->set->options.limits.body_max);
}

/* The exchange is over: into the log. */
static void end_exchange(vlm_client *c)
{
    vlm_exchange *x = c->x;
    if (x == NULL) return;
    const vlm_exchange_record record = {
        .request_id = x->request_id,
        .method = x->method,
        .handler = x->handler,
        .status = x->status,
        .seconds = vlm_clock_seconds(x->arrived_ns, vlm_clock_ns()),
        .detail = x->detail,
    };
    drop_body(c);
    c->x = NULL;
    c->set->n_exchanges--;
    c->set->options.finished(c->set->options.user, &record);
    free(x);
}

static void unlink_dirty(vlm_client *c)
{
    if (!c->dirty) return;
    vlm_client **p = &c->set->dirty;
    while (*p != c) p = &(*p)->next_dirty;
    *p = c->next_dirty;
    c->dirty = false;
}

/* Close now.  Inside process the memory is freed by its caller. */
void vlm_client_close(vlm_client *c)
{
    vlm_clients *set = c->set;
    if (c->closing) return;
    c->closing = true;
    if (c->x != NULL && c->x->gone != NULL && !c->x->answered) {
        void (*gone)(void *) = c->x->gone;
        c->x->gone = NULL;
        gone(c->x->user);
    }
    end_exchange(c);
    unlink_dirty(c);
    vlm_stream_close(c->stream);
    c->stream = NULL;
    if (set->next_in_tick == c) set->next_in_tick = c->next;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        set->first = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    set->n_connections--;
    vlm_http1_fini(&c->parser);
    vlm_buf_fini(&c->pending);
    vlm_buf_fini(&c->out);
    if (!c->processing) free(c);
}

void vlm_client_flush(vlm_client *c)
{
    if (c->out.len == 0 || c->closing) return;
    const size_t before = vlm_stream_unsent(c->stream);
    vlm_stream_write(c->stream, c->out.data, c->out.len);
    const size_t after = vlm_stream_unsent(c->stream);
    if (before == 0 || after <= before) c->wrote_ns = vlm_clock_ns();
    c->last_unsent = after;
    vlm_buf_clear(&c->out);
    if (c->out.cap > OUT_KEEP || c->x == NULL) {
        vlm_buf_fini(&c->out);
        vlm_buf_init(&c->out, VLM_CLIENT_OUT_MAX);
    }
}

void vlm_client_mark_dirty(vlm_client *c)
{
    if (c->dirty || c->closing) return;
    c->dirty = true;
    c->next_dirty = c->set->dirty;
    c->set->dirty = c;
}

/* Everything is written: say so to the peer, then drop what it still sends. */
static void linger(vlm_client *c)
{
    unlink_dirty(c);
    vlm_client_flush(c);
    vlm_stream_shutdown(c->stream);
    vlm_stream_read(c->stream, true);
    set_state(c, CLIENT_LINGER);
}

/* The answer is complete: on to the next request, or to the end. */
void vlm_client_next_request(vlm_client *c, bool keep)
{
    end_exchange(c);
    if (!keep || c->set->draining) {
        linger(c);
        return;
    }
    vlm_http1_release(&c->parser);
    set_state(c, CLIENT_IDLE);
    if (c->processing) return; /* its loop goes on */
    vlm_client_flush(c);
    vlm_stream_read(c->stream, true);
    /* Requests that wait are taken before the loop sleeps, not from within this one's end. */
    if (c->pending.len > 0) vlm_client_mark_dirty(c);
}

static bool is_printable(vlm_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < 0x21 || text.ptr[i] > 0x7e) return false;
    return text.len > 0 && text.len <= VLM_REQUEST_ID_LEN_MAX;
}

static void choose_id(vlm_client *c, const vlm_http1_request *request)
{
    const vlm_http1_field *given = vlm_http1_find(request, "x-request-id");
    if (given != NULL && is_printable(given->value)) {
        memcpy(c->x->request_id, given->value.ptr, given->value.len);
        c->x->request_id[given->value.len] = '\0';
        return;
    }
    (void)snprintf(c->x->request_id, sizeof c->x->request_id, "req-%016" PRIx64 "%08" PRIx64,
                   c->set->id_prefix, ++c->set->n_ids);
}

static bool start_exchange(vlm_client *c)
{
    c->x = calloc(1, sizeof *c->x);
    if (c->x == NULL) return false;
    c->set->n_exchanges++;
    c->x->arrived_ns = vlm_clock_ns();
    c->x->handler = "other";
    c->x->minor_version = 1;
    vlm_buf_init(&c->x->body, (size_t)c->set->options.limits.body_max);
    return true;
}

static void on_malformed(vlm_client *c)
{
    vlm_clients *set = c->set;
    const int status = vlm_http1_error_status(&c->parser);
    vlm_buf body;
    if (c->x == NULL && !start_exchange(c)) {
        vlm_client_close(c);
        return;
    }
    if (c->x->request_id[0] == '\0')
        (void)snprintf(c->x->request_id, sizeof c->x->request_id, "req-%016" PRIx64 "%08" PRIx64,
                       set->id_prefix, ++set->n_ids);
    vlm_buf_init(&body, VLM_ERROR_MSG_LEN_MAX * 8);
    set->options.malformed(set->options.user, status, vlm_http1_error_text(&c->parser), &body);
    vlm_client_respond(c, &(vlm_response){.status = status,
                                          .content_type = "application/json",
                                          .body = vlm_buf_bytes(&body),
                                          .close = true});
    vlm_buf_fini(&body);
}

static void on_head(vlm_client *c)
{
    const vlm_http1_request *r = vlm_http1_request_get(&c->parser);
    if (c->x == NULL && !start_exchange(c)) {
        vlm_client_close(c);
        return;
    }
    vlm_exchange *x = c->x;
    choose_id(c, r);
    (void)snprintf(x->method, sizeof x->method, "%.*s", (int)r->method.len, r->method.ptr);
    x->minor_version = r->minor_version;
    x->keep_alive = r->keep_alive;
    x->is_head = vlm_bytes_eq_str(r->method, "HEAD");
    x->body_ns = vlm_clock_ns();
    set_state(c, CLIENT_BODY);
    c->set->options.head(c->set->options.user, c, r);
    if (c->closing || c->x != x || x->answered) return;
    if (r->has_body && r->expect_continue) {
        vlm_stream_write(c->stream, VLM_HTTP1_CONTINUE, strlen(VLM_HTTP1_CONTINUE));
    }
}

static void refuse_body(vlm_client *c, int status, const char *text)
{
    vlm_buf body;
    vlm_buf_init(&body, VLM_ERROR_MSG_LEN_MAX * 8);
    c->set->options.malformed(c->set->options.user, status, text, &body);
    vlm_client_respond(c, &(vlm_response){.status = status,
                                          .content_type = "application/json",
                                          .body = vlm_buf_bytes(&body),
                                          .retry_after_s = status == 503 ? 1 : 0,
                                          .close = true});
    vlm_buf_fini(&body);
}

static void on_body(vlm_client *c, vlm_bytes data)
{
    vlm_exchange *x = c->x;
    if (x->discard) {
        x->n_discarded += data.len;
        return;
    }
    const vlm_clients_options *o = &c->set->options;
    if (*o->n_held + c->set->n_body_bytes + data.len > o->bodies_max) {
        refuse_body(c, 503, "too many requests are arriving");
        return;
    }
    if (vlm_buf_append(&x->body, data.ptr, data.len, NULL) != VLM_OK) {
        refuse_body(c, 503, "no memory for the body");
        return;
    }
    c->set->n_body_bytes += data.len;
}

static void on_message_end(vlm_client *c)
{
    vlm_exchange *x = c->x;
    if (x->discard) {
        vlm_client_next_request(c, x->keep_alive);
        return;
    }
    set_state(c, CLIENT_ANSWER);
    c->wrote_ns = vlm_clock_ns();
    c->set->n_body_bytes -= x->body.len;
    vlm_buf body = x->body;
    vlm_buf_init(&x->body, 0);
    c->set->options.request(c->set->options.user, c, vlm_http1_request_get(&c->parser), &body);
    vlm_buf_fini(&body);
}

/* Take one event of the parser; false when it wants more bytes. */
static bool take_event(vlm_client *c, const uint8_t **data, size_t *len)
{
    size_t n_used;
    vlm_bytes body;
    if (c->state == CLIENT_IDLE && *len > 0) set_state(c, CLIENT_HEAD);
    const vlm_http1_event event = vlm_http1_next(&c->parser, *data, *len, &n_used, &body);
    *data += n_used;
    *len -= n_used;
    switch (event) {
    case VLM_HTTP1_NEED_MORE: return false;
    case VLM_HTTP1_HEAD: on_head(c); break;
    case VLM_HTTP1_BODY: on_body(c, body); break;
    case VLM_HTTP1_END: on_message_end(c); break;
    case VLM_HTTP1_ERROR: on_malformed(c); return false;
    }
    return true;
}

static bool may_parse(const vlm_client *c)
{
    return !c->closing &&
           (c->state == CLIENT_IDLE || c->state == CLIENT_HEAD || c->state == CLIENT_BODY);
}

/* Parse what was kept and then data, as far as requests may be taken; keep the rest. */
static void process(vlm_client *c, const uint8_t *data, size_t len)
{
    c->processing = true;
    vlm_buf kept = c->pending;
    vlm_buf_init(&c->pending, PENDING_MAX * 4);
    const uint8_t *kept_data = (const uint8_t *)kept.data;
    size_t kept_len = kept.len;
    while (may_parse(c) && kept_len > 0 && take_event(c, &kept_data, &kept_len)) continue;
    while (may_parse(c) && kept_len == 0 && take_event(c, &data, &len)) continue;
    /* An END without bytes, as after a body of no length, is taken above: len may be 0 there. */
    if (!c->closing && c->state == CLIENT_ANSWER && (kept_len > 0 || len > 0)) {
        if (vlm_buf_append(&c->pending, kept_data, kept_len, NULL) != VLM_OK ||
            vlm_buf_append(&c->pending, data, len, NULL) != VLM_OK) {
            vlm_client_close(c);
        } else if (c->pending.len >= PENDING_MAX) {
            vlm_stream_read(c->stream, false);
        }
    }
    vlm_buf_fini(&kept);
    c->processing = false;
    if (c->closing) {
        free(c);
        return;
    }
    vlm_client_flush(c);
}

static void on_prepare(uv_prepare_t *prepare)
{
    vlm_clients *set = prepare->data;
    while (set->dirty != NULL) {
        vlm_client *c = set->dirty;
        set->dirty = c->next_dirty;
        c->dirty = false;
        vlm_client_flush(c);
        if (c->state == CLIENT_IDLE && c->pending.len > 0) {
            process(c, NULL, 0);
            continue; /* c may be gone */
        }
        /* What the system took at once drains nothing later. */
        if (vlm_stream_unsent(c->stream) == 0 && c->x != NULL && c->x->drained != NULL)
            c->x->drained(c->x->user);
    }
}

static void on_data(void *user, const uint8_t *data, size_t len)
{
    vlm_client *c = user;
    if (c->state == CLIENT_LINGER) return;
    if (c->state != CLIENT_ANSWER) {
        process(c, data, len);
        return;
    }
    if (vlm_buf_append(&c->pending, data, len, NULL) != VLM_OK)
        vlm_client_close(c);
    else if (c->pending.len >= PENDING_MAX)
        vlm_stream_read(c->stream, false);
}

static void on_end(void *user)
{
    vlm_client_close(user);
}

static void on_drained(void *user)
{
    vlm_client *c = user;
    c->wrote_ns = vlm_clock_ns();
    c->last_unsent = 0;
    if (c->x != NULL && c->x->drained != NULL) c->x->drained(c->x->user);
}

static const vlm_stream_handler stream_handler = {
    .data = on_data, .end = on_end, .drained = on_drained, .gone = on_end};

void vlm_clients_accept(vlm_clients *set, vlm_stream *stream)
{
    vlm_client *c = NULL;
    if (set->n_connections < set->options.connections_max && !set->draining)
        c = calloc(1, sizeof *c);
    if (c == NULL) {
        vlm_stream_close(stream);
        return;
    }
    c->set = set;
    c->stream = stream;
    vlm_http1_init(&c->parser, &set->options.limits);
    vlm_buf_init(&c->pending, PENDING_MAX * 4);
    vlm_buf_init(&c->out, VLM_CLIENT_OUT_MAX);
    c->next = set->first;
    if (c->next != NULL) c->next->prev = c;
    set->first = c;
    set->n_connections++;
    /* A new connection must speak before the header's time is over. */
    set_state(c, CLIENT_HEAD);
    vlm_stream_set_handler(stream, &stream_handler, c);
    vlm_stream_read(stream, true);
}

static void on_accept(void *user, vlm_stream *stream)
{
    vlm_clients_accept(user, stream);
}

/* Has the peer taken something since the last look? */
static void look_at_writes(vlm_client *c, uint64_t now)
{
    const size_t unsent = vlm_stream_unsent(c->stream);
    if (unsent == 0 || unsent < c->last_unsent) c->wrote_ns = now;
    c->last_unsent = unsent;
}

static void check_client(vlm_client *c, uint64_t now)
{
    const vlm_clients_options *o = &c->set->options;
    const uint64_t age = now - c->since_ns;
    look_at_writes(c, now);
    if (c->last_unsent > 0 && now - c->wrote_ns > o->slow_ns) {
        /* It would never see an end that waits behind what it does not read. */
        if (c->x != NULL && c->x->gone != NULL && !c->x->answered) {
            void (*gone)(void *) = c->x->gone;
            c->x->gone = NULL;
            gone(c->x->user);
        }
        vlm_client_close(c);
        return;
    }
    switch (c->state) {
    case CLIENT_IDLE:
        if (age > o->idle_ns || c->set->draining) vlm_client_close(c);
        break;
    case CLIENT_HEAD:
        if (age > o->header_ns) {
            if (c->x == NULL && !start_exchange(c)) {
                vlm_client_close(c);
                return;
            }
            refuse_body(c, 408, "the header did not come in time");
        }
        break;
    case CLIENT_BODY: {
        const uint64_t n = c->x->body.len + c->x->n_discarded;
        const double seconds = vlm_clock_seconds(c->x->body_ns, now);
        if (now - c->x->body_ns > BODY_GRACE_NS && (double)n < seconds * o->body_rate_min) {
            if (c->x->answered)
                vlm_client_close(c);
            else
                refuse_body(c, 408, "the body comes too slowly");
        }
        break;
    }
    case CLIENT_ANSWER: break;
    case CLIENT_LINGER:
        if (age > LINGER_NS && c->last_unsent == 0) vlm_client_close(c);
        break;
    }
}

static void on_tick(uv_timer_t *timer)
{
    vlm_clients *set = timer->data;
    const uint64_t now = vlm_clock_ns();
    for (vlm_client *c = set->first; c != NULL; c = set->next_in_tick) {
        set->next_in_tick = c->next;
        check_client(c, now);
    }
    set->next_in_tick = NULL;
}

vlm_status vlm_clients_open(const vlm_clients_options *options, vlm_clients **out, vlm_error *err)
{
    *out = NULL;
    vlm_clients *set = calloc(1, sizeof *set);
    uv_timer_t *tick = calloc(1, sizeof *tick);
    uv_prepare_t *prepare = calloc(1, sizeof *prepare);
    if (set == NULL || tick == NULL || prepare == NULL) {
        free(set);
        free(tick);
        free(prepare);
        return vlm_fail_memory(err, "connections");
    }
    set->options = *options;
    set->tick = tick;
    set->prepare = prepare;
    if (getrandom(&set->id_prefix, sizeof set->id_prefix, 0) != sizeof set->id_prefix)
        set->id_prefix = vlm_clock_ns();
    (void)uv_timer_init(options->loop, tick);
    (void)uv_prepare_init(options->loop, prepare);
    tick->data = prepare->data = set;
    (void)uv_timer_start(tick, on_tick, TICK_MS, TICK_MS);
    (void)uv_prepare_start(prepare, on_prepare);
    *out = set;
    return VLM_OK;
}

vlm_status vlm_clients_listen(vlm_clients *set, const vlm_addr *addr, vlm_error *err)
{
    return vlm_listener_open(set->options.loop, addr, on_accept, set, &set->listener, err);
}

const vlm_addr *vlm_clients_addr(const vlm_clients *set)
{
    return vlm_listener_addr(set->listener);
}

void vlm_clients_drain(vlm_clients *set)
{
    vlm_listener_close(set->listener);
    set->listener = NULL;
    set->draining = true;
}

size_t vlm_clients_n_connections(const vlm_clients *set)
{
    return set->n_connections;
}

size_t vlm_clients_n_exchanges(const vlm_clients *set)
{
    return set->n_exchanges;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_clients_close(vlm_clients *set)
{
    if (set == NULL) return;
    vlm_listener_close(set->listener);
    while (set->first != NULL) vlm_client_close(set->first);
    uv_close((uv_handle_t *)set->tick, free_handle);
    uv_close((uv_handle_t *)set->prepare, free_handle);
    free(set);
}

const char *vlm_client_request_id(const vlm_client *c)
{
    return c->x->request_id;
}

uint64_t vlm_client_arrived_ns(const vlm_client *c)
{
    return c->x->arrived_ns;
}

void vlm_client_set_handler(vlm_client *c, const char *handler)
{
    c->x->handler = handler;
}

void vlm_client_set_detail(vlm_client *c, void *detail)
{
    c->x->detail = detail;
}

void vlm_client_watch(vlm_client *c, void (*gone)(void *user), void (*drained)(void *user),
                      void *user)
{
    c->x->gone = gone;
    c->x->drained = drained;
    c->x->user = user;
}
