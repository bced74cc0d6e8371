#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "rpc/server_parts.h"

/* Only from the tick: idle may close the server, which must not happen inside nghttp2. */
static void check_idle(vlm_rpc_server *server)
{
    if (!server->draining || server->idle == NULL) return;
    for (const vlm_rpc_connection *c = server->connections; c != NULL; c = c->next)
        if (c->calls != NULL || vlm_stream_unsent(c->session.stream) > 0) return;
    void (*idle)(void *) = server->idle;
    server->idle = NULL;
    idle(server->idle_user);
}

static void close_connection(vlm_rpc_connection *c)
{
    vlm_rpc_server *server = c->server;
    while (c->calls != NULL) vlm_rpc_call_cancel(c->calls);
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        server->connections = c->next;
    if (c->next != NULL) c->next->prev = c->prev;
    vlm_rpc_session_close(&c->session);
    free(c);
}

static void on_over(void *user)
{
    close_connection(user);
}

size_t vlm_rpc_server_n_connections(const vlm_rpc_server *server)
{
    size_t n = 0;
    for (const vlm_rpc_connection *c = server->connections; c != NULL; c = c->next) n++;
    return n;
}

size_t vlm_rpc_server_n_calls(const vlm_rpc_server *server)
{
    return server->n_calls;
}

static vlm_rpc_call *call_of(nghttp2_session *h2, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(h2, stream_id);
}

static int on_begin_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    vlm_rpc_connection *c = user;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    vlm_rpc_call *call = calloc(1, sizeof *call);
    if (call == NULL) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    call->connection = c;
    call->stream_id = frame->hd.stream_id;
    call->deadline_ns = UINT64_MAX;
    vlm_arena_init(&call->headers, 4 * HEADER_BYTES_MAX);
    vlm_rpc_reader_init(&call->reader, VLM_RPC_MESSAGE_LEN_MAX);
    vlm_rpc_queue_init(&call->out);
    call->next = c->calls;
    if (c->calls != NULL) c->calls->prev = call;
    c->calls = call;
    (void)nghttp2_session_set_stream_user_data(h2, call->stream_id, call);
    return 0;
}

static const vlm_rpc_method *find_method(const vlm_rpc_server *server, vlm_bytes path)
{
    for (size_t i = 0; i < server->options.n_methods; i++)
        if (vlm_bytes_eq_str(path, server->options.methods[i].path))
            return &server->options.methods[i];
    return NULL;
}

static void take_timeout(vlm_rpc_call *call, vlm_bytes value)
{
    uint64_t ns;
    if (!vlm_rpc_timeout_parse(value, &ns))
        call->bad_headers = true;
    else if (!vlm_u64_add(vlm_clock_ns(), ns, &call->deadline_ns))
        call->deadline_ns = UINT64_MAX;
}

