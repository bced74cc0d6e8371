#include "cli/fleet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sysmem.h"
#include "cli/compute.h"
#include "cli/fleet_plan.h"
#include "cli/supervisor.h"

enum { WORDS_LEN_MAX = 1 << 20, WORDS_MAX = 128, TICK_MS = 50 };
#define SECOND_NS ((uint64_t)1000000000u)
#define RETRY_NS (5 * SECOND_NS) /* after a model could not be loaded */
#define STAY_NS SECOND_NS        /* once it is loaded, whoever waits; and twice what loading took */

typedef struct member {
    vlm_fleet *fleet;
    size_t idx;
    vlm_supervisor *supervisor;
    vlm_model_state state;
    vlm_buf words; /* the worker's command line, each word followed by a NUL */
    char *argv[WORDS_MAX + 1];
    bool gives_way;     /* takes no new requests, so that it becomes idle */
    uint64_t wanted_ns; /* since when somebody waits for it; 0: nobody does */
    uint64_t used_ns, started_ns, loaded_ns, load_ns, failed_ns;
} member;

struct vlm_fleet {
    uv_loop_t *loop;
    vlm_fleet_plan plan;
    member members[VLM_OPTIONS_ARGS_MAX];
    vlm_addr addrs[VLM_OPTIONS_ARGS_MAX];
    const char *names[VLM_OPTIONS_ARGS_MAX];
    vlm_models_host host;
    vlm_gateway *gateway;
    const char *admin_key_file;
    char folder[VLM_ADDR_PATH_LEN_MAX + 1]; /* of the sockets; "": none was made */
    uv_timer_t tick;
    bool has_tick, preload, stopping, failed;
    bool in_turn;     /* what it causes is looked at by the next tick */
    uint64_t idle_ns; /* 0: never unloaded for that */
};

static const char *name_of(const member *m)
{
    return m->fleet->plan.models[m->idx].name;
}

static size_t share_of(const member *m)
{
    return m->fleet->plan.models[m->idx].share_bytes;
}

static bool is_busy(const member *m)
{
    return vlm_gateway_n_busy(m->fleet->gateway, m->idx) > 0;
}

static bool is_alone(const vlm_fleet *f)
{
    return f->plan.n == 1;
}

static void turn(vlm_fleet *f);

/* A folder that only this user can enter, for the sockets. */
static vlm_status make_folder(vlm_fleet *f, vlm_error *err)
{
    enum { ROOM = sizeof "/worker99" };
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    const char *bases[] = {runtime, "/tmp"};
    for (size_t i = 0; i < 2; i++) {
        if (bases[i] == NULL || bases[i][0] != '/') continue;
        const int len = snprintf(f->folder, sizeof f->folder - ROOM, "%s/vlmd-XXXXXX", bases[i]);
        if (len < 0 || (size_t)len >= sizeof f->folder - ROOM) continue;
        if (mkdtemp(f->folder) == NULL) continue;
        for (size_t k = 0; k < f->plan.n; k++) {
            f->addrs[k] = (vlm_addr){.kind = VLM_ADDR_UNIX};
            (void)snprintf(f->addrs[k].host, sizeof f->addrs[k].host, "%s/worker%zu", f->folder, k);
        }
        return VLM_OK;
    }
    f->folder[0] = '\0';
    return vlm_fail(err, VLM_UNAVAILABLE, "no folder for the workers' sockets can be made in /tmp");
}

static vlm_status add_word(member *m, const char *word, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(&m->words, word, err));
    return vlm_buf_append_char(&m->words, '\0', err);
}

static vlm_status make_words(member *m, const vlm_options *opt, vlm_error *err)
{
    const vlm_fleet_model *model = &m->fleet->plan.models[m->idx];
    VLM_TRY(add_word(m, "vlmd", err));
    VLM_TRY(add_word(m, "worker", err));
    VLM_TRY(vlm_options_forward(opt, VLM_COMMAND_WORKER, &m->words, err));
    /* Of an option that is given twice the last one counts. */
    VLM_TRY(vlm_buf_append_str(&m->words, "--listen=unix:", err));
    VLM_TRY(add_word(m, m->fleet->addrs[m->idx].host, err));
    VLM_TRY(vlm_buf_append_str(&m->words, "--model-name=", err));
    VLM_TRY(add_word(m, model->name, err));
    if (model->share_bytes > 0) {
        VLM_TRY(vlm_buf_printf(&m->words, err, "--memory=%zu", model->share_bytes));
        VLM_TRY(vlm_buf_append_char(&m->words, '\0', err));
    }
    if (model->arg != NULL) {
        VLM_TRY(add_word(m, "--", err));
        VLM_TRY(add_word(m, model->arg, err));
    }
    size_t n = 0;
    for (size_t i = 0; i < m->words.len; i += strlen(m->words.data + i) + 1) {
        if (n == WORDS_MAX) return vlm_fail(err, VLM_INVALID_ARGUMENT, "too many options");
        m->argv[n++] = m->words.data + i;
    }
    return VLM_OK;
}

