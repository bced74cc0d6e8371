/* test_hard_cases.c - the engine of many requests under nasty conditions: little room, pauses,
 * tenants, salts, many choices, cancelled requests; every answer and every logprob is what it is
 * alone. */
#include "engine/engine_case.h"

#include "base/clock.h"
#include "engine/block_key.h"

enum { N_KINDS = 12, N_OPS = 500, LIVE_MAX = N_OPS, TOKENS_MAX = 40, IMAGES_MAX = 3 };

static vlm_image images[4];
static vlm_image kind_images[N_KINDS][IMAGES_MAX]; /* views of images */
static vlm_part parts[N_KINDS][2 * IMAGES_MAX + 1];
static vlm_message messages[N_KINDS];
static vlm_request requests[N_KINDS];
static vlm_bytes stop;

static void make_request(uint32_t i)
{
    static const char *const texts[] = {"Say hello.", "What is this?", "Count to three, please.",
                                        "\xC3\x9Cmlaut \xF0\x9F\x98\x80?"};
    static const uint32_t choices[] = {1, 8, 2, 1, 3};
    const uint32_t n_images = i % (IMAGES_MAX + 1);
    size_t n = 0;
    for (uint32_t k = 0; k < n_images; k++) {
        kind_images[i][k] = images[(i / 2 + k) % 4];
        if ((i + k) % 3 == 0) parts[i][n++] = (vlm_part){.text = vlm_bytes_of("Look: ")};
        parts[i][n++] = (vlm_part){.is_picture = true};
    }
    parts[i][n++] = (vlm_part){.text = vlm_bytes_of(texts[i % 4])};
    messages[i] = user_message(parts[i], n);
    requests[i] = (vlm_request){.messages = &messages[i],
                                .n_messages = 1,
                                .max_tokens = i % 5 == 4 ? 1 : 1 + (i * 7) % TOKENS_MAX,
                                .n_choices = choices[i % 5],
                                .ignore_eos = true,
                                .logprobs = i % 2 == 1,
                                .n_top_logprobs = i,
                                .sampling = vlm_sampling_default};
    requests[i].sampling.seed = i / 2;
    requests[i].sampling.temperature = i % 4 == 3 ? 0.0f : 1.0f;
    if (i % 3 == 1) requests[i].cache_salt = vlm_bytes_of("pepper");
    if (i % 3 == 2) requests[i].tenant = vlm_bytes_of(i % 2 == 0 ? "a" : "b");
    if (i == 6) requests[i].stop = &stop;
    if (i == 6) requests[i].n_stop = 1;
}

static vlm_engine *open_ready(const vlm_engine_options *options, vlm_pictures *sets[N_KINDS])
{
    vlm_engine *e = open_with(options);
    for (uint32_t i = 0; i < N_KINDS; i++)
        requests[i].pictures = sets[i] = make_pictures(e, kind_images[i], i % (IMAGES_MAX + 1));
    return e;
}

static void close_ready(vlm_engine *e, vlm_pictures *sets[N_KINDS])
{
    for (uint32_t i = 0; i < N_KINDS; i++) e->ops->pictures_free(e, sets[i]);
    e->ops->close(e);
}

/* What was said, token by token. */
typedef struct said {
    uint64_t hash[VLM_REQUEST_CHOICES_MAX][TOKENS_MAX + 2]; /* after each event */
    uint32_t n[VLM_REQUEST_CHOICES_MAX];
    vlm_finish finish[VLM_REQUEST_CHOICES_MAX];
    uint32_t n_prompt;
    bool started, over, cancelled;
} said;

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++) hash = (hash ^ p[i]) * 0x100000001B3u;
    return hash;
}