static void keep_metadata(vlm_rpc_call *call, vlm_bytes name, vlm_bytes value)
{
    const size_t i = call->n_metadata;
    if (i == sizeof call->metadata / sizeof *call->metadata) return;
    const char *name_copy = vlm_arena_strndup(&call->headers, name.ptr, name.len);
    const char *value_copy = vlm_arena_strndup(&call->headers, value.ptr, value.len);
    if (name_copy == NULL || value_copy == NULL) return;
    call->metadata[i].name = (vlm_bytes){.ptr = name_copy, .len = name.len};
    call->metadata[i].value = (vlm_bytes){.ptr = value_copy, .len = value.len};
    call->n_metadata++;
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name_bytes,
                     size_t name_len, const uint8_t *value_bytes, size_t value_len, uint8_t flags,
                     void *user)
{
    vlm_rpc_connection *c = user;
    vlm_rpc_call *call = call_of(h2, frame->hd.stream_id);
    (void)flags;
    if (call == NULL || call->headers_done) return 0;
    const vlm_bytes name = {.ptr = (const char *)name_bytes, .len = name_len};
    const vlm_bytes value = {.ptr = (const char *)value_bytes, .len = value_len};
    call->n_header_bytes += name_len + value_len + 32;
    if (call->n_header_bytes > HEADER_BYTES_MAX) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (vlm_bytes_eq_str(name, ":path"))
        call->method = find_method(c->server, value);
    else if (vlm_bytes_eq_str(name, ":method"))
        call->is_post = vlm_bytes_eq_str(value, "POST");
    else if (vlm_bytes_eq_str(name, "content-type"))
        call->is_grpc = vlm_bytes_starts(value, vlm_bytes_of("application/grpc")) &&
                        (value.len == 16 || value.ptr[16] == '+' || value.ptr[16] == ';');
    else if (vlm_bytes_eq_str(name, "grpc-timeout"))
        take_timeout(call, value);
    else if (vlm_bytes_eq_str(name, "grpc-encoding"))
        call->has_encoding = !vlm_bytes_eq_str(value, "identity");
    else if (name_len > 0 && name_bytes[0] != ':')
        keep_metadata(call, name, value);
    return 0;
}

static void check_headers(vlm_rpc_call *call)
{
    call->headers_done = true;
    if (!call->is_post)
        vlm_rpc_call_reject_http(call, "405");
    else if (!call->is_grpc)
        vlm_rpc_call_reject_http(call, "415");
    else if (call->method == NULL)
        vlm_rpc_call_refuse(call, VLM_UNIMPLEMENTED, "unknown method", NULL);
    else if (call->bad_headers)
        vlm_rpc_call_refuse(call, VLM_INTERNAL, "bad grpc-timeout", NULL);
    else if (call->connection->server->draining)
        vlm_rpc_call_refuse(call, VLM_UNAVAILABLE, "shutting down", "draining");
}

static void start_call(vlm_rpc_call *call)
{
    if (call->started) return;
    if (call->n_messages != 1) {
        vlm_rpc_call_refuse(call, VLM_INTERNAL, "the method takes one message", NULL);
        return;
    }
    call->started = true;
    call->connection->server->n_calls++;
    vlm_buf message = call->reader.message;
    call->connection->server->n_request_bytes -= message.len;
    vlm_rpc_reader_init(&call->reader, VLM_RPC_MESSAGE_LEN_MAX);
    call->method->start(call->method->user, call, &message);
    vlm_buf_fini(&message);
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t len, void *user)
{
    vlm_rpc_connection *c = user;
    vlm_rpc_call *call = call_of(h2, stream_id);
    (void)flags;
    while (call != NULL && !call->started && len > 0) {
        vlm_error error;
        size_t n_used;
        bool complete;
        if (call->n_messages > 0) {
            vlm_rpc_call_refuse(call, VLM_INTERNAL, "the method takes one message", NULL);
            break;
        }
        const size_t before = call->reader.message.len;
        const vlm_status status =
            vlm_rpc_reader_push(&call->reader, data, len, &n_used, &complete, &error);
        c->server->n_request_bytes += call->reader.message.len - before;
        if (status == VLM_UNIMPLEMENTED && !call->has_encoding)
            vlm_rpc_call_refuse(call, VLM_INTERNAL, "compressed message without grpc-encoding",
                                NULL);
        else if (status != VLM_OK)
            vlm_rpc_call_refuse(call, status, error.msg, NULL);
        else if (c->server->n_request_bytes > c->server->options.request_bytes_max)
            vlm_rpc_call_refuse(call, VLM_RESOURCE_EXHAUSTED, "too many requests are arriving",
                                "overloaded");
        call->n_messages += complete && status == VLM_OK;
        data += n_used;
        len -= n_used;
    }
    return 0;
}

