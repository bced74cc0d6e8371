#include "worker/service.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/idmap.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/fair.h"
#include "rpc/health.h"
#include "rpc/server.h"
#include "worker/pack.h"
#include "worker/request.h"
#include "worker/steps.h"
#include "worker/tenants.h"

enum { METHODS = 5 + VLM_RPC_HEALTH_METHODS, TICK_MS = 250, TEXT_LEN_MAX = 64 << 20 };

/* One Generate call. */
typedef struct work {
    vlm_fair_item turn; /* to be prepared; first, so that an item is its work */
    vlm_service *service;
    struct work *prev, *next;
    uint64_t key;
    vlm_rpc_call *call; /* NULL: nobody listens any more */
    vlm_tenant_places *place;
    uv_work_t uv;
    vlm_worker_request request;
    bool queued;  /* the step thread has it */
    bool started; /* and has begun */
    bool paused;
    uint64_t arrived_ns, prepare_ns, paused_ns;
} work;

struct vlm_service {
    vlm_service_options options;
    vlm_rpc_method methods[METHODS];
    vlm_rpc_health health;
    vlm_rpc_server *server;
    vlm_steps *steps;
    uv_async_t *events;
    uv_timer_t *tick;
    work *works;
    vlm_idmap by_key;
    vlm_tenants tenants;
    vlm_fair *turns; /* of works that are to be prepared or are being so */
    uint32_t n_works, n_preparing;
    uint64_t last_key;
    bool draining, stuck;
    char instance[24];
};

static void free_work(work *w)
{
    vlm_service *s = w->service;
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        s->works = w->next;
    if (w->next != NULL) w->next->prev = w->prev;
    s->n_works--;
    (void)vlm_idmap_remove(&s->by_key, w->key);
    if (w->turn.tenant != NULL) vlm_fair_remove(s->turns, &w->turn);
    vlm_tenants_give_back(&s->tenants, w->place);
    vlm_buf_fini(&w->request.message);
    free(w);
}

static void finish_call(work *w, const vlm_error *error, const char *reason)
{
    if (w->call == NULL) return;
    vlm_rpc_call *call = w->call;
    w->call = NULL;
    vlm_rpc_call_finish(call, error, reason);
}

/* Nobody wants the answer any more.  What has not begun is gone when this returns. */
static void on_cancelled(void *user)
{
    work *w = user;
    w->call = NULL;
    if (w->turn.waits) {
        free_work(w);
        return;
    }
    atomic_store(&w->request.cancel, true);
    if (w->queued) vlm_steps_cancel(w->service->steps, w->key);
}

static void set_paused(work *w, bool paused)
{
    if (w->paused == paused) return;
    w->paused = paused;
    w->paused_ns = vlm_clock_ns();
    vlm_steps_pause(w->service->steps, w->key, paused);
}

static void on_drained(void *user)
{
    set_paused(user, false);
}

static void on_prepare(uv_work_t *uv)
{
    work *w = uv->data;
    const vlm_service_options *o = &w->service->options;
    vlm_worker_request_run(&w->request, o->engine, o->decoders, o->model);
}

static void on_prepared(uv_work_t *uv, int uv_status);

/* Tenants in turn, by the time spent for each: a pile of one's pictures is not before another's
 * short question.  One with a name leaves a thread to the others. */
static void prepare_next(vlm_service *s)
{
    const uint32_t n_max = s->options.prepare_max;
    while (s->n_preparing < n_max) {
        vlm_fair_item *item = vlm_fair_next(s->turns, n_max > 1 ? n_max - 1 : 1);
        if (item == NULL) return;
        work *w = (work *)item;
        vlm_fair_start(s->turns, item);
        vlm_fair_spend(item, 1);
        s->n_preparing++;
        w->prepare_ns = vlm_clock_ns();
        (void)uv_queue_work(s->options.loop, &w->uv, on_prepare, on_prepared);
    }
}

