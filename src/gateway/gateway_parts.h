/* gateway_parts.h - what the files of the gateway share (gateway.h is the interface).
 * Threads: the loop's. */
#ifndef VLM_GATEWAY_GATEWAY_PARTS_H
#define VLM_GATEWAY_GATEWAY_PARTS_H

#include "gateway/api_error.h"
#include "gateway/client.h"
#include "gateway/fetch.h"
#include "gateway/gateway.h"
#include "gateway/keys.h"
#include "gateway/metrics.h"
#include "gateway/page.h"
#include "gateway/quarantine.h"
#include "gateway/workers.h"

typedef struct vlm_chat vlm_chat;

struct vlm_gateway {
    vlm_gateway_options options;
    uv_loop_t *loop;
    vlm_clients *clients;
    vlm_workers *workers;
    vlm_fetcher *fetcher; /* NULL: pictures are not fetched */
    vlm_page *page;       /* NULL: none */
    vlm_models *models;
    vlm_metrics *metrics; /* the page, and the first model's; of models */
    vlm_keys keys, admin_keys;
    vlm_quarantine quarantine;
    vlm_chat *chats;
    size_t n_chats, n_running;
    size_t n_held; /* bytes of the bodies of all chats */
    uint64_t last_seed;
    uint64_t busy_ns; /* when there was a chat last; 0: memory has been given back since */
    bool draining, hurry;
    bool broken[VLM_MODELS_MAX];
    uv_timer_t tick, shutdown, watchdog;
    uv_signal_t term, interrupt, hangup;
    uv_async_t fetched; /* the fetcher's thread has something */
};

/* A whole POST /v1/chat/completions; body may be moved out.  key: index of the API key or -1. */
void vlm_chat_start(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request, vlm_buf *body,
                    int key);
/* Deadlines, comments on silent streams, requests that wait for a worker. */
void vlm_chats_tick(vlm_gateway *g);
/* A worker has become ready. */
void vlm_chats_retry(vlm_gateway *g);
/* Pictures have arrived. */
void vlm_chats_fetched(vlm_gateway *g);
/* All end with an error: the time to shut down is over. */
void vlm_chats_fail_all(vlm_gateway *g);
/* No more room for anybody. */
bool vlm_chats_full(const vlm_gateway *g);
/* True: there is no room for a request, or none for the owner of its key because of all the others
 * that it has sent, and the client has been told so. */
VLM_MUST_USE bool vlm_chats_refuse(vlm_gateway *g, vlm_client *c, int key);
/* How many of the model with these metrics run and wait. */
void vlm_chats_count(const vlm_gateway *g, const vlm_metrics *model, size_t *n_running,
                     size_t *n_waiting);
/* Into the log and the metrics; detail of the record is the chat. */
void vlm_chat_record(const vlm_exchange_record *record);

/* Everything that is no chat. */
void vlm_routes_head(void *user, vlm_client *c, const vlm_http1_request *request);
void vlm_routes_request(void *user, vlm_client *c, const vlm_http1_request *request, vlm_buf *body);
void vlm_routes_malformed(void *user, int status, const char *text, vlm_buf *body);

/* An error as the whole answer. */
void vlm_respond_error(vlm_client *c, const vlm_api_error *e);

#endif
