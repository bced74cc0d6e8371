#include "rpc/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/wire.h"

enum {
    /* A slow peer's bytes wait in the calls' queues, not in the stream's. */
    UNSENT_MAX = 1 << 20,
    SEND_LEN = 64 << 10,
    KEEP_LEN = 64 << 10, /* of an emptied queue's memory */
};

void vlm_rpc_queue_init(vlm_rpc_queue *q)
{
    *q = (vlm_rpc_queue){0};
    vlm_buf_init(&q->buf, 2 * VLM_RPC_MESSAGE_LEN_MAX);
}

void vlm_rpc_queue_fini(vlm_rpc_queue *q)
{
    vlm_buf_fini(&q->buf);
}

size_t vlm_rpc_queue_len(const vlm_rpc_queue *q)
{
    return q->buf.len - q->head;
}

vlm_status vlm_rpc_queue_add(vlm_rpc_queue *q, const void *message, size_t len, vlm_error *err)
{
    uint8_t prefix[VLM_RPC_PREFIX_LEN];
    if (len > VLM_RPC_MESSAGE_LEN_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "message of %zu bytes; at most %zu are sent",
                        len, VLM_RPC_MESSAGE_LEN_MAX);
    if (q->head > 0 && q->head >= q->buf.len / 2) {
        memmove(q->buf.data, q->buf.data + q->head, q->buf.len - q->head);
        q->buf.len -= q->head;
        q->head = 0;
    }
    vlm_rpc_prefix_write(prefix, (uint32_t)len);
    VLM_TRY(vlm_buf_reserve(&q->buf, sizeof prefix + len, err));
    VLM_TRY(vlm_buf_append(&q->buf, prefix, sizeof prefix, err));
    return vlm_buf_append(&q->buf, message, len, err);
}

size_t vlm_rpc_queue_take(vlm_rpc_queue *q, void *out, size_t len_max)
{
    size_t n = vlm_rpc_queue_len(q);
    if (n > len_max) n = len_max;
    if (n > 0) memcpy(out, q->buf.data + q->head, n);
    q->head += n;
    if (q->head == q->buf.len) {
        q->head = 0;
        vlm_buf_clear(&q->buf);
        if (q->buf.cap > KEEP_LEN) {
            vlm_rpc_queue_fini(q);
            vlm_rpc_queue_init(q);
        }
    }
    return n;
}

static void on_prepare(uv_prepare_t *prepare)
{
    vlm_rpc_flusher *f = prepare->data;
    while (f->first != NULL) {
        vlm_rpc_session *s = f->first;
        f->first = s->next_dirty;
        s->dirty = false;
        if (!vlm_rpc_session_send(s)) s->over(s->user);
    }
}

vlm_status vlm_rpc_flusher_open(vlm_rpc_flusher *f, uv_loop_t *loop, vlm_error *err)
{
    *f = (vlm_rpc_flusher){.prepare = calloc(1, sizeof *f->prepare)};
    if (f->prepare == NULL) return vlm_fail_memory(err, "connections");
    (void)uv_prepare_init(loop, f->prepare);
    (void)uv_prepare_start(f->prepare, on_prepare);
    uv_unref((uv_handle_t *)f->prepare);
    f->prepare->data = f;
    return VLM_OK;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_rpc_flusher_close(vlm_rpc_flusher *f)
{
    if (f->prepare != NULL) uv_close((uv_handle_t *)f->prepare, free_handle);
    *f = (vlm_rpc_flusher){0};
}

void vlm_rpc_session_init(vlm_rpc_session *s, nghttp2_session *h2, vlm_stream *stream,
                          vlm_rpc_flusher *flusher, void (*over)(void *user), void *user)
{
    *s = (vlm_rpc_session){.h2 = h2,
                           .stream = stream,
                           .flusher = flusher,
                           .received_ns = vlm_clock_ns(),
                           .over = over,
                           .user = user};
}

void vlm_rpc_session_close(vlm_rpc_session *s)
{
    if (s->dirty) {
        vlm_rpc_session **p = &s->flusher->first;
        while (*p != s) p = &(*p)->next_dirty;
        *p = s->next_dirty;
        s->dirty = false;
    }
    vlm_stream_close(s->stream);
    s->stream = NULL;
    nghttp2_session_del(s->h2);
    s->h2 = NULL;
}

bool vlm_rpc_session_receive(vlm_rpc_session *s, const uint8_t *data, size_t len)
{
    s->received_ns = vlm_clock_ns();
    s->ping_ns = 0;
    const ssize_t n = nghttp2_session_mem_recv(s->h2, data, len);
    if (n < 0 || (size_t)n != len) {
        /* nghttp2 has made the GOAWAY that says why: let it out. */
        (void)vlm_rpc_session_send(s);
        return false;
    }
    vlm_rpc_session_mark(s);
    return true;
}

void vlm_rpc_session_mark(vlm_rpc_session *s)
{
    if (s->dirty || s->h2 == NULL) return;
    s->dirty = true;
    s->next_dirty = s->flusher->first;
    s->flusher->first = s;
}

bool vlm_rpc_session_send(vlm_rpc_session *s)
{
    static _Thread_local uint8_t out[SEND_LEN];
    size_t n_out = 0;
    while (vlm_stream_unsent(s->stream) < UNSENT_MAX) {
        const uint8_t *data;
        const ssize_t n = nghttp2_session_mem_send(s->h2, &data);
        if (n < 0) return false;
        if (n == 0) break;
        if ((size_t)n > SEND_LEN - n_out) {
            vlm_stream_write(s->stream, out, n_out);
            n_out = 0;
        }
        if ((size_t)n > SEND_LEN) {
            vlm_stream_write(s->stream, data, (size_t)n);
        } else {
            memcpy(out + n_out, data, (size_t)n);
            n_out += (size_t)n;
        }
    }
    vlm_stream_write(s->stream, out, n_out);
    return nghttp2_session_want_read(s->h2) != 0 || nghttp2_session_want_write(s->h2) != 0 ||
           vlm_stream_unsent(s->stream) > 0;
}

bool vlm_rpc_session_keepalive(vlm_rpc_session *s, uint64_t idle_ns, uint64_t timeout_ns)
{
    const uint64_t now = vlm_clock_ns();
    if (s->ping_ns != 0) return now - s->ping_ns < timeout_ns;
    if (now - s->received_ns < idle_ns) return true;
    if (nghttp2_submit_ping(s->h2, NGHTTP2_FLAG_NONE, NULL) != 0) return false;
    s->ping_ns = now;
    vlm_rpc_session_mark(s);
    return true;
}

nghttp2_nv vlm_rpc_nv(const char *name, const char *value, size_t value_len)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = value_len,
                        .flags = NGHTTP2_NV_FLAG_NONE};
}
