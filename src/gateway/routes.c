#include <string.h>
#include <time.h>

#include "base/json.h"
#include "gateway/gateway_parts.h"

enum { BODY_LEN_MAX = 4 << 20 };

typedef void route_fn(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request);

typedef struct route {
    const char *path, *name; /* a path that ends in * stands for all that begin so */
    const char *method, *allow;
    bool is_open; /* without a key */
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

static void get_livez(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    (void)g;
    (void)request;
    vlm_client_respond(c, &(vlm_response){.status = 200,
                                          .content_type = "application/json",
                                          .body = vlm_bytes_of("{\"status\":\"ok\"}")});
}

static void get_readyz(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    const vlm_workers_state s = vlm_workers_get_state(g->workers);
    const char *why = NULL;
    (void)request;
    if (g->draining)
        why = "{\"status\":\"shutting down\"}";
    else if (g->broken)
        why = "{\"status\":\"the worker crashes again and again\"}";
    else if (s.n_ready == 0)
        why = "{\"status\":\"no worker is ready\"}";
    else if (vlm_chats_full(g))
        why = "{\"status\":\"the queue is full\"}";
    vlm_client_respond(
        c, &(vlm_response){.status = why == NULL ? 200 : 503,
                           .content_type = "application/json",
                           .body = vlm_bytes_of(why == NULL ? "{\"status\":\"ok\"}" : why)});
}

static vlm_status append_model(const char *name, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"id\":", err));
    VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(name), err));
    return vlm_buf_append_str(out, ",\"object\":\"model\",\"created\":0,\"owned_by\":\"vlmd\"}",
                              err);
}

