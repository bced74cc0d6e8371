#include "gateway/workers.h"

#include <arpa/inet.h>
#include <grpc/health/v1/health.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { NAMES_MAX = 64, TICK_MS = 1000, RESOLVE_MS = 5000 };

struct vlm_worker_link {
    vlm_workers *set;
    char name[VLM_ADDR_HOST_LEN_MAX + 16];
    char model[VLM_WORKER_MODEL_LEN_MAX + 1];
    struct sockaddr_storage address;
    bool is_unix;
    vlm_rpc_channel *channel; /* NULL: the name has this address no more */
    vlm_rpc_client_call *watch, *info, *stats;
    bool serving, known; /* Watch says so; ModelInfo has been heard */
    bool seen;           /* in the last answer to its name */
    int name_idx;        /* of names, or -1 */
    uint32_t running_max, waiting_max;
    uint32_t n_busy;
    Vlm__V1__StatsResponse last_stats; /* numbers only */
    uint64_t n_images[VLM_WORKERS_FORMATS];
};

/* A name that is asked again. */
typedef struct dns_name {
    vlm_addr addr;
    uv_getaddrinfo_t request;
    vlm_workers *set;
    bool asking;
} dns_name;

struct vlm_workers {
    vlm_workers_options options;
    vlm_rpc_flusher flusher;
    vlm_worker_link *links[VLM_WORKERS_MAX];
    size_t n_links;
    dns_name names[NAMES_MAX];
    size_t n_names;
    uv_timer_t *tick;
    uint64_t resolve_ns;
    uint32_t turn; /* whose turn it is among equals */
    bool closing;
    size_t n_asking; /* answers of the resolver that are still to come */
};

static bool is_ready(const vlm_worker_link *l)
{
    return l->channel != NULL && l->serving && l->known;
}

static void tell_changed(vlm_workers *w)
{
    if (w->options.changed != NULL && !w->closing) w->options.changed(w->options.user);
}

static void on_watch_message(void *user, const uint8_t *data, size_t len)
{
    vlm_worker_link *l = user;
    Grpc__Health__V1__HealthCheckResponse *r =
        grpc__health__v1__health_check_response__unpack(NULL, len, data);
    const bool was_ready = is_ready(l);
    l->serving =
        r != NULL && r->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    if (r != NULL) grpc__health__v1__health_check_response__free_unpacked(r, NULL);
    if (is_ready(l) != was_ready) {
        vlm_log(VLM_LOG_INFO, "worker %s is %s", l->name, l->serving ? "ready" : "not ready");
        tell_changed(l->set);
    }
}

static void on_watch_done(void *user, const vlm_error *error, const char *reason)
{
    vlm_worker_link *l = user;
    const bool was_ready = is_ready(l);
    (void)error;
    (void)reason;
    l->watch = NULL;
    l->serving = false;
    if (was_ready) tell_changed(l->set);
}

static void on_info_message(void *user, const uint8_t *data, size_t len)
{
    vlm_worker_link *l = user;
    Vlm__V1__ModelInfoResponse *r = vlm__v1__model_info_response__unpack(NULL, len, data);
    if (r == NULL || r->model.len > VLM_WORKER_MODEL_LEN_MAX || r->max_running == 0) {
        vlm_log(VLM_LOG_WARN, "worker %s: its ModelInfo cannot be read", l->name);
    } else {
        memcpy(l->model, r->model.data, r->model.len);
        l->model[r->model.len] = '\0';
        l->running_max = r->max_running;
        l->waiting_max = r->max_waiting;
        l->known = true;
    }
    if (r != NULL) vlm__v1__model_info_response__free_unpacked(r, NULL);
}

static void on_info_done(void *user, const vlm_error *error, const char *reason)
{
    vlm_worker_link *l = user;
    (void)error;
    (void)reason;
    l->info = NULL;
    if (is_ready(l)) {
        vlm_log(VLM_LOG_INFO, "worker %s is ready: model %s", l->name, l->model);
        tell_changed(l->set);
    }
}

static void on_stats_message(void *user, const uint8_t *data, size_t len)
{
    vlm_worker_link *l = user;
    Vlm__V1__StatsResponse *r = vlm__v1__stats_response__unpack(NULL, len, data);
    if (r == NULL) return;
    l->last_stats = *r;
    for (size_t i = 0; i < r->n_images_by_format && i < VLM_WORKERS_FORMATS; i++)
        l->n_images[i] = r->images_by_format[i]->value;
    l->last_stats.n_images_by_format = 0;
    l->last_stats.images_by_format = NULL;
    vlm__v1__stats_response__free_unpacked(r, NULL);
}

static void on_stats_done(void *user, const vlm_error *error, const char *reason)
{
    vlm_worker_link *l = user;
    (void)error;
    (void)reason;
    l->stats = NULL;
}

