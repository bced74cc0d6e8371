#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "gateway/chat_parts.h"

enum {
    INLINE_MAX = 32 << 10, /* bodies up to this are parsed on the loop */
    OUT_MAX = 96 << 20,
};
#define SECOND_NS ((uint64_t)1000000000u)

static void free_chat(vlm_chat *chat)
{
    vlm_gateway *g = chat->gateway;
    if (chat->prev != NULL)
        chat->prev->next = chat->next;
    else
        g->chats = chat->next;
    if (chat->next != NULL) chat->next->prev = chat->prev;
    if (chat->has_request) vlm_chat_request_fini(&chat->request);
    if (chat->has_answer) vlm_chat_answer_fini(&chat->answer);
    g->n_held -= chat->n_held;
    vlm_buf_fini(&chat->body);
    vlm_buf_fini(&chat->out);
    free(chat->fetches);
    free(chat);
}

/* The worker's call is over or given up. */
static void leave_worker(vlm_chat *chat)
{
    if (chat->call != NULL) vlm_rpc_client_cancel(chat->call);
    chat->call = NULL;
    if (chat->link != NULL) vlm_worker_link_count(chat->link, -1);
    chat->link = NULL;
    if (chat->started) chat->gateway->n_running--;
    chat->started = false;
}

void vlm_chat_stop(vlm_chat *chat)
{
    if (chat->state == VLM_CHAT_OVER) return;
    vlm_chat_fetch_cancel(chat);
    leave_worker(chat);
    chat->gateway->n_chats--;
    /* What another thread still reads is freed when it is back. */
    if (chat->state == VLM_CHAT_PARSING)
        chat->client = NULL;
    else
        chat->state = VLM_CHAT_OVER;
}

static void on_gone(void *user)
{
    vlm_chat *chat = user;
    chat->client = NULL;
    vlm_chat_stop(chat);
}

static void on_drained(void *user)
{
    vlm_chat *chat = user;
    if (!chat->paused || chat->call == NULL) return;
    chat->paused = false;
    vlm_rpc_client_pause(chat->call, false);
}

static void begin_stream(vlm_chat *chat)
{
    if (chat->streaming) return;
    chat->streaming = true;
    vlm_client_stream_start(chat->client);
}

/* Send what has been written into chat->out. */
static void send_out(vlm_chat *chat)
{
    vlm_client_stream_write(chat->client, vlm_buf_bytes(&chat->out));
    vlm_buf_clear(&chat->out);
    chat->sent_ns = vlm_clock_ns();
}

/* Let the client go with its answer; chat stays for the record until the tick. */
static void part(vlm_chat *chat)
{
    vlm_client *c = chat->client;
    if (c != NULL) vlm_client_watch(c, NULL, NULL, NULL);
}

/* Overload is counted where it is found. */
static void count_failure(vlm_chat *chat, int http_status, const char *code)
{
    vlm_reject reject;
    if (http_status == 504)
        reject = VLM_REJECT_TIMEOUT;
    else if (http_status == 422)
        reject = VLM_REJECT_QUARANTINED;
    else if (http_status == 503 && code != NULL && strcmp(code, "worker_unavailable") == 0)
        reject = VLM_REJECT_UNAVAILABLE;
    else
        return;
    vlm_counter_add(chat->metrics, VLM_METRIC_REQUESTS_REJECTED, reject, 1);
}

void vlm_chat_fail(vlm_chat *chat, const vlm_api_error *error)
{
    vlm_client *c = chat->client;
    if (chat->state == VLM_CHAT_OVER || c == NULL) return;
    count_failure(chat, error->http_status, error->code);
    part(chat);
    vlm_chat_stop(chat);
    if (chat->streaming) {
        if (vlm_chat_answer_fail(error, &chat->out, NULL) == VLM_OK) send_out(chat);
        vlm_client_stream_end(c, false);
    } else {
        vlm_respond_error(c, error);
    }
    chat->client = NULL;
}

