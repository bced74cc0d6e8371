#include <string.h>
#include <time.h>

#include "base/json.h"
#include "gateway/gateway_parts.h"

enum { BODY_LEN_MAX = 4 << 20, PAGE_LEN_MAX = 32 << 20 };

typedef void route_fn(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                      vlm_buf *body);

typedef enum who { OPEN, KEY, ADMIN_KEY } who;

typedef struct route {
    const char *path, *name; /* a path that ends in * stands for all that begin so */
    const char *method, *allow;
    who who;
    route_fn *fn; /* NULL: the chat */
} route;

static void respond_json(vlm_client *c, int status, const vlm_buf *body)
{
    vlm_client_respond(c, &(vlm_response){.status = status,
                                          .content_type = "application/json",
                                          .body = vlm_buf_bytes(body)});
}

void vlm_respond_error(vlm_client *c, const vlm_api_error *e)
{
    vlm_buf body;
    vlm_buf_init(&body, BODY_LEN_MAX);
    vlm_bytes text = vlm_bytes_of("{\"error\":{\"message\":\"out of memory\",\"type\":"
                                  "\"server_error\",\"param\":null,\"code\":null}}");
    if (vlm_api_error_write(e, &body, NULL) == VLM_OK) text = vlm_buf_bytes(&body);
    vlm_client_respond(c, &(vlm_response){.status = e->http_status,
                                          .content_type = "application/json",
                                          .body = text,
                                          .retry_after_s = e->retry_after_s,
                                          .authenticate = e->http_status == 401});
    vlm_buf_fini(&body);
}

static void get_livez(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                      vlm_buf *body)
{
    (void)body;
    (void)g;
    (void)request;
    vlm_client_respond(c, &(vlm_response){.status = 200,
                                          .content_type = "application/json",
                                          .body = vlm_bytes_of("{\"status\":\"ok\"}")});
}

/* All models' workers die too often. */
static bool is_broken(const vlm_gateway *g)
{
    const size_t n = vlm_models_n(g->models);
    size_t n_broken = 0;
    for (size_t i = 0; i < n; i++) n_broken += g->broken[i];
    return n > 0 && n_broken == n;
}

/* A worker is ready, or would be started for the next request. */
static bool has_worker(const vlm_gateway *g)
{
    if (vlm_workers_get_state(g->workers).n_ready > 0) return true;
    if (vlm_models_host_of(g->models) == NULL) return false;
    for (size_t i = 0; i < vlm_models_n(g->models); i++)
        if (vlm_models_state(g->models, i) == VLM_MODEL_UNLOADED) return true;
    return false;
}

static void get_readyz(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                       vlm_buf *body)
{
    (void)body;
    const char *why = NULL;
    (void)request;
    if (g->draining)
        why = "{\"status\":\"shutting down\"}";
    else if (is_broken(g))
        why = "{\"status\":\"the worker crashes again and again\"}";
    else if (!has_worker(g))
        why = "{\"status\":\"no worker is ready\"}";
    else if (vlm_chats_full(g))
        why = "{\"status\":\"the queue is full\"}";
    vlm_client_respond(
        c, &(vlm_response){.status = why == NULL ? 200 : 503,
                           .content_type = "application/json",
                           .body = vlm_bytes_of(why == NULL ? "{\"status\":\"ok\"}" : why)});
}

static void respond_or_fail(vlm_client *c, vlm_status status, const vlm_buf *body)
{
    vlm_api_error error;
    if (status == VLM_OK) {
        respond_json(c, 200, body);
        return;
    }
    vlm_api_error_internal(&error);
    vlm_respond_error(c, &error);
}

static void get_models(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                       vlm_buf *body)
{
    (void)body;
    vlm_buf out;
    (void)request;
    vlm_buf_init(&out, BODY_LEN_MAX);
    respond_or_fail(c, vlm_models_append_list(g->models, &out, NULL), &out);
    vlm_buf_fini(&out);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* Percent-decode a piece of a path. */
static vlm_status decode_path(vlm_bytes text, vlm_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            const int high = i + 2 < text.len + 0 ? hex_value(text.ptr[i + 1]) : -1;
            const int low = i + 2 < text.len + 0 ? hex_value(text.ptr[i + 2]) : -1;
            if (high < 0 || low < 0) return VLM_INVALID_ARGUMENT;
            c = (char)(high << 4 | low);
            i += 2;
        }
        VLM_TRY(vlm_buf_append_char(out, c, NULL));
    }
    return VLM_OK;
}

