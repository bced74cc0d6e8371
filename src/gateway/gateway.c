#include "gateway/gateway.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "gateway/gateway_parts.h"

enum { TICK_MS = 50, QUIET_CHECK_MS = 20 };

/* What models the workers serve. */
static void note_models(vlm_gateway *g)
{
    const char *name;
    for (size_t i = 0; (name = vlm_workers_model(g->workers, i)) != NULL; i++)
        vlm_models_note(g->models, name);
    for (size_t i = 0; i < vlm_models_n(g->models); i++) {
        const vlm_bytes model = vlm_bytes_of(vlm_models_name(g->models, i));
        vlm_models_set_gone(g->models, i, !vlm_workers_has_model(g->workers, model));
    }
}

static void on_workers_changed(void *user)
{
    vlm_gateway *g = user;
    note_models(g);
    if (g->options.host != NULL) g->options.host->changed(g->options.host->user);
    vlm_chats_retry(g);
}

static void on_finished(void *user, const vlm_exchange_record *record)
{
    vlm_gateway *g = user;
    vlm_metrics_http(g->metrics, record->handler, record->method, record->status, record->seconds);
    if (record->detail != NULL) {
        vlm_chat_record(record);
        return;
    }
    const vlm_log_field fields[] = {
        {.name = "method", .text = record->method},
        {.name = "route", .text = record->handler},
        {.name = "status", .number = record->status},
        {.name = "duration_ms", .number = record->seconds * 1e3, .decimals = 1},
    };
    /* Probes and scrapes come every few seconds. */
    vlm_log_fields(record->status >= 400 ? VLM_LOG_INFO : VLM_LOG_DEBUG, "request",
                   record->request_id, fields, sizeof fields / sizeof *fields);
}

static void on_tick(uv_timer_t *timer)
{
    note_models(timer->data);
    vlm_chats_tick(timer->data);
}

static void on_fetched(uv_async_t *async)
{
    vlm_chats_fetched(async->data);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    vlm_notify("WATCHDOG=1");
}

static void on_quiet_check(uv_timer_t *timer)
{
    vlm_gateway *g = timer->data;
    if (vlm_clients_n_exchanges(g->clients) == 0) uv_stop(g->loop);
}

static void on_shutdown_timeout(uv_timer_t *timer)
{
    vlm_gateway *g = timer->data;
    vlm_log(VLM_LOG_WARN, "requests did not end in time; they are cut");
    vlm_chats_fail_all(g);
    /* One turn of the loop to write the errors. */
    g->hurry = true;
    (void)uv_timer_start(timer, on_quiet_check, QUIET_CHECK_MS, QUIET_CHECK_MS);
}

/* Until the time is over, look whether everything has been answered. */
static void on_drain_check(uv_timer_t *timer)
{
    vlm_gateway *g = timer->data;
    if (vlm_clients_n_exchanges(g->clients) == 0)
        uv_stop(g->loop);
    else if (vlm_clock_ns() >= g->options.shutdown_ns)
        on_shutdown_timeout(timer);
}

void vlm_gateway_drain(vlm_gateway *g)
{
    if (g->draining) return;
    g->draining = true;
    vlm_log(VLM_LOG_INFO, "shutting down");
    vlm_notify("STOPPING=1");
    vlm_clients_drain(g->clients);
    g->options.shutdown_ns += vlm_clock_ns(); /* from a duration to a time */
    (void)uv_timer_start(&g->shutdown, on_drain_check, QUIET_CHECK_MS, QUIET_CHECK_MS);
}

static void on_stop_signal(uv_signal_t *signal, int number)
{
    vlm_gateway *g = signal->data;
    (void)number;
    if (g->draining)
        uv_stop(g->loop);
    else
        vlm_gateway_drain(g);
}

static void read_keys_again(vlm_keys *keys, const char *path, const char *what)
{
    vlm_error error;
    if (path == NULL) return;
    if (vlm_keys_read(keys, path, &error) == VLM_OK)
        vlm_log(VLM_LOG_INFO, "the %s keys have been read again: %zu", what, keys->n);
    else
        vlm_log(VLM_LOG_ERROR, "the %s keys stay as they were: %s", what, error.msg);
}

static void on_hangup(uv_signal_t *signal, int number)
{
    vlm_gateway *g = signal->data;
    (void)number;
    read_keys_again(&g->keys, g->options.api_key_file, "API");
    read_keys_again(&g->admin_keys, g->options.admin_key_file, "admin");
}

static void start_handles(vlm_gateway *g)
{
    (void)uv_timer_init(g->loop, &g->tick);
    (void)uv_timer_init(g->loop, &g->shutdown);
    (void)uv_timer_init(g->loop, &g->watchdog);
    (void)uv_signal_init(g->loop, &g->term);
    (void)uv_signal_init(g->loop, &g->interrupt);
    (void)uv_signal_init(g->loop, &g->hangup);
    (void)uv_async_init(g->loop, &g->fetched, on_fetched);
    g->tick.data = g->shutdown.data = g->watchdog.data = g->fetched.data = g;
    g->term.data = g->interrupt.data = g->hangup.data = g;
    (void)uv_timer_start(&g->tick, on_tick, TICK_MS, TICK_MS);
    (void)uv_signal_start(&g->term, on_stop_signal, SIGTERM);
    (void)uv_signal_start(&g->interrupt, on_stop_signal, SIGINT);
    (void)uv_signal_start(&g->hangup, on_hangup, SIGHUP);
    const uint64_t watchdog_ms = vlm_notify_watchdog_ns() / 1000000;
    if (watchdog_ms > 0) (void)uv_timer_start(&g->watchdog, on_watchdog, watchdog_ms, watchdog_ms);
}

