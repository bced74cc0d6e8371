#include "cli/bench_runs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/bench_requests.h"
#include "cli/progress.h"

enum {
    BATCH_MAX = 16,
    VALUES_MAX = 3, /* that a round measures at once */
    PROMPT_LEN_MAX = 1 << 26,
    ANSWER_TOKENS = 16,  /* of the first turn */
    QUESTION_TOKENS = 64 /* what a short question takes at most, with its template */
};
/* A slow model is not measured again after so long. */
#define ROUNDS_SECONDS 30.0

static const uint32_t batches[] = {1, 4, BATCH_MAX};

#define TEST_NAME(id, name, unit) name,
static const char *const test_names[] = {VLM_BENCH_TEST_LIST(TEST_NAME)};
#define TEST_UNIT(id, name, unit) unit,
static const char *const test_units[] = {VLM_BENCH_TEST_LIST(TEST_UNIT)};

const char *vlm_bench_test_name(vlm_bench_test test)
{
    return test_names[test];
}

const char *vlm_bench_test_unit(vlm_bench_test test)
{
    return test_units[test];
}

/* The next part of a list with commas; false at its end. */
static bool next_part(const char **list, vlm_bytes *out)
{
    if (*list == NULL) return false;
    out->ptr = *list;
    out->len = strcspn(*list, ",");
    *list = out->ptr[out->len] == ',' ? out->ptr + out->len + 1 : NULL;
    return true;
}

static vlm_status plan_tests(const char *list, vlm_bench_plan *plan, vlm_error *err)
{
    vlm_bytes part;
    for (int i = 0; list == NULL && i < VLM_BENCH_N_TESTS; i++) plan->tests[i] = true;
    while (next_part(&list, &part)) {
        int i = 0;
        while (i < VLM_BENCH_N_TESTS && !vlm_bytes_eq_str(part, test_names[i])) i++;
        if (i == VLM_BENCH_N_TESTS)
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "--tests: there is no test '%.*s'",
                            (int)(part.len < 64 ? part.len : 64), part.ptr);
        plan->tests[i] = true;
    }
    return VLM_OK;
}

static vlm_status plan_prompts(const char *list, vlm_bench_plan *plan, vlm_error *err)
{
    enum { TOKENS_MAX = 1 << 20 };
    vlm_bytes part;
    while (next_part(&list, &part)) {
        uint32_t n = 0;
        for (size_t i = 0; i < part.len && n <= TOKENS_MAX; i++)
            n = part.ptr[i] >= '0' && part.ptr[i] <= '9' ? n * 10 + (uint32_t)(part.ptr[i] - '0')
                                                         : TOKENS_MAX + 1;
        /* Shorter ones have no room for a beginning of their own. */
        if (n < 16 || n > TOKENS_MAX || plan->n_prompts == VLM_BENCH_PROMPTS_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "--prompt-tokens must be at most %d numbers between 16 and %d, with "
                            "commas between them",
                            VLM_BENCH_PROMPTS_MAX, TOKENS_MAX);
        plan->prompt_tokens[plan->n_prompts++] = n;
    }
    return VLM_OK;
}

vlm_status vlm_bench_plan_make(const vlm_options *opt, vlm_bench_plan *plan, vlm_error *err)
{
    *plan = (vlm_bench_plan){.n_tokens = opt->tokens, .n_runs = opt->runs};
    VLM_TRY(plan_tests(opt->tests, plan, err));
    return plan_prompts(opt->prompt_tokens, plan, err);
}

typedef struct bench {
    vlm_engine *engine;
    const vlm_bench_plan *plan;
    vlm_engine_info info;
    vlm_bench_form form;
    vlm_bench_dice dice;
    uint32_t n_pictures, n_prompts; /* made so far: none is asked about twice by chance */
    vlm_bench_results *results;
    vlm_progress progress;
    uint32_t n_done, n_total; /* tests */
} bench;

static void add_result(bench *b, vlm_bench_test test, uint32_t n, uint32_t batch, double value)
{
    if (b->results->n == VLM_BENCH_RESULTS_MAX) return;
    b->results->items[b->results->n++] =
        (vlm_bench_result){.test = test, .n = n, .batch = batch, .value = value};
}

