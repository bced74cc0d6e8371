#include "worker/steps.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/idmap.h"
#include "base/mem.h"
#include "worker/pack.h"

enum {
    UNREAD_MAX = 8 << 20,  /* bytes of events after which the step thread waits */
    RECORDS_MAX = 96 << 20 /* one event may be large */
};

typedef enum command_kind { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_PAUSE, COMMAND_GO_ON } kind;

typedef struct command {
    kind kind;
    vlm_steps_job job; /* of the others only the key */
} command;

/* Before each packed message in the buffer. */
typedef struct header {
    uint64_t key;
    const char *reason;
    uint32_t len;
    vlm_status failed;
    bool started, last;
} header;

/* A request that the engine has. */
typedef struct running {
    uint64_t id;
    vlm_steps_job job;
} running;

struct vlm_steps {
    vlm_engine *engine;
    void (*ready)(void *user);
    void *user;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    atomic_uint_fast64_t busy_since;

    /* Under the lock. */
    bool stop;
    command *commands;
    size_t n_commands, cap_commands;
    vlm_buf events; /* headers and messages, written but not taken */
    vlm_engine_stats stats;

    /* The step thread's. */
    command *batch;
    size_t cap_batch;
    vlm_idmap by_id, by_key; /* running */
    vlm_buf made;            /* events of this step */

    /* The loop's. */
    vlm_buf taken;
    size_t n_read;
};

static vlm_status add_record(vlm_buf *buf, header h, const void *message, vlm_error *err)
{
    VLM_TRY(vlm_buf_reserve(buf, sizeof h + h.len, err));
    VLM_TRY(vlm_buf_append(buf, &h, sizeof h, err));
    return vlm_buf_append(buf, message, h.len, err);
}

/* An event that cannot be kept would leave its request hanging: memory is so short that the
 * smallest record, the end, is tried with what a short text needs. */
static void add_failure(vlm_steps *s, uint64_t key, const vlm_error *error, const char *reason)
{
    const header h = {.key = key,
                      .reason = reason,
                      .len = (uint32_t)strlen(error->msg),
                      .failed = error->code,
                      .last = true};
    while (add_record(&s->made, h, error->msg, NULL) != VLM_OK) {
        const struct timespec pause = {.tv_nsec = 1000000};
        (void)nanosleep(&pause, NULL);
    }
}

static void forget(vlm_steps *s, running *r)
{
    (void)vlm_idmap_remove(&s->by_id, r->id);
    (void)vlm_idmap_remove(&s->by_key, r->job.key);
    free(r);
}

static const char *reason_of(vlm_status code)
{
    return code == VLM_RESOURCE_EXHAUSTED ? "overloaded" : NULL;
}

static void submit(vlm_steps *s, const vlm_steps_job *job)
{
    vlm_error error;
    running *r = calloc(1, sizeof *r);
    vlm_status status = r == NULL ? vlm_fail_memory(&error, "request") : VLM_OK;
    if (status == VLM_OK) {
        r->job = *job;
        status = vlm_idmap_add(&s->by_key, job->key, r, &error);
    }
    if (status == VLM_OK) {
        status = s->engine->ops->submit(s->engine, job->job, &r->id, &error);
        if (status == VLM_OK) status = vlm_idmap_add(&s->by_id, r->id, r, &error);
        if (status == VLM_OK) return;
        (void)vlm_idmap_remove(&s->by_key, job->key);
        if (r->id != 0) {
            s->engine->ops->cancel(s->engine, r->id);
            r->job.job = NULL;
        }
    }
    if (r == NULL || r->id == 0) s->engine->ops->job_free(s->engine, job->job);
    free(r);
    add_failure(s, job->key, &error, reason_of(status));
}

static void run_command(vlm_steps *s, const command *c)
{
    if (c->kind == COMMAND_SUBMIT) {
        submit(s, &c->job);
        return;
    }
    const running *r = vlm_idmap_find(&s->by_key, c->job.key);
    if (r == NULL) return;
    if (c->kind == COMMAND_CANCEL)
        s->engine->ops->cancel(s->engine, r->id);
    else
        s->engine->ops->pause(s->engine, r->id, c->kind == COMMAND_PAUSE);
}

