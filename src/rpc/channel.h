/* channel.h - the calling side of gRPC: one connection to one address, kept up by itself.
 * A broken connection fails its calls with UNAVAILABLE and is made again after a jittered, growing
 * pause.
 * Not: resolving names, choosing among several workers.
 * Ownership: a call lives until its `done` returns or vlm_rpc_client_cancel.  Threads: the loop's.
 */
#ifndef VLM_RPC_CHANNEL_H
#define VLM_RPC_CHANNEL_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/buf.h"
#include "base/status.h"
#include "rpc/session.h"

typedef struct vlm_rpc_channel vlm_rpc_channel;
typedef struct vlm_rpc_client_call vlm_rpc_client_call;

typedef struct vlm_rpc_channel_options {
    uv_loop_t *loop;
    vlm_rpc_flusher *flusher; /* outlives the channel */
    const char *unix_path;    /* or */
    struct sockaddr_storage address;
    uint64_t backoff_ns, backoff_max_ns;  /* first and longest pause; 0: 50 ms, 5 s */
    uint64_t keepalive_ns, ping_limit_ns; /* silence before a ping, wait for its answer; 0: 5 s */
    /* The connection stands, or is lost.  Called from the loop; must not close the channel. */
    void (*changed)(void *user, bool is_up);
    void *user;
} vlm_rpc_channel_options;

/* Starts to connect at once. */
VLM_MUST_USE vlm_status vlm_rpc_channel_open(const vlm_rpc_channel_options *options,
                                             vlm_rpc_channel **out, vlm_error *err);
/* Running calls end without `done`.  Legal on NULL. */
void vlm_rpc_channel_close(vlm_rpc_channel *channel);
bool vlm_rpc_channel_is_up(const vlm_rpc_channel *channel);
/* Try at once: the other side is known to be there again. */
void vlm_rpc_channel_retry_now(vlm_rpc_channel *channel);

typedef struct vlm_rpc_call_options {
    const char *path;     /* outlives the call */
    uint64_t timeout_ns;  /* 0: none */
    vlm_bytes request_id; /* metadata x-request-id; empty: none */
    vlm_bytes tenant;     /* metadata x-vlmd-tenant; empty: none */
    /* A message has come; the memory is the call's again afterwards.  May cancel the call. */
    void (*message)(void *user, const uint8_t *data, size_t len);
    /* The call has ended: error is NULL for OK; reason is the trailer vlmd-reason, "lost" when the
     * connection broke under it, or NULL. */
    void (*done)(void *user, const vlm_error *error, const char *reason);
    void *user;
} vlm_rpc_call_options;

/* Start a call with one message.  UNAVAILABLE when the connection does not stand (done is not
 * called then); RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_rpc_channel_call(vlm_rpc_channel *channel,
                                             const vlm_rpc_call_options *options,
                                             const ProtobufCMessage *message,
                                             vlm_rpc_client_call **out, vlm_error *err);
/* Reset the stream; done is not called. */
void vlm_rpc_client_cancel(vlm_rpc_client_call *call);
/* While paused the peer is granted no more bytes of this call than its window holds. */
void vlm_rpc_client_pause(vlm_rpc_client_call *call, bool paused);

#endif