static bool too_many_resets(vlm_rpc_connection *c)
{
    const uint64_t now = vlm_clock_ns();
    if (now - c->second_ns > 1000000000u) {
        c->second_ns = now;
        c->n_resets = 0;
    }
    return ++c->n_resets > RESETS_PER_SECOND_MAX;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    vlm_rpc_connection *c = user;
    if (frame->hd.type == NGHTTP2_RST_STREAM && too_many_resets(c))
        return nghttp2_session_terminate_session(h2, NGHTTP2_ENHANCE_YOUR_CALM);
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
    vlm_rpc_call *call = call_of(h2, frame->hd.stream_id);
    if (call == NULL) return 0;
    if (frame->hd.type == NGHTTP2_HEADERS && !call->headers_done) check_headers(call);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && !call->request_done) {
        call->request_done = true;
        if (vlm_rpc_reader_is_inside(&call->reader))
            vlm_rpc_call_refuse(call, VLM_INTERNAL, "the message is cut short", NULL);
        else
            start_call(call);
    }
    return 0;
}

static int on_frame_sent(nghttp2_session *h2, const nghttp2_frame *frame, void *user)
{
    (void)user;
    if (frame->hd.type != NGHTTP2_DATA) return 0;
    vlm_rpc_call *call = call_of(h2, frame->hd.stream_id);
    if (call != NULL && !call->finished && call->drained != NULL &&
        vlm_rpc_queue_len(&call->out) == 0)
        call->drained(call->user);
    return 0;
}

static int on_stream_close(nghttp2_session *h2, int32_t stream_id, uint32_t code, void *user)
{
    vlm_rpc_call *call = call_of(h2, stream_id);
    (void)code;
    (void)user;
    if (call != NULL) vlm_rpc_call_cancel(call);
    return 0;
}

static nghttp2_session *new_h2(vlm_rpc_connection *c)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session *h2 = NULL;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) return NULL;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(callbacks);
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_closed_streams(option, 1);
    /* Its own limit, 1,000 and then 33 a second, is less than a gateway's clients cancel. */
    nghttp2_option_set_stream_reset_rate_limit(option, 2 * RESETS_PER_SECOND_MAX,
                                               RESETS_PER_SECOND_MAX);
    if (nghttp2_session_server_new2(&h2, callbacks, c, option) != 0) h2 = NULL;
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return h2;
}

static void on_stream_data(void *user, const uint8_t *data, size_t len)
{
    vlm_rpc_connection *c = user;
    if (!vlm_rpc_session_receive(&c->session, data, len)) close_connection(c);
}

static void on_stream_drained(void *user)
{
    vlm_rpc_connection *c = user;
    vlm_rpc_session_mark(&c->session);
}

static const vlm_stream_handler stream_handler = {
    .data = on_stream_data, .end = on_over, .drained = on_stream_drained, .gone = on_over};

void vlm_rpc_server_accept(vlm_rpc_server *server, vlm_stream *stream)
{
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, server->options.streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_BYTES_MAX},
    };
    vlm_rpc_connection *c = calloc(1, sizeof *c);
    nghttp2_session *h2 = c == NULL ? NULL : new_h2(c);
    if (h2 == NULL || server->draining) {
        nghttp2_session_del(h2);
        free(c);
        vlm_stream_close(stream);
        return;
    }
    c->server = server;
    c->next = server->connections;
    if (c->next != NULL) c->next->prev = c;
    server->connections = c;
    vlm_rpc_session_init(&c->session, h2, stream, &server->flusher, on_over, c);
    vlm_stream_set_handler(stream, &stream_handler, c);
    if (nghttp2_submit_settings(h2, NGHTTP2_FLAG_NONE, settings,
                                sizeof settings / sizeof *settings) != 0 ||
        nghttp2_session_set_local_window_size(h2, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) != 0) {
        close_connection(c);
        return;
    }
    vlm_rpc_session_mark(&c->session);
    vlm_stream_read(stream, true);
}

static void on_accept(void *user, vlm_stream *stream)
{
    vlm_rpc_server_accept(user, stream);
}