static void call(vlm_worker_link *l, const vlm_rpc_call_options *options,
                 const ProtobufCMessage *message, vlm_rpc_client_call **out)
{
    vlm_error error;
    if (*out != NULL) return;
    if (vlm_rpc_channel_call(l->channel, options, message, out, &error) != VLM_OK)
        vlm_log(VLM_LOG_WARN, "worker %s: %s", l->name, error.msg);
}

/* What every connection begins with, and what is begun again when it ended. */
static void ask_worker(vlm_worker_link *l)
{
    Grpc__Health__V1__HealthCheckRequest watch = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Vlm__V1__ModelInfoRequest info = VLM__V1__MODEL_INFO_REQUEST__INIT;
    const vlm_rpc_call_options watch_options = {.path = "/grpc.health.v1.Health/Watch",
                                                .message = on_watch_message,
                                                .done = on_watch_done,
                                                .user = l};
    const vlm_rpc_call_options info_options = {.path = "/vlm.v1.Worker/ModelInfo",
                                               .timeout_ns = 5000000000u,
                                               .message = on_info_message,
                                               .done = on_info_done,
                                               .user = l};
    call(l, &watch_options, &watch.base, &l->watch);
    if (!l->known) call(l, &info_options, &info.base, &l->info);
}

static void ask_stats(vlm_worker_link *l)
{
    Vlm__V1__StatsRequest stats = VLM__V1__STATS_REQUEST__INIT;
    const vlm_rpc_call_options options = {.path = "/vlm.v1.Worker/Stats",
                                          .timeout_ns = 5000000000u,
                                          .message = on_stats_message,
                                          .done = on_stats_done,
                                          .user = l};
    call(l, &options, &stats.base, &l->stats);
}

static void on_channel(void *user, bool is_up)
{
    vlm_worker_link *l = user;
    if (is_up) {
        l->known = false; /* another process may be there now */
        ask_worker(l);
        return;
    }
    const bool was_ready = is_ready(l);
    /* They would keep a connection that is going away. */
    vlm_rpc_client_call **calls[] = {&l->watch, &l->info, &l->stats};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (*calls[i] != NULL) vlm_rpc_client_cancel(*calls[i]);
        *calls[i] = NULL;
    }
    l->serving = false;
    vlm_log(VLM_LOG_INFO, "worker %s is gone", l->name);
    if (was_ready) tell_changed(l->set);
}

static vlm_status add_link(vlm_workers *w, const char *text, const char *unix_path,
                           const struct sockaddr *address, size_t address_len, int name_idx,
                           vlm_error *err)
{
    if (w->n_links == VLM_WORKERS_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "more than %d workers", VLM_WORKERS_MAX);
    vlm_worker_link *l = calloc(1, sizeof *l);
    if (l == NULL) return vlm_fail_memory(err, "worker");
    l->set = w;
    l->name_idx = name_idx;
    l->seen = true;
    l->is_unix = unix_path != NULL;
    l->running_max = w->options.running_max;
    l->waiting_max = w->options.waiting_max;
    (void)snprintf(l->name, sizeof l->name, "%s", text);
    if (address != NULL) memcpy(&l->address, address, address_len);
    const vlm_rpc_channel_options options = {.loop = w->options.loop,
                                             .flusher = &w->flusher,
                                             .unix_path = unix_path,
                                             .address = l->address,
                                             .changed = on_channel,
                                             .user = l};
    const vlm_status status = vlm_rpc_channel_open(&options, &l->channel, err);
    if (status != VLM_OK) {
        free(l);
        return status;
    }
    w->links[w->n_links++] = l;
    return VLM_OK;
}

static void close_link(vlm_worker_link *l)
{
    vlm_rpc_channel_close(l->channel);
    l->channel = NULL;
    l->watch = l->info = l->stats = NULL;
    l->serving = false;
}

static void address_text(const struct sockaddr *address, char *out, size_t len)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)address;
        (void)inet_ntop(AF_INET6, &a->sin6_addr, host, sizeof host);
        (void)snprintf(out, len, "[%s]:%u", host, ntohs(a->sin6_port));
    } else {
        const struct sockaddr_in *a = (const struct sockaddr_in *)address;
        (void)inet_ntop(AF_INET, &a->sin_addr, host, sizeof host);
        (void)snprintf(out, len, "%s:%u", host, ntohs(a->sin_port));
    }
}

