/* test_caches.c - what requests find of each other: prompts, answers and pictures that were
 * computed before, exactly as many as the rules say and never another's. */
#include "engine/engine_case.h"

#include <stdio.h>
#include <unistd.h>

enum { BLOCK = 16, PARTS_MAX = 5, N_CTX = 512, N_IMAGE_TOKENS = 16, N_TOP = 20 };

/* A request with all that it points to. */
typedef struct question {
    vlm_part parts[PARTS_MAX];
    vlm_message message;
    vlm_bytes raw;
    vlm_request request;
} question;

static vlm_request *request_to(question *q, uint32_t max_tokens)
{
    q->request = (vlm_request){
        .max_tokens = max_tokens, .ignore_eos = true, .sampling = vlm_sampling_default};
    q->request.sampling.temperature = 0.0f;
    return &q->request;
}

static void ask_about(question *q, uint32_t n_pictures, const char *text, uint32_t max_tokens)
{
    vlm_request *r = request_to(q, max_tokens);
    for (uint32_t i = 0; i < n_pictures; i++) q->parts[i] = (vlm_part){.is_picture = true};
    q->parts[n_pictures] = (vlm_part){.text = vlm_bytes_of(text)};
    q->message = user_message(q->parts, n_pictures + 1);
    r->messages = &q->message;
    r->n_messages = 1;
}

static void ask_raw(question *q, const char *text, uint32_t max_tokens)
{
    q->raw = vlm_bytes_of(text);
    request_to(q, max_tokens)->raw_prompt = &q->raw;
}

static vlm_engine *open_cached(void)
{
    return open_with(&(vlm_engine_options){.n_threads = 2, .n_ctx = N_CTX});
}

static vlm_engine_stats stats_of(vlm_engine *e)
{
    vlm_engine_stats stats;
    e->ops->stats(e, &stats);
    return stats;
}

/* Pictures looked for so far, and those of them that somebody had encoded. */
static void pictures_are(vlm_engine *e, uint64_t n_queries, uint64_t n_hits)
{
    const vlm_engine_stats stats = stats_of(e);
    assert_int_equal(stats.n_image_queries, n_queries);
    assert_int_equal(stats.n_image_hits, n_hits);
    assert_true(stats.kv_usage == 0.0);
}

/* The whole blocks of a prompt of which at least one token is left to compute. */
static uint32_t n_findable(uint32_t n_prompt)
{
    return (n_prompt - 1) / BLOCK * BLOCK;
}

static const char long_text[] = "What is in this picture, how many of them are there, and what "
                                "colour has the smallest of all?";

static void test_same_request_twice(void **state)
{
    (void)state;
    vlm_image image;
    draw(&image, 30, 100);
    vlm_engine *e = open_cached();
    vlm_pictures *set = make_pictures(e, &image, 1);
    char text[512];
    /* Prompts that end anywhere in a block. */
    for (uint32_t i = 0; i < 20; i++) {
        question q;
        answers first, second;
        (void)snprintf(text, sizeof text, "%u %s%.*s", i, long_text, (int)i,
                       "!?!?!?!?!?!?!?!?!?!?");
        ask_about(&q, 1, text, 9);
        q.request.pictures = set;
        ask(e, &q.request, &first);
        const uint64_t n_hits = stats_of(e).n_prefix_hits;
        ask(e, &q.request, &second);
        same_answers(&first, &second);
        const vlm_usage *usage = &second.done[0].usage;
        assert_int_equal(usage->n_image, N_IMAGE_TOKENS);
        assert_true(usage->n_prompt > 3 * BLOCK);
        assert_int_equal(usage->n_cached, n_findable(usage->n_prompt));
        assert_true(first.done[0].usage.n_cached < usage->n_cached);
        assert_int_equal(stats_of(e).n_prefix_hits - n_hits, usage->n_cached);
        pictures_are(e, 2 * i + 2, 2 * i + 1);
        forget(&first);
        forget(&second);
    }
    e->ops->pictures_free(e, set);
    e->ops->close(e);
    vlm_image_fini(&image);
}

