/* test_metrics.c - the metrics page: what Prometheus takes, vLLM's names and buckets, and figures
 * that add up. */
#include "failmalloc.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"
#include "gateway/metrics.h"

enum { SAMPLES_MAX = 4096, FAMILIES_MAX = 64, TEXT_MAX = 1024, LABELS_MAX = 4 };

typedef struct sample {
    char name[96];
    char names[LABELS_MAX][32], values[LABELS_MAX][TEXT_MAX];
    size_t n_labels;
    double value;
} sample;

typedef struct family {
    char name[96], type[16];
    size_t n_samples;
} family;

static struct {
    sample samples[SAMPLES_MAX];
    size_t n_samples;
    family families[FAMILIES_MAX];
    size_t n_families;
} page;

static const char *const suffixes[] = {"_bucket", "_sum", "_count"};

static bool is_name_char(char c, bool first)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':') return true;
    return !first && c >= '0' && c <= '9';
}

static const char *take_name(const char *p, char *out, size_t size)
{
    size_t n = 0;
    while (is_name_char(p[n], n == 0)) {
        assert_true(n + 1 < size);
        out[n] = p[n];
        n++;
    }
    assert_true(n > 0);
    out[n] = '\0';
    return p + n;
}

/* From behind the first quote to behind the last. */
static const char *take_quoted(const char *p, char *out, size_t size)
{
    size_t n = 0;
    for (; *p != '"'; p++) {
        assert_true(*p != '\0' && *p != '\n' && n + 1 < size);
        if (*p == '\\') {
            p++;
            assert_true(*p == '\\' || *p == '"' || *p == 'n');
            out[n++] = *p == 'n' ? '\n' : *p;
        } else {
            out[n++] = *p;
        }
    }
    out[n] = '\0';
    assert_true(vlm_utf8_valid(out, n));
    return p + 1;
}

static void take_comment(const char *p)
{
    char keyword[8], name[96];
    assert_int_equal(strncmp(p, "# ", 2), 0);
    p = take_name(p + 2, keyword, sizeof keyword);
    assert_true(*p++ == ' ');
    p = take_name(p, name, sizeof name);
    assert_true(*p++ == ' ' && *p != '\0');
    family *last = page.n_families > 0 ? &page.families[page.n_families - 1] : NULL;
    if (strcmp(keyword, "HELP") == 0) {
        for (size_t i = 0; i < page.n_families; i++)
            assert_string_not_equal(page.families[i].name, name);
        assert_true(page.n_families < FAMILIES_MAX);
        last = &page.families[page.n_families++];
        *last = (family){0};
        (void)snprintf(last->name, sizeof last->name, "%s", name);
    } else {
        assert_string_equal(keyword, "TYPE");
        assert_true(last != NULL && last->type[0] == '\0');
        assert_string_equal(last->name, name);
        assert_true(strcmp(p, "counter") == 0 || strcmp(p, "gauge") == 0 ||
                    strcmp(p, "histogram") == 0);
        (void)snprintf(last->type, sizeof last->type, "%s", p);
    }
}

/* A sample belongs to the family above it. */
static void check_family(const sample *s)
{
    assert_true(page.n_families > 0);
    family *f = &page.families[page.n_families - 1];
    const size_t len = strlen(f->name);
    assert_true(f->type[0] != '\0');
    assert_int_equal(strncmp(s->name, f->name, len), 0);
    bool found = strcmp(f->type, "histogram") != 0 && s->name[len] == '\0';
    for (size_t i = 0; i < 3; i++)
        found =
            found || (strcmp(f->type, "histogram") == 0 && strcmp(s->name + len, suffixes[i]) == 0);
    assert_true(found);
    if (strcmp(f->type, "counter") == 0) assert_string_equal(s->name + len - 6, "_total");
    f->n_samples++;
}

