/* test_random.c - many requests at once, sent, cancelled and stepped in random order, and prepared
 * on several threads while others are answered: each gets the answer that it would get alone. */
#include "engine/engine_case.h"

#include <pthread.h>
#include <stdatomic.h>

enum { N_KINDS = 8, N_OPS = 2500, LIVE_MAX = N_OPS };

static vlm_image images[3];
static vlm_image kind_images[N_KINDS][2]; /* views of images */
static uint32_t n_kind_images[N_KINDS];
static vlm_part parts[N_KINDS][3];
static vlm_message messages[N_KINDS];
static vlm_request requests[N_KINDS];
static vlm_bytes stop;
static vlm_logit_bias to_end[] = {{.id = 2, .bias = 9.0f}};

/* Requests that differ in all that an engine could mix up. */
static void make_requests(void)
{
    static const char *const texts[] = {"Say hello.", "What is this?", "Count to three, please.",
                                        "\xC3\x9Cmlaut \xF0\x9F\x98\x80?"};
    draw(&images[0], 20, 30);
    draw(&images[1], 64, 17);
    draw(&images[2], 5, 5);
    stop = vlm_bytes_of("e");
    for (uint32_t i = 0; i < N_KINDS; i++) {
        const uint32_t n_images = n_kind_images[i] = i % 3;
        for (uint32_t k = 0; k < n_images; k++) {
            kind_images[i][k] = images[(i + k) % 3];
            parts[i][k] = (vlm_part){.is_picture = true};
        }
        parts[i][n_images] = (vlm_part){.text = vlm_bytes_of(texts[i % 4])};
        messages[i] = user_message(parts[i], n_images + 1);
        requests[i] = (vlm_request){.messages = &messages[i],
                                    .n_messages = 1,
                                    .max_tokens = 1 + i * 3,
                                    .n_choices = 1 + i % 3,
                                    .ignore_eos = i % 2 == 0,
                                    .logprobs = i % 2 == 1,
                                    .n_top_logprobs = i,
                                    .sampling = vlm_sampling_default};
        requests[i].sampling.seed = i / 2;
        requests[i].sampling.temperature = i == 3 ? 0.0f : 1.0f;
        requests[i].sampling.presence_penalty = i == 4 ? 1.5f : 0.0f;
        if (i == 5) requests[i].sampling.logit_bias = to_end;
        if (i == 5) requests[i].sampling.n_logit_bias = 1;
        if (i == 6) requests[i].stop = &stop;
        if (i == 6) requests[i].n_stop = 1;
    }
}

/* An engine for which the requests' pictures have been made ready. */
static vlm_engine *open_ready(const vlm_engine_options *options, vlm_pictures *sets[N_KINDS])
{
    vlm_engine *e = open_with(options);
    for (uint32_t i = 0; i < N_KINDS; i++)
        requests[i].pictures = sets[i] = make_pictures(e, kind_images[i], n_kind_images[i]);
    return e;
}