/* The answer could not be written: memory, or events that make no sense. */
static void fail_writing(vlm_chat *chat, const vlm_error *why)
{
    vlm_api_error error;
    vlm_api_error_from_status(&error, why, NULL);
    vlm_chat_fail(chat, &error);
}

static void finish_answer(vlm_chat *chat)
{
    vlm_client *c = chat->client;
    vlm_error error;
    if (chat->request.stream) begin_stream(chat);
    const vlm_status status = chat->request.stream
                                  ? vlm_chat_answer_end(&chat->answer, &chat->out, &error)
                                  : vlm_chat_answer_write(&chat->answer, &chat->out, &error);
    if (status != VLM_OK) {
        fail_writing(chat, &error);
        return;
    }
    part(chat);
    vlm_chat_stop(chat);
    if (chat->streaming) {
        send_out(chat);
        vlm_client_stream_end(c, true);
    } else {
        vlm_client_respond(c, &(vlm_response){.status = 200,
                                              .content_type = "application/json",
                                              .body = vlm_buf_bytes(&chat->out)});
    }
    chat->client = NULL;
}

static void on_message(void *user, const uint8_t *data, size_t len)
{
    vlm_chat *chat = user;
    Vlm__V1__GenerateEvent *event = vlm__v1__generate_event__unpack(NULL, len, data);
    if (event == NULL) {
        vlm_api_error internal;
        vlm_api_error_internal(&internal);
        vlm_chat_fail(chat, &internal);
        return;
    }
    vlm_chat_note_event(chat, event);
    vlm_error error;
    vlm_status status = VLM_OK;
    if (event->event_case != VLM__V1__GENERATE_EVENT__EVENT_STARTED) {
        chat->answered_some = chat->answered_some || chat->request.stream;
        if (!chat->request.stream) {
            status = vlm_chat_answer_collect(&chat->answer, event, &error);
        } else {
            begin_stream(chat);
            status = vlm_chat_answer_event(&chat->answer, event, &chat->out, &error);
        }
    }
    vlm__v1__generate_event__free_unpacked(event, NULL);
    if (status != VLM_OK) {
        fail_writing(chat, &error);
        return;
    }
    if (chat->out.len > 0) send_out(chat);
    if (vlm_client_is_slow(chat->client) && !chat->paused) {
        chat->paused = true;
        vlm_rpc_client_pause(chat->call, true);
    }
}

/* The worker died under the request. */
static void note_kill(vlm_chat *chat)
{
    vlm_quarantine_add(&chat->gateway->quarantine, chat->digest, vlm_clock_ns());
    chat->n_kills++;
}

static bool may_retry(const vlm_chat *chat, const vlm_error *error, const char *reason)
{
    enum { TRIES_MAX = 3 };
    if (chat->answered_some || chat->n_tries >= TRIES_MAX) return false;
    if (error->code == VLM_UNAVAILABLE) return true;
    return error->code == VLM_RESOURCE_EXHAUSTED && reason != NULL &&
           strcmp(reason, "overloaded") == 0 && chat->n_tries < 2;
}

static void on_done(void *user, const vlm_error *error, const char *reason)
{
    vlm_chat *chat = user;
    vlm_api_error api;
    chat->call = NULL;
    if (error == NULL) {
        finish_answer(chat);
        return;
    }
    const bool lost = reason != NULL && strcmp(reason, "lost") == 0;
    const bool was_started = chat->started;
    chat->avoid = chat->link;
    leave_worker(chat);
    if (lost && was_started && !chat->gateway->draining) note_kill(chat);
    if (chat->n_kills >= VLM_QUARANTINE_KILLS) {
        vlm_api_error_quarantined(&api);
        vlm_chat_fail(chat, &api);
    } else if (may_retry(chat, error, reason)) {
        if (chat->has_answer) vlm_chat_answer_fini(&chat->answer);
        chat->has_answer = false;
        vlm_chat_forget_events(chat);
        vlm_chat_go_on(chat);
    } else {
        vlm_api_error_from_status(&api, error, reason);
        vlm_chat_fail(chat, &api);
    }
}

