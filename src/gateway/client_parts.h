/* client_parts.h - what the files of the HTTP connections share (client.h is the interface).
 * Threads: the loop's. */
#ifndef VLM_GATEWAY_CLIENT_PARTS_H
#define VLM_GATEWAY_CLIENT_PARTS_H

#include "gateway/client.h"

enum { VLM_METHOD_LEN_MAX = 15, VLM_CLIENT_OUT_MAX = 128 << 20 };

typedef enum vlm_client_state {
    CLIENT_IDLE,   /* between requests */
    CLIENT_HEAD,   /* inside a head */
    CLIENT_BODY,   /* inside a body */
    CLIENT_ANSWER, /* a request is being answered */
    CLIENT_LINGER, /* everything is written; the peer's bytes are dropped until it ends */
} vlm_client_state;

/* What only a connection with a request needs. */
typedef struct vlm_exchange {
    char request_id[VLM_REQUEST_ID_LEN_MAX + 1];
    char method[VLM_METHOD_LEN_MAX + 1];
    const char *handler;
    void *detail;
    uint64_t arrived_ns;
    uint64_t body_ns; /* when the body began */
    vlm_buf body;
    uint64_t n_discarded;
    int minor_version, status;
    bool keep_alive, answered, streaming, discard, is_head;
    void (*gone)(void *user);
    void (*drained)(void *user);
    void *user;
} vlm_exchange;

struct vlm_client {
    vlm_clients *set;
    vlm_client *prev, *next; /* all */
    vlm_client *next_dirty;
    vlm_stream *stream;
    vlm_http1 parser;
    vlm_exchange *x; /* NULL while idle */
    vlm_buf pending, out;
    vlm_client_state state;
    bool dirty, processing, closing, end_after_write;
    uint64_t since_ns; /* of the state */
    uint64_t wrote_ns; /* when the peer last took something */
    size_t last_unsent;
};

struct vlm_clients {
    vlm_clients_options options;
    vlm_listener *listener;
    uv_timer_t *tick;
    uv_prepare_t *prepare;
    vlm_client *first, *dirty;
    vlm_client *next_in_tick; /* survives the closing of clients during the walk */
    size_t n_connections, n_exchanges, n_body_bytes;
    bool draining;
    uint64_t id_prefix, n_ids;
};

/* Close now, telling the exchange; inside the parser's loop the memory is freed by it. */
void vlm_client_close(vlm_client *c);
/* Give what is in c->out to the stream, now or before the loop sleeps. */
void vlm_client_flush(vlm_client *c);
void vlm_client_mark_dirty(vlm_client *c);
/* The answer is complete: on to the next request, or to the end of the connection. */
void vlm_client_next_request(vlm_client *c, bool keep);

#endif