static void close_ready(vlm_engine *e, vlm_pictures *sets[N_KINDS])
{
    for (uint32_t i = 0; i < N_KINDS; i++) e->ops->pictures_free(e, sets[i]);
    e->ops->close(e);
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

typedef struct live {
    uint64_t id;
    uint32_t kind;
    bool asked_to_end;
    answers got;
} live;

typedef struct table {
    live *rows[LIVE_MAX];
    uint32_t n, n_over, n_cancelled;
} table;

static void take_all(vlm_engine *e, table *t)
{
    vlm_event event;
    while (e->ops->next_event(e, &event)) {
        uint32_t i = 0;
        while (i < t->n && t->rows[i]->id != event.request_id) i++;
        assert_true(i < t->n);
        take_event(&t->rows[i]->got, &event);
    }
}

static void send(vlm_engine *e, table *t)
{
    vlm_error err;
    vlm_job *job;
    live *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->kind = random_below(N_KINDS);
    answers_init(&l->got);
    assert_int_equal(e->ops->prepare(e, &requests[l->kind], &job, &err), VLM_OK);
    const vlm_status status = e->ops->submit(e, job, &l->id, &err);
    if (status == VLM_OK) {
        t->rows[t->n++] = l;
        return;
    }
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(stats.n_waiting, 20);
    e->ops->job_free(e, job);
    forget(&l->got);
    free(l);
}

static void end_all(vlm_engine *e, table *t, const answers *want)
{
    while (e->ops->step(e)) take_all(e, t);
    for (uint32_t i = 0; i < t->n; i++) {
        live *l = t->rows[i];
        assert_true(l->got.over && !l->got.failed);
        assert_true(!l->got.cancelled || l->asked_to_end);
        same_answers(&want[l->kind], &l->got);
        t->n_over += !l->got.cancelled;
        t->n_cancelled += l->got.cancelled;
        forget(&l->got);
        free(l);
    }
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    assert_true(stats.n_running == 0 && stats.n_waiting == 0 && stats.kv_usage == 0.0);
}

static void random_run(uint64_t seed, const vlm_engine_options *options)
{
    answers want[N_KINDS];
    table t = {0};
    vlm_pictures *sets[N_KINDS];
    const vlm_engine_options alone = {.n_threads = 1, .n_ctx = 512, .no_prefix_cache = true};
    vlm_engine *e = open_ready(&alone, sets);
    for (uint32_t i = 0; i < N_KINDS; i++) ask(e, &requests[i], &want[i]);
    close_ready(e, sets);
    e = open_ready(options, sets);
    random_state = seed;
    for (uint32_t op = 0; op < N_OPS; op++) {
        const uint32_t what = random_below(10);
        if (what < 4) send(e, &t);
        if (what >= 4 && what < 6 && t.n > 0) {
            /* One of the last, which are seldom over. */
            live *l = t.rows[t.n - 1 - random_below(t.n < 15 ? t.n : 15)];
            l->asked_to_end = true;
            e->ops->cancel(e, l->id);
        }
        for (uint32_t i = random_below(options->step_us == 1 ? 40 : 4); what >= 6 && i > 0; i--) {
            (void)e->ops->step(e);
            if (random_below(4) > 0) take_all(e, &t);
        }
    }
    end_all(e, &t, want);
    assert_true(t.n_over > 10 && t.n_cancelled > 10);
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    if (options->kv_bytes > 0) assert_true(stats.n_preemptions > 20);
    for (uint32_t i = 0; i < N_KINDS; i++) forget(&want[i]);
    close_ready(e, sets);
}

/* 10,000 operations in all: with room for everybody, with steps as short as they can be, with so
 * little room that answers are put off again and again, with one request at a time. */
static void test_random_order(void **state)
{
    (void)state;
    const vlm_engine_options runs[] = {
        {.n_threads = 2, .n_ctx = 512, .waiting_max = 20},
        {.n_threads = 1, .n_ctx = 512, .waiting_max = 20, .running_max = 5, .step_us = 1},
        {.n_threads = 1,
         .n_ctx = 512,
         .waiting_max = 20,
         .chunk_max = 7,
         .kv_bytes = kv_bytes_of(160),
         .encoder_cache_bytes = 1},
        {.n_threads = 1, .n_ctx = 512, .waiting_max = 20, .running_max = 1, .step_us = 200},
    };
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) random_run(i + 1, &runs[i]);
}

/* Closed with requests waiting, dropped, running and with events unread. */
static void test_close_in_the_middle(void **state)
{
    (void)state;
    for (int n_steps = 0; n_steps < 60; n_steps += 7) {
        uint64_t id;
        vlm_error err;
        vlm_job *job;
        vlm_pictures *sets[N_KINDS];
        vlm_engine *e =
            open_ready(&(vlm_engine_options){.n_threads = 1, .n_ctx = 512, .step_us = 1}, sets);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(vlm_engine_submit(e, &requests[i], &id, &err), VLM_OK);
        e->ops->cancel(e, id);
        assert_int_equal(e->ops->prepare(e, &requests[2], &job, &err), VLM_OK);
        for (int i = 0; i < n_steps; i++) (void)e->ops->step(e);
        e->ops->job_free(e, job);
        e->ops->job_free(e, NULL);
        close_ready(e, sets);
    }
}

/* Jobs on their way from the threads that prepare to the one that steps. */
enum { N_PREPARERS = 3, N_EACH = 24 };