static void take_sample(const char *p)
{
    assert_true(page.n_samples < SAMPLES_MAX);
    sample *s = &page.samples[page.n_samples];
    *s = (sample){0};
    p = take_name(p, s->name, sizeof s->name);
    if (*p == '{') {
        p++;
        while (*p != '}') {
            assert_true(s->n_labels < LABELS_MAX);
            p = take_name(p, s->names[s->n_labels], sizeof *s->names);
            assert_int_equal(strncmp(p, "=\"", 2), 0);
            p = take_quoted(p + 2, s->values[s->n_labels++], TEXT_MAX);
            if (*p == ',') p++;
        }
        p++;
    }
    assert_true(*p++ == ' ');
    char *end;
    s->value = strtod(p, &end);
    assert_true(end != p && *end == '\0');
    check_family(s);
    for (size_t i = 0; i < page.n_samples; i++)
        assert_true(memcmp(&page.samples[i], s, offsetof(sample, value)) != 0);
    page.n_samples++;
}

static const char *label_of(const sample *s, const char *name)
{
    for (size_t i = 0; i < s->n_labels; i++)
        if (strcmp(s->names[i], name) == 0) return s->values[i];
    return NULL;
}

/* Buckets grow in bound and count, end with +Inf, which _count repeats; _sum lies between. */
static void check_histograms(void)
{
    for (size_t i = 0; i < page.n_samples; i++) {
        const sample *s = &page.samples[i];
        const char *le = label_of(s, "le");
        if (le == NULL) continue;
        double bound = -HUGE_VAL, count = 0;
        for (; le != NULL; le = label_of(++s, "le")) {
            const double next = strtod(le, NULL);
            assert_true(next > bound && s->value >= count);
            bound = next;
            count = s->value;
            assert_true(s < page.samples + page.n_samples);
            i++;
        }
        assert_true(isinf(bound));
        assert_string_equal(s->name + strlen(s->name) - 4, "_sum");
        assert_string_equal(s[1].name + strlen(s[1].name) - 6, "_count");
        assert_true(s[1].value >= count && s[1].value <= count);
    }
}

static void read_page(const vlm_metrics *m)
{
    vlm_buf out;
    vlm_error err;
    vlm_buf_init(&out, 1 << 20);
    assert_int_equal(vlm_metrics_write(m, &out, &err), VLM_OK);
    assert_true(out.len > 0 && out.data[out.len - 1] == '\n');
    assert_int_equal(strlen(out.data), out.len);
    memset(&page, 0, sizeof page);
    for (char *line = out.data, *end; *line != '\0'; line = end + 1) {
        end = strchr(line, '\n');
        *end = '\0';
        if (*line == '#')
            take_comment(line);
        else
            take_sample(line);
    }
    vlm_buf_fini(&out);
    for (size_t i = 0; i < page.n_families; i++) assert_true(page.families[i].type[0] != '\0');
    check_histograms();
}

/* labels: "a=b,c=d", those that must be there.  NULL when there is no such series. */
static const sample *find(const char *name, const char *labels)
{
    for (size_t i = 0; i < page.n_samples; i++) {
        const sample *s = &page.samples[i];
        if (strcmp(s->name, name) != 0) continue;
        bool same = true;
        for (const char *p = labels; *p != '\0' && same;) {
            const size_t n = strcspn(p, "="), v = strcspn(p + n + 1, ",");
            char key[32], value[64];
            (void)snprintf(key, sizeof key, "%.*s", (int)n, p);
            (void)snprintf(value, sizeof value, "%.*s", (int)v, p + n + 1);
            same = label_of(s, key) != NULL && strcmp(label_of(s, key), value) == 0;
            p += n + 1 + v;
            p += *p == ',';
        }
        if (same) return s;
    }
    return NULL;
}

static double value(const char *name, const char *labels)
{
    const sample *s = find(name, labels);
    if (s == NULL) fail_msg("%s{%s} is not there", name, labels);
    return s->value;
}

static void check_value(const char *name, const char *labels, double expected)
{
    const double got = value(name, labels);
    if (fabs(got - expected) > 1e-9 * fabs(expected))
        fail_msg("%s{%s} is %g, not %g", name, labels, got, expected);
}

static vlm_metrics *new_metrics(const char *model)
{
    vlm_metrics *m;
    assert_int_equal(vlm_metrics_new(&m, NULL), VLM_OK);
    vlm_metrics_set_model(m, model);
    return m;
}