static void test_salts(void **state)
{
    (void)state;
    static const char *const salts[] = {"", "one", "two", "three"};
    vlm_image image;
    question q;
    answers first, got;
    draw(&image, 30, 100);
    vlm_engine *e = open_cached();
    vlm_pictures *set = make_pictures(e, &image, 1);
    ask_about(&q, 1, long_text, 12);
    q.request.pictures = set;
    for (uint32_t i = 0; i < 4; i++) {
        q.request.cache_salt = vlm_bytes_of(salts[i]);
        ask(e, &q.request, i == 0 ? &first : &got);
        pictures_are(e, i + 1, i);
        if (i == 0) continue;
        same_answers(&first, &got);
        assert_int_equal(got.done[0].usage.n_cached, 0);
        forget(&got);
    }
    q.request.cache_salt = vlm_bytes_of("one");
    ask(e, &q.request, &got);
    assert_int_equal(got.done[0].usage.n_cached, n_findable(got.done[0].usage.n_prompt));
    pictures_are(e, 5, 4);
    forget(&got);
    forget(&first);
    e->ops->pictures_free(e, set);
    e->ops->close(e);
    vlm_image_fini(&image);
}

/* Tokens that are whole words, so that an answer made of them is read as the same tokens again. */
enum { N_WORDS = 6 };

static void find_words(vlm_engine *e, vlm_logit_bias words[N_WORDS])
{
    static const char *const texts[] = {"the", "and", "of", "to", "in", "a",
                                        "is",  "for", "on", "it", "be", "with"};
    uint32_t n_words = 0;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && n_words < N_WORDS; i++) {
        uint32_t *ids;
        size_t n;
        vlm_error err;
        assert_int_equal(e->ops->tokenize(e, vlm_bytes_of(texts[i]), false, true, &ids, &n, &err),
                         VLM_OK);
        if (n == 1) words[n_words++] = (vlm_logit_bias){.id = ids[0], .bias = 90.0f};
        free(ids);
    }
    assert_int_equal(n_words, N_WORDS);
}

static uint32_t *ids_of(vlm_engine *e, const char *text, size_t *n)
{
    uint32_t *ids;
    vlm_error err;
    assert_int_equal(e->ops->tokenize(e, vlm_bytes_of(text), true, false, &ids, n, &err), VLM_OK);
    return ids;
}

/* The next prompt begins with the tokens of the one before and of its answer. */
static void continues(vlm_engine *e, const char *before, const answers *answer, const char *next)
{
    size_t n_before, n_next;
    const uint32_t n_answer = answer->n_ids[0];
    uint32_t *ids = ids_of(e, before, &n_before), *next_ids = ids_of(e, next, &n_next);
    assert_true(n_next > n_before + n_answer);
    assert_memory_equal(ids, next_ids, n_before * sizeof *ids);
    assert_memory_equal(answer->ids[0], next_ids + n_before, n_answer * sizeof *ids);
    free(ids);
    free(next_ids);
}

/* Of the next turn all is found that the one before has computed: whole blocks of its prompt and
 * its answer, but the answer's last token, which nobody has computed. */
static void test_next_turn(void **state)
{
    (void)state;
    static const char prompt[] = "USER: <image>\nWhat is in this picture? ASSISTANT:";
    vlm_image image;
    vlm_logit_bias words[N_WORDS];
    char next[1024], salt[16];
    draw(&image, 41, 33);
    vlm_engine *e = open_cached();
    vlm_pictures *set = make_pictures(e, &image, 1);
    find_words(e, words);
    for (uint32_t n_answer = 1; n_answer <= 40; n_answer++) {
        question q;
        answers first, second;
        (void)snprintf(salt, sizeof salt, "%u", n_answer);
        ask_raw(&q, prompt, n_answer);
        q.request.pictures = set;
        q.request.cache_salt = vlm_bytes_of(salt);
        q.request.sampling.temperature = 1.0f;
        q.request.sampling.seed = n_answer;
        q.request.sampling.logit_bias = words;
        q.request.sampling.n_logit_bias = N_WORDS;
        ask(e, &q.request, &first);
        (void)snprintf(next, sizeof next,
                       "%s %s USER: And what more is there to see? ASSISTANT:", prompt,
                       first.text[0].data + (first.text[0].data[0] == ' '));
        continues(e, prompt, &first, next);
        q.raw = vlm_bytes_of(next);
        ask(e, &q.request, &second);
        const uint32_t n_known = first.done[0].usage.n_prompt + n_answer - 1;
        assert_int_equal(first.done[0].usage.n_completion, n_answer);
        assert_int_equal(second.done[0].usage.n_cached, n_known / BLOCK * BLOCK);
        forget(&first);
        forget(&second);
    }
    pictures_are(e, 80, 79);
    e->ops->pictures_free(e, set);
    e->ops->close(e);
    vlm_image_fini(&image);
}

typedef struct group {
    uint64_t ids[16];
    answers got[16];
    uint32_t n, n_over;
} group;

