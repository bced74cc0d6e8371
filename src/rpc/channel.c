#include "rpc/channel.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/wire.h"

enum {
    STREAM_WINDOW = 128 << 10, /* what may wait here for a slow client */
    CONNECTION_WINDOW = 16 << 20,
    TRAILER_LEN_MAX = 4096,
    TICK_MS = 100,
    STREAM_ID_LAST = 0x7fff0000, /* then the connection is made anew */
};

struct vlm_rpc_client_call {
    vlm_rpc_channel *channel;
    vlm_rpc_client_call *prev, *next;
    int32_t stream_id;
    vlm_rpc_call_options options;
    vlm_rpc_queue out;
    vlm_rpc_reader reader;
    uint32_t http_status;
    bool has_status, is_grpc, paused, failed;
    size_t n_unconsumed; /* bytes not granted again while paused */
    vlm_error error;
    char reason[32];
};

struct vlm_rpc_channel {
    vlm_rpc_channel_options options;
    char *path; /* of the Unix socket */
    vlm_stream *connecting;
    vlm_rpc_session session; /* h2 is NULL while there is none */
    vlm_rpc_client_call *calls;
    uv_timer_t *retry, *tick;
    uint64_t backoff_ns;
    uint64_t jitter; /* state of the jitter's generator */
    bool is_up;
    bool closing, going_away;
};

static void start_connecting(vlm_rpc_channel *ch);

static void unlink_call(vlm_rpc_client_call *call)
{
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        call->channel->calls = call->next;
    if (call->next != NULL) call->next->prev = call->prev;
}

static void free_call(vlm_rpc_client_call *call)
{
    vlm_rpc_queue_fini(&call->out);
    vlm_rpc_reader_fini(&call->reader);
    free(call);
}

/* Hand the end of a call over. */
static void end_call(vlm_rpc_client_call *call)
{
    const bool ok = call->has_status && call->error.code == VLM_OK && !call->failed;
    if (!ok && call->error.code == VLM_OK)
        (void)vlm_fail(&call->error, VLM_UNAVAILABLE, "the worker went away");
    unlink_call(call);
    call->options.done(call->options.user, ok ? NULL : &call->error,
                       call->reason[0] != '\0' ? call->reason : NULL);
    free_call(call);
}

/* Between 3/4 and 5/4 of a pause, so that many clients do not come at once. */
static uint64_t jittered(vlm_rpc_channel *ch, uint64_t ns)
{
    ch->jitter ^= ch->jitter << 13;
    ch->jitter ^= ch->jitter >> 7;
    ch->jitter ^= ch->jitter << 17;
    return ns / 4 * 3 + ch->jitter % (ns / 2 + 1);
}

static void on_retry(uv_timer_t *timer)
{
    start_connecting(timer->data);
}

static void connect_later(vlm_rpc_channel *ch)
{
    if (ch->closing) return;
    const uint64_t ms = jittered(ch, ch->backoff_ns) / 1000000;
    (void)uv_timer_start(ch->retry, on_retry, ms, 0);
    ch->backoff_ns = ch->backoff_ns / 8 * 13;
    if (ch->backoff_ns > ch->options.backoff_max_ns) ch->backoff_ns = ch->options.backoff_max_ns;
}

/* The connection is lost or given up. */
static void drop_connection(vlm_rpc_channel *ch)
{
    const bool was_up = ch->is_up;
    ch->is_up = false;
    ch->going_away = false;
    vlm_stream_close(ch->connecting);
    ch->connecting = NULL;
    /* Before the calls end: who tries again must not choose this one. */
    if (was_up && ch->options.changed != NULL) ch->options.changed(ch->options.user, false);
    if (ch->session.h2 != NULL) {
        /* nghttp2 must not call back into calls that are gone. */
        vlm_rpc_client_call *calls = ch->calls;
        ch->calls = NULL;
        for (vlm_rpc_client_call *c = calls; c != NULL; c = c->next)
            (void)nghttp2_session_set_stream_user_data(ch->session.h2, c->stream_id, NULL);
        vlm_rpc_session_close(&ch->session);
        ch->calls = calls;
        while (ch->calls != NULL) {
            ch->calls->failed = true;
            memcpy(ch->calls->reason, "lost", sizeof "lost");
            end_call(ch->calls);
        }
    }
    connect_later(ch);
}

static void on_gone(void *user)
{
    drop_connection(user);
}