static void on_tick(uv_timer_t *timer)
{
    vlm_rpc_server *server = timer->data;
    const vlm_rpc_server_options *o = &server->options;
    const uint64_t now = vlm_clock_ns();
    vlm_rpc_connection *next;
    for (vlm_rpc_connection *c = server->connections; c != NULL; c = next) {
        next = c->next;
        for (vlm_rpc_call *call = c->calls; call != NULL; call = call->next)
            if (call->deadline_ns <= now) vlm_rpc_call_expire(call);
        if (!vlm_rpc_session_keepalive(&c->session, o->keepalive_ns, o->ping_limit_ns))
            close_connection(c);
    }
    check_idle(server);
}

vlm_status vlm_rpc_server_open(uv_loop_t *loop, const vlm_rpc_server_options *options,
                               vlm_rpc_server **out, vlm_error *err)
{
    *out = NULL;
    vlm_rpc_server *server = calloc(1, sizeof *server);
    if (server == NULL) return vlm_fail_memory(err, "server");
    server->loop = loop;
    server->options = *options;
    vlm_rpc_server_options *o = &server->options;
    if (o->streams_max == 0) o->streams_max = STREAMS_DEFAULT;
    if (o->keepalive_ns == 0) o->keepalive_ns = 60000000000u;
    if (o->ping_limit_ns == 0) o->ping_limit_ns = 20000000000u;
    if (o->request_bytes_max == 0) o->request_bytes_max = REQUEST_BYTES_DEFAULT;
    server->tick = calloc(1, sizeof *server->tick);
    if (server->tick == NULL || vlm_rpc_flusher_open(&server->flusher, loop, err) != VLM_OK) {
        free(server->tick);
        free(server);
        return vlm_fail_memory(err, "server");
    }
    (void)uv_timer_init(loop, server->tick);
    server->tick->data = server;
    (void)uv_timer_start(server->tick, on_tick, TICK_MS, TICK_MS);
    *out = server;
    return VLM_OK;
}

vlm_status vlm_rpc_server_listen(vlm_rpc_server *server, const vlm_addr *addr, vlm_error *err)
{
    if (server->n_listeners == LISTENERS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "at most %d addresses", LISTENERS_MAX);
    VLM_TRY(vlm_listener_open(server->loop, addr, on_accept, server,
                              &server->listeners[server->n_listeners], err));
    server->n_listeners++;
    return VLM_OK;
}

const vlm_addr *vlm_rpc_server_addr(const vlm_rpc_server *server)
{
    return vlm_listener_addr(server->listeners[0]);
}

static void close_listeners(vlm_rpc_server *server)
{
    for (size_t i = 0; i < server->n_listeners; i++) vlm_listener_close(server->listeners[i]);
    server->n_listeners = 0;
}

void vlm_rpc_server_drain(vlm_rpc_server *server, void (*idle)(void *user), void *user)
{
    close_listeners(server);
    server->draining = true;
    server->idle = idle;
    server->idle_user = user;
    for (vlm_rpc_connection *c = server->connections; c != NULL; c = c->next) {
        (void)nghttp2_submit_goaway(c->session.h2, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(c->session.h2),
                                    NGHTTP2_NO_ERROR, NULL, 0);
        vlm_rpc_session_mark(&c->session);
    }
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_rpc_server_close(vlm_rpc_server *server)
{
    if (server == NULL) return;
    server->idle = NULL;
    close_listeners(server);
    while (server->connections != NULL) {
        vlm_rpc_connection *c = server->connections;
        (void)nghttp2_session_terminate_session(c->session.h2, NGHTTP2_NO_ERROR);
        (void)vlm_rpc_session_send(&c->session);
        close_connection(c);
    }
    vlm_rpc_flusher_close(&server->flusher);
    uv_close((uv_handle_t *)server->tick, free_handle);
    free(server);
}
