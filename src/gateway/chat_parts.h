/* chat_parts.h - one POST /v1/chat/completions on its way, shared by the files of it: parse (maybe
 * on another thread), fetch pictures, call a worker, answer.
 * Threads: the loop's, but for the parsing. */
#ifndef VLM_GATEWAY_CHAT_PARTS_H
#define VLM_GATEWAY_CHAT_PARTS_H

#include "gateway/chat_answer.h"
#include "gateway/chat_request.h"
#include "gateway/gateway_parts.h"
#include "gateway/tenant.h"

typedef enum vlm_chat_state {
    VLM_CHAT_PARSING,  /* on another thread */
    VLM_CHAT_FETCHING, /* pictures by URL */
    VLM_CHAT_WAITING,  /* for a worker that is ready */
    VLM_CHAT_CALLING,  /* a worker has it */
    VLM_CHAT_OVER,     /* answered or given up; freed by the next tick */
} vlm_chat_state;

enum { VLM_CHAT_ID_LEN_MAX = 40 };

struct vlm_chat {
    vlm_gateway *gateway;
    vlm_chat *prev, *next;
    vlm_client *client; /* NULL: it has gone, or has its answer */
    vlm_chat_state state;
    vlm_tenant_names names; /* of who asks */

    uv_work_t work;
    vlm_buf body;         /* as long as it is parsed */
    size_t n_held;        /* its bytes, counted until the chat is freed */
    size_t model_idx;     /* of the gateway's models */
    bool has_model;       /* it is known which */
    vlm_metrics *metrics; /* of that model; before, of the first */
    uint8_t digest[VLM_SHA256_LEN];
    bool has_request, parse_failed;
    vlm_chat_request request;
    vlm_api_error error;

    size_t n_fetching; /* pictures that are still to come */
    void **fetches;    /* [request.n_urls], handles */
    uint64_t fetch_ns; /* when they began */

    vlm_worker_link *link, *avoid;
    vlm_rpc_client_call *call;
    uint32_t n_tries, n_kills;
    bool started; /* the worker has begun */
    bool streaming, answered_some, paused;
    bool has_answer;
    vlm_chat_answer answer;
    vlm_buf out;
    char id[VLM_CHAT_ID_LEN_MAX];
    char worker_name[64], model[VLM_WORKER_MODEL_LEN_MAX + 1];

    uint64_t arrived_ns, deadline_ns, waiting_ns, sent_ns, called_ns, started_ns, first_ns;
    uint64_t last_token_ns[VLM_CHAT_CHOICES_MAX];
    uint32_t n_prompt, n_completion, n_image_tokens, n_cached;
    double queue_ms, image_ms, image_decode_ms, prefill_ms, decode_ms;
};

/* Begin to fetch the request's pictures; vlm_chat_go_on follows when all have come. */
void vlm_chat_fetch_start(vlm_chat *chat);
void vlm_chat_fetch_cancel(vlm_chat *chat);

/* Which model is asked for.  False, with the error, when there is none of that name. */
bool vlm_chat_find_model(vlm_chat *chat, vlm_api_error *error);
/* What it is called by its worker; empty: any will do. */
vlm_bytes vlm_chat_model_name(const vlm_chat *chat);
/* Whether the model is on its way: the chat waits as long as it may. */
bool vlm_chat_is_loading(const vlm_chat *chat);
/* No worker takes it now: wait for one, or say so. */
void vlm_chat_wait(vlm_chat *chat);

/* The pictures are there: on to a worker. */
void vlm_chat_go_on(vlm_chat *chat);
/* End with this error, whatever has been sent. */
void vlm_chat_fail(vlm_chat *chat, const vlm_api_error *error);
/* Keep what an event says of times and tokens. */
void vlm_chat_note_event(vlm_chat *chat, const Vlm__V1__GenerateEvent *event);
/* Forget it: another worker begins from the start. */
void vlm_chat_forget_events(vlm_chat *chat);
/* Nobody needs the answer: stop everything. */
void vlm_chat_stop(vlm_chat *chat);

#endif