/* What is heard of requests that run together. */
typedef struct heard {
    bench *b;
    size_t n_requests;
    bool begun[BATCH_MAX];
    size_t n_begun;
    uint64_t submit_ns, first_ns, all_begun_ns, first_end_ns, last_ns;
    uint64_t n_steady; /* tokens while all were being computed */
    uint64_t n_later;  /* tokens but for each request's first */
    double image_s;
    uint32_t n_prompt;
    vlm_buf *text; /* NULL: not kept */
} heard;

static void hear_token(heard *h, const vlm_bench_said *said)
{
    if (!h->begun[said->idx]) {
        h->begun[said->idx] = true;
        if (h->n_begun++ == 0) h->first_ns = said->step_ns;
        if (h->n_begun == h->n_requests) h->all_begun_ns = said->step_ns;
        return;
    }
    h->n_later++;
    h->last_ns = said->step_ns;
    /* A step tells of many: what came of the step that began or ended the time is in or out as a
     * whole. */
    const bool begun = h->all_begun_ns != 0 && said->step_ns > h->all_begun_ns;
    const bool ended = h->first_end_ns != 0 && said->step_ns > h->first_end_ns;
    if (begun && !ended) h->n_steady++;
}

static vlm_status on_said(void *user, const vlm_bench_said *said, vlm_error *err)
{
    heard *h = user;
    const vlm_event *event = said->event;
    vlm_progress_update(&h->b->progress, h->b->n_done, h->b->n_total);
    h->submit_ns = said->submit_ns;
    switch (event->type) {
    case VLM_EVENT_STARTED: break;
    case VLM_EVENT_TEXT:
        if (event->has_token) hear_token(h, said);
        if (h->text != NULL) return vlm_buf_append(h->text, event->text.ptr, event->text.len, err);
        break;
    case VLM_EVENT_DONE:
        if (h->first_end_ns == 0) h->first_end_ns = said->step_ns;
        h->image_s = event->timings.image_s;
        h->n_prompt = event->usage.n_prompt;
        break;
    case VLM_EVENT_ERROR: return vlm_fail(err, event->error.code, "%s", event->error.msg);
    }
    return VLM_OK;
}

static vlm_status ask(bench *b, const vlm_bench_request *requests, size_t n, vlm_buf *text,
                      heard *h, vlm_error *err)
{
    *h = (heard){.b = b, .n_requests = n, .text = text};
    VLM_TRY(vlm_bench_answer(b->engine, requests, NULL, n, n, on_said, h, err));
    if (h->n_begun == n) return VLM_OK;
    return vlm_fail(err, VLM_INTERNAL, "a request was answered without a token");
}

static double first_token_s(const heard *h)
{
    return vlm_clock_seconds(h->submit_ns, h->first_ns);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof values[0], by_size);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2.0;
}

/* A round measures up to VALUES_MAX values; n [VALUES_MAX] says of what, and may be changed to what
 * it was in the end. */
typedef vlm_status round_fn(bench *b, uint32_t *n, double *values, vlm_error *err);

/* The medians of as many rounds as the plan says or time allows. */
static vlm_status rounds(bench *b, round_fn *round, uint32_t *n, double medians[VALUES_MAX],
                         vlm_error *err)
{
    double samples[VALUES_MAX][VLM_BENCH_RUNS_MAX];
    const uint64_t start = vlm_clock_ns();
    size_t n_rounds = 0;
    while (n_rounds < b->plan->n_runs && n_rounds < VLM_BENCH_RUNS_MAX) {
        double values[VALUES_MAX] = {0};
        VLM_TRY(round(b, n, values, err));
        for (size_t i = 0; i < VALUES_MAX; i++) samples[i][n_rounds] = values[i];
        n_rounds++;
        if (vlm_clock_seconds(start, vlm_clock_ns()) > ROUNDS_SECONDS) break;
    }
    for (size_t i = 0; i < VALUES_MAX; i++) medians[i] = median(samples[i], n_rounds);
    return VLM_OK;
}

/* VLM_OK for a test that the context is too short for: it is left out. */
static vlm_status left_out(vlm_bench_test test, vlm_status status, const vlm_error *err)
{
    if (status != VLM_OUT_OF_RANGE) return status;
    vlm_log(VLM_LOG_WARN, "%s is left out: %s", test_names[test], err->msg);
    return VLM_OK;
}

