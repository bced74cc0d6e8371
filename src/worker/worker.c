#include "worker/worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"

#define HURRY_NS ((uint64_t)500000000u)

typedef struct worker {
    const vlm_worker_options *options;
    uv_loop_t loop;
    vlm_service *service;
    uv_signal_t term, interrupt;
    uv_timer_t shutdown, watchdog;
    uv_pipe_t parent;
    bool draining, hurry;
} worker;

static void on_idle(void *user)
{
    worker *w = user;
    uv_stop(&w->loop);
}

/* What did not end in time is cancelled; then wait for the threads to let go. */
static void on_quiet_check(uv_timer_t *timer)
{
    worker *w = timer->data;
    if (vlm_service_is_quiet(w->service)) uv_stop(&w->loop);
}

static void on_shutdown_timeout(uv_timer_t *timer)
{
    enum { CHECK_MS = 10 };
    worker *w = timer->data;
    vlm_log(VLM_LOG_WARN, "requests did not end in time; they are cancelled");
    vlm_service_cancel_all(w->service);
    (void)uv_timer_start(timer, on_quiet_check, CHECK_MS, CHECK_MS);
}

static void begin_drain(worker *w)
{
    w->draining = true;
    vlm_log(VLM_LOG_INFO, "shutting down");
    vlm_notify("STOPPING=1");
    vlm_service_drain(w->service, on_idle, w);
    (void)uv_timer_start(&w->shutdown, on_shutdown_timeout, w->options->shutdown_ns / 1000000, 0);
}

static void on_signal(uv_signal_t *signal, int number)
{
    worker *w = signal->data;
    (void)number;
    if (!w->draining) {
        begin_drain(w);
        return;
    }
    w->hurry = true;
    uv_stop(&w->loop);
}

static void on_watchdog(uv_timer_t *timer)
{
    (void)timer;
    vlm_notify("WATCHDOG=1");
}

static void on_parent_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char bytes[64];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

/* The end of standard input: the gateway is gone, and nobody is left to answer. */
static void on_parent_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    worker *w = stream->data;
    (void)buf;
    if (n >= 0) return;
    (void)uv_read_stop(stream);
    w->hurry = true;
    uv_stop(&w->loop);
}

static void watch_parent(worker *w)
{
    (void)uv_pipe_init(&w->loop, &w->parent, 0);
    w->parent.data = w;
    if (uv_pipe_open(&w->parent, STDIN_FILENO) == 0)
        (void)uv_read_start((uv_stream_t *)&w->parent, on_parent_alloc, on_parent_read);
}

static vlm_status say_ready(worker *w, vlm_error *err)
{
    vlm_buf text;
    vlm_buf_init(&text, VLM_ERROR_MSG_LEN_MAX);
    vlm_status status = vlm_addr_write(vlm_service_addr(w->service), &text, err);
    if (status == VLM_OK)
        vlm_log(VLM_LOG_INFO, "worker of %s listens on %s", w->options->model, text.data);
    vlm_buf_fini(&text);
    vlm_notify("READY=1");
    if (status == VLM_OK && w->options->supervised)
        status = vlm_fd_write(STDOUT_FILENO, "standard output", "ready\n", 6, err);
    return status;
}

static void start_handles(worker *w)
{
    (void)uv_signal_init(&w->loop, &w->term);
    (void)uv_signal_init(&w->loop, &w->interrupt);
    (void)uv_timer_init(&w->loop, &w->shutdown);
    (void)uv_timer_init(&w->loop, &w->watchdog);
    w->term.data = w->interrupt.data = w->shutdown.data = w;
    (void)uv_signal_start(&w->term, on_signal, SIGTERM);
    /* A terminal's Ctrl-C goes to the whole group; the gateway decides. */
    if (!w->options->supervised) (void)uv_signal_start(&w->interrupt, on_signal, SIGINT);
    const uint64_t watchdog_ms = vlm_notify_watchdog_ns() / 1000000;
    if (watchdog_ms > 0) (void)uv_timer_start(&w->watchdog, on_watchdog, watchdog_ms, watchdog_ms);
    if (w->options->supervised) {
        (void)signal(SIGINT, SIG_IGN);
        watch_parent(w);
    }
}

static void close_handle(uv_handle_t *handle, void *user)
{
    (void)user;
    if (!uv_is_closing(handle)) uv_close(handle, NULL);
}

void vlm_worker_set_threads(uint32_t n)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%u", n);
    (void)setenv("UV_THREADPOOL_SIZE", text, 0);
}

vlm_status vlm_worker_run(const vlm_worker_options *options, vlm_engine *engine,
                          vlm_decoders *decoders, bool *in_use, vlm_error *err)
{
    *in_use = false;
    static worker w; /* threads may outlive this function */
    w = (worker){.options = options};
    if (uv_loop_init(&w.loop) != 0) return vlm_fail(err, VLM_INTERNAL, "no event loop");
    const vlm_service_options service_options = {
        .loop = &w.loop,
        .engine = engine,
        .decoders = decoders,
        .model = options->model,
        .running_max = options->running_max,
        .waiting_max = options->waiting_max,
        .prepare_max = options->prepare_max,
        .unsent_max = options->unsent_max,
        .slow_ns = options->slow_ns,
        .step_limit_ns = options->step_limit_ns,
    };
    vlm_status status = vlm_service_open(&service_options, &w.service, err);
    if (status == VLM_OK) status = vlm_service_listen(w.service, &options->listen, err);
    if (status == VLM_OK) {
        start_handles(&w);
        status = say_ready(&w, err);
    }
    if (status == VLM_OK) (void)uv_run(&w.loop, UV_RUN_DEFAULT);
    if (w.service != NULL) {
        vlm_service_cancel_all(w.service);
        while (!vlm_service_is_quiet(w.service) && !w.hurry) (void)uv_run(&w.loop, UV_RUN_ONCE);
        /* In a hurry the threads' work is left to the end of the process. */
        *in_use = !vlm_service_is_quiet(w.service);
        if (*in_use) return status;
        vlm_service_close(w.service);
    }
    uv_walk(&w.loop, close_handle, NULL);
    (void)uv_run(&w.loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&w.loop);
    return status;
}
