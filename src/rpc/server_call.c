#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/server_parts.h"

/* A call's request bytes are no longer held. */
static void drop_request(vlm_rpc_call *call)
{
    call->connection->server->n_request_bytes -= call->reader.message.len;
    vlm_rpc_reader_fini(&call->reader);
    vlm_rpc_reader_init(&call->reader, VLM_RPC_MESSAGE_LEN_MAX);
}

static void end_started(vlm_rpc_call *call)
{
    if (!call->started || call->finished) return;
    call->finished = true;
    call->connection->server->n_calls--;
}

static void free_call(vlm_rpc_call *call)
{
    vlm_rpc_connection *c = call->connection;
    drop_request(call);
    if (call->prev != NULL)
        call->prev->next = call->next;
    else
        c->calls = call->next;
    if (call->next != NULL) call->next->prev = call->prev;
    vlm_rpc_reader_fini(&call->reader);
    vlm_rpc_queue_fini(&call->out);
    vlm_arena_fini(&call->headers);
    free(call);
}

/* The stream is gone: tell whoever answers it, once. */
void vlm_rpc_call_cancel(vlm_rpc_call *call)
{
    if (call->started && !call->finished) {
        end_started(call);
        if (call->cancelled != NULL) call->cancelled(call->user);
    }
    free_call(call);
}

static nghttp2_nv nv(const char *name, const char *value)
{
    return vlm_rpc_nv(name, value, strlen(value));
}

/* The trailers of a finished call, with the status. */
static size_t make_trailers(const vlm_rpc_call *call, nghttp2_nv out[3], char code[4],
                            vlm_buf *message)
{
    size_t n = 0;
    (void)snprintf(code, 4, "%d", (int)call->status.code);
    out[n++] = nv("grpc-status", code);
    if (call->status.code != VLM_OK &&
        vlm_rpc_message_encode(vlm_bytes_of(call->status.msg), message, NULL) == VLM_OK &&
        message->len > 0)
        out[n++] = vlm_rpc_nv("grpc-message", message->data, message->len);
    if (call->reason[0] != '\0') out[n++] = nv("vlmd-reason", call->reason);
    return n;
}

static ssize_t read_answer(nghttp2_session *h2, int32_t stream_id, uint8_t *out, size_t len,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
    vlm_rpc_call *call = nghttp2_session_get_stream_user_data(h2, stream_id);
    (void)source;
    (void)user;
    if (call == NULL) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t n = vlm_rpc_queue_take(&call->out, out, len);
    if (vlm_rpc_queue_len(&call->out) > 0) return (ssize_t)n;
    if (call->finished) {
        nghttp2_nv trailers[3];
        char code[4];
        vlm_buf message;
        vlm_buf_init(&message, TRAILER_LEN_MAX);
        const size_t n_trailers = make_trailers(call, trailers, code, &message);
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        const int result = nghttp2_submit_trailer(h2, stream_id, trailers, n_trailers);
        vlm_buf_fini(&message);
        return result == 0 ? (ssize_t)n : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return n == 0 ? NGHTTP2_ERR_DEFERRED : (ssize_t)n;
}

static void submit_answer(vlm_rpc_call *call)
{
    vlm_rpc_connection *c = call->connection;
    int result;
    if (call->answered) {
        (void)nghttp2_session_resume_data(c->session.h2, call->stream_id);
        vlm_rpc_session_mark(&c->session);
        return;
    }
    call->answered = true;
    if (call->finished && vlm_rpc_queue_len(&call->out) == 0) {
        /* "Trailers-Only" */
        nghttp2_nv headers[6] = {nv(":status", "200"), nv("content-type", "application/grpc"),
                                 nv("grpc-accept-encoding", "identity")};
        char code[4];
        vlm_buf message;
        vlm_buf_init(&message, TRAILER_LEN_MAX);
        const size_t n = make_trailers(call, headers + 3, code, &message);
        result = nghttp2_submit_response(c->session.h2, call->stream_id, headers, 3 + n, NULL);
        vlm_buf_fini(&message);
    } else {
        const nghttp2_nv headers[] = {nv(":status", "200"), nv("content-type", "application/grpc"),
                                      nv("grpc-accept-encoding", "identity")};
        const nghttp2_data_provider provider = {.read_callback = read_answer};
        result = nghttp2_submit_response(c->session.h2, call->stream_id, headers,
                                         sizeof headers / sizeof *headers, &provider);
    }
    if (result != 0)
        (void)nghttp2_submit_rst_stream(c->session.h2, NGHTTP2_FLAG_NONE, call->stream_id,
                                        NGHTTP2_INTERNAL_ERROR);
    vlm_rpc_session_mark(&c->session);
}

vlm_status vlm_rpc_call_send(vlm_rpc_call *call, const void *message, size_t len, vlm_error *err)
{
    assert(call->started && !call->finished);
    VLM_TRY(vlm_rpc_queue_add(&call->out, message, len, err));
    submit_answer(call);
    return VLM_OK;
}

/* The status of a call, whether it has been handed out or not. */
static void set_status(vlm_rpc_call *call, const vlm_error *error, const char *reason)
{
    if (error != NULL) call->status = *error;
    if (reason != NULL) (void)snprintf(call->reason, sizeof call->reason, "%s", reason);
}

void vlm_rpc_call_finish(vlm_rpc_call *call, const vlm_error *error, const char *reason)
{
    assert(call->started && !call->finished);
    set_status(call, error, reason);
    end_started(call);
    submit_answer(call);
}

/* A call that never reaches its method. */
void vlm_rpc_call_refuse(vlm_rpc_call *call, vlm_status code, const char *text, const char *reason)
{
    vlm_error error;
    if (call->started || call->answered) return;
    (void)vlm_fail(&error, code, "%s", text);
    set_status(call, &error, reason);
    call->started = call->finished = true;
    drop_request(call);
    submit_answer(call);
}

void vlm_rpc_call_watch(vlm_rpc_call *call, void (*cancelled)(void *user),
                        void (*drained)(void *user), void *user)
{
    call->cancelled = cancelled;
    call->drained = drained;
    call->user = user;
}

vlm_bytes vlm_rpc_call_metadata(const vlm_rpc_call *call, const char *name)
{
    for (size_t i = 0; i < call->n_metadata; i++)
        if (vlm_bytes_eq_str(call->metadata[i].name, name)) return call->metadata[i].value;
    return (vlm_bytes){0};
}

uint64_t vlm_rpc_call_deadline(const vlm_rpc_call *call)
{
    return call->deadline_ns;
}

size_t vlm_rpc_call_unsent(const vlm_rpc_call *call)
{
    return vlm_rpc_queue_len(&call->out);
}

void vlm_rpc_call_reject_http(vlm_rpc_call *call, const char *status)
{
    const nghttp2_nv headers[] = {nv(":status", status)};
    call->started = call->finished = call->answered = true;
    (void)nghttp2_submit_response(call->connection->session.h2, call->stream_id, headers, 1, NULL);
}

/* The deadline has passed: the answer is over for both sides. */
void vlm_rpc_call_expire(vlm_rpc_call *call)
{
    vlm_error error;
    void (*cancelled)(void *) = call->started && !call->finished ? call->cancelled : NULL;
    if (call->finished) return;
    (void)vlm_fail(&error, VLM_DEADLINE_EXCEEDED, "the deadline has passed");
    set_status(call, &error, NULL);
    end_started(call);
    call->started = call->finished = true;
    if (cancelled != NULL) cancelled(call->user);
    submit_answer(call);
}
