#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/bench_pictures.h"
#include "cli/bench_record.h"
#include "cli/bench_requests.h"
#include "cli/bench_runs.h"
#include "cli/model_arg.h"

#include <string.h>

static bool same_picture(const vlm_image *a, const vlm_image *b)
{
    return a->width == b->width && a->height == b->height &&
           memcmp(a->rgb, b->rgb, (size_t)a->width * a->height * 3) == 0;
}

static void pictures_are_made_from_their_number(void **state)
{
    enum { N = 40 };
    (void)state;
    vlm_error err;
    vlm_image pictures[N], again;
    size_t n_sizes = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(vlm_bench_picture(i, &pictures[i], &err), VLM_OK);
        assert_in_range(pictures[i].width, VLM_BENCH_SIDE_MIN, VLM_BENCH_SIDE_MAX);
        assert_in_range(pictures[i].height, VLM_BENCH_SIDE_MIN, VLM_BENCH_SIDE_MAX);
        assert_int_equal(vlm_bench_picture(i, &again, &err), VLM_OK);
        assert_true(same_picture(&pictures[i], &again));
        vlm_image_fini(&again);
        for (uint32_t k = 0; k < i; k++) assert_false(same_picture(&pictures[i], &pictures[k]));
        n_sizes += i > 0 && pictures[i].width != pictures[i - 1].width;
    }
    assert_true(n_sizes > N / 2);
    for (uint32_t i = 0; i < N; i++) vlm_image_fini(&pictures[i]);
}

/* The middle of the fields, as a picture made small shows it. */
static void pictures_differ_after_shrinking(void **state)
{
    (void)state;
    vlm_error err;
    vlm_image a, b;
    assert_int_equal(vlm_bench_picture(1, &a, &err), VLM_OK);
    assert_int_equal(vlm_bench_picture(2, &b, &err), VLM_OK);
    unsigned n_far = 0;
    for (uint32_t y = 0; y < 6; y++) {
        for (uint32_t x = 0; x < 6; x++) {
            const uint8_t *p = a.rgb + 3 * ((2 * y + 1) * a.height / 12 * (size_t)a.width +
                                            (2 * x + 1) * a.width / 12);
            const uint8_t *q = b.rgb + 3 * ((2 * y + 1) * b.height / 12 * (size_t)b.width +
                                            (2 * x + 1) * b.width / 12);
            n_far += p[0] > q[0] + 32 || q[0] > p[0] + 32;
        }
    }
    assert_true(n_far > 18);
    vlm_image_fini(&a);
    vlm_image_fini(&b);
}