static vlm_status count_tokens(bench *b, const vlm_buf *text, uint32_t *n, vlm_error *err)
{
    uint32_t *ids;
    size_t n_ids;
    VLM_TRY(
        b->engine->ops->tokenize(b->engine, vlm_buf_bytes(text), true, true, &ids, &n_ids, err));
    free(ids);
    *n = (uint32_t)n_ids;
    return VLM_OK;
}

/* Add one of the pieces, if one lets text have at most n tokens and more than *n_now. */
static vlm_status add_piece(bench *b, uint32_t n, vlm_buf *text, uint32_t *n_now, bool *added,
                            vlm_error *err)
{
    static const char *const pieces[] = {" a", " .", "!", "1", " x", "\n", "?"};
    const size_t len = text->len;
    *added = false;
    for (size_t i = 0; !*added && i < sizeof pieces / sizeof pieces[0]; i++) {
        uint32_t n_after;
        VLM_TRY(vlm_buf_append_str(text, pieces[i], err));
        VLM_TRY(count_tokens(b, text, &n_after, err));
        *added = n_after > *n_now && n_after <= n;
        if (*added) *n_now = n_after;
        if (!*added) text->len = len;
    }
    return VLM_OK;
}

/* A text of n tokens that begins like no other; fewer where the tokenizer has no way to n. */
static vlm_status exact_prompt(bench *b, uint32_t n, vlm_buf *text, vlm_error *err)
{
    uint32_t n_now, n_after, n_words = n;
    bool added = true;
    vlm_buf_clear(text);
    /* An odd factor: no two numbers give the same. */
    VLM_TRY(vlm_buf_printf(text, err, "%08x", ++b->n_prompts * 2654435761u));
    VLM_TRY(count_tokens(b, text, &n_now, err));
    while (n_now < n && added) {
        const size_t len = text->len;
        if (n_words > (n - n_now) / 2) n_words = (n - n_now) / 2;
        if (n_words == 0) {
            VLM_TRY(add_piece(b, n, text, &n_now, &added, err));
            continue;
        }
        VLM_TRY(vlm_buf_append_char(text, ' ', err));
        VLM_TRY(vlm_bench_words(&b->dice, n_words, text, err));
        VLM_TRY(count_tokens(b, text, &n_after, err));
        if (n_after <= n) {
            n_now = n_after;
        } else {
            text->len = len;
            n_words /= 2;
        }
    }
    return VLM_OK;
}

static vlm_status prefill_round(bench *b, uint32_t *n, double *values, vlm_error *err)
{
    heard h;
    vlm_buf text;
    vlm_buf_init(&text, PROMPT_LEN_MAX);
    vlm_status status = exact_prompt(b, *n, &text, err);
    if (status == VLM_OK) {
        const vlm_bench_request request = {.form = VLM_BENCH_WHOLE,
                                           .prompt = vlm_buf_bytes(&text),
                                           .sampling = vlm_sampling_default,
                                           .max_tokens = 1,
                                           .ignore_eos = true};
        status = ask(b, &request, 1, NULL, &h, err);
    }
    if (status == VLM_OK) {
        *n = h.n_prompt;
        values[0] = h.n_prompt / first_token_s(&h);
    }
    vlm_buf_fini(&text);
    return status;
}

static vlm_status measure_prefill(bench *b, vlm_error *err)
{
    uint32_t before = 0;
    for (size_t i = 0; i < b->plan->n_prompts; i++) {
        double medians[VALUES_MAX];
        uint32_t n = b->plan->prompt_tokens[i];
        const uint32_t most = b->info.n_ctx - 1;
        if (n > most) vlm_log(VLM_LOG_WARN, "prefill of %u tokens: the context holds %u", n, most);
        n = n > most ? most : n;
        if (n != before) {
            VLM_TRY(rounds(b, prefill_round, &n, medians, err));
            add_result(b, VLM_BENCH_PREFILL, n, 1, medians[0]);
        }
        before = n;
        b->n_done++;
    }
    return VLM_OK;
}