static void end_turn(work *w)
{
    vlm_service *s = w->service;
    vlm_fair_spend(&w->turn, (uint32_t)((vlm_clock_ns() - w->prepare_ns) / 1000000));
    vlm_fair_remove(s->turns, &w->turn);
    s->n_preparing--;
    prepare_next(s);
}

static void on_prepared(uv_work_t *uv, int uv_status)
{
    work *w = uv->data;
    vlm_service *s = w->service;
    vlm_worker_request *r = &w->request;
    end_turn(w);
    if (uv_status != 0) r->status = VLM_CANCELLED;
    if (w->call == NULL) {
        s->options.engine->ops->job_free(s->options.engine, r->job);
        free_work(w);
        return;
    }
    if (r->status == VLM_OK) {
        const double waited = vlm_clock_seconds(w->arrived_ns, vlm_clock_ns()) * 1e3 - r->image_ms;
        const vlm_steps_job job = {.job = r->job,
                                   .key = w->key,
                                   .logprobs = r->logprobs,
                                   .queue_ms = waited,
                                   .image_ms = r->image_ms};
        r->status = vlm_steps_submit(s->steps, &job, &r->error);
        if (r->status == VLM_OK) {
            w->queued = true;
            return;
        }
        s->options.engine->ops->job_free(s->options.engine, r->job);
    }
    finish_call(w, &r->error, r->reason);
    free_work(w);
}

static void fail_call(vlm_rpc_call *call, vlm_status code, const char *text, const char *reason)
{
    vlm_error error;
    (void)vlm_fail(&error, code, "%s", text);
    vlm_rpc_call_finish(call, &error, reason);
}

/* A place for the call's tenant, whose name comes ahead of the message: nothing has been unpacked
 * yet. */
static vlm_status take_place(vlm_service *s, vlm_bytes tenant, vlm_tenant_places **out,
                             vlm_error *err)
{
    const size_t n_max = (size_t)s->options.running_max + s->options.waiting_max;
    if (tenant.len > VLM_TENANT_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "x-vlmd-tenant: longer than %d bytes",
                        VLM_TENANT_LEN_MAX);
    return vlm_tenants_take(&s->tenants, tenant, s->n_works, n_max, out, err);
}

static void start_generate(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_service *s = user;
    vlm_error error;
    vlm_tenant_places *place = NULL;
    const vlm_bytes tenant = vlm_rpc_call_metadata(call, "x-vlmd-tenant");
    const vlm_status status = take_place(s, tenant, &place, &error);
    if (status != VLM_OK) {
        vlm_rpc_call_finish(call, &error, status == VLM_RESOURCE_EXHAUSTED ? "overloaded" : NULL);
        return;
    }
    work *w = calloc(1, sizeof *w);
    if (w == NULL || vlm_idmap_add(&s->by_key, s->last_key + 1, w, &error) != VLM_OK) {
        vlm_tenants_give_back(&s->tenants, place);
        free(w);
        fail_call(call, VLM_RESOURCE_EXHAUSTED, "out of memory: request", "overloaded");
        return;
    }
    w->service = s;
    w->key = ++s->last_key;
    w->call = call;
    w->place = place;
    w->uv.data = w;
    w->arrived_ns = vlm_clock_ns();
    w->request.message = *message;
    *message = (vlm_buf){0};
    w->next = s->works;
    if (w->next != NULL) w->next->prev = w;
    s->works = w;
    s->n_works++;
    vlm_rpc_call_watch(call, on_cancelled, on_drained, w);
    const bool has_room = vlm_fair_add(s->turns, &w->turn, tenant);
    assert(has_room); /* as many as there are places */
    (void)has_room;
    prepare_next(s);
}