static vlm_rpc_client_call *call_of(nghttp2_session *h2, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(h2, stream_id);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name_bytes,
                     size_t name_len, const uint8_t *value_bytes, size_t value_len, uint8_t flags,
                     void *user)
{
    vlm_rpc_client_call *call = call_of(h2, frame->hd.stream_id);
    (void)flags;
    (void)user;
    if (call == NULL) return 0;
    const vlm_bytes name = {.ptr = (const char *)name_bytes, .len = name_len};
    const vlm_bytes value = {.ptr = (const char *)value_bytes, .len = value_len};
    if (vlm_bytes_eq_str(name, ":status") && value_len == 3) {
        call->http_status = (uint32_t)((value_bytes[0] - '0') * 100 + (value_bytes[1] - '0') * 10 +
                                       (value_bytes[2] - '0'));
    } else if (vlm_bytes_eq_str(name, "content-type")) {
        call->is_grpc = vlm_bytes_starts(value, vlm_bytes_of("application/grpc"));
    } else if (vlm_bytes_eq_str(name, "grpc-status")) {
        call->has_status = true;
        call->error.code = vlm_rpc_status_parse(value);
    } else if (vlm_bytes_eq_str(name, "grpc-message")) {
        vlm_buf text;
        vlm_buf_init(&text, TRAILER_LEN_MAX);
        const vlm_status code = call->error.code;
        if (vlm_rpc_message_decode(value, &text, NULL) == VLM_OK && text.len > 0)
            (void)vlm_fail(&call->error, VLM_UNKNOWN, "%s", text.data);
        call->error.code = code;
        vlm_buf_fini(&text);
    } else if (vlm_bytes_eq_str(name, "vlmd-reason")) {
        const size_t n = value_len < sizeof call->reason ? value_len : sizeof call->reason - 1;
        memcpy(call->reason, value_bytes, n);
        call->reason[n] = '\0';
    }
    return 0;
}

static void grant(vlm_rpc_client_call *call, size_t n)
{
    (void)nghttp2_session_consume_stream(call->channel->session.h2, call->stream_id, n);
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t len, void *user)
{
    vlm_rpc_channel *ch = user;
    (void)flags;
    (void)nghttp2_session_consume_connection(h2, len);
    vlm_rpc_client_call *call = call_of(h2, stream_id);
    if (call == NULL) return 0;
    if (call->paused)
        call->n_unconsumed += len;
    else
        grant(call, len);
    while (len > 0) {
        size_t n_used;
        bool complete;
        const vlm_status status =
            vlm_rpc_reader_push(&call->reader, data, len, &n_used, &complete, &call->error);
        if (status != VLM_OK) {
            call->failed = true;
            return nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL);
        }
        data += n_used;
        len -= n_used;
        if (!complete) continue;
        const vlm_buf *m = &call->reader.message;
        call->options.message(call->options.user, (const uint8_t *)m->data, m->len);
        call = call_of(h2, stream_id); /* it may have been cancelled */
        if (call == NULL) return 0;
    }
    vlm_rpc_session_mark(&ch->session);
    return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t stream_id, uint32_t code, void *user)
{
    vlm_rpc_client_call *call = call_of(h2, stream_id);
    (void)user;
    if (call == NULL) return 0;
    if (!call->has_status && !call->failed && call->http_status != 0 && call->http_status != 200)
        (void)vlm_fail(&call->error, vlm_rpc_status_of_http(call->http_status),
                       "the worker answered with HTTP status %u", call->http_status);
    else if (!call->has_status && !call->failed && code == NGHTTP2_REFUSED_STREAM)
        (void)vlm_fail(&call->error, VLM_UNAVAILABLE, "the worker takes no more calls");
    end_call(call);
    return 0;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    vlm_rpc_channel *ch = user;
    (void)h2;
    if (frame->hd.type == NGHTTP2_SETTINGS && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 &&
        !ch->is_up) {
        ch->is_up = true;
        ch->backoff_ns = ch->options.backoff_ns;
        if (ch->options.changed != NULL) ch->options.changed(ch->options.user, true);
    }
    if (frame->hd.type == NGHTTP2_GOAWAY && !ch->going_away) {
        ch->going_away = true;
        if (ch->is_up && ch->options.changed != NULL) ch->options.changed(ch->options.user, false);
        ch->is_up = false;
    }
    return 0;
}

static ssize_t read_request(nghttp2_session *h2, int32_t stream_id, uint8_t *out, size_t len,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    vlm_rpc_client_call *call = call_of(h2, stream_id);
    (void)source;
    (void)user;
    if (call == NULL) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t n = vlm_rpc_queue_take(&call->out, out, len);
    if (vlm_rpc_queue_len(&call->out) == 0) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

static nghttp2_session *new_h2(vlm_rpc_channel *ch)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session *h2 = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return NULL;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return NULL;
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    if (nghttp2_session_client_new2(&h2, callbacks, ch, option) != 0) h2 = NULL;
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return h2;
}