/* The contract: names, kinds and labels. */
static void test_names(void **state)
{
    static const struct {
        const char *name, *type, *label;
    } wanted[] = {
        {"vlmd_num_requests_running", "gauge", "model_name"},
        {"vlmd_num_requests_waiting", "gauge", "model_name"},
        {"vlmd_kv_cache_usage_perc", "gauge", "model_name"},
        {"vlmd_prefix_cache_queries_total", "counter", "model_name"},
        {"vlmd_prefix_cache_hits_total", "counter", "model_name"},
        {"vlmd_mm_cache_queries_total", "counter", "model_name"},
        {"vlmd_mm_cache_hits_total", "counter", "model_name"},
        {"vlmd_num_preemptions_total", "counter", "model_name"},
        {"vlmd_prompt_tokens_total", "counter", "model_name"},
        {"vlmd_prompt_tokens_cached_total", "counter", "model_name"},
        {"vlmd_generation_tokens_total", "counter", "model_name"},
        {"vlmd_request_success_total", "counter", "finished_reason"},
        {"vlmd_time_to_first_token_seconds", "histogram", "model_name"},
        {"vlmd_inter_token_latency_seconds", "histogram", "model_name"},
        {"vlmd_e2e_request_latency_seconds", "histogram", "model_name"},
        {"vlmd_request_queue_time_seconds", "histogram", "model_name"},
        {"vlmd_request_prefill_time_seconds", "histogram", "model_name"},
        {"vlmd_request_decode_time_seconds", "histogram", "model_name"},
        {"vlmd_request_prompt_tokens", "histogram", "model_name"},
        {"vlmd_request_generation_tokens", "histogram", "model_name"},
        {"http_requests_total", "counter", "handler"},
        {"http_request_duration_seconds", "histogram", "handler"},
        {"http_requests_in_flight", "gauge", NULL},
        {"vlmd_images_total", "counter", "format"},
        {"vlmd_image_tokens_total", "counter", "model_name"},
        {"vlmd_image_decode_seconds", "histogram", "model_name"},
        {"vlmd_image_encode_seconds", "histogram", "model_name"},
        {"vlmd_image_fetch_seconds", "histogram", "model_name"},
        {"vlmd_requests_rejected_total", "counter", "reason"},
        {"vlmd_worker_restarts_total", "counter", NULL},
        {"vlmd_build_info", "gauge", "version"},
    };
    vlm_metrics *m = new_metrics("m");
    (void)state;
    vlm_metrics_http(m, "chat_completions", "POST", 200, 0.1);
    read_page(m);
    assert_int_equal(page.n_families, sizeof wanted / sizeof *wanted);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        size_t k = 0;
        while (k < page.n_families && strcmp(page.families[k].name, wanted[i].name) != 0) k++;
        if (k == page.n_families) fail_msg("%s is not there", wanted[i].name);
        assert_string_equal(page.families[k].type, wanted[i].type);
        assert_true(page.families[k].n_samples > 0);
        char name[128];
        (void)snprintf(name, sizeof name, "%s%s", wanted[i].name,
                       strcmp(wanted[i].type, "histogram") == 0 ? "_count" : "");
        const sample *s = find(name, "");
        assert_non_null(s);
        if (wanted[i].label != NULL) assert_non_null(label_of(s, wanted[i].label));
    }
    vlm_metrics_free(m);
}

/* vllm/v1/metrics/loggers.py; a dashboard made for vLLM counts on them. */
static void test_buckets(void **state)
{
    static const struct {
        const char *name, *bounds;
    } wanted[] = {
        {"vlmd_time_to_first_token_seconds",
         "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 "
         "2560 +Inf "},
        {"vlmd_inter_token_latency_seconds",
         "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80 +Inf "},
        {"vlmd_e2e_request_latency_seconds",
         "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680 +Inf "},
        {"vlmd_request_queue_time_seconds",
         "0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680 +Inf "},
        {"vlmd_request_prompt_tokens",
         "1 2 5 10 20 50 100 200 500 1000 2000 5000 10000 20000 50000 100000 +Inf "},
    };
    vlm_metrics *m = new_metrics("m");
    (void)state;
    read_page(m);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        char bounds[512] = "", name[128];
        size_t len = 0;
        (void)snprintf(name, sizeof name, "%s_bucket", wanted[i].name);
        for (size_t k = 0; k < page.n_samples; k++) {
            if (strcmp(page.samples[k].name, name) != 0) continue;
            const double bound = strtod(label_of(&page.samples[k], "le"), NULL);
            const int n = isinf(bound) ? snprintf(bounds + len, sizeof bounds - len, "+Inf ")
                                       : snprintf(bounds + len, sizeof bounds - len, "%g ", bound);
            len += (size_t)n;
        }
        assert_string_equal(bounds, wanted[i].bounds);
    }
    vlm_metrics_free(m);
}