typedef struct handover {
    vlm_engine *e;
    pthread_mutex_t lock;
    vlm_job *jobs[N_PREPARERS * N_EACH];
    uint32_t kinds[N_PREPARERS * N_EACH];
    uint32_t n;
    atomic_uint n_failed, next_thread;
} handover;

static void *prepare_many(void *user)
{
    handover *h = user;
    const uint32_t me = atomic_fetch_add(&h->next_thread, 1);
    for (uint32_t i = 0; i < N_EACH; i++) {
        const uint32_t kind = (me + i) % N_KINDS;
        vlm_error err;
        vlm_job *job = NULL, *spare = NULL;
        uint32_t *ids = NULL;
        size_t n = 0;
        vlm_buf text;
        vlm_engine_info info;
        vlm_buf_init(&text, 4096);
        /* One request with pictures of its own, one with those that all threads share. */
        vlm_request request = requests[kind];
        vlm_pictures *set = NULL;
        bool ok =
            vlm_engine_pictures(h->e, kind_images[kind], n_kind_images[kind], &set, &err) == VLM_OK;
        request.pictures = set;
        ok = ok && h->e->ops->prepare(h->e, &request, &job, &err) == VLM_OK;
        h->e->ops->pictures_free(h->e, set);
        ok = ok && h->e->ops->prepare(h->e, &requests[2], &spare, &err) == VLM_OK;
        ok = ok && h->e->ops->tokenize(h->e, vlm_bytes_of("Hello world"), true, false, &ids, &n,
                                       &err) == VLM_OK;
        ok = ok && h->e->ops->detokenize(h->e, ids, n, false, &text, &err) == VLM_OK;
        ok = ok && strcmp(text.data, "Hello world") == 0;
        h->e->ops->info(h->e, &info);
        if (!ok || info.n_ctx != 512) atomic_fetch_add(&h->n_failed, 1);
        h->e->ops->job_free(h->e, spare);
        vlm_buf_fini(&text);
        free(ids);
        (void)pthread_mutex_lock(&h->lock);
        h->kinds[h->n] = kind;
        h->jobs[h->n++] = job;
        (void)pthread_mutex_unlock(&h->lock);
    }
    return NULL;
}

static void test_prepare_on_threads(void **state)
{
    (void)state;
    answers want[N_KINDS];
    table t = {0};
    pthread_t threads[N_PREPARERS];
    vlm_pictures *sets[N_KINDS];
    vlm_engine *e = open_ready(&(vlm_engine_options){.n_threads = 2, .n_ctx = 512}, sets);
    for (uint32_t i = 0; i < N_KINDS; i++) ask(e, &requests[i], &want[i]);
    handover h = {.e = e, .lock = PTHREAD_MUTEX_INITIALIZER};
    for (size_t i = 0; i < N_PREPARERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, prepare_many, &h), 0);
    while (t.n < N_PREPARERS * N_EACH) {
        (void)pthread_mutex_lock(&h.lock);
        for (; t.n < h.n; t.n++) {
            vlm_error err;
            live *l = t.rows[t.n] = calloc(1, sizeof *l);
            assert_non_null(l);
            l->kind = h.kinds[t.n];
            answers_init(&l->got);
            assert_int_equal(e->ops->submit(e, h.jobs[t.n], &l->id, &err), VLM_OK);
        }
        (void)pthread_mutex_unlock(&h.lock);
        (void)e->ops->step(e);
        take_all(e, &t);
    }
    for (size_t i = 0; i < N_PREPARERS; i++) (void)pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&h.n_failed), 0);
    end_all(e, &t, want);
    assert_int_equal(t.n_over, N_PREPARERS * N_EACH);
    for (uint32_t i = 0; i < N_KINDS; i++) forget(&want[i]);
    close_ready(e, sets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_order),
        cmocka_unit_test(test_close_in_the_middle),
        cmocka_unit_test(test_prepare_on_threads),
    };
    make_requests();
    const int n_failed = cmocka_run_group_tests(tests, open_folder, close_folder);
    for (size_t i = 0; i < 3; i++) vlm_image_fini(&images[i]);
    return n_failed;
}