/* 24 random letters and digits. */
static void make_id(vlm_chat *chat)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[24];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        for (size_t i = 0; i < sizeof random; i++)
            random[i] = (uint8_t)(vlm_clock_ns() >> (i % 8 * 8));
    size_t len = (size_t)snprintf(chat->id, sizeof chat->id, "chatcmpl-");
    for (size_t i = 0; i < sizeof random; i++) chat->id[len++] = digits[random[i] % 62];
    chat->id[len] = '\0';
}

static vlm_status start_answer(vlm_chat *chat, vlm_error *err)
{
    if (chat->has_answer) return VLM_OK;
    VLM_TRY(vlm_chat_answer_init(&chat->answer, &chat->request, chat->id, (int64_t)time(NULL),
                                 chat->model, err));
    chat->has_answer = true;
    return VLM_OK;
}

void vlm_chat_go_on(vlm_chat *chat)
{
    vlm_gateway *g = chat->gateway;
    vlm_error error;
    vlm_api_error api;
    const uint64_t now = vlm_clock_ns();
    chat->state = VLM_CHAT_CALLING;
    if (now >= chat->deadline_ns) return; /* the tick says so */
    vlm_worker_link *link = NULL;
    if (!chat->has_model || vlm_models_takes(g->models, chat->model_idx))
        link = vlm_workers_choose(g->workers, vlm_chat_model_name(chat), chat->avoid);
    if (link == NULL) {
        vlm_chat_wait(chat);
        return;
    }
    (void)snprintf(chat->model, sizeof chat->model, "%s", vlm_worker_link_model(link));
    (void)snprintf(chat->worker_name, sizeof chat->worker_name, "%s", vlm_worker_link_name(link));
    vlm_status status = start_answer(chat, &error);
    const vlm_rpc_call_options options = {
        .path = "/vlm.v1.Worker/Generate",
        .timeout_ns = chat->deadline_ns - now,
        .request_id = vlm_bytes_of(vlm_client_request_id(chat->client)),
        .tenant = vlm_bytes_of(chat->names.tenant),
        .message = on_message,
        .done = on_done,
        .user = chat,
    };
    if (status == VLM_OK)
        status = vlm_rpc_channel_call(vlm_worker_link_channel(link), &options,
                                      &chat->request.grpc.base, &chat->call, &error);
    if (status == VLM_UNAVAILABLE) {
        /* It went away this moment; its end is on the way. */
        if (chat->waiting_ns == 0) chat->waiting_ns = now;
        chat->state = VLM_CHAT_WAITING;
        return;
    }
    if (status != VLM_OK) {
        vlm_api_error_from_status(&api, &error, NULL);
        vlm_chat_fail(chat, &api);
        return;
    }
    chat->link = link;
    chat->n_tries++;
    chat->called_ns = now;
    vlm_worker_link_count(link, 1);
}

/* Parsed: what can be refused without a worker is refused here. */
static void on_request(vlm_chat *chat)
{
    vlm_gateway *g = chat->gateway;
    vlm_chat_request *r = &chat->request;
    vlm_api_error error;
    if (chat->parse_failed) {
        vlm_chat_fail(chat, &chat->error);
        return;
    }
    if (!vlm_chat_find_model(chat, &error)) {
        vlm_chat_fail(chat, &error);
        return;
    }
    if (vlm_quarantine_has(&g->quarantine, chat->digest, vlm_clock_ns())) {
        vlm_api_error_quarantined(&error);
        vlm_chat_fail(chat, &error);
        return;
    }
    if (r->n_urls > 0) {
        chat->state = VLM_CHAT_FETCHING;
        vlm_chat_fetch_start(chat);
        return;
    }
    vlm_chat_go_on(chat);
}