static vlm_status append_models(const vlm_gateway *g, vlm_buf *out, vlm_error *err)
{
    const char *name;
    VLM_TRY(vlm_buf_append_str(out, "{\"object\":\"list\",\"data\":[", err));
    for (size_t i = 0; (name = vlm_workers_model(g->workers, i)) != NULL; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(append_model(name, out, err));
    }
    return vlm_buf_append_str(out, "]}", err);
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

static void get_models(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    vlm_buf body;
    (void)request;
    vlm_buf_init(&body, BODY_LEN_MAX);
    respond_or_fail(c, append_models(g, &body, NULL), &body);
    vlm_buf_fini(&body);
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

static void get_model(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    static const size_t prefix_len = sizeof "/v1/models/" - 1;
    const vlm_bytes text = {.ptr = request->path.ptr + prefix_len,
                            .len = request->path.len - prefix_len};
    vlm_buf name, body;
    vlm_api_error error;
    vlm_buf_init(&name, BODY_LEN_MAX);
    vlm_buf_init(&body, BODY_LEN_MAX);
    if (decode_path(text, &name) == VLM_OK && name.len > 0 &&
        vlm_workers_has_model(g->workers, vlm_buf_bytes(&name))) {
        respond_or_fail(c, append_model(name.data, &body, NULL), &body);
    } else {
        vlm_api_error_model_not_found(&error, text);
        vlm_respond_error(c, &error);
    }
    vlm_buf_fini(&name);
    vlm_buf_fini(&body);
}

static void get_metrics(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    const vlm_workers_stats s = vlm_workers_get_stats(g->workers);
    vlm_api_error error;
    vlm_buf body;
    (void)request;
    vlm_gauge_set(g->metrics, VLM_METRIC_NUM_REQUESTS_RUNNING, 0, (double)g->n_running);
    vlm_gauge_set(g->metrics, VLM_METRIC_NUM_REQUESTS_WAITING, 0,
                  (double)(g->n_chats - g->n_running));
    vlm_gauge_set(g->metrics, VLM_METRIC_KV_CACHE_USAGE_PERC, 0, s.kv_usage);
    vlm_counter_set(g->metrics, VLM_METRIC_PREFIX_CACHE_QUERIES, 0, s.n_prefix_queries);
    vlm_counter_set(g->metrics, VLM_METRIC_PREFIX_CACHE_HITS, 0, s.n_prefix_hits);
    vlm_counter_set(g->metrics, VLM_METRIC_MM_CACHE_QUERIES, 0, s.n_image_queries);
    vlm_counter_set(g->metrics, VLM_METRIC_MM_CACHE_HITS, 0, s.n_image_hits);
    vlm_counter_set(g->metrics, VLM_METRIC_NUM_PREEMPTIONS, 0, s.n_preemptions);
    for (uint32_t i = 0; i < VLM_WORKERS_FORMATS; i++)
        vlm_counter_set(g->metrics, VLM_METRIC_IMAGES, i, s.n_images[i]);
    if (vlm_workers_model(g->workers, 0) != NULL)
        vlm_metrics_set_model(g->metrics, vlm_workers_model(g->workers, 0));
    vlm_gauge_set(g->metrics, VLM_METRIC_HTTP_REQUESTS_IN_FLIGHT, 0,
                  (double)vlm_clients_n_exchanges(g->clients));
    vlm_buf_init(&body, BODY_LEN_MAX);
    if (vlm_metrics_write(g->metrics, &body, NULL) == VLM_OK) {
        vlm_client_respond(
            c, &(vlm_response){.status = 200,
                               .content_type = "text/plain; version=0.0.4; charset=utf-8",
                               .body = vlm_buf_bytes(&body)});
    } else {
        vlm_api_error_internal(&error);
        vlm_respond_error(c, &error);
    }
    vlm_buf_fini(&body);
}

static void get_page(vlm_gateway *g, vlm_client *c, const vlm_http1_request *request)
{
    const vlm_http1_field *known = vlm_http1_find(request, "if-none-match");
    const vlm_response answer = vlm_page_answer(g->page, known != NULL ? &known->value : NULL);
    vlm_client_respond(c, &answer);
}

static const route routes[] = {
    {"/", "page", "GET", "GET, HEAD, OPTIONS", true, get_page},
    {"/v1/chat/completions", "chat_completions", "POST", "POST, OPTIONS", false, NULL},
    {"/v1/models", "models", "GET", "GET, HEAD, OPTIONS", false, get_models},
    {"/v1/models/*", "model", "GET", "GET, HEAD, OPTIONS", false, get_model},
    {"/livez", "livez", "GET", "GET, HEAD, OPTIONS", true, get_livez},
    {"/readyz", "readyz", "GET", "GET, HEAD, OPTIONS", true, get_readyz},
    {"/health", "health", "GET", "GET, HEAD, OPTIONS", false, get_readyz},
    {"/metrics", "metrics", "GET", "GET, HEAD, OPTIONS", false, get_metrics},
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
static int find_key(const vlm_gateway *g, const vlm_http1_request *request)
{
    const vlm_http1_field *authorization = vlm_http1_find(request, "authorization");
    const vlm_http1_field *x_api_key = vlm_http1_find(request, "x-api-key");
    if (authorization != NULL && starts_nocase(authorization->value, "bearer ")) {
        vlm_bytes key = authorization->value;
        key.ptr += 7;
        key.len -= 7;
        return vlm_keys_find(&g->keys, key);
    }
    return x_api_key != NULL ? vlm_keys_find(&g->keys, x_api_key->value) : -1;
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

static void reject(vlm_gateway *g, vlm_client *c, const vlm_api_error *error)
{
    (void)g;
    vlm_respond_error(c, error);
}

/* Everything that can be refused before the body. */
void vlm_routes_head(void *user, vlm_client *c, const vlm_http1_request *request)
{
    vlm_gateway *g = user;
    vlm_api_error error;
    const route *r = find_route(g, request->path);
    if (r != NULL) vlm_client_set_handler(c, r->name);
    if (vlm_bytes_eq_str(request->method, "OPTIONS") && g->options.cors_origin != NULL) return;
    const bool is_open = r != NULL && r->is_open;
    const int key = g->keys.n > 0 ? find_key(g, request) : -1;
    if (g->keys.n > 0 && !is_open && key < 0) {
        vlm_api_error_api_key(&error);
        reject(g, c, &error);
    } else if (r == NULL) {
        vlm_api_error_route(&error);
        reject(g, c, &error);
    } else if (!has_method(request, r)) {
        vlm_buf body;
        vlm_buf_init(&body, BODY_LEN_MAX);
        vlm_api_error_method(&error);
        if (vlm_api_error_write(&error, &body, NULL) != VLM_OK) vlm_buf_clear(&body);
        vlm_client_respond(c, &(vlm_response){.status = error.http_status,
                                              .content_type = "application/json",
                                              .body = vlm_buf_bytes(&body),
                                              .allow = r->allow});
        vlm_buf_fini(&body);
    } else if (r->fn == NULL && !check_content(request, &error)) {
        reject(g, c, &error);
    } else if (r->fn == NULL && vlm_chats_refuse(g, c, key)) {
        return;
    }
}

void vlm_routes_request(void *user, vlm_client *c, const vlm_http1_request *request, vlm_buf *body)
{
    vlm_gateway *g = user;
    const route *r = find_route(g, request->path);
    if (vlm_bytes_eq_str(request->method, "OPTIONS")) {
        vlm_client_respond(c, &(vlm_response){.status = 204, .is_preflight = true});
        return;
    }
    if (r->fn != NULL) {
        r->fn(g, c, request);
        return;
    }
    const int key = g->keys.n > 0 ? find_key(g, request) : -1;
    if (g->keys.n > 0 && key < 0) {
        /* The keys have been read again since the head came. */
        vlm_api_error error;
        vlm_api_error_api_key(&error);
        reject(g, c, &error);
        return;
    }
    vlm_chat_start(g, c, request, body, key);
}

void vlm_routes_malformed(void *user, int status, const char *text, vlm_buf *body)
{
    vlm_api_error error;
    (void)user;
    vlm_api_error_http(&error, status, text);
    if (vlm_api_error_write(&error, body, NULL) != VLM_OK) vlm_buf_clear(body);
}