static void take_record(vlm_service *s, const vlm_steps_record *record)
{
    vlm_error error;
    work *w = vlm_idmap_find(&s->by_key, record->key);
    if (w == NULL) return;
    if (record->started) w->started = true;
    if (record->failed != VLM_OK) {
        (void)vlm_fail(&error, record->failed, "%.*s", (int)record->message.len,
                       record->message.ptr);
        finish_call(w, &error, record->reason);
        free_work(w);
        return;
    }
    if (w->call != NULL &&
        vlm_rpc_call_send(w->call, record->message.ptr, record->message.len, &error) != VLM_OK) {
        finish_call(w, &error, NULL);
        vlm_steps_cancel(s->steps, w->key);
    }
    if (record->last) {
        finish_call(w, NULL, NULL);
        free_work(w);
    } else if (w->call != NULL && vlm_rpc_call_unsent(w->call) > s->options.unsent_max) {
        set_paused(w, true);
    }
}

static void on_events(uv_async_t *async)
{
    vlm_service *s = async->data;
    vlm_steps_record record;
    while (vlm_steps_next(s->steps, &record)) take_record(s, &record);
}

/* On the step thread. */
static void on_ready(void *user)
{
    vlm_service *s = user;
    (void)uv_async_send(s->events);
}

/* Callers that do not read, and a step that does not end. */
static void on_tick(uv_timer_t *timer)
{
    vlm_service *s = timer->data;
    const vlm_service_options *o = &s->options;
    const uint64_t now = vlm_clock_ns();
    for (work *w = s->works; w != NULL; w = w->next) {
        if (!w->paused || w->call == NULL || now - w->paused_ns < o->slow_ns) continue;
        vlm_error error;
        (void)vlm_fail(&error, VLM_RESOURCE_EXHAUSTED, "the caller does not read");
        finish_call(w, &error, "slow_reader");
        vlm_steps_cancel(s->steps, w->key);
    }
    const uint64_t since = vlm_steps_busy_since(s->steps);
    const bool stuck =
        o->step_limit_ns != 0 && since != 0 && now > since && now - since > o->step_limit_ns;
    if (stuck && !s->stuck) vlm_log(VLM_LOG_ERROR, "a step of the engine does not end");
    s->stuck = stuck;
    vlm_rpc_health_set(&s->health, !stuck && !s->draining);
}

static void send_reply(vlm_rpc_call *call, const ProtobufCMessage *message)
{
    vlm_error error;
    vlm_buf packed;
    vlm_buf_init(&packed, TEXT_LEN_MAX);
    vlm_status status = vlm_pack_message(message, &packed, &error);
    if (status == VLM_OK) status = vlm_rpc_call_send(call, packed.data, packed.len, &error);
    vlm_buf_fini(&packed);
    vlm_rpc_call_finish(call, status == VLM_OK ? NULL : &error, NULL);
}

static ProtobufCBinaryData data_of(const char *text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)};
}

static void start_model_info(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_service *s = user;
    vlm_engine_info info;
    Vlm__V1__ModelInfoResponse r = VLM__V1__MODEL_INFO_RESPONSE__INIT;
    Vlm__V1__Sampling sampling = VLM__V1__SAMPLING__INIT;
    (void)message;
    s->options.engine->ops->info(s->options.engine, &info);
    r.model = data_of(s->options.model);
    r.model_type = data_of(info.model_type);
    r.device = data_of(info.device);
    r.version = data_of(VLM_VERSION);
    r.context_length = info.n_ctx;
    r.image_tokens = info.n_image_tokens;
    r.vocab_size = info.n_vocab;
    r.weight_bytes = info.weight_bytes;
    r.max_running = s->options.running_max;
    r.max_waiting = s->options.waiting_max;
    r.instance = data_of(s->instance);
    sampling.opt_temperature_case = VLM__V1__SAMPLING__OPT_TEMPERATURE_TEMPERATURE;
    sampling.temperature = info.sampling_default.temperature;
    sampling.opt_top_p_case = VLM__V1__SAMPLING__OPT_TOP_P_TOP_P;
    sampling.top_p = info.sampling_default.top_p;
    sampling.opt_top_k_case = VLM__V1__SAMPLING__OPT_TOP_K_TOP_K;
    sampling.top_k = info.sampling_default.top_k;
    r.sampling = &sampling;
    send_reply(call, &r.base);
}