static void set_state(member *m, vlm_model_state state)
{
    if (m->state == state) return;
    m->state = state;
    if (!is_alone(m->fleet) || m->fleet->idle_ns != 0) {
        static const char *const texts[] = {
#define STATE_TEXT(name, text) text,
            VLM_MODEL_STATE_LIST(STATE_TEXT)
#undef STATE_TEXT
        };
        vlm_log(VLM_LOG_INFO, "model %s: %s", name_of(m), texts[state]);
    }
}

static void load(member *m)
{
    m->started_ns = vlm_clock_ns();
    m->gives_way = false;
    set_state(m, VLM_MODEL_LOADING);
    vlm_supervisor_start(m->supervisor);
}

static void unload(member *m)
{
    set_state(m, VLM_MODEL_UNLOADING);
    vlm_supervisor_stop(m->supervisor);
}

static void on_ready(void *user)
{
    member *m = user;
    vlm_gateway_set_broken(m->fleet->gateway, m->idx, false);
    vlm_gateway_worker_ready(m->fleet->gateway, m->idx);
}

static void on_died(void *user, bool is_looping)
{
    member *m = user;
    vlm_gateway_set_broken(m->fleet->gateway, m->idx, is_looping);
    vlm_gateway_worker_restarted(m->fleet->gateway, m->idx);
}

static void on_failed(void *user)
{
    member *m = user;
    vlm_fleet *f = m->fleet;
    if (is_alone(f)) {
        f->failed = true;
        uv_stop(f->loop);
        return;
    }
    vlm_log(VLM_LOG_ERROR, "model %s could not be loaded", name_of(m));
    m->failed_ns = vlm_clock_ns();
    m->wanted_ns = 0;
    set_state(m, VLM_MODEL_FAILED);
    vlm_gateway_models_changed(f->gateway);
    turn(f);
}

static void on_stopped(void *user)
{
    member *m = user;
    m->gives_way = false;
    set_state(m, VLM_MODEL_UNLOADED);
    vlm_gateway_models_changed(m->fleet->gateway);
    turn(m->fleet);
}

static bool is_healthy(void *user)
{
    const member *m = user;
    return vlm_gateway_is_ready(m->fleet->gateway, m->idx);
}

static bool holds_memory(const member *m)
{
    return m->state != VLM_MODEL_UNLOADED && m->state != VLM_MODEL_FAILED;
}

/* The budget without what is loaded, or on its way in either direction; without those that go away
 * when leaving counts as gone. */
static size_t free_bytes(const vlm_fleet *f, bool leaving_is_gone)
{
    size_t left = f->plan.budget_bytes;
    for (size_t i = 0; i < f->plan.n; i++) {
        const member *m = &f->members[i];
        if (!holds_memory(m) || (leaving_is_gone && m->state == VLM_MODEL_UNLOADING)) continue;
        left -= share_of(m) < left ? share_of(m) : left;
    }
    return left;
}

/* The wanted model that has waited longest. */
static member *next_wanted(vlm_fleet *f)
{
    member *first = NULL;
    for (size_t i = 0; i < f->plan.n; i++) {
        member *m = &f->members[i];
        if (m->wanted_ns == 0 || m->state != VLM_MODEL_UNLOADED) continue;
        if (first == NULL || m->wanted_ns < first->wanted_ns) first = m;
    }
    return first;
}

static bool has_stayed(const member *m, uint64_t now)
{
    const uint64_t least = 2 * m->load_ns > STAY_NS ? 2 * m->load_ns : STAY_NS;
    return now - m->loaded_ns > least;
}

/* Who is to go next: the least recently used of those that are idle; else, of those that have been
 * there for a while, the one that has been longest. */
static member *choose_victim(vlm_fleet *f, uint64_t now)
{
    member *idle = NULL, *oldest = NULL;
    for (size_t i = 0; i < f->plan.n; i++) {
        member *m = &f->members[i];
        if (m->state != VLM_MODEL_LOADED) continue;
        if (!is_busy(m)) {
            if (idle == NULL || m->used_ns < idle->used_ns) idle = m;
        } else if (has_stayed(m, now)) {
            if (oldest == NULL || m->loaded_ns < oldest->loaded_ns) oldest = m;
        }
    }
    return idle != NULL ? idle : oldest;
}

