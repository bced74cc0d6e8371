/* session.h - what a gRPC server and a client share of a connection: an nghttp2 session on a
 * stream, written out once per turn of the loop, pings that find a dead peer, and the queue of
 * bytes of one direction of a call.
 * Not: calls (server.h, client.h).  Threads: the loop's. */
#ifndef VLM_RPC_SESSION_H
#define VLM_RPC_SESSION_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "net/stream.h"

/* Bytes that go out in DATA frames: appended behind, taken from the front. */
typedef struct vlm_rpc_queue {
    vlm_buf buf;
    size_t head;
} vlm_rpc_queue;

void vlm_rpc_queue_init(vlm_rpc_queue *q);
void vlm_rpc_queue_fini(vlm_rpc_queue *q);
size_t vlm_rpc_queue_len(const vlm_rpc_queue *q);
/* A whole message with its prefix. */
VLM_MUST_USE vlm_status vlm_rpc_queue_add(vlm_rpc_queue *q, const void *message, size_t len,
                                          vlm_error *err);
size_t vlm_rpc_queue_take(vlm_rpc_queue *q, void *out, size_t len_max);

typedef struct vlm_rpc_session vlm_rpc_session;

/* What waits to be written, of all sessions of one loop. */
typedef struct vlm_rpc_flusher {
    uv_prepare_t *prepare;
    vlm_rpc_session *first; /* dirty sessions */
} vlm_rpc_flusher;

VLM_MUST_USE vlm_status vlm_rpc_flusher_open(vlm_rpc_flusher *f, uv_loop_t *loop, vlm_error *err);
void vlm_rpc_flusher_close(vlm_rpc_flusher *f);

struct vlm_rpc_session {
    nghttp2_session *h2; /* NULL: not open */
    vlm_stream *stream;
    vlm_rpc_flusher *flusher;
    vlm_rpc_session *next_dirty;
    bool dirty;
    bool sending;                  /* inside nghttp2: do not enter it again */
    uint64_t received_ns, ping_ns; /* of the last bytes; of the ping that is out, 0: none */
    /* The session is over, by its own end or an error: the owner closes it.  Never called from
     * within a call of the owner's. */
    void (*over)(void *user);
    void *user;
};

/* Takes h2 and stream over, also on failure of later calls; they end with vlm_rpc_session_close. */
void vlm_rpc_session_init(vlm_rpc_session *s, nghttp2_session *h2, vlm_stream *stream,
                          vlm_rpc_flusher *flusher, void (*over)(void *user), void *user);
void vlm_rpc_session_close(vlm_rpc_session *s);

/* Hand bytes of the stream to nghttp2.  False: the session is broken; close it. */
VLM_MUST_USE bool vlm_rpc_session_receive(vlm_rpc_session *s, const uint8_t *data, size_t len);

/* Something was submitted: write it before the loop sleeps. */
void vlm_rpc_session_mark(vlm_rpc_session *s);
/* Write now what nghttp2 has, unless the peer is slow.  False: the session is over. */
bool vlm_rpc_session_send(vlm_rpc_session *s);

/* Send a ping after idle_ns without bytes; false when one has had no answer for timeout_ns. */
VLM_MUST_USE bool vlm_rpc_session_keepalive(vlm_rpc_session *s, uint64_t idle_ns,
                                            uint64_t timeout_ns);

/* A header field of constant name and counted value. */
nghttp2_nv vlm_rpc_nv(const char *name, const char *value, size_t value_len);

#endif