static void take(said *s, const vlm_event *event)
{
    const uint32_t c = event->choice;
    assert_false(s->over);
    assert_int_not_equal(event->type, VLM_EVENT_ERROR);
    if (event->type == VLM_EVENT_STARTED) {
        assert_false(s->started);
        s->started = true;
        return;
    }
    if (event->type == VLM_EVENT_DONE) {
        s->over = event->last;
        s->finish[c] = event->finish;
        s->n_prompt = event->usage.n_prompt;
        s->cancelled = event->finish == VLM_FINISH_CANCELLED;
        assert_true(event->usage.n_cached < event->usage.n_prompt);
        return;
    }
    assert_true(s->started && s->n[c] < TOKENS_MAX + 2);
    uint64_t hash = s->n[c] == 0 ? 0xCBF29CE484222325u : s->hash[c][s->n[c] - 1];
    hash = mix(hash, event->text.ptr, event->text.len);
    hash = mix(hash, &event->token_id, sizeof event->token_id);
    const vlm_token_logprob *p = event->logprob;
    if (p != NULL) {
        hash = mix(hash, &p->logprob, sizeof p->logprob);
        hash = mix(hash, p->bytes.ptr, p->bytes.len);
        for (uint32_t i = 0; i < p->n_top; i++) {
            hash = mix(hash, &p->top[i].id, sizeof p->top[i].id);
            hash = mix(hash, &p->top[i].logprob, sizeof p->top[i].logprob);
            hash = mix(hash, p->top[i].bytes.ptr, p->top[i].bytes.len);
        }
    }
    s->hash[c][s->n[c]++] = hash;
}

static void same(const said *want, const said *got)
{
    assert_true(got->over);
    for (uint32_t c = 0; c < VLM_REQUEST_CHOICES_MAX; c++) {
        if (!got->cancelled) assert_int_equal(got->n[c], want->n[c]);
        if (!got->cancelled) assert_int_equal(got->finish[c], want->finish[c]);
        assert_true(got->n[c] <= want->n[c]);
        assert_memory_equal(got->hash[c], want->hash[c], got->n[c] * sizeof got->hash[c][0]);
    }
}

typedef struct live {
    uint64_t id;
    uint32_t kind;
    bool asked_to_end, paused;
    said got;
} live;

static live lives[LIVE_MAX];
static uint32_t n_lives;

static bool take_all(vlm_engine *e)
{
    vlm_event event;
    bool any = false;
    while (e->ops->next_event(e, &event)) {
        uint32_t i = n_lives;
        while (i > 0 && lives[i - 1].id != event.request_id) i--;
        assert_true(i > 0);
        take(&lives[i - 1].got, &event);
        any = true;
    }
    return any;
}

static void send(vlm_engine *e, uint32_t kind)
{
    vlm_error err;
    live *l = &lives[n_lives];
    *l = (live){.kind = kind};
    if (vlm_engine_submit(e, &requests[kind], &l->id, &err) == VLM_OK) n_lives++;
}

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static void pause_one(vlm_engine *e, live *l, bool paused)
{
    l->paused = paused;
    e->ops->pause(e, l->id, paused);
}

static void random_op(vlm_engine *e)
{
    const uint32_t what = random_below(12);
    live *recent =
        n_lives == 0 ? NULL : &lives[n_lives - 1 - random_below(n_lives < 12 ? n_lives : 12)];
    if (what < 3) send(e, random_below(N_KINDS));
    if (what == 3 && recent != NULL) {
        recent->asked_to_end = true;
        e->ops->cancel(e, recent->id);
    }
    if (what == 4 && recent != NULL) pause_one(e, recent, true);
    if (what == 5)
        for (uint32_t i = 0; i < n_lives; i++)
            if (lives[i].paused) pause_one(e, &lives[i], false);
    for (uint32_t n = random_below(30); what > 5 && n > 0; n--) {
        (void)e->ops->step(e);
        if (random_below(4) > 0) (void)take_all(e);
    }
}

static void find_answers(said want[N_KINDS])
{
    vlm_pictures *sets[N_KINDS];
    vlm_engine *e = open_ready(
        &(vlm_engine_options){.n_threads = 1, .n_ctx = 512, .no_prefix_cache = true}, sets);
    for (uint32_t i = 0; i < N_KINDS; i++) {
        n_lives = 0;
        send(e, i);
        while (!lives[0].got.over) {
            assert_true(e->ops->step(e));
            (void)take_all(e);
        }
        want[i] = lives[0].got;
    }
    close_ready(e, sets);
}

