#include "gateway/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

enum {
    BUCKETS_MAX = 24,
    LABELS_MAX = 8,
    MODEL_LEN_MAX = 255,
    HANDLERS = 11,
    METHODS = 5,
    CLASSES = 5
};

typedef enum kind { COUNTER, GAUGE, HISTOGRAM } kind;
typedef enum label { NONE, MODEL, REASON, REJECT, FORMAT } label;

/* vLLM's buckets (vllm/v1/metrics/loggers.py). */
static const double ttft[] = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                              0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                              20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
static const double token[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                               0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
static const double request[] = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                 5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
/* build_1_2_5_buckets */
static const double tokens[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
static const double http[] = {0.005, 0.01, 0.025, 0.05, 0.1,  0.25, 0.5,
                              1.0,   2.5,  5.0,   10.0, 30.0, 60.0};
static const double none[1];

typedef struct info {
    const char *name, *help;
    kind kind;
    label label;
    const double *buckets;
    size_t n_buckets;
} info;

static const info infos[VLM_N_METRICS] = {
#define INFO(id, name_, kind_, buckets_, label_, help_)                                            \
    {.name = name_,                                                                                \
     .help = help_,                                                                                \
     .kind = kind_,                                                                                \
     .label = label_,                                                                              \
     .buckets = buckets_,                                                                          \
     .n_buckets = sizeof buckets_ / sizeof *buckets_},
    VLM_METRIC_LIST(INFO)
#undef INFO
};

static const char *const label_names[] = {
    [REASON] = "finished_reason", [REJECT] = "reason", [FORMAT] = "format"};
static const char *const label_values[][LABELS_MAX] = {
    [REASON] = {VLM_REASONS},
    [REJECT] = {VLM_REJECTS},
    [FORMAT] = {"JPEG", "PNG", "WebP", "GIF", "BMP"}};

typedef struct series {
    uint64_t count; /* of a counter; of observations */
    double sum;     /* of a gauge: the value */
    uint64_t buckets[BUCKETS_MAX];
} series;

static const char *const handlers[HANDLERS] = {
    "chat_completions", "page",   "models",  "model", "models_load", "models_unload", "livez",
    "readyz",           "health", "metrics", "other"};
static const char *const methods[METHODS] = {"GET", "POST", "HEAD", "OPTIONS", "other"};
static const char *const classes[CLASSES] = {"none", "2xx", "3xx", "4xx", "5xx"};

struct vlm_metrics {
    vlm_metrics *next; /* the next model */
    char model[MODEL_LEN_MAX + 1];
    series values[VLM_N_METRICS][LABELS_MAX];
    uint64_t http_requests[HANDLERS][METHODS][CLASSES];
    series http_durations[HANDLERS];
};

vlm_status vlm_metrics_new(vlm_metrics **out, vlm_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out == NULL ? vlm_fail_memory(err, "metrics") : VLM_OK;
}

void vlm_metrics_free(vlm_metrics *m)
{
    while (m != NULL) {
        vlm_metrics *next = m->next;
        free(m);
        m = next;
    }
}

vlm_status vlm_metrics_new_model(vlm_metrics *first, const char *model, vlm_metrics **out,
                                 vlm_error *err)
{
    VLM_TRY(vlm_metrics_new(out, err));
    vlm_metrics_set_model(*out, model);
    while (first->next != NULL) first = first->next;
    first->next = *out;
    return VLM_OK;
}

void vlm_metrics_set_model(vlm_metrics *m, const char *model)
{
    size_t len = strnlen(model, MODEL_LEN_MAX);
    len = vlm_utf8_first_bad(model, len);
    memcpy(m->model, model, len);
    m->model[len] = '\0';
}

void vlm_counter_add(vlm_metrics *m, vlm_metric metric, uint32_t index, uint64_t n)
{
    m->values[metric][index].count += n;
}

void vlm_counter_set(vlm_metrics *m, vlm_metric metric, uint32_t index, uint64_t n)
{
    m->values[metric][index].count = n;
}

void vlm_gauge_set(vlm_metrics *m, vlm_metric metric, uint32_t index, double value)
{
    m->values[metric][index].sum = value;
}

static void observe(series *s, const double *buckets, size_t n, double value)
{
    /* One NaN would stay in the sum for good. */
    if (!isfinite(value) || value < 0) return;
    size_t i = 0;
    while (i < n && value > buckets[i]) i++;
    if (i < n) s->buckets[i]++;
    s->count++;
    s->sum += value;
}

void vlm_histogram_observe(vlm_metrics *m, vlm_metric metric, uint32_t index, double value)
{
    observe(&m->values[metric][index], infos[metric].buckets, infos[metric].n_buckets, value);
}

/* The index of a name; the last one stands for all others. */
static size_t index_of(const char *const *names, size_t n, const char *name)
{
    size_t i = 0;
    while (i + 1 < n && strcmp(names[i], name) != 0) i++;
    return i;
}

void vlm_metrics_http(vlm_metrics *m, const char *handler, const char *method, int status,
                      double seconds)
{
    const size_t h = index_of(handlers, HANDLERS, handler);
    const size_t class = status < 200 || status > 599 ? 0 : (size_t)status / 100 - 1;
    m->http_requests[h][index_of(methods, METHODS, method)][class]++;
    observe(&m->http_durations[h], http, sizeof http / sizeof *http, seconds);
}

static vlm_status append_head(vlm_buf *out, const char *name, const char *help, kind k,
                              vlm_error *err)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    return vlm_buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[k]);
}