static void on_connected(void *user)
{
    vlm_rpc_channel *ch = user;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
    };
    nghttp2_session *h2 = new_h2(ch);
    if (h2 == NULL) {
        drop_connection(ch);
        return;
    }
    vlm_stream *stream = ch->connecting;
    ch->connecting = NULL;
    vlm_rpc_session_init(&ch->session, h2, stream, ch->options.flusher, on_gone, ch);
    if (nghttp2_submit_settings(h2, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof *settings) != 0 ||
        nghttp2_session_set_local_window_size(h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0) {
        drop_connection(ch);
        return;
    }
    vlm_rpc_session_mark(&ch->session);
    vlm_stream_read(stream, true);
}

static void on_stream_data(void *user, const uint8_t *data, size_t len)
{
    vlm_rpc_channel *ch = user;
    if (!vlm_rpc_session_receive(&ch->session, data, len)) drop_connection(ch);
}

static void on_drained(void *user)
{
    vlm_rpc_channel *ch = user;
    vlm_rpc_session_mark(&ch->session);
}

static const vlm_stream_handler stream_handler = {.connected = on_connected,
                                                  .data = on_stream_data,
                                                  .end = on_gone,
                                                  .drained = on_drained,
                                                  .gone = on_gone};

static void start_connecting(vlm_rpc_channel *ch)
{
    const vlm_rpc_channel_options *o = &ch->options;
    const vlm_status status =
        ch->path != NULL
            ? vlm_stream_connect_unix(o->loop, ch->path, &stream_handler, ch, &ch->connecting, NULL)
            : vlm_stream_connect(o->loop, (const struct sockaddr *)&o->address, &stream_handler, ch,
                                 &ch->connecting, NULL);
    if (status != VLM_OK) connect_later(ch);
}

void vlm_rpc_channel_retry_now(vlm_rpc_channel *ch)
{
    ch->backoff_ns = ch->options.backoff_ns;
    if (ch->session.h2 != NULL || ch->connecting != NULL) return;
    (void)uv_timer_stop(ch->retry);
    start_connecting(ch);
}

static void on_tick(uv_timer_t *timer)
{
    vlm_rpc_channel *ch = timer->data;
    if (ch->session.h2 == NULL) return;
    const bool is_done = ch->going_away && ch->calls == NULL;
    const bool is_full =
        nghttp2_session_get_next_stream_id(ch->session.h2) > STREAM_ID_LAST && ch->calls == NULL;
    if (is_done || is_full ||
        !vlm_rpc_session_keepalive(&ch->session, ch->options.keepalive_ns,
                                   ch->options.ping_limit_ns))
        drop_connection(ch);
}