static void random_run(uint64_t seed, const said want[N_KINDS], size_t block_bytes)
{
    vlm_pictures *sets[N_KINDS];
    uint32_t n_tokens_max = 0;
    for (uint32_t i = 0; i < N_KINDS; i++)
        if (want[i].n_prompt + requests[i].max_tokens > n_tokens_max)
            n_tokens_max = want[i].n_prompt + requests[i].max_tokens;
    random_state = seed;
    for (int i = 0; i < 10; i++) (void)random_below(2);
    static const uint32_t steps_us[] = {1, 1, 100, 0};
    vlm_engine_options o = {.n_threads = 1 + random_below(2),
                            .n_ctx = 512,
                            .waiting_max = 12,
                            .running_max = 1 + random_below(6),
                            .chunk_max = random_below(8),
                            .step_us = steps_us[random_below(4)],
                            .no_prefix_cache = random_below(4) == 0};
    if (o.running_max == 6) o.running_max = 0;
    const uint32_t n_blocks = (n_tokens_max + 15) / 16 + random_below(6);
    if (random_below(4) > 0) o.kv_bytes = n_blocks * block_bytes;
    o.encoder_cache_bytes = random_below(3) > 0 ? 1 : 0;
    if (random_below(2) == 0) o.encoder_cache_bytes = (1 + random_below(3)) * 16 * 128 * 4;
    vlm_engine *e = open_ready(&o, sets);
    n_lives = 0;
    for (uint32_t op = 0; op < N_OPS; op++) random_op(e);
    while (e->ops->step(e)) (void)take_all(e);
    /* Who is paused holds one of the places of those that run, but nothing else. */
    for (uint32_t i = 0; i < n_lives && o.running_max == 0; i++)
        if (!lives[i].paused && !lives[i].got.over)
            fail_msg("seed %u: request %u waits for others", (unsigned)seed, i);
    for (uint32_t i = 0; i < n_lives; i++)
        if (lives[i].paused) pause_one(e, &lives[i], false);
    while (e->ops->step(e)) (void)take_all(e);
    for (uint32_t i = 0; i < n_lives; i++) {
        if (!lives[i].got.over || (lives[i].got.cancelled && !lives[i].asked_to_end))
            fail_msg("seed %u: request %u did not end", (unsigned)seed, i);
        same(&want[lives[i].kind], &lives[i].got);
    }
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    assert_true(stats.n_running == 0 && stats.n_waiting == 0 && stats.kv_usage == 0.0);
    assert_true(stats.n_prefix_hits <= stats.n_prefix_queries);
    assert_true(stats.n_image_hits <= stats.n_image_queries);
    close_ready(e, sets);
}

static void test_random_conditions(void **state)
{
    (void)state;
    static said want[N_KINDS];
    const char *first = getenv("SEED_FIRST"), *n = getenv("SEED_N");
    const uint64_t begin = first == NULL ? 1 : strtoull(first, NULL, 10);
#ifdef VLM_DEBUG
    enum { COUNT = 1 };
#else
    enum { COUNT = 3 };
#endif
    const uint64_t count = n == NULL ? COUNT : strtoull(n, NULL, 10);
    const size_t block_bytes = kv_bytes_of(16);
    find_answers(want);
    for (uint64_t seed = begin; seed < begin + count; seed++) {
        if (n != NULL) fprintf(stderr, "seed %u\n", (unsigned)seed);
        random_run(seed, want, block_bytes);
    }
}