static void test_figures(void **state)
{
    static const char ttft[] = "vlmd_time_to_first_token_seconds";
    vlm_metrics *m = new_metrics("m");
    char name[128];
    (void)state;
    vlm_counter_add(m, VLM_METRIC_PROMPT_TOKENS, 0, 7);
    vlm_counter_add(m, VLM_METRIC_PROMPT_TOKENS, 0, ((uint64_t)1 << 53) - 7);
    vlm_counter_add(m, VLM_METRIC_REQUEST_SUCCESS, 1, 3);
    vlm_counter_set(m, VLM_METRIC_MM_CACHE_HITS, 0, 9);
    vlm_counter_set(m, VLM_METRIC_MM_CACHE_HITS, 0, 4);
    vlm_counter_add(m, VLM_METRIC_REQUESTS_REJECTED, VLM_REJECT_QUARANTINED, 1);
    vlm_gauge_set(m, VLM_METRIC_NUM_REQUESTS_RUNNING, 0, 5);
    vlm_gauge_set(m, VLM_METRIC_NUM_REQUESTS_RUNNING, 0, 2);
    vlm_gauge_set(m, VLM_METRIC_KV_CACHE_USAGE_PERC, 0, 0.25);
    /* On a bound is within it; beyond the last is in +Inf alone. */
    const double seconds[] = {0.0, 0.001, 0.0011, 0.3, 2560.0, 2561.0, 1e9};
    double sum = 0;
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        vlm_histogram_observe(m, VLM_METRIC_TIME_TO_FIRST_TOKEN, 0, seconds[i]);
        sum += seconds[i];
    }
    read_page(m);
    check_value("vlmd_prompt_tokens_total", "model_name=m", 9007199254740992.0);
    check_value("vlmd_request_success_total", "model_name=m,finished_reason=length", 3);
    check_value("vlmd_request_success_total", "model_name=m,finished_reason=stop", 0);
    check_value("vlmd_mm_cache_hits_total", "model_name=m", 4);
    check_value("vlmd_requests_rejected_total", "reason=quarantined", 1);
    check_value("vlmd_num_requests_running", "model_name=m", 2);
    check_value("vlmd_kv_cache_usage_perc", "model_name=m", 0.25);
    (void)snprintf(name, sizeof name, "%s_bucket", ttft);
    check_value(name, "le=0.001", 2);
    check_value(name, "le=0.005", 3);
    check_value(name, "le=0.25", 3);
    check_value(name, "le=0.5", 4);
    check_value(name, "le=2560", 5);
    check_value(name, "le=+Inf", 7);
    (void)snprintf(name, sizeof name, "%s_sum", ttft);
    if (fabs(value(name, "") - sum) > 1e-6 * sum) fail_msg("_sum %g", value(name, ""));
    vlm_metrics_free(m);
}

/* A clock that went wrong must not spoil a sum for good. */
static void test_odd_observations(void **state)
{
    vlm_metrics *m = new_metrics("m");
    (void)state;
    vlm_histogram_observe(m, VLM_METRIC_IMAGE_FETCH, 0, (double)NAN);
    vlm_histogram_observe(m, VLM_METRIC_IMAGE_FETCH, 0, -1);
    vlm_histogram_observe(m, VLM_METRIC_IMAGE_FETCH, 0, HUGE_VAL);
    vlm_histogram_observe(m, VLM_METRIC_IMAGE_FETCH, 0, 0.4);
    read_page(m);
    check_value("vlmd_image_fetch_seconds_count", "", 1);
    check_value("vlmd_image_fetch_seconds_sum", "", 0.4);
    vlm_metrics_free(m);
}