static void make_room(vlm_fleet *f, const member *wanted)
{
    const uint64_t now = vlm_clock_ns();
    while (free_bytes(f, true) < share_of(wanted)) {
        member *victim = choose_victim(f, now);
        if (victim == NULL) return; /* later */
        if (is_busy(victim)) {
            victim->gives_way = true;
            return;
        }
        vlm_log(VLM_LOG_INFO, "model %s makes room for %s", name_of(victim), name_of(wanted));
        unload(victim);
    }
}

/* Nobody waits for memory any more: who was to give way goes on. */
static void give_way_no_more(vlm_fleet *f)
{
    bool changed = false;
    for (size_t i = 0; i < f->plan.n; i++) {
        changed |= f->members[i].gives_way;
        f->members[i].gives_way = false;
    }
    if (changed) vlm_gateway_models_changed(f->gateway);
}

static void turn(vlm_fleet *f)
{
    if (f->stopping || f->in_turn) return;
    f->in_turn = true;
    member *wanted;
    while ((wanted = next_wanted(f)) != NULL) {
        if (!is_alone(f) && free_bytes(f, false) < share_of(wanted)) break;
        load(wanted);
    }
    if (wanted != NULL)
        make_room(f, wanted);
    else
        give_way_no_more(f);
    f->in_turn = false;
}

static void look_after(member *m, uint64_t now)
{
    vlm_fleet *f = m->fleet;
    if (m->state == VLM_MODEL_LOADING && vlm_gateway_is_ready(f->gateway, m->idx)) {
        m->loaded_ns = m->used_ns = now;
        m->load_ns = now - m->started_ns;
        m->wanted_ns = 0;
        set_state(m, VLM_MODEL_LOADED);
        vlm_gateway_models_changed(f->gateway);
    }
    if (m->state != VLM_MODEL_LOADED) return;
    if (is_busy(m)) {
        m->used_ns = now;
    } else if (m->gives_way || (f->idle_ns != 0 && now - m->used_ns > f->idle_ns)) {
        unload(m);
    }
}

static void look_after_all(void *user)
{
    vlm_fleet *f = user;
    const uint64_t now = vlm_clock_ns();
    if (f->gateway == NULL || f->stopping) return;
    for (size_t i = 0; i < f->plan.n; i++) look_after(&f->members[i], now);
    turn(f);
}

static void on_tick(uv_timer_t *timer)
{
    look_after_all(timer->data);
}

static vlm_model_state host_state(void *user, size_t model)
{
    const vlm_fleet *f = user;
    return f->members[model].state;
}

static bool host_takes(void *user, size_t model)
{
    const member *m = &((vlm_fleet *)user)->members[model];
    return m->state == VLM_MODEL_LOADED && !m->gives_way;
}

static void host_want(void *user, size_t model)
{
    vlm_fleet *f = user;
    member *m = &f->members[model];
    const uint64_t now = vlm_clock_ns();
    if (m->state == VLM_MODEL_FAILED && now - m->failed_ns > RETRY_NS)
        set_state(m, VLM_MODEL_UNLOADED);
    if (m->state == VLM_MODEL_LOADED || m->state == VLM_MODEL_FAILED) return;
    if (m->wanted_ns == 0) m->wanted_ns = now;
    turn(f);
}

static vlm_status host_load(void *user, size_t model, vlm_error *err)
{
    (void)err;
    vlm_fleet *f = user;
    if (f->members[model].state == VLM_MODEL_FAILED)
        set_state(&f->members[model], VLM_MODEL_UNLOADED);
    host_want(f, model);
    return VLM_OK;
}

static vlm_status host_unload(void *user, size_t model, vlm_error *err)
{
    member *m = &((vlm_fleet *)user)->members[model];
    if (m->wanted_ns != 0 || is_busy(m))
        return vlm_fail(err, VLM_FAILED_PRECONDITION, "the model %s has requests", name_of(m));
    if (m->state == VLM_MODEL_LOADED) unload(m);
    return VLM_OK;
}