vlm_status vlm_rpc_channel_open(const vlm_rpc_channel_options *options, vlm_rpc_channel **out,
                                vlm_error *err)
{
    *out = NULL;
    vlm_rpc_channel *ch = calloc(1, sizeof *ch);
    if (ch == NULL) return vlm_fail_memory(err, "channel");
    ch->options = *options;
    if (ch->options.backoff_ns == 0) ch->options.backoff_ns = 50000000u;
    if (ch->options.backoff_max_ns == 0) ch->options.backoff_max_ns = 5000000000u;
    if (ch->options.keepalive_ns == 0) ch->options.keepalive_ns = 5000000000u;
    if (ch->options.ping_limit_ns == 0) ch->options.ping_limit_ns = 5000000000u;
    ch->backoff_ns = ch->options.backoff_ns;
    ch->jitter = vlm_clock_ns() ^ (uint64_t)(uintptr_t)ch;
    ch->retry = calloc(1, sizeof *ch->retry);
    ch->tick = calloc(1, sizeof *ch->tick);
    if (options->unix_path != NULL) ch->path = strdup(options->unix_path);
    if (ch->retry == NULL || ch->tick == NULL || (options->unix_path != NULL && ch->path == NULL)) {
        free(ch->path);
        free(ch->retry);
        free(ch->tick);
        free(ch);
        return vlm_fail_memory(err, "channel");
    }
    (void)uv_timer_init(options->loop, ch->retry);
    (void)uv_timer_init(options->loop, ch->tick);
    ch->retry->data = ch->tick->data = ch;
    (void)uv_timer_start(ch->tick, on_tick, TICK_MS, TICK_MS);
    *out = ch;
    start_connecting(ch);
    return VLM_OK;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_rpc_channel_close(vlm_rpc_channel *ch)
{
    if (ch == NULL) return;
    ch->closing = true;
    ch->options.changed = NULL;
    vlm_rpc_client_call *calls = ch->calls;
    ch->calls = NULL;
    if (ch->session.h2 != NULL) {
        for (vlm_rpc_client_call *c = calls; c != NULL; c = c->next)
            (void)nghttp2_session_set_stream_user_data(ch->session.h2, c->stream_id, NULL);
        vlm_rpc_session_close(&ch->session);
    }
    while (calls != NULL) {
        vlm_rpc_client_call *next = calls->next;
        free_call(calls);
        calls = next;
    }
    vlm_stream_close(ch->connecting);
    uv_close((uv_handle_t *)ch->retry, free_handle);
    uv_close((uv_handle_t *)ch->tick, free_handle);
    free(ch->path);
    free(ch);
}

bool vlm_rpc_channel_is_up(const vlm_rpc_channel *ch)
{
    return ch->is_up;
}

static vlm_status pack_request(vlm_rpc_client_call *call, const ProtobufCMessage *message,
                               vlm_error *err)
{
    const size_t len = protobuf_c_message_get_packed_size(message);
    if (len > VLM_RPC_MESSAGE_LEN_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the request is too large");
    vlm_buf *b = &call->out.buf;
    VLM_TRY(vlm_buf_reserve(b, VLM_RPC_PREFIX_LEN + len, err));
    vlm_rpc_prefix_write((uint8_t *)b->data, (uint32_t)len);
    (void)protobuf_c_message_pack(message, (uint8_t *)b->data + VLM_RPC_PREFIX_LEN);
    b->len = VLM_RPC_PREFIX_LEN + len;
    return VLM_OK;
}

static int32_t submit_call(vlm_rpc_client_call *call)
{
    const vlm_rpc_call_options *o = &call->options;
    char timeout[VLM_RPC_TIMEOUT_LEN_MAX];
    nghttp2_nv headers[9] = {
        vlm_rpc_nv(":method", "POST", 4),
        vlm_rpc_nv(":scheme", "http", 4),
        vlm_rpc_nv(":path", o->path, strlen(o->path)),
        vlm_rpc_nv(":authority", "vlmd", 4),
        vlm_rpc_nv("te", "trailers", 8),
        vlm_rpc_nv("content-type", "application/grpc", 16),
    };
    size_t n = 6;
    if (o->timeout_ns != 0) {
        vlm_rpc_timeout_format(o->timeout_ns, timeout);
        headers[n++] = vlm_rpc_nv("grpc-timeout", timeout, strlen(timeout));
    }
    if (o->request_id.len > 0)
        headers[n++] = vlm_rpc_nv("x-request-id", o->request_id.ptr, o->request_id.len);
    if (o->tenant.len > 0) headers[n++] = vlm_rpc_nv("x-vlmd-tenant", o->tenant.ptr, o->tenant.len);
    const nghttp2_data_provider provider = {.read_callback = read_request};
    return nghttp2_submit_request(call->channel->session.h2, NULL, headers, n, &provider, call);
}

vlm_status vlm_rpc_channel_call(vlm_rpc_channel *ch, const vlm_rpc_call_options *options,
                                const ProtobufCMessage *message, vlm_rpc_client_call **out,
                                vlm_error *err)
{
    *out = NULL;
    if (!ch->is_up) return vlm_fail(err, VLM_UNAVAILABLE, "the worker is not connected");
    vlm_rpc_client_call *call = calloc(1, sizeof *call);
    if (call == NULL) return vlm_fail_memory(err, "call");
    call->channel = ch;
    call->options = *options;
    vlm_rpc_queue_init(&call->out);
    vlm_rpc_reader_init(&call->reader, VLM_RPC_MESSAGE_LEN_MAX);
    const vlm_status status = pack_request(call, message, err);
    if (status != VLM_OK) {
        free_call(call);
        return status;
    }
    call->stream_id = submit_call(call);
    if (call->stream_id < 0) {
        free_call(call);
        return vlm_fail(err, VLM_UNAVAILABLE, "the worker takes no more calls");
    }
    call->next = ch->calls;
    if (call->next != NULL) call->next->prev = call;
    ch->calls = call;
    vlm_rpc_session_mark(&ch->session);
    *out = call;
    return VLM_OK;
}

void vlm_rpc_client_cancel(vlm_rpc_client_call *call)
{
    vlm_rpc_channel *ch = call->channel;
    nghttp2_session *h2 = ch->session.h2;
    if (h2 != NULL) {
        (void)nghttp2_session_set_stream_user_data(h2, call->stream_id, NULL);
        if (call->n_unconsumed > 0) grant(call, call->n_unconsumed);
        (void)nghttp2_submit_rst_stream(h2, NGHTTP2_FLAG_NONE, call->stream_id, NGHTTP2_CANCEL);
        vlm_rpc_session_mark(&ch->session);
    }
    unlink_call(call);
    free_call(call);
}

void vlm_rpc_client_pause(vlm_rpc_client_call *call, bool paused)
{
    call->paused = paused;
    if (paused || call->n_unconsumed == 0) return;
    grant(call, call->n_unconsumed);
    call->n_unconsumed = 0;
    vlm_rpc_session_mark(&call->channel->session);
}