static void take_event(vlm_steps *s, const vlm_event *event)
{
    vlm_error error;
    running *r = vlm_idmap_find(&s->by_id, event->request_id);
    if (r == NULL) return;
    const uint64_t key = r->job.key;
    if (event->type == VLM_EVENT_ERROR) {
        add_failure(s, key, &event->error, reason_of(event->error.code));
        forget(s, r);
        return;
    }
    const bool last = event->type == VLM_EVENT_DONE && event->last;
    const bool skip = event->type == VLM_EVENT_TEXT && event->text.len == 0 && !r->job.logprobs;
    if (skip) return;
    const size_t before = s->made.len;
    header h = {.key = key, .started = event->type == VLM_EVENT_STARTED, .last = last};
    vlm_status status = vlm_buf_append(&s->made, &h, sizeof h, &error);
    if (status == VLM_OK)
        status = vlm_pack_event(event, r->job.queue_ms, r->job.image_ms, &s->made, &error);
    if (status == VLM_OK) {
        h.len = (uint32_t)(s->made.len - before - sizeof h);
        memcpy(s->made.data + before, &h, sizeof h);
    } else {
        s->made.len = before;
        s->engine->ops->cancel(s->engine, r->id);
        add_failure(s, key, &error, NULL);
    }
    if (last || status != VLM_OK) forget(s, r);
}

/* Hand over what was made; wait while the loop is far behind. */
static void publish(vlm_steps *s)
{
    bool was_empty = false;
    (void)pthread_mutex_lock(&s->lock);
    s->engine->ops->stats(s->engine, &s->stats);
    if (s->made.len > 0) {
        was_empty = s->events.len == 0;
        if (was_empty) {
            const vlm_buf spare = s->events;
            s->events = s->made;
            s->made = spare;
        } else {
            while (vlm_buf_append(&s->events, s->made.data, s->made.len, NULL) != VLM_OK &&
                   !s->stop)
                (void)pthread_cond_wait(&s->wake, &s->lock);
        }
        vlm_buf_clear(&s->made);
        if (was_empty) s->ready(s->user);
        while (s->events.len > UNREAD_MAX && !s->stop) (void)pthread_cond_wait(&s->wake, &s->lock);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* Wait for a command or the engine's own time; with the lock held. */
static void wait_for_work(vlm_steps *s)
{
    const uint64_t wake_ns = s->engine->ops->wake_ns(s->engine);
    while (!s->stop && s->n_commands == 0) {
        if (wake_ns == UINT64_MAX) {
            (void)pthread_cond_wait(&s->wake, &s->lock);
            continue;
        }
        const struct timespec until = {.tv_sec = (time_t)(wake_ns / 1000000000u),
                                       .tv_nsec = (long)(wake_ns % 1000000000u)};
        if (pthread_cond_timedwait(&s->wake, &s->lock, &until) != 0) return;
    }
}

static void *run(void *user)
{
    vlm_steps *s = user;
    bool busy = true;
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        if (!busy) wait_for_work(s);
        const bool stop = s->stop;
        command *batch = s->commands;
        const size_t n = s->n_commands, cap = s->cap_commands;
        s->commands = s->batch;
        s->cap_commands = s->cap_batch;
        s->n_commands = 0;
        (void)pthread_mutex_unlock(&s->lock);
        s->batch = batch;
        s->cap_batch = cap;
        if (stop) {
            for (size_t i = 0; i < n; i++)
                if (batch[i].kind == COMMAND_SUBMIT)
                    s->engine->ops->job_free(s->engine, batch[i].job.job);
            return NULL;
        }

        atomic_store(&s->busy_since, vlm_clock_ns());
        for (size_t i = 0; i < n; i++) run_command(s, &batch[i]);
        busy = s->engine->ops->step(s->engine);
        vlm_event event;
        while (s->made.len < UNREAD_MAX && s->engine->ops->next_event(s->engine, &event))
            take_event(s, &event);
        atomic_store(&s->busy_since, 0);
        publish(s);
    }
}

vlm_status vlm_steps_open(vlm_engine *engine, void (*ready)(void *user), void *user,
                          vlm_steps **out, vlm_error *err)
{
    *out = NULL;
    vlm_steps *s = calloc(1, sizeof *s);
    if (s == NULL) return vlm_fail_memory(err, "step thread");
    s->engine = engine;
    s->ready = ready;
    s->user = user;
    vlm_buf_init(&s->events, RECORDS_MAX);
    vlm_buf_init(&s->made, RECORDS_MAX);
    vlm_buf_init(&s->taken, RECORDS_MAX);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->wake, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&s->lock, NULL);
    if (pthread_create(&s->thread, NULL, run, s) != 0) {
        free(s);
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "cannot start the step thread");
    }
    *out = s;
    return VLM_OK;
}