/* One address of a name: known, or new, or back again. */
static void take_address(dns_name *n, int idx, const struct addrinfo *info)
{
    vlm_workers *w = n->set;
    char text[INET6_ADDRSTRLEN + 16];
    vlm_error error;
    address_text(info->ai_addr, text, sizeof text);
    for (size_t i = 0; i < w->n_links; i++) {
        vlm_worker_link *l = w->links[i];
        if (l->name_idx != idx || strcmp(l->name, text) != 0) continue;
        l->seen = true;
        if (l->channel != NULL) return;
        const vlm_rpc_channel_options options = {.loop = w->options.loop,
                                                 .flusher = &w->flusher,
                                                 .address = l->address,
                                                 .changed = on_channel,
                                                 .user = l};
        if (vlm_rpc_channel_open(&options, &l->channel, &error) != VLM_OK)
            vlm_log(VLM_LOG_WARN, "worker %s: %s", l->name, error.msg);
        return;
    }
    if (add_link(w, text, NULL, info->ai_addr, info->ai_addrlen, idx, &error) != VLM_OK)
        vlm_log(VLM_LOG_WARN, "worker %s: %s", text, error.msg);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    dns_name *n = request->data;
    vlm_workers *w = n->set;
    const int idx = (int)(n - w->names);
    n->asking = false;
    w->n_asking--;
    if (w->closing || status != 0) {
        if (status == 0) uv_freeaddrinfo(list);
        if (w->closing && w->n_asking == 0)
            free(w);
        else if (!w->closing)
            vlm_log(VLM_LOG_WARN, "%s: %s", n->addr.host, uv_strerror(status));
        return;
    }
    for (size_t i = 0; i < w->n_links; i++)
        if (w->links[i]->name_idx == idx) w->links[i]->seen = false;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        take_address(n, idx, a);
        if (n->addr.kind == VLM_ADDR_TCP) break; /* the name stands for one worker */
    }
    uv_freeaddrinfo(list);
    for (size_t i = 0; i < w->n_links; i++) {
        vlm_worker_link *l = w->links[i];
        /* An address that is gone from the name keeps its connection while it is of use. */
        if (l->name_idx != idx || l->seen || l->channel == NULL || l->n_busy > 0) continue;
        if (vlm_rpc_channel_is_up(l->channel)) continue;
        vlm_log(VLM_LOG_INFO, "worker %s is no longer in %s", l->name, n->addr.host);
        close_link(l);
        tell_changed(w);
    }
}

static void resolve(dns_name *n)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    char port[8];
    if (n->asking) return;
    (void)snprintf(port, sizeof port, "%u", n->addr.port);
    n->request.data = n;
    if (uv_getaddrinfo(n->set->options.loop, &n->request, on_resolved, n->addr.host, port,
                       &hints) != 0)
        return;
    n->asking = true;
    n->set->n_asking++;
}

static void on_tick(uv_timer_t *timer)
{
    vlm_workers *w = timer->data;
    const uint64_t now = vlm_clock_ns();
    for (size_t i = 0; i < w->n_links; i++) {
        vlm_worker_link *l = w->links[i];
        if (l->channel == NULL || !vlm_rpc_channel_is_up(l->channel)) continue;
        ask_worker(l);
        if (l->known) ask_stats(l);
    }
    if (now - w->resolve_ns < (uint64_t)RESOLVE_MS * 1000000) return;
    w->resolve_ns = now;
    for (size_t i = 0; i < w->n_names; i++) resolve(&w->names[i]);
}

vlm_status vlm_workers_open(const vlm_workers_options *options, vlm_workers **out, vlm_error *err)
{
    *out = NULL;
    vlm_workers *w = calloc(1, sizeof *w);
    if (w == NULL) return vlm_fail_memory(err, "workers");
    w->options = *options;
    w->resolve_ns = vlm_clock_ns();
    w->tick = calloc(1, sizeof *w->tick);
    if (w->tick == NULL || vlm_rpc_flusher_open(&w->flusher, options->loop, err) != VLM_OK) {
        free(w->tick);
        free(w);
        return vlm_fail_memory(err, "workers");
    }
    (void)uv_timer_init(options->loop, w->tick);
    w->tick->data = w;
    (void)uv_timer_start(w->tick, on_tick, TICK_MS, TICK_MS);
    *out = w;
    return VLM_OK;
}

vlm_status vlm_workers_add(vlm_workers *w, const vlm_addr *addr, vlm_error *err)
{
    if (addr->kind == VLM_ADDR_UNIX) {
        char text[VLM_ADDR_HOST_LEN_MAX + 8];
        (void)snprintf(text, sizeof text, "unix:%s", addr->host);
        return add_link(w, text, addr->host, NULL, 0, -1, err);
    }
    if (w->n_names == NAMES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "more than %d names of workers", NAMES_MAX);
    dns_name *n = &w->names[w->n_names++];
    *n = (dns_name){.addr = *addr, .set = w};
    resolve(n);
    return VLM_OK;
}

void vlm_workers_retry_now(vlm_workers *w, size_t i)
{
    if (w->links[i]->channel != NULL) vlm_rpc_channel_retry_now(w->links[i]->channel);
}

bool vlm_workers_is_ready(const vlm_workers *w, size_t i)
{
    return is_ready(w->links[i]);
}