static void group_add(vlm_engine *e, group *g, const vlm_request *request)
{
    vlm_error err;
    answers_init(&g->got[g->n]);
    if (vlm_engine_submit(e, request, &g->ids[g->n], &err) != VLM_OK) fail_msg("%s", err.msg);
    g->n++;
}

static void group_events(vlm_engine *e, group *g)
{
    vlm_event event;
    while (e->ops->next_event(e, &event)) {
        uint32_t i = 0;
        while (i < g->n && g->ids[i] != event.request_id) i++;
        assert_true(i < g->n);
        take_event(&g->got[i], &event);
        assert_false(g->got[i].failed);
        g->n_over += g->got[i].over;
    }
}

static void group_run(vlm_engine *e, group *g)
{
    while (g->n_over < g->n && e->ops->step(e)) group_events(e, g);
    assert_int_equal(g->n_over, g->n);
}

static void group_forget(group *g)
{
    for (uint32_t i = 0; i < g->n; i++) forget(&g->got[i]);
    g->n = g->n_over = 0;
}

/* Several who bring the same new picture at the same time: one of them has it encoded. */
static void test_one_picture_at_once(void **state)
{
    (void)state;
    static const vlm_engine_options options[] = {
        {.n_threads = 2, .n_ctx = N_CTX},
        {.n_threads = 1, .n_ctx = N_CTX, .step_us = 1},
        {.n_threads = 1, .n_ctx = N_CTX, .no_prefix_cache = true},
        {.n_threads = 1, .n_ctx = N_CTX, .encoder_cache_bytes = 1, .running_max = 2},
    };
    static group g;
    vlm_image image;
    draw(&image, 90, 31);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        for (uint32_t n = 2; n <= 6; n += 2) {
            static const char *const salts[] = {"", "b"};
            vlm_engine *e = open_with(&options[i]);
            question q;
            for (uint32_t k = 0; k < n; k++) {
                /* Each with pixels of its own, every other one with another salt. */
                vlm_pictures *set = make_pictures(e, &image, 1);
                ask_about(&q, 1, long_text, 10);
                q.request.pictures = set;
                q.request.cache_salt = vlm_bytes_of(salts[k / 2 % 2]);
                group_add(e, &g, &q.request);
                e->ops->pictures_free(e, set);
            }
            group_run(e, &g);
            for (uint32_t k = 1; k < n; k++) same_answers(&g.got[0], &g.got[k]);
            pictures_are(e, n, n - 1);
            group_forget(&g);
            e->ops->close(e);
        }
    vlm_image_fini(&image);
}

#ifndef VLM_DEBUG
static size_t resident_bytes(void)
{
    unsigned long n_pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %lu", &n_pages), 1);
    (void)fclose(file);
    return n_pages * (size_t)sysconf(_SC_PAGESIZE);
}
#endif

/* Pictures that nobody has sent before, five at a time, through caches that hold a few. */
static void test_many_pictures(void **state)
{
    (void)state;
#ifdef VLM_DEBUG
    enum { N = 200 }; /* a sanitizer keeps what is freed: only the answers are looked at */
#else
    enum { N = 1000, N_WARM = 300 };
    size_t before = 0;
#endif
    static group g;
    vlm_image image;
    draw(&image, 40, 40);
    vlm_engine *e = open_with(
        &(vlm_engine_options){.n_threads = 1,
                              .n_ctx = N_CTX,
                              .kv_bytes = kv_bytes_of(320),
                              .encoder_cache_bytes = (size_t)4 * N_IMAGE_TOKENS * 128 * 4});
    for (uint32_t i = 0; i < N; i++) {
        question q;
        image.rgb[0] = (uint8_t)i;
        image.rgb[1] = (uint8_t)(i >> 8);
        for (size_t k = 0; k < 20; k++) image.rgb[300 + k] = (uint8_t)(i * 13 + k);
        vlm_pictures *set = make_pictures(e, &image, 1);
        ask_about(&q, 1, "What is this?", 2);
        q.request.pictures = set;
        group_add(e, &g, &q.request);
        e->ops->pictures_free(e, set);
        if (g.n < 5) continue;
        group_run(e, &g);
        for (uint32_t k = 0; k < 5; k++) {
            assert_int_equal(g.got[k].done[0].finish, VLM_FINISH_LENGTH);
            assert_int_equal(g.got[k].done[0].usage.n_image, N_IMAGE_TOKENS);
        }
        group_forget(&g);
        pictures_are(e, i + 1, 0);
#ifndef VLM_DEBUG
        if (i + 1 == N_WARM) before = resident_bytes();
#endif
    }
#ifndef VLM_DEBUG
    const size_t after = resident_bytes();
    if (after > before + before / 100 + ((size_t)256 << 10))
        fail_msg("%zu bytes after %d pictures, %zu after %d", after, N, before, N_WARM);
#endif
    e->ops->close(e);
    vlm_image_fini(&image);
}