void vlm_steps_close(vlm_steps *s)
{
    if (s == NULL) return;
    (void)pthread_mutex_lock(&s->lock);
    s->stop = true;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->thread, NULL);
    for (size_t i = 0; i < s->by_key.cap; i++) free(s->by_key.slots[i].value);
    vlm_idmap_fini(&s->by_id);
    vlm_idmap_fini(&s->by_key);
    vlm_buf_fini(&s->events);
    vlm_buf_fini(&s->made);
    vlm_buf_fini(&s->taken);
    free(s->commands);
    free(s->batch);
    (void)pthread_cond_destroy(&s->wake);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static vlm_status send_command(vlm_steps *s, const command *c, vlm_error *err)
{
    enum { COMMANDS_MAX = 1 << 20 };
    (void)pthread_mutex_lock(&s->lock);
    const bool ok = vlm_grow((void **)&s->commands, &s->cap_commands, s->n_commands + 1,
                             COMMANDS_MAX, sizeof *s->commands);
    if (ok) s->commands[s->n_commands++] = *c;
    (void)pthread_cond_signal(&s->wake);
    (void)pthread_mutex_unlock(&s->lock);
    return ok ? VLM_OK : vlm_fail_memory(err, "request");
}

vlm_status vlm_steps_submit(vlm_steps *s, const vlm_steps_job *job, vlm_error *err)
{
    return send_command(s, &(command){.kind = COMMAND_SUBMIT, .job = *job}, err);
}

void vlm_steps_cancel(vlm_steps *s, uint64_t key)
{
    /* Without memory the request runs to its end unheard. */
    vlm_error ignored;
    if (send_command(s, &(command){.kind = COMMAND_CANCEL, .job = {.key = key}}, &ignored)) return;
}

void vlm_steps_pause(vlm_steps *s, uint64_t key, bool paused)
{
    vlm_error ignored;
    if (s->engine->ops->pause == NULL) return;
    const command c = {.kind = paused ? COMMAND_PAUSE : COMMAND_GO_ON, .job = {.key = key}};
    if (send_command(s, &c, &ignored) != VLM_OK) return;
}

bool vlm_steps_next(vlm_steps *s, vlm_steps_record *out)
{
    if (s->n_read == s->taken.len) {
        vlm_buf_clear(&s->taken);
        s->n_read = 0;
        (void)pthread_mutex_lock(&s->lock);
        const vlm_buf spare = s->taken;
        s->taken = s->events;
        s->events = spare;
        if (s->taken.len > 0) (void)pthread_cond_signal(&s->wake);
        (void)pthread_mutex_unlock(&s->lock);
        if (s->taken.len == 0) return false;
    }
    header h;
    memcpy(&h, s->taken.data + s->n_read, sizeof h);
    *out = (vlm_steps_record){
        .key = h.key,
        .started = h.started,
        .last = h.last,
        .failed = h.failed,
        .reason = h.reason,
        .message = {.ptr = s->taken.data + s->n_read + sizeof h, .len = h.len},
    };
    s->n_read += sizeof h + h.len;
    return true;
}

void vlm_steps_stats(vlm_steps *s, vlm_engine_stats *out)
{
    (void)pthread_mutex_lock(&s->lock);
    *out = s->stats;
    (void)pthread_mutex_unlock(&s->lock);
}

uint64_t vlm_steps_busy_since(const vlm_steps *s)
{
    return atomic_load(&((vlm_steps *)(uintptr_t)s)->busy_since);
}