uint32_t vlm_workers_n_busy(const vlm_workers *w, size_t i)
{
    return w->links[i]->n_busy;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void vlm_workers_close(vlm_workers *w)
{
    if (w == NULL) return;
    w->closing = true;
    for (size_t i = 0; i < w->n_links; i++) {
        close_link(w->links[i]);
        free(w->links[i]);
    }
    vlm_rpc_flusher_close(&w->flusher);
    uv_close((uv_handle_t *)w->tick, free_handle);
    if (w->n_asking > 0) {
        for (size_t i = 0; i < w->n_names; i++)
            if (w->names[i].asking) (void)uv_cancel((uv_req_t *)&w->names[i].request);
        return; /* on_resolved frees the set */
    }
    free(w);
}

static uint32_t room_of(const vlm_worker_link *l)
{
    const uint32_t max = l->running_max + l->waiting_max;
    return l->n_busy < max ? max - l->n_busy : 0;
}

vlm_worker_link *vlm_workers_choose(vlm_workers *w, vlm_bytes model, const vlm_worker_link *avoid)
{
    vlm_worker_link *best = NULL;
    double best_load = 0.0;
    w->turn++;
    for (size_t i = 0; i < w->n_links; i++) {
        vlm_worker_link *l = w->links[(i + w->turn) % w->n_links];
        if (!is_ready(l) || room_of(l) == 0) continue;
        if (model.len > 0 && !vlm_bytes_eq_str(model, l->model)) continue;
        /* The one to avoid counts as fuller than any. */
        const double load = (double)l->n_busy / l->running_max + (l == avoid ? 1e6 : 0.0);
        if (best != NULL && load >= best_load) continue;
        best = l;
        best_load = load;
    }
    return best;
}

bool vlm_workers_has_ready(const vlm_workers *w, vlm_bytes model)
{
    for (size_t i = 0; i < w->n_links; i++)
        if (is_ready(w->links[i]) &&
            (model.len == 0 || vlm_bytes_eq_str(model, w->links[i]->model)))
            return true;
    return false;
}

vlm_workers_state vlm_workers_get_state(const vlm_workers *w)
{
    vlm_workers_state s = {0};
    for (size_t i = 0; i < w->n_links; i++) {
        const vlm_worker_link *l = w->links[i];
        s.n_known += l->channel != NULL;
        if (!is_ready(l)) {
            s.n_unready_room += l->channel != NULL ? l->running_max + l->waiting_max : 0;
            continue;
        }
        s.n_ready++;
        s.n_busy += l->n_busy;
        s.n_room += room_of(l);
    }
    return s;
}

const char *vlm_workers_model(const vlm_workers *w, size_t i)
{
    for (size_t k = 0; k < w->n_links; k++) {
        bool is_first = w->links[k]->model[0] != '\0' && w->links[k]->channel != NULL;
        for (size_t j = 0; j < k && is_first; j++)
            is_first = strcmp(w->links[j]->model, w->links[k]->model) != 0;
        if (is_first && i-- == 0) return w->links[k]->model;
    }
    return NULL;
}

bool vlm_workers_has_model(const vlm_workers *w, vlm_bytes model)
{
    const char *name;
    for (size_t i = 0; (name = vlm_workers_model(w, i)) != NULL; i++)
        if (vlm_bytes_eq_str(model, name)) return true;
    return false;
}

vlm_rpc_channel *vlm_worker_link_channel(vlm_worker_link *link)
{
    return link->channel;
}

const char *vlm_worker_link_name(const vlm_worker_link *link)
{
    return link->name;
}

const char *vlm_worker_link_model(const vlm_worker_link *link)
{
    return link->model;
}

void vlm_worker_link_count(vlm_worker_link *link, int n)
{
    link->n_busy = (uint32_t)((int)link->n_busy + n);
}

vlm_workers_stats vlm_workers_get_stats(const vlm_workers *w, vlm_bytes model)
{
    vlm_workers_stats s = {0};
    uint32_t n = 0;
    for (size_t i = 0; i < w->n_links; i++) {
        if (!is_ready(w->links[i]) || !vlm_bytes_eq_str(model, w->links[i]->model)) continue;
        const Vlm__V1__StatsResponse *r = &w->links[i]->last_stats;
        n++;
        s.kv_usage += r->kv_cache_usage;
        s.n_prefix_queries += r->prefix_cache_queries;
        s.n_prefix_hits += r->prefix_cache_hits;
        s.n_image_queries += r->mm_cache_queries;
        s.n_image_hits += r->mm_cache_hits;
        s.n_preemptions += r->preemptions;
        for (size_t k = 0; k < VLM_WORKERS_FORMATS; k++) s.n_images[k] += w->links[i]->n_images[k];
    }
    if (n > 0) s.kv_usage /= n;
    return s;
}
