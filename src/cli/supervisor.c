#include "cli/supervisor.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    PATH_LEN_MAX = 4096,
    TICK_MS = 50,
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 30000,
    BACKOFF_HEALTHY_MAX_MS = 2000, /* of one that was healthy each time: it does serve */
    LOOPING = 5,                   /* deaths in a row without having been healthy */
};
#define SECOND_NS ((uint64_t)1000000000u)
#define WORKED_NS SECOND_NS      /* ready for so long: it works */
#define STUCK_NS (3 * SECOND_NS) /* was healthy and is not any more: it is stuck */
#define TERM_NS (3 * SECOND_NS)  /* between SIGTERM and SIGKILL */

struct vlm_supervisor {
    vlm_supervisor_options options;
    char program[PATH_LEN_MAX];
    char **env;
    uv_process_t process;
    uv_pipe_t input, output;
    uv_timer_t retry, tick;
    bool running, closing, was_ready;
    bool stopping;    /* vlm_supervisor_stop: it is to end */
    bool term_killed; /* and was helped */
    bool was_healthy; /* this one */
    bool came_up;     /* some worker did since vlm_supervisor_start */
    uint64_t ready_ns, healthy_ns, backoff_ms, stop_ns;
    uint32_t n_early; /* deaths in a row without having been healthy */
    int n_open;       /* handles of the process */
};

static void start(vlm_supervisor *s);

static void on_retry(uv_timer_t *timer)
{
    start(timer->data);
}

static void start_later(vlm_supervisor *s)
{
    const uint64_t jitter = vlm_clock_ns() % (s->backoff_ms / 2 + 1);
    (void)uv_timer_start(&s->retry, on_retry, s->backoff_ms * 3 / 4 + jitter, 0);
    s->backoff_ms *= 2;
    if (s->backoff_ms > BACKOFF_MAX_MS) s->backoff_ms = BACKOFF_MAX_MS;
}

/* All handles of the dead process are closed: what next? */
static void on_closed(uv_handle_t *handle)
{
    vlm_supervisor *s = handle->data;
    if (--s->n_open > 0) return;
    s->running = false;
    if (s->closing) return;
    if (s->stopping) {
        s->stopping = false;
        s->options.stopped(s->options.user);
        return;
    }
    if (!s->came_up) {
        s->options.failed(s->options.user);
        return;
    }
    start_later(s);
    s->options.died(s->options.user, s->n_early >= LOOPING);
}

static void on_process_exit(uv_process_t *process, int64_t code, int signal)
{
    vlm_supervisor *s = process->data;
    const bool worked = s->was_ready && vlm_clock_ns() - s->ready_ns > WORKED_NS;
    if (!s->closing && !s->stopping) {
        if (signal != 0)
            vlm_log(VLM_LOG_ERROR, "the worker was ended by signal %d (%s)", signal,
                    strsignal(signal));
        else
            vlm_log(VLM_LOG_ERROR, "the worker ended with code %d", (int)code);
    }
    s->came_up = s->came_up || s->was_ready || signal != 0;
    s->n_early = s->was_healthy ? 0 : s->n_early + 1;
    if (worked) s->backoff_ms = BACKOFF_FIRST_MS;
    if (s->was_healthy && s->backoff_ms > BACKOFF_HEALTHY_MAX_MS)
        s->backoff_ms = BACKOFF_HEALTHY_MAX_MS;
    uv_close((uv_handle_t *)&s->process, on_closed);
    uv_close((uv_handle_t *)&s->input, on_closed);
    uv_close((uv_handle_t *)&s->output, on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    static char bytes[64];
    (void)handle;
    (void)suggested;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    vlm_supervisor *s = stream->data;
    if (n < 0) (void)uv_read_stop(stream);
    if (n <= 0 || s->was_ready || memchr(buf->base, '\n', (size_t)n) == NULL) return;
    s->was_ready = true;
    s->ready_ns = vlm_clock_ns();
    s->healthy_ns = 0;
    s->options.ready(s->options.user);
}

static void start(vlm_supervisor *s)
{
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&s->input},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&s->output},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
    };
    uv_process_options_t options = {0};
    options.exit_cb = on_process_exit;
    options.file = s->program;
    options.args = (char **)(uintptr_t)s->options.argv;
    options.env = s->env;
    options.stdio_count = 3;
    options.stdio = stdio;
    (void)uv_pipe_init(s->options.loop, &s->input, 0);
    (void)uv_pipe_init(s->options.loop, &s->output, 0);
    s->process.data = s->input.data = s->output.data = s;
    s->was_ready = s->was_healthy = false;
    s->running = true;
    s->n_open = 3;
    const int code = uv_spawn(s->options.loop, &s->process, &options);
    s->process.data = s;
    if (code == 0) {
        (void)uv_read_start((uv_stream_t *)&s->output, on_alloc, on_output);
        return;
    }
    vlm_log(VLM_LOG_ERROR, "cannot start the worker: %s", uv_strerror(code));
    uv_close((uv_handle_t *)&s->process, on_closed);
    uv_close((uv_handle_t *)&s->input, on_closed);
    uv_close((uv_handle_t *)&s->output, on_closed);
}

