#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/chat_parts.h"

/* One picture on its way, between the fetch thread and the loop. */
typedef struct vlm_chat_picture {
    vlm_gateway *gateway;
    vlm_chat *chat;
    size_t idx; /* of request.urls */
    vlm_fetch *fetch;
    struct vlm_chat_picture *next; /* that have arrived */
    vlm_buf bytes;
    vlm_error error; /* code VLM_OK: none */
    bool is_done;    /* the fetch is gone */
} picture;

static pthread_mutex_t arrived_lock = PTHREAD_MUTEX_INITIALIZER;
static picture *arrived;

/* On a fetch thread. */
static void on_done(void *user, vlm_buf *bytes, const vlm_error *error)
{
    picture *p = user;
    if (error != NULL) {
        p->error = *error;
    } else {
        p->bytes = *bytes;
        *bytes = (vlm_buf){0};
    }
    vlm_gateway *g = p->gateway;
    (void)pthread_mutex_lock(&arrived_lock);
    p->is_done = true;
    p->next = arrived;
    arrived = p;
    (void)pthread_mutex_unlock(&arrived_lock);
    (void)uv_async_send(&g->fetched);
}

/* One wording, whatever was wrong: nobody learns from it what stands behind the server. */
static void fail_fetch(vlm_chat *chat, size_t idx)
{
    vlm_api_error error;
    vlm_api_error_invalid(&error, chat->request.urls[idx].param, "image could not be fetched");
    error.code = "invalid_image";
    vlm_chat_fail(chat, &error);
}

void vlm_chat_fetch_start(vlm_chat *chat)
{
    vlm_error error;
    const size_t n = chat->request.n_urls;
    chat->fetches = calloc(n, sizeof *chat->fetches);
    chat->fetch_ns = vlm_clock_ns();
    for (size_t i = 0; i < n; i++) {
        picture *p = chat->fetches == NULL ? NULL : calloc(1, sizeof *p);
        vlm_status status = p == NULL ? vlm_fail_memory(&error, "picture") : VLM_OK;
        if (status == VLM_OK) {
            *p = (picture){.gateway = chat->gateway, .chat = chat, .idx = i};
            status = vlm_fetcher_start(chat->gateway->fetcher, chat->request.urls[i].url, on_done,
                                       p, &p->fetch, &error);
        }
        if (status != VLM_OK) {
            free(p);
            if (status == VLM_RESOURCE_EXHAUSTED) {
                vlm_api_error api;
                vlm_api_error_overloaded(&api, "too many pictures are being fetched");
                vlm_chat_fail(chat, &api);
            } else {
                fail_fetch(chat, i);
            }
            return;
        }
        chat->fetches[i] = p;
        chat->n_fetching++;
    }
}

void vlm_chat_fetch_cancel(vlm_chat *chat)
{
    if (chat->fetches == NULL) return;
    (void)pthread_mutex_lock(&arrived_lock);
    for (size_t i = 0; i < chat->request.n_urls; i++) {
        picture *p = chat->fetches[i];
        if (p != NULL && !p->is_done) vlm_fetch_cancel(p->fetch);
    }
    (void)pthread_mutex_unlock(&arrived_lock);
}

static void take_picture(picture *p)
{
    vlm_chat *chat = p->chat;
    const size_t idx = p->idx;
    const bool failed = p->error.code != VLM_OK;
    chat->fetches[idx] = NULL;
    chat->n_fetching--;
    if (!failed && chat->state == VLM_CHAT_FETCHING) {
        ProtobufCBinaryData *slot = chat->request.urls[idx].slot;
        slot->data = (uint8_t *)p->bytes.data;
        slot->len = p->bytes.len;
        p->bytes = (vlm_buf){0};
    }
    if (failed) vlm_log(VLM_LOG_DEBUG, "a picture could not be fetched: %s", p->error.msg);
    vlm_buf_fini(&p->bytes);
    free(p);
    if (chat->state != VLM_CHAT_FETCHING) return;
    if (failed) {
        fail_fetch(chat, idx);
    } else if (chat->n_fetching == 0) {
        vlm_histogram_observe(chat->metrics, VLM_METRIC_IMAGE_FETCH, 0,
                              vlm_clock_seconds(chat->fetch_ns, vlm_clock_ns()));
        vlm_chat_go_on(chat);
    }
}

void vlm_chats_fetched(vlm_gateway *g)
{
    (void)g;
    (void)pthread_mutex_lock(&arrived_lock);
    picture *list = arrived;
    arrived = NULL;
    (void)pthread_mutex_unlock(&arrived_lock);
    while (list != NULL) {
        picture *next = list->next;
        take_picture(list);
        list = next;
    }
}