/* A run of bytes that are no UTF-8 becomes text at its end alone, three bytes for each. */
static void test_long_run_of_bytes(void **state)
{
    (void)state;
    enum { N_TOKENS = 3000 };
    uint64_t id;
    vlm_error err;
    vlm_event event;
    size_t len = 0;
    const vlm_logit_bias bias = {.id = 3 + 0x80, .bias = 100.0f};
    const vlm_bytes prompt = vlm_bytes_of("a");
    vlm_request request = {.raw_prompt = &prompt,
                           .max_tokens = N_TOKENS,
                           .ignore_eos = true,
                           .sampling = vlm_sampling_default};
    request.sampling.temperature = 0.0f;
    request.sampling.logit_bias = &bias;
    request.sampling.n_logit_bias = 1;
    vlm_engine *e = open_with(&(vlm_engine_options){.n_threads = 2, .n_ctx = 4096});
    assert_int_equal(vlm_engine_submit(e, &request, &id, &err), VLM_OK);
    for (bool over = false; !over;) {
        assert_true(e->ops->step(e));
        while (e->ops->next_event(e, &event)) {
            if (event.type == VLM_EVENT_ERROR) fail_msg("%s", event.error.msg);
            if (event.type == VLM_EVENT_TEXT) len += event.text.len;
            if (event.type == VLM_EVENT_TEXT) assert_int_equal(event.token_id, bias.id);
            over = event.type == VLM_EVENT_DONE;
        }
    }
    assert_int_equal(len, 3 * N_TOKENS);
    e->ops->close(e);
}

/* Whoever does not read must not keep the others from all there is. */
static void test_paused_gives_way(void **state)
{
    (void)state;
    vlm_pictures *sets[N_KINDS];
    static said want[N_KINDS];
    find_answers(want);
    const size_t block_bytes = kv_bytes_of(16);
    for (uint32_t n_steps = 1; n_steps < 200; n_steps += 13) {
        const uint32_t first = 2, second = 3;
        const uint32_t n_first = want[first].n_prompt + requests[first].max_tokens;
        const uint32_t n_second = want[second].n_prompt + requests[second].max_tokens;
        const uint32_t n_most = n_first > n_second ? n_first : n_second;
        vlm_engine *e =
            open_ready(&(vlm_engine_options){.n_threads = 1,
                                             .n_ctx = 512,
                                             .step_us = 1,
                                             .kv_bytes = (n_most + 15) / 16 * block_bytes},
                       sets);
        n_lives = 0;
        send(e, first);
        send(e, second);
        for (uint32_t i = 0; i < n_steps; i++) {
            (void)e->ops->step(e);
            (void)take_all(e);
        }
        e->ops->pause(e, lives[0].id, true);
        while (e->ops->step(e)) (void)take_all(e);
        assert_true(lives[1].got.over);
        e->ops->pause(e, lives[0].id, false);
        while (e->ops->step(e)) (void)take_all(e);
        same(&want[first], &lives[0].got);
        same(&want[second], &lives[1].got);
        close_ready(e, sets);
    }
}

/* No salt is taken for the text of a block: whoever could choose it would put blocks of their own
 * making in the place of others'. */
static void test_salt_is_no_block(void **state)
{
    (void)state;
    vlm_slot_key first, block, forged;
    uint32_t ids[VLM_KV_BLOCK_TOKENS];
    char text[sizeof first.bytes + sizeof ids];
    const vlm_block_pictures none = {0};
    for (uint32_t i = 0; i < VLM_KV_BLOCK_TOKENS; i++) ids[i] = 5 + i;
    vlm_block_key_first((vlm_bytes){0}, &first);
    vlm_block_key_next(&first, ids, 0, &none, &block);
    memcpy(text, first.bytes, sizeof first.bytes);
    for (uint32_t i = 0; i < VLM_KV_BLOCK_TOKENS; i++)
        for (uint32_t k = 0; k < 4; k++)
            text[sizeof first.bytes + 4 * i + k] = (char)(ids[i] >> 8 * k);
    vlm_block_key_first((vlm_bytes){.ptr = text, .len = sizeof text}, &forged);
    assert_memory_not_equal(&forged, &block, sizeof block);
}

/* What was encoded while a request waited takes nothing from the time of its prompt: that is at
 * least what passed after the step in which it began and before the step with its first token. */