/* As the first process of a container this one is given what a dead worker left behind; libuv reaps
 * only the worker itself. */
static void reap_others(const vlm_supervisor *s)
{
    if (getpid() != 1) return;
    for (;;) {
        siginfo_t info = {0};
        const int how = WEXITED | WNOHANG;
        if (waitid(P_ALL, 0, &info, how | WNOWAIT) != 0 || info.si_pid == 0) return;
        if (s->running && info.si_pid == s->process.pid) return;
        if (waitid(P_PID, (id_t)info.si_pid, &info, how) != 0) return;
    }
}

/* A worker that was healthy, is not, and has not ended does nothing any more. */
static void on_tick(uv_timer_t *timer)
{
    vlm_supervisor *s = timer->data;
    const uint64_t now = vlm_clock_ns();
    reap_others(s);
    if (s->stopping && !s->term_killed && now - s->stop_ns > TERM_NS) {
        s->term_killed = true;
        (void)uv_process_kill(&s->process, SIGKILL);
    }
    if (!s->running || !s->was_ready || s->closing || s->stopping) return;
    if (s->options.is_healthy(s->options.user)) {
        s->healthy_ns = now;
        s->was_healthy = true;
        s->n_early = 0;
    } else if (s->healthy_ns != 0 && now - s->healthy_ns > STUCK_NS) {
        vlm_log(VLM_LOG_ERROR, "the worker is stuck and is killed");
        s->healthy_ns = 0;
        (void)uv_process_kill(&s->process, SIGKILL);
    }
}

/* The environment with a word that this is a supervised worker. */
static vlm_status make_env(vlm_supervisor *s, vlm_error *err)
{
    extern char **environ;
    static char supervised[] = "VLMD_SUPERVISED=1";
    size_t n = 0;
    while (environ[n] != NULL) n++;
    s->env = vlm_calloc(n + 2, sizeof *s->env);
    if (s->env == NULL) return vlm_fail_memory(err, "environment");
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) {
        /* systemd is told by the gateway alone; options are on the command line. */
        if (strncmp(environ[i], "NOTIFY_SOCKET=", 14) == 0 ||
            strncmp(environ[i], "WATCHDOG_", 9) == 0 || strncmp(environ[i], "VLMD_", 5) == 0)
            continue;
        s->env[n_kept++] = environ[i];
    }
    s->env[n_kept] = supervised;
    return VLM_OK;
}

vlm_status vlm_supervisor_open(const vlm_supervisor_options *options, vlm_supervisor **out,
                               vlm_error *err)
{
    *out = NULL;
    vlm_supervisor *s = calloc(1, sizeof *s);
    if (s == NULL) return vlm_fail_memory(err, "supervisor");
    s->options = *options;
    s->backoff_ms = BACKOFF_FIRST_MS;
    size_t len = sizeof s->program;
    vlm_status status = make_env(s, err);
    if (status == VLM_OK && uv_exepath(s->program, &len) != 0)
        status = vlm_fail(err, VLM_INTERNAL, "the program does not know where it lies");
    if (status != VLM_OK) {
        free(s->env);
        free(s);
        return status;
    }
    (void)uv_timer_init(options->loop, &s->retry);
    (void)uv_timer_init(options->loop, &s->tick);
    s->retry.data = s->tick.data = s;
    (void)uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
    *out = s;
    return VLM_OK;
}

void vlm_supervisor_start(vlm_supervisor *s)
{
    if (s->running || uv_is_active((uv_handle_t *)&s->retry)) return;
    s->came_up = false;
    s->backoff_ms = BACKOFF_FIRST_MS;
    s->n_early = 0;
    start(s);
}

void vlm_supervisor_stop(vlm_supervisor *s)
{
    if (s->stopping) return;
    (void)uv_timer_stop(&s->retry);
    if (!s->running) {
        s->options.stopped(s->options.user);
        return;
    }
    s->stopping = true;
    s->term_killed = false;
    s->stop_ns = vlm_clock_ns();
    (void)uv_process_kill(&s->process, SIGTERM);
}

static void on_timer_closed(uv_handle_t *handle)
{
    vlm_supervisor *s = handle->data;
    s->n_open--;
}

void vlm_supervisor_close(vlm_supervisor *s)
{
    if (s == NULL) return;
    uv_loop_t *loop = s->options.loop;
    s->closing = true;
    (void)uv_timer_stop(&s->retry);
    if (s->running) (void)uv_process_kill(&s->process, SIGTERM);
    const uint64_t start_ns = vlm_clock_ns();
    bool killed = false;
    while (s->running) {
        (void)uv_run(loop, UV_RUN_ONCE); /* the tick wakes it */
        if (killed || vlm_clock_ns() - start_ns < TERM_NS) continue;
        (void)uv_process_kill(&s->process, SIGKILL);
        killed = true;
    }
    s->n_open = 2;
    uv_close((uv_handle_t *)&s->retry, on_timer_closed);
    uv_close((uv_handle_t *)&s->tick, on_timer_closed);
    while (s->n_open > 0) (void)uv_run(loop, UV_RUN_ONCE);
    free(s->env);
    free(s);
}