static vlm_status open_parts(vlm_gateway *g, vlm_error *err)
{
    const vlm_gateway_options *o = &g->options;
    const vlm_workers_options workers = {.loop = g->loop,
                                         .running_max = o->running_max,
                                         .waiting_max = o->waiting_max,
                                         .changed = on_workers_changed,
                                         .user = g};
    const vlm_clients_options clients = {
        .loop = g->loop,
        .limits = o->http,
        .connections_max = o->connections_max,
        .bodies_max = o->bodies_max,
        .n_held = &g->n_held,
        .header_ns = o->header_ns,
        .idle_ns = o->idle_ns,
        .slow_ns = o->slow_ns,
        .body_rate_min = o->body_rate_min,
        .unsent_max = o->unsent_max,
        .cors_origin = o->cors_origin,
        .head = vlm_routes_head,
        .request = vlm_routes_request,
        .finished = on_finished,
        .malformed = vlm_routes_malformed,
        .user = g,
    };
    if (o->api_key_file != NULL) VLM_TRY(vlm_keys_read(&g->keys, o->api_key_file, err));
    if (o->admin_key_file != NULL) VLM_TRY(vlm_keys_read(&g->admin_keys, o->admin_key_file, err));
    VLM_TRY(vlm_models_new(o->host, &g->models, err));
    g->metrics = vlm_models_metrics(g->models, 0);
    if (o->page) VLM_TRY(vlm_page_new(vlm_page_file, &g->page, err));
    if (o->image_urls) {
        const vlm_fetcher_options fetch = {.hosts = o->image_hosts,
                                           .bytes_max = o->image_bytes_max};
        VLM_TRY(vlm_fetcher_open(&fetch, &g->fetcher, err));
    }
    VLM_TRY(vlm_workers_open(&workers, &g->workers, err));
    for (size_t i = 0; i < o->n_workers; i++)
        VLM_TRY(vlm_workers_add(g->workers, &o->workers[i], err));
    VLM_TRY(vlm_clients_open(&clients, &g->clients, err));
    return vlm_clients_listen(g->clients, &o->listen, err);
}

vlm_status vlm_gateway_open(uv_loop_t *loop, const vlm_gateway_options *options, vlm_gateway **out,
                            vlm_error *err)
{
    *out = NULL;
    vlm_gateway *g = calloc(1, sizeof *g);
    if (g == NULL) return vlm_fail_memory(err, "gateway");
    g->options = *options;
    g->loop = loop;
    start_handles(g);
    const vlm_status status = open_parts(g, err);
    if (status != VLM_OK) {
        vlm_gateway_close(g);
        return status;
    }
    *out = g;
    return VLM_OK;
}

void vlm_gateway_run(vlm_gateway *g)
{
    vlm_buf text;
    vlm_buf_init(&text, VLM_ERROR_MSG_LEN_MAX);
    if (vlm_addr_write(vlm_clients_addr(g->clients), &text, NULL) == VLM_OK)
        vlm_log(VLM_LOG_INFO, "listening on %s%s",
                vlm_clients_addr(g->clients)->kind == VLM_ADDR_UNIX ? "" : "http://", text.data);
    vlm_buf_fini(&text);
    vlm_notify("READY=1");
    (void)uv_run(g->loop, UV_RUN_DEFAULT);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

void vlm_gateway_close(vlm_gateway *g)
{
    if (g == NULL) return;
    vlm_clients_close(g->clients);
    /* Bodies that are being parsed belong to other threads still. */
    while (g->chats != NULL) {
        vlm_chats_tick(g);
        if (g->chats != NULL) (void)uv_run(g->loop, UV_RUN_ONCE);
    }
    vlm_workers_close(g->workers);
    vlm_fetcher_close(g->fetcher);
    vlm_page_free(g->page);
    vlm_models_free(g->models);
    vlm_keys_fini(&g->keys);
    vlm_keys_fini(&g->admin_keys);
    uv_handle_t *handles[] = {(uv_handle_t *)&g->tick,      (uv_handle_t *)&g->shutdown,
                              (uv_handle_t *)&g->watchdog,  (uv_handle_t *)&g->term,
                              (uv_handle_t *)&g->interrupt, (uv_handle_t *)&g->hangup,
                              (uv_handle_t *)&g->fetched};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) close_handle(handles[i]);
    (void)uv_run(g->loop, UV_RUN_DEFAULT);
    free(g);
}

void vlm_gateway_worker_ready(vlm_gateway *g, size_t model)
{
    vlm_workers_retry_now(g->workers, model);
}

void vlm_gateway_worker_restarted(vlm_gateway *g, size_t model)
{
    (void)model;
    vlm_counter_add(g->metrics, VLM_METRIC_WORKER_RESTARTS, 0, 1);
}

bool vlm_gateway_is_ready(const vlm_gateway *g, size_t model)
{
    return vlm_workers_is_ready(g->workers, model);
}

uint32_t vlm_gateway_n_busy(const vlm_gateway *g, size_t model)
{
    return vlm_workers_n_busy(g->workers, model);
}

void vlm_gateway_models_changed(vlm_gateway *g)
{
    vlm_chats_retry(g);
}

void vlm_gateway_set_broken(vlm_gateway *g, size_t model, bool broken)
{
    g->broken[model] = broken;
}