/* On any thread. */
static void parse(vlm_chat *chat)
{
    const vlm_gateway_options *o = &chat->gateway->options;
    vlm_chat_limits limits = {.image_bytes_max = o->image_bytes_max,
                              .images_max = o->images_max,
                              .json = vlm_json_limits_default,
                              .image_urls = chat->gateway->fetcher != NULL};
    limits.json.depth_max = o->json_depth_max;
    vlm_sha256(chat->body.data, chat->body.len, chat->digest);
    chat->parse_failed = !vlm_chat_request_parse(chat->body.data, chat->body.len, &limits,
                                                 &chat->request, &chat->error);
    chat->has_request = !chat->parse_failed;
    vlm_buf_fini(&chat->body);
}

static void on_parse(uv_work_t *work)
{
    parse(work->data);
}

/* A seed for who has none, so that the request can be repeated exactly. */
static void fix_seed(vlm_chat *chat)
{
    if (!chat->has_request || chat->request.grpc.sampling == NULL) return;
    Vlm__V1__Sampling *s = chat->request.grpc.sampling;
    if (s->opt_seed_case != VLM__V1__SAMPLING__OPT_SEED__NOT_SET) return;
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        seed = (uint32_t)++chat->gateway->last_seed;
    s->opt_seed_case = VLM__V1__SAMPLING__OPT_SEED_SEED;
    s->seed = seed;
}

/* Who asks, for the worker; views of the chat's own texts. */
static void set_names(vlm_chat *chat)
{
    if (!chat->has_request) return;
    vlm_tenant_names *n = &chat->names;
    chat->request.grpc.tenant =
        (ProtobufCBinaryData){.data = (uint8_t *)n->tenant, .len = strlen(n->tenant)};
    chat->request.grpc.cache_salt =
        (ProtobufCBinaryData){.data = (uint8_t *)n->cache_salt, .len = strlen(n->cache_salt)};
}

static void after_parse(vlm_chat *chat)
{
    set_names(chat);
    if (chat->client == NULL) {
        chat->state = VLM_CHAT_OVER;
        return;
    }
    fix_seed(chat);
    chat->state = VLM_CHAT_CALLING;
    on_request(chat);
}

static void on_parsed(uv_work_t *work, int status)
{
    (void)status;
    after_parse(work->data);
}

/* X-Request-Timeout in seconds may lower the limit.  False when it is no number. */
static bool read_timeout(const vlm_gateway *g, const vlm_http1_request *request, uint64_t *ns)
{
    const vlm_http1_field *f = vlm_http1_find(request, "x-request-timeout");
    *ns = g->options.request_ns;
    if (f == NULL) return true;
    char text[24], *end;
    if (f->value.len == 0 || f->value.len >= sizeof text) return false;
    memcpy(text, f->value.ptr, f->value.len);
    text[f->value.len] = '\0';
    if (text[strspn(text, "0123456789.")] != '\0') return false;
    const double seconds = strtod(text, &end);
    if (*end != '\0' || !(seconds > 0.0)) return false;
    if (seconds < (double)*ns * 1e-9) *ns = (uint64_t)(seconds * 1e9);
    return true;
}