static void get_model(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                      vlm_buf *body)
{
    (void)body;
    static const size_t prefix_len = sizeof "/v1/models/" - 1;
    const vlm_bytes text = {.ptr = request->path.ptr + prefix_len,
                            .len = request->path.len - prefix_len};
    vlm_buf name, out;
    vlm_api_error error;
    size_t model;
    vlm_buf_init(&name, BODY_LEN_MAX);
    vlm_buf_init(&out, BODY_LEN_MAX);
    if (decode_path(text, &name) == VLM_OK && name.len > 0 &&
        vlm_models_find(g->models, vlm_buf_bytes(&name), &model)) {
        respond_or_fail(c, vlm_models_append(g->models, model, vlm_buf_bytes(&name), &out, NULL),
                        &out);
    } else {
        vlm_api_error_model_not_found(&error, text);
        vlm_respond_error(c, &error);
    }
    vlm_buf_fini(&name);
    vlm_buf_fini(&out);
}

/* {"model": NAME}, of a host's. */
static bool read_model(const vlm_gateway *g, const vlm_buf *body, size_t *model,
                       vlm_api_error *error)
{
    vlm_json_limits limits = vlm_json_limits_default;
    vlm_json_doc *doc = NULL;
    vlm_error err;
    vlm_bytes name = {0};
    bool is_found = false;
    limits.depth_max = g->options.json_depth_max;
    if (vlm_json_parse(body->data, body->len, &limits, &doc, &err) != VLM_OK) {
        vlm_api_error_invalid(error, "", "%s", err.msg);
        return false;
    }
    if (vlm_json_opt_string(vlm_json_root(doc), "model", &name, &err) != VLM_OK || name.len == 0) {
        vlm_api_error_invalid(error, "model", "model must be the name of a model");
    } else if (vlm_models_host_of(g->models) == NULL) {
        vlm_api_error_invalid(error, "model", "this server's workers load their models themselves");
    } else {
        is_found = vlm_models_find(g->models, name, model);
        if (!is_found) vlm_api_error_model_not_found(error, name);
    }
    vlm_json_free(doc);
    return is_found;
}

static void change_model(vlm_gateway *g, vlm_client *c, const vlm_buf *body, bool load)
{
    const vlm_models_host *h = vlm_models_host_of(g->models);
    vlm_api_error error;
    vlm_error err;
    vlm_buf out;
    size_t model;
    if (!read_model(g, body, &model, &error)) {
        vlm_respond_error(c, &error);
        return;
    }
    if ((load ? h->load : h->unload)(h->user, model, &err) != VLM_OK) {
        vlm_api_error_conflict(&error, err.msg);
        vlm_respond_error(c, &error);
        return;
    }
    vlm_buf_init(&out, BODY_LEN_MAX);
    const vlm_bytes name = vlm_bytes_of(vlm_models_name(g->models, model));
    respond_or_fail(c, vlm_models_append(g->models, model, name, &out, NULL), &out);
    vlm_buf_fini(&out);
}

static void post_load(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                      vlm_buf *body)
{
    (void)request;
    change_model(g, c, body, true);
}

static void post_unload(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                        vlm_buf *body)
{
    (void)request;
    change_model(g, c, body, false);
}

/* What workers count of a model, and its requests. */
static void set_model_metrics(vlm_gateway *g, size_t model)
{
    const vlm_bytes name = vlm_bytes_of(vlm_models_name(g->models, model));
    const vlm_workers_stats s = vlm_workers_get_stats(g->workers, name);
    vlm_metrics *m = vlm_models_metrics(g->models, model);
    size_t n_running, n_waiting;
    vlm_chats_count(g, m, &n_running, &n_waiting);
    vlm_gauge_set(m, VLM_METRIC_NUM_REQUESTS_RUNNING, 0, (double)n_running);
    vlm_gauge_set(m, VLM_METRIC_NUM_REQUESTS_WAITING, 0, (double)n_waiting);
    vlm_gauge_set(m, VLM_METRIC_KV_CACHE_USAGE_PERC, 0, s.kv_usage);
    vlm_counter_set(m, VLM_METRIC_PREFIX_CACHE_QUERIES, 0, s.n_prefix_queries);
    vlm_counter_set(m, VLM_METRIC_PREFIX_CACHE_HITS, 0, s.n_prefix_hits);
    vlm_counter_set(m, VLM_METRIC_MM_CACHE_QUERIES, 0, s.n_image_queries);
    vlm_counter_set(m, VLM_METRIC_MM_CACHE_HITS, 0, s.n_image_hits);
    vlm_counter_set(m, VLM_METRIC_NUM_PREEMPTIONS, 0, s.n_preemptions);
    for (uint32_t i = 0; i < VLM_WORKERS_FORMATS; i++)
        vlm_counter_set(m, VLM_METRIC_IMAGES, i, s.n_images[i]);
}