/* What each model needs, and what its worker gets. */
static vlm_status share_memory(vlm_fleet *f, const vlm_options *opt, vlm_error *err)
{
    if (is_alone(f)) return VLM_OK;
    f->plan.budget_bytes = opt->memory != 0 ? opt->memory : vlm_memory_available() / 2;
    for (size_t i = 0; i < f->plan.n; i++) {
        vlm_fleet_model *m = &f->plan.models[i];
        VLM_TRY(vlm_cli_memory_need(opt, m->arg, &m->need_bytes, err));
    }
    return vlm_fleet_plan_shares(&f->plan, err);
}

static vlm_status open_parts(vlm_fleet *f, const vlm_options *opt, vlm_error *err)
{
    VLM_TRY(vlm_fleet_plan_names(opt, &f->plan, err));
    for (size_t i = 0; i < f->plan.n; i++) {
        member *m = &f->members[i];
        *m = (member){.fleet = f, .idx = i};
        vlm_buf_init(&m->words, WORDS_LEN_MAX);
        f->names[i] = f->plan.models[i].name;
    }
    VLM_TRY(share_memory(f, opt, err));
    VLM_TRY(make_folder(f, err));
    for (size_t i = 0; i < f->plan.n; i++) VLM_TRY(make_words(&f->members[i], opt, err));
    f->preload = opt->preload || is_alone(f);
    f->idle_ns = (uint64_t)(opt->idle_unload * 1e9);
    f->admin_key_file = opt->admin_key_file;
    f->host = (vlm_models_host){.names = f->names,
                                .n = f->plan.n,
                                .aliases = f->plan.aliases,
                                .n_aliases = f->plan.n_aliases,
                                .state = host_state,
                                .takes = host_takes,
                                .want = host_want,
                                .changed = look_after_all,
                                .load = host_load,
                                .unload = host_unload,
                                .user = f};
    return VLM_OK;
}

vlm_status vlm_fleet_open(uv_loop_t *loop, const vlm_options *opt, vlm_fleet **out, vlm_error *err)
{
    *out = NULL;
    vlm_fleet *f = calloc(1, sizeof *f);
    if (f == NULL) return vlm_fail_memory(err, "models");
    f->loop = loop;
    const vlm_status status = open_parts(f, opt, err);
    if (status != VLM_OK) {
        vlm_fleet_close(f);
        return status;
    }
    *out = f;
    return VLM_OK;
}

void vlm_fleet_fill(vlm_fleet *f, vlm_gateway_options *options)
{
    options->workers = f->addrs;
    options->n_workers = f->plan.n;
    options->host = &f->host;
    options->admin_key_file = f->admin_key_file;
}

/* Those that fit, in the order they were given. */
static void preload(vlm_fleet *f)
{
    for (size_t i = 0; i < f->plan.n; i++) {
        member *m = &f->members[i];
        if (is_alone(f) || free_bytes(f, false) >= share_of(m)) load(m);
    }
}

vlm_status vlm_fleet_start(vlm_fleet *f, vlm_gateway *gateway, vlm_error *err)
{
    f->gateway = gateway;
    for (size_t i = 0; i < f->plan.n; i++) {
        member *m = &f->members[i];
        const vlm_supervisor_options options = {.loop = f->loop,
                                                .argv = m->argv,
                                                .ready = on_ready,
                                                .died = on_died,
                                                .failed = on_failed,
                                                .stopped = on_stopped,
                                                .is_healthy = is_healthy,
                                                .user = m};
        VLM_TRY(vlm_supervisor_open(&options, &m->supervisor, err));
    }
    (void)uv_timer_init(f->loop, &f->tick);
    f->tick.data = f;
    f->has_tick = true;
    (void)uv_timer_start(&f->tick, on_tick, TICK_MS, TICK_MS);
    if (f->preload) preload(f);
    return VLM_OK;
}

void vlm_fleet_stop(vlm_fleet *f)
{
    if (f == NULL) return;
    f->stopping = true;
    for (size_t i = 0; i < f->plan.n; i++) {
        vlm_supervisor_close(f->members[i].supervisor);
        f->members[i].supervisor = NULL;
    }
    if (f->has_tick) uv_close((uv_handle_t *)&f->tick, NULL);
    f->has_tick = false;
}

void vlm_fleet_close(vlm_fleet *f)
{
    if (f == NULL) return;
    vlm_fleet_stop(f);
    for (size_t i = 0; i < f->plan.n; i++) vlm_buf_fini(&f->members[i].words);
    if (f->folder[0] != '\0') {
        for (size_t i = 0; i < f->plan.n; i++) (void)unlink(f->addrs[i].host);
        (void)rmdir(f->folder);
    }
    free(f);
}

bool vlm_fleet_failed(const vlm_fleet *f)
{
    return f->failed;
}