/* Choices hold the prompt's blocks together, and each only the rest of its own. */
static void test_choices_share_prompt(void **state)
{
    (void)state;
    enum { N_CHOICES = 8, N_ANSWER = 20 };
    vlm_image image;
    question q;
    vlm_engine_info info;
    static group g;
    char text[2048] = "";
    draw(&image, 64, 64);
    vlm_engine *e = open_cached();
    vlm_pictures *set = make_pictures(e, &image, 1);
    e->ops->info(e, &info);
    for (uint32_t i = 0; i < 3; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", long_text);
    ask_about(&q, 1, text, N_ANSWER);
    q.request.pictures = set;
    q.request.n_choices = N_CHOICES;
    q.request.sampling.temperature = 1.0f;
    group_add(e, &g, &q.request);
    double peak = 0.0;
    while (g.n_over == 0 && e->ops->step(e)) {
        const double n_held = stats_of(e).kv_usage * info.n_kv_tokens / BLOCK;
        if (n_held > peak) peak = n_held;
        group_events(e, &g);
    }
    const uint32_t n_prompt = g.got[0].done[0].usage.n_prompt;
    const uint32_t n_prompt_blocks = (n_prompt + BLOCK - 1) / BLOCK;
    const uint32_t n_answer_blocks = (N_ANSWER + BLOCK - 1) / BLOCK;
    assert_true(n_prompt > 100);
    assert_int_equal(g.got[0].n_done, N_CHOICES);
    assert_string_not_equal(g.got[0].text[0].data, g.got[0].text[1].data);
    assert_true(peak > n_prompt_blocks);
    assert_true(peak < n_prompt_blocks + N_CHOICES * (n_answer_blocks + 1) + 0.5);
    /* Without sharing it would be more: the test can fail. */
    assert_true(n_prompt_blocks > n_answer_blocks + 2);
    pictures_are(e, 1, 0);
    group_forget(&g);
    e->ops->pictures_free(e, set);
    e->ops->close(e);
    vlm_image_fini(&image);
}

static void test_no_prefix_cache(void **state)
{
    (void)state;
    vlm_image image;
    question q;
    answers got[4];
    draw(&image, 12, 50);
    vlm_engine *e =
        open_with(&(vlm_engine_options){.n_threads = 2, .n_ctx = N_CTX, .no_prefix_cache = true});
    vlm_pictures *set = make_pictures(e, &image, 1);
    ask_about(&q, 1, long_text, 20);
    q.request.pictures = set;
    q.request.n_choices = 2;
    for (uint32_t i = 0; i < 4; i++) {
        ask(e, &q.request, &got[i]);
        for (uint32_t c = 0; c < 2; c++) assert_int_equal(got[i].done[c].usage.n_cached, 0);
        same_answers(&got[0], &got[i]);
        pictures_are(e, i + 1, i);
    }
    const vlm_engine_stats stats = stats_of(e);
    assert_true(stats.n_prefix_hits == 0 && stats.n_prefix_queries > 0);
    for (uint32_t i = 0; i < 4; i++) forget(&got[i]);
    e->ops->pictures_free(e, set);
    e->ops->close(e);
    vlm_image_fini(&image);
}

/* Three pictures in each prompt where there is room for the features of one. */
static void test_room_for_one_picture(void **state)
{
    (void)state;
    enum { N = 6 };
    static const size_t bytes[] = {0, 1, 3 * N_IMAGE_TOKENS * 128 * 4};
    static group want, got;
    vlm_image images[5];
    for (uint32_t i = 0; i < 5; i++) draw(&images[i], 20 + 7 * i, 60 - 11 * i);
    for (size_t b = 0; b < sizeof bytes / sizeof bytes[0]; b++) {
        vlm_engine_info info;
        vlm_engine *e = open_with(
            &(vlm_engine_options){.n_threads = 2, .n_ctx = N_CTX, .encoder_cache_bytes = bytes[b]});
        group *g = b == 0 ? &want : &got;
        e->ops->info(e, &info);
        if (b > 0)
            assert_int_equal(info.encoder_cache_bytes,
                             (size_t)(b == 1 ? 1 : 3) * N_IMAGE_TOKENS * 128 * sizeof(float));
        for (uint32_t i = 0; i < N; i++) {
            const vlm_image three[] = {images[i % 5], images[(i + 1) % 5], images[(i * 2 + 3) % 5]};
            question q;
            vlm_pictures *set = make_pictures(e, three, 3);
            ask_about(&q, 3, "Compare them, please.", 8);
            q.request.pictures = set;
            group_add(e, g, &q.request);
            e->ops->pictures_free(e, set);
        }
        group_run(e, g);
        for (uint32_t i = 0; i < N; i++) {
            assert_int_equal(g->got[i].done[0].usage.n_image, 3 * N_IMAGE_TOKENS);
            same_answers(&want.got[i], &g->got[i]);
        }
        assert_true(stats_of(e).kv_usage == 0.0);
        if (b == 0) assert_int_equal(stats_of(e).n_image_queries - stats_of(e).n_image_hits, 5);
        if (b > 0) group_forget(g);
        e->ops->close(e);
    }
    group_forget(&want);
    for (uint32_t i = 0; i < 5; i++) vlm_image_fini(&images[i]);
}

/* Logprobs of what may come first. */
typedef struct first_token {
    uint32_t ids[N_TOP];
    float logprobs[N_TOP];
    uint32_t n_cached;
} first_token;

static first_token first_of(vlm_engine *e, const vlm_image *image, const char *text)
{
    question q;
    uint64_t id;
    vlm_error err;
    vlm_event event;
    first_token first = {.n_cached = UINT32_MAX};
    vlm_pictures *set = make_pictures(e, image, 1);
    uint32_t n_tokens = 0;
    ask_about(&q, 1, text, 1);
    q.request.pictures = set;
    q.request.logprobs = true;
    q.request.n_top_logprobs = N_TOP;
    assert_int_equal(vlm_engine_submit(e, &q.request, &id, &err), VLM_OK);
    e->ops->pictures_free(e, set);
    while (e->ops->step(e))
        while (e->ops->next_event(e, &event)) {
            if (event.type == VLM_EVENT_DONE) first.n_cached = event.usage.n_cached;
            if (event.type != VLM_EVENT_TEXT) continue;
            n_tokens++;
            assert_int_equal(event.logprob->n_top, N_TOP);
            for (uint32_t i = 0; i < N_TOP; i++) {
                first.ids[i] = event.logprob->top[i].id;
                first.logprobs[i] = event.logprob->top[i].logprob;
            }
        }
    assert_true(n_tokens == 1 && first.n_cached != UINT32_MAX);
    return first;
}

static bool same_first(const first_token *a, const first_token *b)
{
    return memcmp(a->ids, b->ids, sizeof a->ids) == 0 &&
           memcmp(a->logprobs, b->logprobs, sizeof a->logprobs) == 0;
}

/* The same bytes as another picture: wide or high, or with other bits in one place.  What one
 * engine says about all of them, one after the other, is what a fresh one says of each. */
static void test_no_false_hit(void **state)
{
    (void)state;
    enum { N = 4 };
    vlm_image images[N];
    first_token want[N];
    draw(&images[0], 30, 100);
    draw(&images[1], 100, 30);
    draw(&images[2], 30, 100);
    draw(&images[3], 60, 50);
    assert_memory_equal(images[0].rgb, images[1].rgb, (size_t)30 * 100 * 3);
    for (uint32_t i = 0; i < 600; i++) images[2].rgb[4000 + i] ^= 0x80;
    for (uint32_t i = 0; i < N; i++) {
        vlm_engine *fresh = open_cached();
        want[i] = first_of(fresh, &images[i], long_text);
        fresh->ops->close(fresh);
        for (uint32_t k = 0; k < i; k++) assert_false(same_first(&want[i], &want[k]));
    }
    vlm_engine *e = open_cached();
    for (uint32_t round = 0; round < 3; round++)
        for (uint32_t i = 0; i < N; i++) {
            const first_token got = first_of(e, &images[i], long_text);
            assert_true(same_first(&want[i], &got));
            assert_int_equal(got.n_cached > 0, round > 0);
        }
    pictures_are(e, 3 * N, 2 * N);
    e->ops->close(e);
    for (uint32_t i = 0; i < N; i++) vlm_image_fini(&images[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_request_twice), cmocka_unit_test(test_salts),
        cmocka_unit_test(test_next_turn),          cmocka_unit_test(test_one_picture_at_once),
        cmocka_unit_test(test_many_pictures),      cmocka_unit_test(test_choices_share_prompt),
        cmocka_unit_test(test_no_prefix_cache),    cmocka_unit_test(test_room_for_one_picture),
        cmocka_unit_test(test_no_false_hit),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
