/* test_steps_take_no_memory.c - from the first step to the last event of a request nothing is
 * allocated: not for pictures, choices, stop strings, logprobs or broken text, not when answers are
 * put off, not when requests are cancelled or paused. */
#include "engine/engine_case.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/noalloc.h"
#include "failmalloc.h"

enum { N_JOBS = 12, N_IMAGES = 3, N_STOPS = 3, BIAS_MAX = 8, N_CANCELLED = 5 };

/* What a job asks for. */
typedef struct kind {
    const char *text;
    uint32_t n_images, n_choices, max_tokens;
    float temperature;
    bool has_stop, has_bytes; /* has_bytes: the answer is bytes that are seldom whole characters */
    bool ends;                /* may end by itself */
    bool logprobs;
    uint32_t n_top_logprobs;
} kind;

static const kind kinds[N_JOBS] = {
    {"Say hello.", .n_choices = 1, .max_tokens = 40},
    {"What is this?", .n_images = 1, .n_choices = 1, .max_tokens = 20, .temperature = 1.0f},
    {"Compare them.", .n_images = 2, .n_choices = 2, .max_tokens = 12, .temperature = 1.0f},
    {"All three, please.", .n_images = 3, .n_choices = 8, .max_tokens = 9, .temperature = 0.7f},
    {"Count.", .n_choices = 8, .max_tokens = 40, .temperature = 1.0f},
    {"Stop.", .n_choices = 4, .max_tokens = 50, .temperature = 1.5f, .has_stop = true},
    {"\xF0\x9F\x98\x80?", .n_choices = 3, .max_tokens = 60, .temperature = 1.0f, .has_bytes = true},
    {"Bytes.", 1, 2, 40, 1.0f, .has_stop = true, .has_bytes = true, .logprobs = true},
    {"How likely?", .n_choices = 2, .max_tokens = 30, .logprobs = true, .n_top_logprobs = 20},
    {"And this?", 1, 8, 10, 1.0f, .logprobs = true, .n_top_logprobs = 5, .ends = true},
    {"Say hello.", .n_choices = 8, .max_tokens = 24, .temperature = 2.0f, .ends = true},
    {"What is this?", .n_images = 1, .n_choices = 5, .max_tokens = 31, .temperature = 1.0f},
};

static vlm_image images[N_IMAGES];
static vlm_part parts[N_JOBS][N_IMAGES + 1];
static vlm_message messages[N_JOBS];
static vlm_request requests[N_JOBS];
static const vlm_bytes stops[N_STOPS] = {
    {"e ", 2}, {"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD!", 10}, {"zzz", 3}};
static vlm_logit_bias to_bytes[BIAS_MAX];
static uint32_t n_to_bytes;

/* The tokens of the bytes of a character that no vocabulary of these models has. */
static void find_byte_tokens(vlm_engine *e)
{
    uint32_t *ids;
    size_t n;
    vlm_error err;
    assert_int_equal(
        e->ops->tokenize(e, vlm_bytes_of("\xF0\x9F\xA6\x91"), false, true, &ids, &n, &err), VLM_OK);
    n_to_bytes = 0;
    for (size_t i = 0; i < n && n_to_bytes < BIAS_MAX; i++) {
        bool is_new = true;
        for (uint32_t k = 0; k < n_to_bytes; k++) is_new = is_new && to_bytes[k].id != ids[i];
        if (is_new) to_bytes[n_to_bytes++] = (vlm_logit_bias){.id = ids[i], .bias = 40.0f};
    }
    free(ids);
    assert_true(n_to_bytes >= 3);
}

static void make_requests(void)
{
    for (uint32_t i = 0; i < N_JOBS; i++) {
        const kind *k = &kinds[i];
        for (uint32_t p = 0; p < k->n_images; p++) parts[i][p] = (vlm_part){.is_picture = true};
        parts[i][k->n_images] = (vlm_part){.text = vlm_bytes_of(k->text)};
        messages[i] = user_message(parts[i], k->n_images + 1);
        requests[i] = (vlm_request){.messages = &messages[i],
                                    .n_messages = 1,
                                    .max_tokens = k->max_tokens,
                                    .n_choices = k->n_choices,
                                    .stop = stops,
                                    .n_stop = k->has_stop ? N_STOPS : 0,
                                    .ignore_eos = !k->ends,
                                    .logprobs = k->logprobs,
                                    .n_top_logprobs = k->n_top_logprobs,
                                    .tenant = vlm_bytes_of(i % 3 == 0   ? "a"
                                                           : i % 3 == 1 ? "b"
                                                                        : ""),
                                    .sampling = vlm_sampling_default};
        vlm_sampling *s = &requests[i].sampling;
        s->temperature = k->temperature;
        s->seed = i;
        if (i % 4 == 1) s->top_k = 50;
        if (i % 4 == 2) s->top_p = 0.9f;
        if (i % 4 == 3) s->presence_penalty = 0.5f;
        if (i % 5 == 4) s->repetition_penalty = 1.2f;
        if (k->has_bytes) s->logit_bias = to_bytes;
        if (k->has_bytes) s->n_logit_bias = n_to_bytes;
    }
}