/* *n requests together. */
static vlm_status decode_round(bench *b, uint32_t *n, double *values, vlm_error *err)
{
    heard h;
    vlm_bench_request requests[BATCH_MAX];
    vlm_buf texts[BATCH_MAX];
    vlm_status status = VLM_OK;
    if (b->plan->n_tokens + QUESTION_TOKENS > b->info.n_ctx)
        return vlm_fail(err, VLM_OUT_OF_RANGE, "answers of %u tokens, the context holds %u",
                        b->plan->n_tokens, b->info.n_ctx);
    for (uint32_t i = 0; i < *n; i++) {
        vlm_buf_init(&texts[i], PROMPT_LEN_MAX);
        if (status == VLM_OK) status = vlm_bench_words(&b->dice, 6, &texts[i], err);
        requests[i] = (vlm_bench_request){.form = b->form,
                                          .prompt = vlm_buf_bytes(&texts[i]),
                                          .sampling = vlm_sampling_default,
                                          .max_tokens = b->plan->n_tokens,
                                          .ignore_eos = true};
        requests[i].sampling.seed = i;
    }
    if (status == VLM_OK) status = ask(b, requests, *n, NULL, &h, err);
    for (uint32_t i = 0; i < *n; i++) vlm_buf_fini(&texts[i]);
    if (status != VLM_OK) return status;
    const double steady_s = vlm_clock_seconds(h.all_begun_ns, h.first_end_ns);
    /* An engine that has not all of them in hand at a time has no such moment. */
    const double all_s = vlm_clock_seconds(h.first_ns, h.last_ns);
    values[0] = h.n_steady > 0 ? (double)h.n_steady / steady_s : (double)h.n_later / all_s;
    return VLM_OK;
}

static vlm_status measure_decode(bench *b, vlm_error *err)
{
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        double medians[VALUES_MAX];
        uint32_t n = batches[i];
        VLM_TRY(rounds(b, decode_round, &n, medians, err));
        add_result(b, VLM_BENCH_DECODE, b->plan->n_tokens, n, medians[0]);
        b->n_done++;
    }
    return VLM_OK;
}

/* A question about a new picture. */
static vlm_bench_request question(bench *b, uint32_t max_tokens)
{
    return (vlm_bench_request){.form = b->form,
                               .prompt = vlm_bytes_of("What is in this picture?"),
                               .images = {b->n_pictures++},
                               .n_images = 1,
                               .sampling = vlm_sampling_default,
                               .max_tokens = max_tokens,
                               .ignore_eos = true};
}

static vlm_status encode_round(bench *b, uint32_t *n, double *values, vlm_error *err)
{
    enum { PICTURES = 3 };
    double seconds[PICTURES];
    (void)n;
    for (size_t i = 0; i < PICTURES; i++) {
        heard h;
        const vlm_bench_request request = question(b, 1);
        VLM_TRY(ask(b, &request, 1, NULL, &h, err));
        seconds[i] = h.image_s;
    }
    values[0] = median(seconds, PICTURES);
    return VLM_OK;
}

static vlm_status measure_encode(bench *b, vlm_error *err)
{
    double medians[VALUES_MAX];
    uint32_t n = b->info.n_image_tokens;
    VLM_TRY(rounds(b, encode_round, &n, medians, err));
    add_result(b, VLM_BENCH_ENCODE, n, 1, medians[0]);
    b->n_done++;
    return VLM_OK;
}

/* The three times to a first token; n becomes the tokens of the prompts. */
static vlm_status ttft_round(bench *b, uint32_t *n, double *values, vlm_error *err)
{
    heard h;
    vlm_buf answer;
    vlm_bench_request request = question(b, ANSWER_TOKENS);
    vlm_buf_init(&answer, PROMPT_LEN_MAX);
    vlm_status status = ask(b, &request, 1, &answer, &h, err);
    if (status == VLM_OK) {
        n[0] = h.n_prompt;
        values[0] = first_token_s(&h);
        status = ask(b, &request, 1, NULL, &h, err);
    }
    if (status == VLM_OK) {
        n[1] = h.n_prompt;
        values[1] = first_token_s(&h);
        request.answer = vlm_buf_bytes(&answer);
        request.next = vlm_bytes_of("And what colour is it?");
        status = ask(b, &request, 1, NULL, &h, err);
    }
    vlm_buf_fini(&answer);
    if (status != VLM_OK) return status;
    n[2] = h.n_prompt;
    values[2] = first_token_s(&h);
    return VLM_OK;
}