static void start_stats(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_service *s = user;
    vlm_engine_stats stats;
    vlm_decoders_stats decoded;
    Vlm__V1__StatsResponse r = VLM__V1__STATS_RESPONSE__INIT;
    Vlm__V1__Count counts[VLM_IMAGE_BMP + 1], *count_list[VLM_IMAGE_BMP + 1];
    (void)message;
    vlm_steps_stats(s->steps, &stats);
    vlm_decoders_get_stats(s->options.decoders, &decoded);
    r.running = stats.n_running;
    r.waiting = s->n_works > stats.n_running ? s->n_works - stats.n_running : 0;
    r.kv_cache_usage = stats.kv_usage;
    r.prefix_cache_queries = stats.n_prefix_queries;
    r.prefix_cache_hits = stats.n_prefix_hits;
    r.mm_cache_queries = stats.n_image_queries;
    r.mm_cache_hits = stats.n_image_hits;
    r.preemptions = stats.n_preemptions;
    r.decoder_restarts = decoded.n_restarts;
    for (int i = 0; i <= VLM_IMAGE_BMP; i++) {
        counts[i] = (Vlm__V1__Count)VLM__V1__COUNT__INIT;
        counts[i].name = data_of(vlm_image_format_name((vlm_image_format)i));
        counts[i].value = decoded.n_decoded[i];
        r.images_decoded += decoded.n_decoded[i];
        count_list[i] = &counts[i];
    }
    r.n_images_by_format = VLM_IMAGE_BMP + 1;
    r.images_by_format = count_list;
    send_reply(call, &r.base);
}

static void start_tokenize(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_service *s = user;
    vlm_error error;
    vlm_engine *e = s->options.engine;
    Vlm__V1__TokenizeRequest *m =
        vlm__v1__tokenize_request__unpack(NULL, message->len, (const uint8_t *)message->data);
    if (m == NULL) {
        fail_call(call, VLM_INVALID_ARGUMENT, "TokenizeRequest: broken message", NULL);
        return;
    }
    Vlm__V1__TokenizeResponse r = VLM__V1__TOKENIZE_RESPONSE__INIT;
    const vlm_bytes text = {.ptr = (const char *)m->text.data, .len = m->text.len};
    uint32_t *ids = NULL;
    const vlm_status status =
        e->ops->tokenize(e, text, m->no_special == 0, m->plain != 0, &ids, &r.n_ids, &error);
    r.ids = ids;
    if (status == VLM_OK)
        send_reply(call, &r.base);
    else
        vlm_rpc_call_finish(call, &error, NULL);
    free(ids);
    vlm__v1__tokenize_request__free_unpacked(m, NULL);
}

static void start_detokenize(void *user, vlm_rpc_call *call, vlm_buf *message)
{
    vlm_service *s = user;
    vlm_error error;
    vlm_engine *e = s->options.engine;
    Vlm__V1__DetokenizeRequest *m =
        vlm__v1__detokenize_request__unpack(NULL, message->len, (const uint8_t *)message->data);
    if (m == NULL) {
        fail_call(call, VLM_INVALID_ARGUMENT, "DetokenizeRequest: broken message", NULL);
        return;
    }
    Vlm__V1__DetokenizeResponse r = VLM__V1__DETOKENIZE_RESPONSE__INIT;
    vlm_buf text;
    vlm_buf_init(&text, TEXT_LEN_MAX);
    const vlm_status status =
        e->ops->detokenize(e, m->ids, m->n_ids, m->no_special == 0, &text, &error);
    r.text = (ProtobufCBinaryData){.data = (uint8_t *)text.data, .len = text.len};
    if (status == VLM_OK)
        send_reply(call, &r.base);
    else
        vlm_rpc_call_finish(call, &error, NULL);
    vlm_buf_fini(&text);
    vlm__v1__detokenize_request__free_unpacked(m, NULL);
}