/* A label's value, as the text format wants it. */
static vlm_status append_value(vlm_buf *out, const char *text, vlm_error *err)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            VLM_TRY(vlm_buf_append_str(out, "\\n", err));
            continue;
        }
        if (*text == '"' || *text == '\\') VLM_TRY(vlm_buf_append_char(out, '\\', err));
        VLM_TRY(vlm_buf_append_char(out, *text, err));
    }
    return VLM_OK;
}

/* The inside of the braces: model_name="...",reason="..." */
static vlm_status make_labels(const vlm_metrics *m, label l, uint32_t index, vlm_buf *out,
                              vlm_error *err)
{
    vlm_buf_clear(out);
    if (l == NONE) return VLM_OK;
    VLM_TRY(vlm_buf_append_str(out, "model_name=\"", err));
    VLM_TRY(append_value(out, m->model, err));
    VLM_TRY(vlm_buf_append_char(out, '"', err));
    if (l == MODEL) return VLM_OK;
    return vlm_buf_printf(out, err, ",%s=\"%s\"", label_names[l], label_values[l][index]);
}

static vlm_status append_histogram(vlm_buf *out, const char *name, const char *labels,
                                   const double *buckets, size_t n, const series *s, vlm_error *err)
{
    const char *comma = labels[0] != '\0' ? "," : "";
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        total += s->buckets[i];
        VLM_TRY(vlm_buf_printf(out, err, "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, labels,
                               comma, buckets[i], total));
    }
    VLM_TRY(vlm_buf_printf(out, err, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels,
                           comma, s->count));
    VLM_TRY(vlm_buf_printf(out, err, "%s_sum{%s} %.9g\n", name, labels, s->sum));
    return vlm_buf_printf(out, err, "%s_count{%s} %" PRIu64 "\n", name, labels, s->count);
}

/* All series of a metric that one model has. */
static vlm_status append_series(const vlm_metrics *m, size_t metric, vlm_buf *labels, vlm_buf *out,
                                vlm_error *err)
{
    const info *f = &infos[metric];
    const series *values = m->values[metric];
    for (uint32_t i = 0; i < LABELS_MAX; i++) {
        if (i > 0 && (f->label <= MODEL || label_values[f->label][i] == NULL)) break;
        VLM_TRY(make_labels(m, f->label, i, labels, err));
        const char *text = labels->len > 0 ? labels->data : "";
        if (f->kind == HISTOGRAM) {
            VLM_TRY(
                append_histogram(out, f->name, text, f->buckets, f->n_buckets, &values[i], err));
            continue;
        }
        VLM_TRY(vlm_buf_append_str(out, f->name, err));
        if (text[0] != '\0') VLM_TRY(vlm_buf_printf(out, err, "{%s}", text));
        if (f->kind == COUNTER)
            VLM_TRY(vlm_buf_printf(out, err, " %" PRIu64 "\n", values[i].count));
        else
            VLM_TRY(vlm_buf_printf(out, err, " %.9g\n", values[i].sum));
    }
    return VLM_OK;
}

static vlm_status append_metric(const vlm_metrics *first, size_t metric, vlm_buf *labels,
                                vlm_buf *out, vlm_error *err)
{
    const info *f = &infos[metric];
    VLM_TRY(append_head(out, f->name, f->help, f->kind, err));
    for (const vlm_metrics *m = first; m != NULL; m = f->label == NONE ? NULL : m->next)
        VLM_TRY(append_series(m, metric, labels, out, err));
    return VLM_OK;
}

static vlm_status append_http(const vlm_metrics *m, vlm_buf *out, vlm_error *err)
{
    static const char total[] = "http_requests_total", duration[] = "http_request_duration_seconds";
    char labels[64];
    VLM_TRY(append_head(out, total, "HTTP requests, by what answered and how.", COUNTER, err));
    for (size_t h = 0; h < HANDLERS; h++)
        for (size_t k = 0; k < METHODS; k++)
            for (size_t c = 0; c < CLASSES; c++)
                if (m->http_requests[h][k][c] > 0)
                    VLM_TRY(vlm_buf_printf(
                        out, err, "%s{handler=\"%s\",method=\"%s\",status=\"%s\"} %" PRIu64 "\n",
                        total, handlers[h], methods[k], classes[c], m->http_requests[h][k][c]));
    VLM_TRY(append_head(out, duration,
                        "From the first byte of a request to the last of its answer.", HISTOGRAM,
                        err));
    for (size_t h = 0; h < HANDLERS; h++) {
        if (m->http_durations[h].count == 0) continue;
        (void)snprintf(labels, sizeof labels, "handler=\"%s\"", handlers[h]);
        VLM_TRY(append_histogram(out, duration, labels, http, sizeof http / sizeof *http,
                                 &m->http_durations[h], err));
    }
    return VLM_OK;
}

vlm_status vlm_metrics_write(const vlm_metrics *m, vlm_buf *out, vlm_error *err)
{
    vlm_buf labels;
    vlm_buf_init(&labels, 4 * MODEL_LEN_MAX);
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < VLM_N_METRICS && status == VLM_OK; i++)
        status = append_metric(m, i, &labels, out, err);
    vlm_buf_fini(&labels);
    VLM_TRY(status);
    VLM_TRY(append_http(m, out, err));
    VLM_TRY(append_head(out, "vlmd_build_info", "The version of this program.", GAUGE, err));
    return vlm_buf_append_str(out, "vlmd_build_info{version=\"" VLM_VERSION "\"} 1\n", err);
}