static bool same_text(vlm_bytes a, vlm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool same_request(const vlm_bench_request *a, const vlm_bench_request *b)
{
    bool same = same_text(a->prompt, b->prompt) && same_text(a->answer, b->answer) &&
                same_text(a->next, b->next) && a->n_images == b->n_images &&
                a->sampling.seed == b->sampling.seed &&
                a->sampling.temperature == b->sampling.temperature &&
                a->sampling.top_p == b->sampling.top_p && a->n_choices == b->n_choices &&
                a->max_tokens == b->max_tokens && a->n_top_logprobs == b->n_top_logprobs &&
                a->n_stops == b->n_stops && a->logprobs == b->logprobs;
    for (size_t i = 0; same && i < a->n_images; i++) same = a->images[i] == b->images[i];
    for (size_t i = 0; same && i < a->n_stops; i++) same = same_text(a->stops[i], b->stops[i]);
    return same;
}

static void requests_are_made_from_their_seed(void **state)
{
    enum { N = 100 };
    (void)state;
    vlm_error err;
    vlm_bench_set a, b, c;
    assert_int_equal(vlm_bench_set_make(&a, N, 7, VLM_BENCH_CHAT, 1024, 64, &err), VLM_OK);
    assert_int_equal(vlm_bench_set_make(&b, N, 7, VLM_BENCH_CHAT, 1024, 64, &err), VLM_OK);
    assert_int_equal(vlm_bench_set_make(&c, N, 8, VLM_BENCH_CHAT, 1024, 64, &err), VLM_OK);
    size_t n_others = 0;
    for (size_t i = 0; i < N; i++) {
        assert_true(same_request(&a.items[i], &b.items[i]));
        n_others += !same_request(&a.items[i], &c.items[i]);
    }
    assert_true(n_others > N * 9 / 10);
    vlm_bench_set_fini(&a);
    vlm_bench_set_fini(&b);
    vlm_bench_set_fini(&c);
}

/* What the check is about is in the set. */
static void requests_are_of_every_kind(void **state)
{
    enum { N = 200 };
    (void)state;
    vlm_error err;
    vlm_bench_set set;
    size_t text = 0, one = 0, two = 0, choices[9] = {0}, greedy = 0, drawn = 0, stopped = 0,
           likely = 0, turns = 0, same_picture_as_another = 0, same_beginning = 0;
    assert_int_equal(vlm_bench_set_make(&set, N, 20, VLM_BENCH_CHAT, 1024, 64, &err), VLM_OK);
    for (size_t i = 0; i < N; i++) {
        const vlm_bench_request *r = &set.items[i];
        text += r->n_images == 0;
        one += r->n_images == 1;
        two += r->n_images == 2;
        assert_in_range(r->n_choices, 1, 8);
        assert_in_range(r->max_tokens, 1, 96);
        choices[r->n_choices]++;
        greedy += r->sampling.temperature == 0.0f;
        drawn += r->sampling.temperature == 1.0f;
        stopped += r->n_stops > 0;
        likely += r->logprobs && r->n_top_logprobs == 3;
        turns += r->next.len > 0;
        for (size_t k = 0; k < i; k++) {
            const vlm_bench_request *s = &set.items[k];
            same_picture_as_another +=
                r->n_images > 0 && s->n_images > 0 && r->images[0] == s->images[0];
            same_beginning += r->prompt.len > 40 && s->prompt.len > 40 &&
                              memcmp(r->prompt.ptr, s->prompt.ptr, 40) == 0;
        }
    }
    assert_true(text > 50 && one > 20 && two > 20 && greedy > 50 && drawn > 50);
    assert_true(choices[1] > 80 && choices[2] > 10 && choices[3] > 10);
    assert_true(stopped > 20 && likely > 20 && turns > 5);
    assert_true(same_picture_as_another > 100 && same_beginning > 100);
    vlm_bench_set_fini(&set);
}

/* Counts what the requests of a set take and say. */
typedef struct counts {
    uint32_t longest;
    size_t n_done, n_failed;
} counts;

static vlm_status count(void *user, const vlm_bench_said *said, vlm_error *err)
{
    (void)err;
    counts *c = user;
    const vlm_event *event = said->event;
    if (event->usage.n_prompt > c->longest) c->longest = event->usage.n_prompt;
    c->n_failed += event->type == VLM_EVENT_ERROR;
    c->n_done += event->type == VLM_EVENT_DONE && event->last;
    return VLM_OK;
}

static vlm_status give_up(void *user, const vlm_bench_said *said, vlm_error *err)
{
    (void)user;
    (void)said;
    return vlm_fail(err, VLM_ABORTED, "enough");
}

static void an_engine_answers_them(void **state)
{
    enum { N = 60 };
    (void)state;
    vlm_error err;
    vlm_folder *folder;
    vlm_engine *engine;
    vlm_bench_set set;
    counts c = {0};
    const vlm_engine_options options = {.n_threads = 1};
    assert_int_equal(vlm_model_arg_open("demo", &folder, &err), VLM_OK);
    assert_int_equal(vlm_engine_open(folder, &options, &engine, &err), VLM_OK);
    assert_int_equal(vlm_bench_form_of(engine), VLM_BENCH_CHAT);
    /* Believed to have room without end: fitted to what there is. */
    assert_int_equal(vlm_bench_set_make(&set, N, 20, VLM_BENCH_CHAT, 1u << 20, 64, &err), VLM_OK);
    assert_int_equal(vlm_bench_set_fit(&set, engine, &err), VLM_OK);
    /* One that is dropped leaves nothing behind. */
    assert_int_equal(vlm_bench_answer(engine, set.items, NULL, N, 16, give_up, NULL, &err),
                     VLM_ABORTED);
    assert_int_equal(vlm_bench_answer(engine, set.items, NULL, N, 16, count, &c, &err), VLM_OK);
    assert_int_equal(c.n_done, N);
    assert_int_equal(c.n_failed, 0);
    assert_true(c.longest > 384);

    /* What the engine does not take is said, not lost. */
    set.items[3].sampling.top_p = 7.0f;
    set.items[5].form = VLM_BENCH_TALK;
    c = (counts){0};
    assert_int_equal(vlm_bench_answer(engine, set.items, NULL, 8, 2, count, &c, &err), VLM_OK);
    assert_int_equal(c.n_done, 7);
    assert_int_equal(c.n_failed, 1);
    vlm_bench_set_fini(&set);
    engine->ops->close(engine);
    vlm_folder_close(folder);
}

/* An answer of two choices, two tokens each; which thing is another than usual. */
typedef enum oddity {
    NOTHING,
    ID,
    TEXT,
    LOGPROB,
    TOP_ID,
    TOP,
    BYTES,
    MORE,
    FINISH,
    USAGE,
    FAILED
} oddity;

static void say(vlm_record *r, oddity odd)
{
    vlm_error err;
    vlm_record_init(r);
    for (uint32_t i = 0; i < 4; i++) {
        const bool now = i == 3; /* in choice 1, token 1 */
        const vlm_top_logprob top[2] = {{.id = 4, .logprob = -0.5f, .bytes = vlm_bytes_of("ab")},
                                        {.id = now && odd == TOP_ID ? 6 : 5,
                                         .logprob = now && odd == TOP ? -1.5000001f : -1.5f,
                                         .bytes = vlm_bytes_of(now && odd == BYTES ? "d" : "c")}};
        const vlm_token_logprob logprob = {.logprob = now && odd == LOGPROB ? -0.0f : 0.0f,
                                           .bytes = vlm_bytes_of("ab"),
                                           .top = top,
                                           .n_top = 2};
        const vlm_event event = {.type = VLM_EVENT_TEXT,
                                 .choice = i / 2,
                                 .text = vlm_bytes_of(now && odd == TEXT ? "b" : "a"),
                                 .has_token = true,
                                 .token_id = now && odd == ID ? 8 : 4,
                                 .logprob = &logprob};
        assert_int_equal(vlm_record_add(r, &event, &err), VLM_OK);
        if (now && odd == MORE) assert_int_equal(vlm_record_add(r, &event, &err), VLM_OK);
    }
    for (uint32_t i = 0; i < 2; i++) {
        const vlm_event event = {.type = VLM_EVENT_DONE,
                                 .choice = i,
                                 .finish =
                                     i == 1 && odd == FINISH ? VLM_FINISH_STOP : VLM_FINISH_LENGTH,
                                 .usage = {.n_prompt = 9, .n_completion = odd == USAGE ? 3 : 2}};
        if (odd != FAILED) assert_int_equal(vlm_record_add(r, &event, &err), VLM_OK);
    }
    const vlm_event failure = {.type = VLM_EVENT_ERROR, .error = {.code = VLM_INTERNAL}};
    if (odd == FAILED) assert_int_equal(vlm_record_add(r, &failure, &err), VLM_OK);
}

static void every_difference_is_found(void **state)
{
    (void)state;
    static const struct {
        oddity odd;
        uint32_t choice;
        size_t token;
        const char *what;
    } cases[] = {
        {ID, 1, 1, "token id"},
        {TEXT, 1, 1, "text"},
        {LOGPROB, 1, 1, "logprob"},
        {TOP_ID, 1, 1, "id of a likely token"},
        {TOP, 1, 1, "logprob of a likely token"},
        {BYTES, 1, 1, "bytes of a token"},
        {MORE, 1, 2, "number of tokens"},
        {FINISH, 1, 2, "finish reason"},
        {USAGE, 0, 2, "usage"},
        {FAILED, 0, 0, "error"},
    };
    vlm_record usual, other;
    vlm_record_difference difference;
    say(&usual, NOTHING);
    say(&other, NOTHING);
    assert_false(vlm_record_differ(&usual, &other, &difference));
    vlm_record_fini(&other);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        say(&other, cases[i].odd);
        for (int swap = 0; swap < 2; swap++) {
            assert_true(swap ? vlm_record_differ(&other, &usual, &difference)
                             : vlm_record_differ(&usual, &other, &difference));
            assert_string_equal(difference.what, cases[i].what);
            assert_int_equal(difference.choice, cases[i].choice);
            assert_int_equal(difference.token, cases[i].token);
        }
        vlm_record_fini(&other);
    }
    vlm_record_fini(&usual);
}