static void test_prefill_time(void **state)
{
    (void)state;
    vlm_pictures *sets[N_KINDS];
    uint64_t first, second, started_ns = 0, first_ns = 0;
    vlm_error err;
    vlm_event event = {0};
    vlm_engine *e = open_ready(
        &(vlm_engine_options){
            .n_threads = 1, .n_ctx = 512, .step_us = 1, .running_max = 1, .no_prefix_cache = true},
        sets);
    vlm_request request = requests[0];
    request.max_tokens = 100; /* as many turns for the pictures of the second */
    assert_int_equal(vlm_engine_submit(e, &request, &first, &err), VLM_OK);
    request = requests[3];
    request.max_tokens = 1; /* so that it is done in the step with its first token */
    assert_int_equal(vlm_engine_submit(e, &request, &second, &err), VLM_OK);
    while (event.type != VLM_EVENT_DONE || event.request_id != second) {
        const uint64_t before_ns = vlm_clock_ns();
        assert_true(e->ops->step(e));
        const uint64_t after_ns = vlm_clock_ns();
        while (e->ops->next_event(e, &event)) {
            if (event.request_id != second) continue;
            if (event.type == VLM_EVENT_STARTED) started_ns = after_ns;
            if (event.type == VLM_EVENT_DONE) first_ns = before_ns;
        }
    }
    assert_true(started_ns != 0 && first_ns > started_ns);
    assert_true(event.timings.image_s > 0.0);
    assert_true(event.timings.prefill_s >= vlm_clock_seconds(started_ns, first_ns));
    close_ready(e, sets);
}

/* A target with pictures while others without follow each other for ever: it ends all the same. */
static void end_beside_others(vlm_engine *e, uint64_t target)
{
    enum { N_BESIDE = 2, SENT_MAX = 60 };
    uint64_t beside[N_BESIDE] = {0};
    vlm_request request = requests[0];
    vlm_error err;
    vlm_event event;
    for (uint32_t n_sent = 0;;) {
        for (uint32_t i = 0; i < N_BESIDE; i++) {
            if (beside[i] != 0) continue;
            assert_true(n_sent < SENT_MAX);
            request.sampling.seed = n_sent++;
            request.max_tokens = 20 + n_sent % 17;
            assert_int_equal(vlm_engine_submit(e, &request, &beside[i], &err), VLM_OK);
        }
        assert_true(e->ops->step(e));
        while (e->ops->next_event(e, &event)) {
            if (event.type != VLM_EVENT_DONE || !event.last) continue;
            if (event.request_id == target) return;
            for (uint32_t i = 0; i < N_BESIDE; i++)
                if (event.request_id == beside[i]) beside[i] = 0;
        }
    }
}

/* Choices that were put off at different places need different pictures, but there is room for one.
 */
static void test_pictures_beside_answers(void **state)
{
    (void)state;
    const size_t block_bytes = kv_bytes_of(16);
    for (uint32_t n_blocks = 9; n_blocks < 22; n_blocks++) {
        uint64_t id;
        vlm_error err;
        vlm_pictures *sets[N_KINDS];
        vlm_engine *e = open_ready(&(vlm_engine_options){.n_threads = 1,
                                                         .n_ctx = 512,
                                                         .chunk_max = 3,
                                                         .running_max = 3,
                                                         .no_prefix_cache = true,
                                                         .encoder_cache_bytes = 1,
                                                         .kv_bytes = n_blocks * block_bytes},
                                   sets);
        vlm_request target = requests[2];
        target.n_choices = VLM_REQUEST_CHOICES_MAX;
        target.max_tokens = 30;
        assert_int_equal(vlm_engine_submit(e, &target, &id, &err), VLM_OK);
        end_beside_others(e, id);
        close_ready(e, sets);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_salt_is_no_block),        cmocka_unit_test(test_long_run_of_bytes),
        cmocka_unit_test(test_paused_gives_way),        cmocka_unit_test(test_random_conditions),
        cmocka_unit_test(test_pictures_beside_answers), cmocka_unit_test(test_prefill_time),
    };
    if (getenv("REVIEW_TEST") != NULL) cmocka_set_test_filter(getenv("REVIEW_TEST"));
    draw(&images[0], 20, 30);
    draw(&images[1], 64, 17);
    draw(&images[2], 5, 5);
    draw(&images[3], 90, 90);
    stop = vlm_bytes_of("e");
    for (uint32_t i = 0; i < N_KINDS; i++) make_request(i);
    const int n_failed = cmocka_run_group_tests(tests, open_folder, close_folder);
    for (size_t i = 0; i < 4; i++) vlm_image_fini(&images[i]);
    return n_failed;
}
