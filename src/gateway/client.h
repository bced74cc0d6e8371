/* client.h - the HTTP/1.1 connections of a gateway: requests in whole, one at a time for each
 * connection, and answers in one piece or streamed.
 * Limits and time-outs of connections are kept here: header, body, idle, slow readers.
 * Not: what is asked and answered (routes.h, chat.h).
 * Ownership: a client lives as long as its connection; after `gone` or `finish` the exchange must
 * not touch it.  Threads: the loop's. */
#ifndef VLM_GATEWAY_CLIENT_H
#define VLM_GATEWAY_CLIENT_H

#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/status.h"
#include "net/addr.h"
#include "net/http1.h"
#include "net/http1_write.h"
#include "net/stream.h"

typedef struct vlm_client vlm_client;
typedef struct vlm_clients vlm_clients;

enum { VLM_REQUEST_ID_LEN_MAX = 128, VLM_RESPONSE_MORE_MAX = 8 };

/* One answered request, for the log and the metrics. */
typedef struct vlm_exchange_record {
    const char *request_id, *method;
    const char *handler; /* the route's name, "other" for none */
    int status;          /* 0: nothing was sent, the client went away */
    double seconds;
    void *detail; /* what vlm_client_set_detail was given */
} vlm_exchange_record;

typedef struct vlm_clients_options {
    uv_loop_t *loop;
    vlm_http1_limits limits;
    uint32_t connections_max;
    size_t bodies_max;    /* bytes of all bodies that are arriving or held */
    const size_t *n_held; /* what became of a body takes its memory still: bytes that count too */
    uint64_t header_ns, idle_ns, slow_ns;
    uint32_t body_rate_min; /* bytes a second, after 10 s */
    size_t unsent_max;
    const char *cors_origin; /* NULL: none */

    /* The head has come.  Refuse with vlm_client_respond, or return to get the body. */
    void (*head)(void *user, vlm_client *c, const vlm_http1_request *request);
    /* The whole request: answer now or later.  *body may be moved out. */
    void (*request)(void *user, vlm_client *c, const vlm_http1_request *request, vlm_buf *body);
    void (*finished)(void *user, const vlm_exchange_record *record);
    /* The HTTP itself is wrong: append the body of the answer. */
    void (*malformed)(void *user, int status, const char *text, vlm_buf *body);
    void *user;
} vlm_clients_options;

VLM_MUST_USE vlm_status vlm_clients_open(const vlm_clients_options *options, vlm_clients **out,
                                         vlm_error *err);
VLM_MUST_USE vlm_status vlm_clients_listen(vlm_clients *set, const vlm_addr *addr, vlm_error *err);
const vlm_addr *vlm_clients_addr(const vlm_clients *set);
/* Serve a connection that was made elsewhere: tests.  Takes the stream over. */
void vlm_clients_accept(vlm_clients *set, vlm_stream *stream);

/* No new connections; idle ones are closed, others after their answer. */
void vlm_clients_drain(vlm_clients *set);
size_t vlm_clients_n_connections(const vlm_clients *set);
/* Requests that have not been answered in full. */
size_t vlm_clients_n_exchanges(const vlm_clients *set);
void vlm_clients_close(vlm_clients *set);

/* Of the request that is being answered. */
const char *vlm_client_request_id(const vlm_client *c);
uint64_t vlm_client_arrived_ns(const vlm_client *c);
/* For the record. */
void vlm_client_set_handler(vlm_client *c, const char *handler);
void vlm_client_set_detail(vlm_client *c, void *detail);

/* Who answers later: gone when the client has left (cancel everything); drained when what was
 * written has been taken and less than the limit waits again. */
void vlm_client_watch(vlm_client *c, void (*gone)(void *user), void (*drained)(void *user),
                      void *user);

typedef struct vlm_response {
    int status;
    const char *content_type; /* NULL: no body */
    vlm_bytes body;
    uint32_t retry_after_s;          /* 0: none */
    const char *allow;               /* 405 */
    bool authenticate;               /* 401 */
    bool is_preflight;               /* CORS */
    bool close;                      /* end the connection */
    const vlm_http1_out_field *more; /* [n_more] further fields of the head */
    size_t n_more;                   /* VLM_RESPONSE_MORE_MAX at most */
} vlm_response;

/* The whole answer.  The exchange is over. */
void vlm_client_respond(vlm_client *c, const vlm_response *response);

/* An answer as server-sent events: headers, pieces, end.  Pieces are sent before the loop sleeps.
 */
void vlm_client_stream_start(vlm_client *c);
void vlm_client_stream_write(vlm_client *c, vlm_bytes data);
/* The exchange is over; with keep the connection stays open for more. */
void vlm_client_stream_end(vlm_client *c, bool keep);
/* More waits for the client than it may leave lying. */
bool vlm_client_is_slow(const vlm_client *c);
/* Since when the client has taken nothing though something waits; 0: it does. */
uint64_t vlm_client_last_write_ns(const vlm_client *c);

#endif