static void add_methods(vlm_service *s)
{
    const vlm_rpc_method methods[] = {
        {"/vlm.v1.Worker/Generate", start_generate, s},
        {"/vlm.v1.Worker/ModelInfo", start_model_info, s},
        {"/vlm.v1.Worker/Stats", start_stats, s},
        {"/vlm.v1.Worker/Tokenize", start_tokenize, s},
        {"/vlm.v1.Worker/Detokenize", start_detokenize, s},
    };
    memcpy(s->methods, methods, sizeof methods);
    vlm_rpc_health_init(&s->health, "vlm.v1.Worker", s->methods + sizeof methods / sizeof *methods);
}

vlm_status vlm_service_open(const vlm_service_options *options, vlm_service **out, vlm_error *err)
{
    *out = NULL;
    vlm_service *s = calloc(1, sizeof *s);
    if (s == NULL) return vlm_fail_memory(err, "service");
    s->options = *options;
    (void)snprintf(s->instance, sizeof s->instance, "%016" PRIx64,
                   vlm_clock_ns() ^ (uint64_t)uv_os_getpid() << 40);
    add_methods(s);
    const vlm_rpc_server_options server_options = {
        .methods = s->methods,
        .n_methods = METHODS,
        .streams_max = options->running_max + options->waiting_max + 64,
    };
    s->events = calloc(1, sizeof *s->events);
    s->tick = calloc(1, sizeof *s->tick);
    vlm_status status = VLM_OK;
    if (s->events == NULL || s->tick == NULL) status = vlm_fail_memory(err, "service");
    if (status == VLM_OK)
        status = vlm_fair_new(options->running_max + options->waiting_max, &s->turns, err);
    if (status == VLM_OK)
        status = vlm_rpc_server_open(options->loop, &server_options, &s->server, err);
    if (status != VLM_OK) {
        vlm_fair_free(s->turns);
        free(s->events);
        free(s->tick);
        free(s);
        return status;
    }
    (void)uv_async_init(options->loop, s->events, on_events);
    (void)uv_timer_init(options->loop, s->tick);
    s->events->data = s->tick->data = s;
    (void)uv_timer_start(s->tick, on_tick, TICK_MS, TICK_MS);
    status = vlm_steps_open(options->engine, on_ready, s, &s->steps, err);
    if (status != VLM_OK) {
        vlm_service_close(s);
        return status;
    }
    *out = s;
    return VLM_OK;
}

vlm_status vlm_service_listen(vlm_service *s, const vlm_addr *addr, vlm_error *err)
{
    VLM_TRY(vlm_rpc_server_listen(s->server, addr, err));
    vlm_rpc_health_set(&s->health, true);
    return VLM_OK;
}

const vlm_addr *vlm_service_addr(const vlm_service *s)
{
    return vlm_rpc_server_addr(s->server);
}

void vlm_service_drain(vlm_service *s, void (*idle)(void *user), void *user)
{
    s->draining = true;
    vlm_rpc_health_set(&s->health, false);
    vlm_rpc_health_end(&s->health);
    vlm_rpc_server_drain(s->server, idle, user);
}

void vlm_service_cancel_all(vlm_service *s)
{
    work *next;
    for (work *w = s->works; w != NULL; w = next) {
        next = w->next;
        vlm_error error;
        (void)vlm_fail(&error, VLM_UNAVAILABLE, "shutting down");
        finish_call(w, &error, "draining");
        on_cancelled(w);
    }
}

bool vlm_service_is_quiet(const vlm_service *s)
{
    return s->n_works == 0;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_service_close(vlm_service *s)
{
    if (s == NULL) return;
    vlm_rpc_health_end(&s->health);
    vlm_rpc_server_close(s->server);
    vlm_steps_close(s->steps);
    while (s->works != NULL) free_work(s->works);
    vlm_idmap_fini(&s->by_key);
    vlm_tenants_fini(&s->tenants);
    vlm_fair_free(s->turns);
    uv_close((uv_handle_t *)s->events, free_handle);
    uv_close((uv_handle_t *)s->tick, free_handle);
    free(s);
}