static void get_metrics(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request,
                        vlm_buf *body)
{
    vlm_api_error error;
    vlm_buf out;
    (void)request;
    (void)body;
    /* The first one's are there before any model is known. */
    for (size_t i = 0; i == 0 || i < vlm_models_n(g->models); i++) set_model_metrics(g, i);
    vlm_gauge_set(g->metrics, VLM_METRIC_HTTP_REQUESTS_IN_FLIGHT, 0,
                  (double)vlm_clients_n_exchanges(g->clients));
    vlm_buf_init(&out, PAGE_LEN_MAX);
    if (vlm_metrics_write(g->metrics, &out, NULL) == VLM_OK) {
        vlm_client_respond(
            c, &(vlm_response){.status = 200,
                               .content_type = "text/plain; version=0.0.4; charset=utf-8",
                               .body = vlm_buf_bytes(&out)});
    } else {
        vlm_api_error_internal(&error);
        vlm_respond_error(c, &error);
    }
    vlm_buf_fini(&out);
}

static void get_page(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request, vlm_buf *body)
{
    (void)body;
    const vlm_http1_field *known = vlm_http1_find(request, "if-none-match");
    const vlm_response answer = vlm_page_answer(g->page, known != NULL ? &known->value : NULL);
    vlm_client_respond(c, &answer);
}

static const route routes[] = {
    {"/", "page", "GET", "GET, HEAD, OPTIONS", OPEN, get_page},
    {"/v1/chat/completions", "chat_completions", "POST", "POST, OPTIONS", KEY, NULL},
    {"/v1/models", "models", "GET", "GET, HEAD, OPTIONS", KEY, get_models},
    {"/v1/models/load", "models_load", "POST", "POST, OPTIONS", ADMIN_KEY, post_load},
    {"/v1/models/unload", "models_unload", "POST", "POST, OPTIONS", ADMIN_KEY, post_unload},
    {"/v1/models/*", "model", "GET", "GET, HEAD, OPTIONS", KEY, get_model},
    {"/livez", "livez", "GET", "GET, HEAD, OPTIONS", OPEN, get_livez},
    {"/readyz", "readyz", "GET", "GET, HEAD, OPTIONS", OPEN, get_readyz},
    {"/health", "health", "GET", "GET, HEAD, OPTIONS", KEY, get_readyz},
    {"/metrics", "metrics", "GET", "GET, HEAD, OPTIONS", KEY, get_metrics},
};