static void test_http(void **state)
{
    vlm_metrics *m = new_metrics("m");
    (void)state;
    vlm_metrics_http(m, "chat_completions", "POST", 200, 0.02);
    vlm_metrics_http(m, "chat_completions", "POST", 201, 0.02);
    vlm_metrics_http(m, "chat_completions", "POST", 503, 0.001);
    vlm_metrics_http(m, "chat_completions", "POST", 0, 2);
    vlm_metrics_http(m, "metrics", "GET", 200, 0.001);
    /* What clients make up opens no new series. */
    for (int i = 0; i < 1000; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "X\"\n%d", i);
        vlm_metrics_http(m, text, text, i, 0.5);
    }
    read_page(m);
    static const char total[] = "http_requests_total";
    check_value(total, "handler=chat_completions,method=POST,status=2xx", 2);
    check_value(total, "handler=chat_completions,method=POST,status=5xx", 1);
    check_value(total, "handler=metrics,method=GET,status=2xx", 1);
    check_value(total, "handler=other,method=other,status=2xx", 100);
    check_value(total, "handler=other,method=other,status=4xx", 100);
    check_value("http_request_duration_seconds_count", "handler=chat_completions", 4);
    check_value("http_request_duration_seconds_count", "handler=other", 1000);
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < page.n_samples; i++) {
        if (strcmp(page.samples[i].name, total) != 0) continue;
        sum += page.samples[i].value;
        n++;
    }
    assert_true(sum >= 1005 && sum <= 1005);
    assert_true(n <= 12);
    vlm_metrics_free(m);
}

static void test_model_names(void **state)
{
    char longest[700];
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"", ""},
        {"llava-hf/llava-1.5-7b-hf", NULL},
        {"a\"b\\c\nd", NULL},
        {"\\\\\\\"\"\"\n\n", NULL},
        {"{},=\r\t ", NULL},
        {"m\xc3\xb6"
         "del",
         NULL},
        /* What is no UTF-8 would make Prometheus refuse the whole page. */
        {"ok\xff\xfe", "ok"},
        {"\xed\xa0\x80", ""},
        {"ok\xc3", "ok"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlm_metrics *m = new_metrics(cases[i].name);
        read_page(m);
        const sample *s = find("vlmd_prompt_tokens_total", "");
        assert_non_null(s);
        const char *shown = cases[i].shown != NULL ? cases[i].shown : cases[i].name;
        assert_string_equal(label_of(s, "model_name"), shown);
        vlm_metrics_free(m);
    }
    /* Too long: cut between code points, whatever the length of what must be escaped. */
    for (size_t shift = 0; shift < 4; shift++) {
        memset(longest, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof longest; i += 3)
            memcpy(longest + i, "\xe2\x82\xac", 4);
        vlm_metrics *m = new_metrics(longest);
        read_page(m);
        const char *shown = label_of(find("vlmd_prompt_tokens_total", ""), "model_name");
        assert_true(strlen(shown) > 250 && strlen(shown) <= 255);
        assert_int_equal(strncmp(shown, longest, strlen(shown)), 0);
        vlm_metrics_free(m);
    }
    memset(longest, '"', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    vlm_metrics *m = new_metrics(longest);
    read_page(m);
    vlm_metrics_free(m);
}

/* A page that does not fit is an error, not a shorter page. */
static void test_limits(void **state)
{
    vlm_metrics *m = new_metrics("m");
    vlm_buf out;
    (void)state;
    for (size_t len_max = 0; len_max < 20000; len_max += 997) {
        vlm_error err;
        vlm_buf_init(&out, len_max);
        assert_int_equal(vlm_metrics_write(m, &out, &err), VLM_RESOURCE_EXHAUSTED);
        vlm_buf_fini(&out);
    }
    vlm_metrics_free(m);
}

static void test_no_memory(void **state)
{
    (void)state;
#if !FAILMALLOC_AVAILABLE
    skip(); /* a sanitizer has its own allocator */
#else
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_metrics *m;
        vlm_buf out;
        vlm_buf_init(&out, 1 << 20);
        vlm_status status = vlm_metrics_new(&m, NULL);
        if (status == VLM_OK) {
            vlm_metrics_set_model(m, "m");
            status = vlm_metrics_write(m, &out, NULL);
            vlm_metrics_free(m);
        }
        failmalloc_off();
        assert_true(status == VLM_OK || status == VLM_RESOURCE_EXHAUSTED);
        vlm_buf_fini(&out);
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_figures), cmocka_unit_test(test_odd_observations),
        cmocka_unit_test(test_http),    cmocka_unit_test(test_model_names),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