void vlm_chat_start(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request, vlm_buf *body,
                    int key)
{
    vlm_api_error error;
    uint64_t timeout_ns;
    if (!read_timeout(g, request, &timeout_ns)) {
        vlm_api_error_invalid(&error, "X-Request-Timeout",
                              "X-Request-Timeout must be a number of seconds above 0");
        vlm_respond_error(c, &error);
        return;
    }
    /* Again: others may have come since its head was taken. */
    if (vlm_chats_refuse(g, c, key)) return;
    vlm_chat *chat = calloc(1, sizeof *chat);
    if (chat == NULL) {
        vlm_counter_add(g->metrics, VLM_METRIC_REQUESTS_REJECTED, VLM_REJECT_OVERLOADED, 1);
        vlm_api_error_overloaded(&error, "the server is busy");
        vlm_respond_error(c, &error);
        return;
    }
    chat->gateway = g;
    chat->client = c;
    chat->metrics = g->metrics;
    vlm_tenant_names_of(&g->keys, key, g->options.cache_shared, &chat->names);
    chat->work.data = chat;
    chat->body = *body;
    chat->n_held = body->len;
    g->n_held += chat->n_held;
    *body = (vlm_buf){0};
    vlm_buf_init(&chat->out, OUT_MAX);
    chat->arrived_ns = vlm_client_arrived_ns(c);
    chat->deadline_ns = chat->arrived_ns + timeout_ns;
    chat->sent_ns = chat->arrived_ns;
    chat->next = g->chats;
    if (chat->next != NULL) chat->next->prev = chat;
    g->chats = chat;
    g->n_chats++;
    make_id(chat);
    vlm_client_watch(c, on_gone, on_drained, chat);
    vlm_client_set_detail(c, chat);
    chat->state = VLM_CHAT_PARSING;
    if (chat->body.len > INLINE_MAX &&
        uv_queue_work(g->loop, &chat->work, on_parse, on_parsed) == 0)
        return;
    parse(chat);
    after_parse(chat);
}

static void send_comment(vlm_chat *chat)
{
    const bool is_loading = chat->state == VLM_CHAT_WAITING && vlm_chat_is_loading(chat);
    begin_stream(chat);
    vlm_client_stream_write(chat->client,
                            vlm_bytes_of(is_loading ? ": loading the model\n\n" : ":\n\n"));
    chat->sent_ns = vlm_clock_ns();
}

static void check_chat(vlm_chat *chat, uint64_t now)
{
    enum { COMMENT_S = 9, WORKER_WAIT_S = 10 };
    vlm_api_error error;
    /* While it is being parsed it belongs to another thread. */
    if (chat->client == NULL || chat->state == VLM_CHAT_OVER || chat->state == VLM_CHAT_PARSING)
        return;
    if (now >= chat->deadline_ns) {
        vlm_api_error_timeout(&error);
        vlm_chat_fail(chat, &error);
        return;
    }
    if (chat->state == VLM_CHAT_WAITING && vlm_chat_is_loading(chat)) chat->waiting_ns = now;
    if (chat->state == VLM_CHAT_WAITING && now - chat->waiting_ns > WORKER_WAIT_S * SECOND_NS) {
        vlm_api_error_unavailable(&error);
        vlm_chat_fail(chat, &error);
        return;
    }
    const bool may_stream = chat->has_request && chat->request.stream;
    if (may_stream && now - chat->sent_ns > COMMENT_S * SECOND_NS) send_comment(chat);
}

/* After a burst the allocator keeps what it had: once all is quiet the system gets it back. */
static void give_memory_back(vlm_gateway *g, uint64_t now)
{
    if (g->chats != NULL) {
        g->busy_ns = now;
    } else if (g->busy_ns != 0 && now - g->busy_ns > SECOND_NS / 2) {
        g->busy_ns = 0;
        (void)malloc_trim(0);
    }
}

void vlm_chats_tick(vlm_gateway *g)
{
    const uint64_t now = vlm_clock_ns();
    vlm_chat *next;
    for (vlm_chat *chat = g->chats; chat != NULL; chat = next) {
        next = chat->next;
        check_chat(chat, now);
        if (chat->state == VLM_CHAT_OVER && chat->client == NULL && chat->n_fetching == 0)
            free_chat(chat);
    }
    give_memory_back(g, now);
}

void vlm_chats_retry(vlm_gateway *g)
{
    for (vlm_chat *chat = g->chats; chat != NULL; chat = chat->next)
        if (chat->state == VLM_CHAT_WAITING && chat->client != NULL) vlm_chat_go_on(chat);
}

void vlm_chats_fail_all(vlm_gateway *g)
{
    vlm_api_error error;
    vlm_api_error_unavailable(&error);
    for (vlm_chat *chat = g->chats; chat != NULL; chat = chat->next) vlm_chat_fail(chat, &error);
}