static const route *find_route(const vlm_gateway *g, vlm_bytes path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const size_t len = strlen(routes[i].path);
        if (routes[i].path[len - 1] != '*') {
            if (vlm_bytes_eq_str(path, routes[i].path))
                return routes[i].fn == get_page && g->page == NULL ? NULL : &routes[i];
        } else if (path.len >= len && memcmp(path.ptr, routes[i].path, len - 1) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

static bool has_method(const vlm_http1_request *request, const route *r)
{
    return vlm_bytes_eq_str(request->method, r->method) ||
           (vlm_bytes_eq_str(request->method, "HEAD") && strcmp(r->method, "GET") == 0);
}

static bool starts_nocase(vlm_bytes text, const char *prefix)
{
    const size_t len = strlen(prefix);
    if (text.len < len) return false;
    for (size_t i = 0; i < len; i++)
        if ((text.ptr[i] | 0x20) != (prefix[i] | 0x20)) return false;
    return true;
}

/* The index of the caller's key; -1: it has none that counts. */
static int find_key(const vlm_keys *keys, const vlm_http1_request *request)
{
    const vlm_http1_field *authorization = vlm_http1_find(request, "authorization");
    const vlm_http1_field *x_api_key = vlm_http1_find(request, "x-api-key");
    if (authorization != NULL && starts_nocase(authorization->value, "bearer ")) {
        vlm_bytes key = authorization->value;
        key.ptr += 7;
        key.len -= 7;
        return vlm_keys_find(keys, key);
    }
    return x_api_key != NULL ? vlm_keys_find(keys, x_api_key->value) : -1;
}

/* What a body of JSON may come with; NULL: nothing is wrong. */
static bool check_content(const vlm_http1_request *request, vlm_api_error *error)
{
    const vlm_http1_field *type = vlm_http1_find(request, "content-type");
    const vlm_http1_field *encoding = vlm_http1_find(request, "content-encoding");
    const size_t len = sizeof "application/json" - 1;
    const bool is_json =
        type != NULL && starts_nocase(type->value, "application/json") &&
        (type->value.len == len || type->value.ptr[len] == ';' || type->value.ptr[len] == ' ');
    if (!is_json) {
        vlm_api_error_media_type(error, "Content-Type must be application/json");
        return false;
    }
    if (encoding != NULL) {
        vlm_api_error_media_type(error, "Content-Encoding is not taken");
        return false;
    }
    return true;
}

/* Whether the caller may have what r stands for (NULL: nothing); *key is that of a chat, or -1. */
static bool may_enter(const vlm_gateway *g, const vlm_http1_request *request, const route *r,
                      int *key, vlm_api_error *error)
{
    *key = -1;
    if (r != NULL && r->who == OPEN) return true;
    if (r != NULL && r->who == ADMIN_KEY) {
        if (g->admin_keys.n > 0 && find_key(&g->admin_keys, request) >= 0) return true;
        vlm_api_error_admin_key(error, g->admin_keys.n > 0);
        return false;
    }
    if (g->keys.n == 0) return true;
    *key = find_key(&g->keys, request);
    if (*key >= 0) return true;
    vlm_api_error_api_key(error);
    return false;
}

static void respond_not_allowed(vlm_client *c, const route *r)
{
    vlm_api_error error;
    vlm_buf body;
    vlm_buf_init(&body, BODY_LEN_MAX);
    vlm_api_error_method(&error);
    if (vlm_api_error_write(&error, &body, NULL) != VLM_OK) vlm_buf_clear(&body);
    vlm_client_respond(c, &(vlm_response){.status = error.http_status,
                                          .content_type = "application/json",
                                          .body = vlm_buf_bytes(&body),
                                          .allow = r->allow});
    vlm_buf_fini(&body);
}

/* Everything that can be refused before the body. */
void vlm_routes_head(void *user, vlm_client *c, const vlm_http1_request *request)
{
    vlm_gateway *g = user;
    vlm_api_error error;
    const route *r = find_route(g, request->path);
    int key;
    if (r != NULL) vlm_client_set_handler(c, r->name);
    if (vlm_bytes_eq_str(request->method, "OPTIONS") && g->options.cors_origin != NULL) return;
    if (!may_enter(g, request, r, &key, &error)) {
        vlm_respond_error(c, &error);
    } else if (r == NULL) {
        vlm_api_error_route(&error);
        vlm_respond_error(c, &error);
    } else if (!has_method(request, r)) {
        respond_not_allowed(c, r);
    } else if (strcmp(r->method, "POST") == 0 && !check_content(request, &error)) {
        vlm_respond_error(c, &error);
    } else if (r->fn == NULL && vlm_chats_refuse(g, c, key)) {
        return;
    }
}

void vlm_routes_request(void *user, vlm_client *c, const vlm_http1_request *request, vlm_buf *body)
{
    vlm_gateway *g = user;
    const route *r = find_route(g, request->path);
    vlm_api_error error;
    int key;
    if (vlm_bytes_eq_str(request->method, "OPTIONS")) {
        vlm_client_respond(c, &(vlm_response){.status = 204, .is_preflight = true});
    } else if (!may_enter(g, request, r, &key, &error)) {
        /* The keys have been read again since the head came. */
        vlm_respond_error(c, &error);
    } else if (r->fn != NULL) {
        r->fn(g, c, request, body);
    } else {
        vlm_chat_start(g, c, request, body, key);
    }
}

void vlm_routes_malformed(void *user, int status, const char *text, vlm_buf *body)
{
    vlm_api_error error;
    (void)user;
    vlm_api_error_http(&error, status, text);
    if (vlm_api_error_write(&error, body, NULL) != VLM_OK) vlm_buf_clear(body);
}