/* Allocations in guarded code. */
static unsigned n_taken;

#if FAILMALLOC_AVAILABLE
static unsigned n_before;

static void guard(void)
{
    n_before = atomic_load(&failmalloc_n_calls);
    (void)failmalloc_again(1);
}

static void unguard(void)
{
    failmalloc_off();
    n_taken += atomic_load(&failmalloc_n_calls) - n_before;
}
#else
/* The engine's own guard ends the program. */
static void guard(void)
{
}
static void unguard(void)
{
}
#endif

static void submit_all(vlm_engine *e, uint64_t ids[N_JOBS])
{
    vlm_job *jobs[N_JOBS];
    vlm_error err;
    for (uint32_t i = 0; i < N_JOBS; i++) {
        vlm_pictures *set = make_pictures(e, images, kinds[i].n_images);
        requests[i].pictures = set;
        if (e->ops->prepare(e, &requests[i], &jobs[i], &err) != VLM_OK) fail_msg("%s", err.msg);
        e->ops->pictures_free(e, set);
    }
    guard();
    for (uint32_t i = 0; i < N_JOBS; i++)
        if (e->ops->submit(e, jobs[i], &ids[i], &err) != VLM_OK) ids[i] = 0;
    unguard();
    for (uint32_t i = 0; i < N_JOBS; i++) assert_true(ids[i] > 0);
}

/* Some go before their first token, some in the middle of it; now and then one reads slowly for a
 * while. */
static void disturb(vlm_engine *e, const uint64_t ids[N_JOBS], const answers *got, uint32_t n_steps)
{
    static const struct {
        uint32_t job, n_tokens;
    } leave[N_CANCELLED] = {{1, 0}, {3, 1}, {4, 10}, {6, 5}, {11, 12}};
    guard();
    for (uint32_t i = 0; i < N_CANCELLED; i++) {
        const uint32_t job = leave[i].job;
        uint32_t n = 0;
        for (uint32_t c = 0; c < kinds[job].n_choices; c++) n += got[job].n_ids[c];
        if (n >= leave[i].n_tokens && !got[job].over) e->ops->cancel(e, ids[job]);
    }
    if (n_steps % 5 == 0) e->ops->pause(e, ids[n_steps / 5 % N_JOBS], true);
    if (n_steps % 5 == 4) e->ops->pause(e, ids[n_steps / 5 % N_JOBS], false);
    unguard();
}

static uint32_t take_events(vlm_engine *e, const uint64_t ids[N_JOBS], answers *got)
{
    vlm_event event;
    uint32_t n_over = 0;
    while (e->ops->next_event(e, &event)) {
        uint32_t i = 0;
        while (i < N_JOBS && ids[i] != event.request_id) i++;
        assert_true(i < N_JOBS);
        if (event.type == VLM_EVENT_ERROR) fail_msg("job %u: %s", i, event.error.msg);
        take_event(&got[i], &event);
        n_over += got[i].over;
    }
    return n_over;
}

typedef struct run {
    vlm_engine_options options;
    uint32_t n_kv_tokens; /* 0: as ever */
    bool disturbed;
} run;