static void an_event_after_the_end_is_refused(void **state)
{
    (void)state;
    vlm_error err;
    vlm_record r;
    say(&r, NOTHING);
    vlm_event event = {.type = VLM_EVENT_TEXT, .choice = 1};
    assert_int_equal(vlm_record_add(&r, &event, &err), VLM_INTERNAL);
    event.choice = VLM_REQUEST_CHOICES_MAX;
    assert_int_equal(vlm_record_add(&r, &event, &err), VLM_INTERNAL);
    vlm_record_fini(&r);
}

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

/* The plan of `vlmd bench WORD`. */
static vlm_status plan_of(const char *word, vlm_bench_plan *plan, vlm_error *err)
{
    vlm_options opt;
    char copy[128] = "bench";
    char *argv[2] = {copy, copy + 6};
    strncpy(argv[1], word, sizeof copy - 7);
    VLM_TRY(vlm_options_parse(VLM_COMMAND_BENCH, word[0] != '\0' ? 2 : 1, argv, no_env, &opt, err));
    return vlm_bench_plan_make(&opt, plan, err);
}

static void plans(void **state)
{
    (void)state;
    vlm_error err;
    vlm_bench_plan plan;
    assert_int_equal(plan_of("", &plan, &err), VLM_OK);
    for (int i = 0; i < VLM_BENCH_N_TESTS; i++) assert_true(plan.tests[i]);
    assert_int_equal(plan.n_prompts, 2);
    assert_int_equal(plan.prompt_tokens[0], 128);
    assert_int_equal(plan.prompt_tokens[1], 512);
    assert_int_equal(plan.n_tokens, 32);
    assert_int_equal(plan.n_runs, 3);

    assert_int_equal(plan_of("--tests=encode,ttft_same", &plan, &err), VLM_OK);
    for (int i = 0; i < VLM_BENCH_N_TESTS; i++)
        assert_int_equal(plan.tests[i], i == VLM_BENCH_ENCODE || i == VLM_BENCH_TTFT_SAME);
    assert_int_equal(plan_of("--prompt-tokens=16", &plan, &err), VLM_OK);
    assert_int_equal(plan.n_prompts, 1);
    assert_int_equal(plan.prompt_tokens[0], 16);

    static const char *const bad[] = {
        "--tests=",
        "--tests=encode,",
        "--tests=Encode",
        "--tests=ttft",
        "--prompt-tokens=",
        "--prompt-tokens=15",
        "--prompt-tokens=-1",
        "--prompt-tokens=64,,8",
        "--prompt-tokens=4294967312",
        "--prompt-tokens=1e3",
        "--prompt-tokens=99999999999999999999999",
        "--tokens=1",
        "--runs=0",
        "--runs=101",
        "--requests=0",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(plan_of(bad[i], &plan, &err), VLM_INVALID_ARGUMENT);
        assert_memory_equal(err.msg, bad[i], strcspn(bad[i], "="));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_made_from_their_number),
        cmocka_unit_test(pictures_differ_after_shrinking),
        cmocka_unit_test(requests_are_made_from_their_seed),
        cmocka_unit_test(requests_are_of_every_kind),
        cmocka_unit_test(an_engine_answers_them),
        cmocka_unit_test(every_difference_is_found),
        cmocka_unit_test(an_event_after_the_end_is_refused),
        cmocka_unit_test(plans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
