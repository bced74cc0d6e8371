/* server_parts.h - what the files of the gRPC server share: connections and calls.
 * Not for others: server.h is the interface.  Threads: the loop's. */
#ifndef VLM_RPC_SERVER_PARTS_H
#define VLM_RPC_SERVER_PARTS_H

#include "base/mem.h"
#include "rpc/server.h"
#include "rpc/session.h"
#include "rpc/wire.h"

enum {
    LISTENERS_MAX = 4,
    STREAMS_DEFAULT = 1024,
    HEADER_BYTES_MAX = 16 << 10,
    TICK_MS = 20,
    STREAM_WINDOW = 1 << 20,
    CONNECTION_WINDOW = 16 << 20,
    RESETS_PER_SECOND_MAX = 5000, /* a gateway whose clients all leave at once resets many */
    TRAILER_LEN_MAX = 2048,
};
#define REQUEST_BYTES_DEFAULT ((size_t)1 << 30)

typedef struct vlm_rpc_connection vlm_rpc_connection;

struct vlm_rpc_call {
    vlm_rpc_connection *connection;
    vlm_rpc_call *prev, *next; /* of the connection */
    int32_t stream_id;
    const vlm_rpc_method *method;
    vlm_arena headers;
    struct {
        vlm_bytes name, value;
    } metadata[32];
    size_t n_metadata, n_header_bytes;
    bool headers_done, is_post, is_grpc, bad_headers;
    bool has_encoding; /* a grpc-encoding other than identity */
    vlm_rpc_reader reader;
    size_t n_messages;
    bool request_done, started, finished, answered;
    uint64_t deadline_ns;
    vlm_rpc_queue out;
    vlm_error status;
    char reason[32];
    void (*cancelled)(void *user);
    void (*drained)(void *user);
    void *user;
};

struct vlm_rpc_connection {
    vlm_rpc_server *server;
    vlm_rpc_connection *prev, *next;
    vlm_rpc_session session;
    vlm_rpc_call *calls;
    uint64_t second_ns; /* in which n_resets were seen */
    uint32_t n_resets;
};

struct vlm_rpc_server {
    uv_loop_t *loop;
    vlm_rpc_server_options options;
    vlm_rpc_flusher flusher;
    uv_timer_t *tick;
    vlm_listener *listeners[LISTENERS_MAX];
    size_t n_listeners;
    vlm_rpc_connection *connections;
    size_t n_calls;         /* that have started and not finished */
    size_t n_request_bytes; /* gathered for calls that have not started */
    bool draining;
    void (*idle)(void *user);
    void *idle_user;
};

/* The call has started and its stream is gone: tell whoever answers it, once, and free it. */
void vlm_rpc_call_cancel(vlm_rpc_call *call);

/* A call that never reaches its method. */
void vlm_rpc_call_refuse(vlm_rpc_call *call, vlm_status code, const char *text, const char *reason);
/* An answer that is no gRPC. */
void vlm_rpc_call_reject_http(vlm_rpc_call *call, const char *http_status);
/* The deadline has passed: the answer is over for both sides. */
void vlm_rpc_call_expire(vlm_rpc_call *call);

#endif