static void run_jobs(const run *r)
{
    vlm_engine_options options = r->options;
    uint64_t ids[N_JOBS];
    answers *got = calloc(N_JOBS, sizeof *got);
    assert_non_null(got);
    options.n_ctx = 512;
    options.kv_bytes = r->n_kv_tokens == 0 ? 0 : kv_bytes_of(r->n_kv_tokens);
    vlm_engine *e = open_with(&options);
    find_byte_tokens(e);
    make_requests();
    for (uint32_t i = 0; i < N_JOBS; i++) answers_init(&got[i]);
    n_taken = 0;
    submit_all(e, ids);
    uint32_t n_over = 0, n_cancelled = 0;
    bool busy = true;
    for (uint32_t n_steps = 0; busy && n_over < N_JOBS; n_steps++) {
        guard();
        busy = e->ops->step(e);
        unguard();
        n_over += take_events(e, ids, got);
        if (r->disturbed) disturb(e, ids, got, n_steps);
        if (!busy && r->disturbed) {
            /* Nobody is paused for ever. */
            for (uint32_t i = 0; i < N_JOBS; i++) e->ops->pause(e, ids[i], false);
            busy = e->ops->step(e);
            n_over += take_events(e, ids, got);
        }
    }
    assert_int_equal(n_over, N_JOBS);
    assert_int_equal(n_taken, 0);
    for (uint32_t i = 0; i < N_JOBS; i++) n_cancelled += got[i].cancelled;
    assert_int_equal(n_cancelled, r->disturbed ? N_CANCELLED : 0);
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    assert_true(stats.kv_usage == 0.0);
    if (r->n_kv_tokens > 0 && !r->disturbed) assert_true(stats.n_preemptions > 0);
    for (uint32_t i = 0; i < N_JOBS; i++) forget(&got[i]);
    e->ops->close(e);
    free(got);
}

static void test_no_memory(void **state)
{
    static const char *const folders[] = {
        "llava-spm",
#ifndef VLM_DEBUG /* under a sanitizer one takes long enough */
        "llava-bpe",
        "llava-odd",
#endif
    };
    static const run runs[] = {
        {.options = {.n_threads = 2}},
        {.options = {.n_threads = 1, .step_us = 1}, .disturbed = true},
        {.options = {.n_threads = 1, .encoder_cache_bytes = 1}, .n_kv_tokens = 176},
        {.options = {.n_threads = 2, .kv_dtype = VLM_DTYPE_F16, .chunk_max = 7, .running_max = 6},
         .n_kv_tokens = 176,
         .disturbed = true},
        {.options = {.n_threads = 1, .no_prefix_cache = true, .running_max = 2}},
    };
    (void)state;
    for (size_t f = 0; f < sizeof folders / sizeof folders[0]; f++) {
        char path[512];
        vlm_error err;
        (void)snprintf(path, sizeof path, "%s/tests/golden/%s", VLM_SOURCE_DIR, folders[f]);
        assert_int_equal(vlm_folder_open(path, &folder, &err), VLM_OK);
        for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) run_jobs(&runs[i]);
        vlm_folder_close(folder);
    }
}

/* That the counting counts: what is done before the first step does take memory. */
static void test_counting_counts(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    n_taken = 0;
    guard();
    void *volatile ptr = malloc(1);
    void *volatile other = calloc(1, 1);
    unguard();
    free(ptr);
    free(other);
    assert_null(ptr);
    assert_true(n_taken == 2 && failmalloc_hit);
#else
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
#endif
}

#ifdef VLM_DEBUG
typedef enum deed { NOTHING, BEFORE, BETWEEN, BETWEEN_TWICE, AFTER } deed;

static void allocate(void)
{
    void *volatile ptr = malloc(100);
    free(ptr);
}

/* How a process ends that does so. */
static int status_of(deed what)
{
    int status;
    (void)fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        (void)close(STDERR_FILENO);
        if (what == BEFORE) allocate();
        vlm_noalloc_begin();
        if (what == BETWEEN_TWICE) vlm_noalloc_end();
        if (what == BETWEEN_TWICE) vlm_noalloc_begin();
        if (what == BETWEEN || what == BETWEEN_TWICE) allocate();
        vlm_noalloc_end();
        if (what == AFTER) allocate();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_guard_of_debug_builds(void **state)
{
    (void)state;
    static const deed legal[] = {NOTHING, BEFORE, AFTER}, illegal[] = {BETWEEN, BETWEEN_TWICE};
    for (size_t i = 0; i < 3; i++) assert_int_equal(status_of(legal[i]), 0);
    for (size_t i = 0; i < 2; i++) {
        const int status = status_of(illegal[i]);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}
#else
static void test_guard_of_debug_builds(void **state)
{
    (void)state;
    print_message("base/noalloc.h guards builds with a sanitizer alone\n");
    skip();
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_counting_counts),
        cmocka_unit_test(test_guard_of_debug_builds),
    };
    draw(&images[0], 20, 30);
    draw(&images[1], 64, 17);
    draw(&images[2], 5, 5);
    const int n_failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < N_IMAGES; i++) vlm_image_fini(&images[i]);
    return n_failed;
}