static vlm_status measure_ttft(bench *b, vlm_error *err)
{
    static const vlm_bench_test tests[VALUES_MAX] = {VLM_BENCH_TTFT_NEW, VLM_BENCH_TTFT_SAME,
                                                     VLM_BENCH_TTFT_NEXT};
    double medians[VALUES_MAX];
    uint32_t n[VALUES_MAX] = {0};
    VLM_TRY(rounds(b, ttft_round, n, medians, err));
    for (size_t i = 0; i < VALUES_MAX; i++)
        if (b->plan->tests[tests[i]]) add_result(b, tests[i], n[i], 1, medians[i]);
    b->n_done++;
    return VLM_OK;
}

/* /proc/self/statm: pages in all, resident pages, ... */
static vlm_status measure_memory(bench *b, vlm_error *err)
{
    vlm_buf text;
    const int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return vlm_fail(err, VLM_UNAVAILABLE, "/proc/self/statm cannot be opened");
    const vlm_status status = vlm_fd_read(fd, "/proc/self/statm", 4096, &text, err);
    (void)close(fd);
    if (status != VLM_OK) return status;
    char *rest = NULL;
    (void)strtoull(text.data, &rest, 10);
    const double n_pages = (double)strtoull(rest, NULL, 10);
    vlm_buf_fini(&text);
    add_result(b, VLM_BENCH_MEMORY, 0, 0, n_pages * (double)sysconf(_SC_PAGESIZE));
    return VLM_OK;
}

/* The first pass reads the weights from the disk; it is nobody's result. */
static vlm_status warm_up(bench *b, vlm_error *err)
{
    uint32_t n = 16;
    double ignored[VALUES_MAX];
    const vlm_status status = prefill_round(b, &n, ignored, err);
    return status == VLM_OUT_OF_RANGE ? VLM_OK : status;
}

/* What a server does between its start and its first request. */
static void let_settle(const bench *b)
{
    vlm_engine_stats stats;
    for (uint64_t start = vlm_clock_ns(); vlm_clock_seconds(start, vlm_clock_ns()) < 10.0;) {
        b->engine->ops->stats(b->engine, &stats);
        if (!stats.is_settling) return;
        (void)usleep(10000);
    }
}

vlm_status vlm_bench_measure(vlm_engine *engine, const vlm_bench_plan *plan, double load_s,
                             vlm_bench_results *results, vlm_error *err)
{
    static const struct {
        vlm_bench_test test, last; /* all of them at once */
        vlm_status (*measure)(bench *b, vlm_error *err);
    } measures[] = {{VLM_BENCH_PREFILL, VLM_BENCH_PREFILL, measure_prefill},
                    {VLM_BENCH_DECODE, VLM_BENCH_DECODE, measure_decode},
                    {VLM_BENCH_ENCODE, VLM_BENCH_ENCODE, measure_encode},
                    {VLM_BENCH_TTFT_NEW, VLM_BENCH_TTFT_NEXT, measure_ttft},
                    {VLM_BENCH_MEMORY, VLM_BENCH_MEMORY, measure_memory}};
    *results = (vlm_bench_results){0};
    bench b = {.engine = engine,
               .plan = plan,
               .results = results,
               .form = vlm_bench_form_of(engine),
               .n_total = (uint32_t)plan->n_prompts + sizeof batches / sizeof batches[0] + 2};
    engine->ops->info(engine, &b.info);
    vlm_progress_start(&b.progress, "measuring", VLM_PROGRESS_ITEMS, "");
    vlm_status status = warm_up(&b, err);
    let_settle(&b);
    if (plan->tests[VLM_BENCH_LOAD]) add_result(&b, VLM_BENCH_LOAD, 0, 0, load_s);
    for (size_t i = 0; status == VLM_OK && i < sizeof measures / sizeof measures[0]; i++) {
        bool wanted = false;
        for (int t = (int)measures[i].test; t <= (int)measures[i].last; t++)
            wanted |= plan->tests[t];
        if (!wanted) continue;
        status = measures[i].measure(&b, err);
        vlm_progress_clear(&b.progress);
        status = left_out(measures[i].test, status, err);
    }
    return status;
}
