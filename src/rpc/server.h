/* server.h - a gRPC server: methods that take one message and give one or a stream of them.
 * Deadlines, cancelling by reset, trailers, flow control, keepalive and GOAWAY are handled here.
 * Not: what the messages say.
 * Ownership: a call lives until vlm_rpc_call_finish or until its `cancelled` returns.
 * Threads: the loop's. */
#ifndef VLM_RPC_SERVER_H
#define VLM_RPC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/status.h"
#include "net/addr.h"
#include "net/stream.h"

typedef struct vlm_rpc_server vlm_rpc_server;
typedef struct vlm_rpc_call vlm_rpc_call;

typedef struct vlm_rpc_method {
    const char *path; /* "/vlm.v1.Worker/Generate" */
    /* The request has arrived: answer with send and finish, now or later.  Who wants to keep the
     * message moves it out (*message is {0} then). */
    void (*start)(void *user, vlm_rpc_call *call, vlm_buf *message);
    void *user;
} vlm_rpc_method;

typedef struct vlm_rpc_server_options {
    const vlm_rpc_method *methods; /* [n_methods], outlive the server */
    size_t n_methods;
    uint32_t streams_max;     /* calls of one connection at once; 0: 1024 */
    uint64_t keepalive_ns;    /* silence before a ping; 0: 60 s */
    uint64_t ping_limit_ns;   /* without an answer to it the connection is closed; 0: 20 s */
    size_t request_bytes_max; /* of all requests that have not begun; 0: 1 GiB */
} vlm_rpc_server_options;

VLM_MUST_USE vlm_status vlm_rpc_server_open(uv_loop_t *loop, const vlm_rpc_server_options *options,
                                            vlm_rpc_server **out, vlm_error *err);
/* All calls are cancelled, all connections closed. */
void vlm_rpc_server_close(vlm_rpc_server *server);

/* Serve this address too.  UNAVAILABLE. */
VLM_MUST_USE vlm_status vlm_rpc_server_listen(vlm_rpc_server *server, const vlm_addr *addr,
                                              vlm_error *err);
/* Where the first listen ended up: the port that was chosen. */
const vlm_addr *vlm_rpc_server_addr(const vlm_rpc_server *server);
/* Serve a connection; takes the stream over.  For tests; listen does the same. */
void vlm_rpc_server_accept(vlm_rpc_server *server, vlm_stream *stream);

/* No new connections and calls; GOAWAY to all.  Running calls go on; idle(user) is called once when
 * none is left. */
void vlm_rpc_server_drain(vlm_rpc_server *server, void (*idle)(void *user), void *user);
size_t vlm_rpc_server_n_calls(const vlm_rpc_server *server);
size_t vlm_rpc_server_n_connections(const vlm_rpc_server *server);

/* Both may be NULL.  cancelled: the peer went away, reset the call or its deadline passed; the call
 * is gone when it returns.  drained: what was sent has left the queue. */
void vlm_rpc_call_watch(vlm_rpc_call *call, void (*cancelled)(void *user),
                        void (*drained)(void *user), void *user);

/* A metadata value of the request, empty when absent; lives as long as the call. */
vlm_bytes vlm_rpc_call_metadata(const vlm_rpc_call *call, const char *name);
/* vlm_clock_ns at which the caller stops waiting; UINT64_MAX: never. */
uint64_t vlm_rpc_call_deadline(const vlm_rpc_call *call);

/* RESOURCE_EXHAUSTED when memory is short: finish with it. */
VLM_MUST_USE vlm_status vlm_rpc_call_send(vlm_rpc_call *call, const void *message, size_t len,
                                          vlm_error *err);
/* Bytes that the peer has not taken yet. */
size_t vlm_rpc_call_unsent(const vlm_rpc_call *call);

/* End the call with a status.  error: NULL for OK; reason: NULL, or the trailer `vlmd-reason`. */
void vlm_rpc_call_finish(vlm_rpc_call *call, const vlm_error *error, const char *reason);

#endif
