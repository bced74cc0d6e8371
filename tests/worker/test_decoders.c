/* Decoder processes: the same pixels and texts as in this process, many threads, pictures that
 * misbehave, cancelling.  Processes that end are test_decoder_processes.c. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/decoder_faults.h"
#include "worker/decoders.h"
#include "worker/decoders_help.h"
#include "worker/sandbox.h"

enum { TIMEOUT_MS = 1500, N_CHILDREN = 2 };

static vlm_decoders *d;
static const char *const names[] = {"photo.jpg", "rgb_key.png", "lossy.webp",
                                    "part_transparent.gif", "b24_topdown.bmp"};
enum { N_NAMES = sizeof names / sizeof *names };
static vlm_buf pictures[N_NAMES];
static vlm_image expected[N_NAMES];

static const vlm_image_limits limits = {
    .bytes_max = 8 << 20, .pixels_max = 1 << 23, .side_max = 4096, .jpeg_scans_max = 50};

static vlm_status run(const void *data, size_t len, vlm_image *out, vlm_error *err)
{
    vlm_image_format format;
    return vlm_decoders_run(d, data, len, NULL, out, &format, err);
}

static vlm_status run_fault(const char *word, vlm_image *out, vlm_error *err)
{
    char file[64];
    const int len = snprintf(file, sizeof file, "%s%s", VLM_DECODER_FAULT_MARK, word);
    return run(file, (size_t)len, out, err);
}

/* cmocka's asserts may not be used outside the main thread. */
static bool same_image(const vlm_image *a, const vlm_image *b)
{
    return a->width == b->width && a->height == b->height && a->has_key == b->has_key &&
           memcmp(a->key, b->key, sizeof a->key) == 0 &&
           memcmp(a->rgb, b->rgb, (size_t)a->width * a->height * 3) == 0;
}

static bool decodes_well(size_t idx)
{
    vlm_image image;
    vlm_image_format format;
    vlm_error error;
    const vlm_status status =
        vlm_decoders_run(d, pictures[idx].data, pictures[idx].len, NULL, &image, &format, &error);
    if (status != VLM_OK) {
        (void)fprintf(stderr, "%s: %s\n", names[idx], error.msg);
        return false;
    }
    const bool same = same_image(&image, &expected[idx]) && format == (vlm_image_format)idx;
    vlm_image_fini(&image);
    return same;
}

static void compare(const char *name, const void *data, size_t len)
{
    vlm_image here = {0}, there = {0};
    vlm_error here_error = {0}, there_error = {0};
    const vlm_status want = vlm_image_decode(data, len, &limits, &here, &here_error);
    const vlm_status got = run(data, len, &there, &there_error);
    if (got != want) fail_msg("%s: %d instead of %d, %s", name, got, want, there_error.msg);
    if (want == VLM_OK) {
        if (!same_image(&here, &there)) fail_msg("%s: another picture", name);
    } else {
        assert_string_equal(there_error.msg, here_error.msg);
        assert_int_equal(there_error.pos, here_error.pos);
        assert_null(there.rgb);
    }
    vlm_image_fini(&here);
    vlm_image_fini(&there);
}

static void test_same_as_in_place(void **state)
{
    (void)state;
    vlm_buf bytes;
    char name[NAME_CAP];
    int n = 0;
    DIR *dir = opendir(VLM_TEST_DATA "/image");
    assert_non_null(dir);
    while (next_picture(dir, &bytes, name)) {
        compare(name, bytes.data, bytes.len);
        compare(name, bytes.data, bytes.len / 2);
        compare(name, bytes.data, bytes.len - 1);
        for (size_t off = 3; off < bytes.len; off += bytes.len / 8 + 1) {
            bytes.data[off] = (char)~bytes.data[off];
            compare(name, bytes.data, bytes.len);
            bytes.data[off] = (char)~bytes.data[off];
        }
        vlm_buf_fini(&bytes);
        n++;
    }
    (void)closedir(dir);
    assert_true(n > 40);
}

static void test_refused_files(void **state)
{
    (void)state;
    size_t len = 0;
    compare("empty", "", 0);
    compare("text", "hello", 5);
    uint8_t *const wide = make_bmp(4100, 1, &len);
    compare("wide", wide, len);
    free(wide);
    uint8_t *const large = calloc(1, limits.bytes_max + 1);
    compare("large", large, limits.bytes_max + 1);
    free(large);
}

static void test_formats_are_counted(void **state)
{
    (void)state;
    vlm_decoders_stats before, after;
    vlm_image image;
    vlm_decoders_get_stats(d, &before);
    for (size_t i = 0; i < N_NAMES; i++) assert_true(decodes_well(i));
    assert_int_equal(run("hello", 5, &image, NULL), VLM_INVALID_ARGUMENT);
    assert_int_equal(run(pictures[0].data, 100, &image, NULL), VLM_INVALID_ARGUMENT);
    vlm_decoders_get_stats(d, &after);
    for (size_t i = 0; i < N_NAMES; i++)
        assert_int_equal(after.n_decoded[i], before.n_decoded[i] + 1);
    assert_int_equal(after.n_failed, before.n_failed + 2);
    assert_int_equal(after.n_restarts, before.n_restarts);
}

/* A large picture leaves no memory behind, and not its pixels in the next one. */
static void test_large_then_small(void **state)
{
    (void)state;
    enum { KEPT_MAX = N_CHILDREN * (24 << 20) };
    size_t len = 0;
    uint64_t memory = 0;
    uint8_t *const file = make_bmp(4096, 1800, &len);
    for (int i = 0; i < 3; i++) {
        compare("large", file, len);
        for (size_t k = 0; k < N_NAMES; k++) assert_true(decodes_well(k));
    }
    free(file);
    (void)count_fds(&memory);
    assert_true(memory > 0 && memory <= KEPT_MAX);
}

static atomic_bool neighbour_stop, neighbour_failed;
static atomic_int neighbour_count;

static void *be_neighbour(void *user)
{
    (void)user;
    for (size_t i = 0; !atomic_load(&neighbour_stop); i = (i + 1) % N_NAMES) {
        if (!decodes_well(i)) atomic_store(&neighbour_failed, true);
        atomic_fetch_add(&neighbour_count, 1);
    }
    return NULL;
}

/* Each costs its own picture and one child, while another thread's pictures come out right. */
static void test_misdeeds(void **state)
{
    (void)state;
    static const struct {
        const char *word, *text;
        bool strict_only; /* a sanitizer's sandbox lets it through */
    } table[] = {
        {"crash", "crashed", false},        {"hang", "takes longer than 1500 ms", false},
        {"end", "crashed", false},          {"open", "crashed", false},
        {"socket", "crashed", false},       {"exec", "crashed", false},
        {"kill", "crashed", false},         {"fork", "crashed", false},
        {"ptrace", "crashed", false},       {"map-code", "crashed", true},
        {"make-code", "crashed", true},     {"lie-magic", "went wrong", false},
        {"lie-seq", "went wrong", false},   {"lie-status", "went wrong", false},
        {"lie-width", "went wrong", false}, {"lie-pixels", "went wrong", false},
        {"lie-empty", "went wrong", false}, {"lie-key", "went wrong", false},
        {"lie-text", "went wrong", false},  {"lie-control", "went wrong", false},
        {"say-less", "went wrong", false},  {"say-more", "went wrong", false},
    };
    pthread_t neighbour;
    assert_int_equal(pthread_create(&neighbour, NULL, be_neighbour, NULL), 0);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        vlm_decoders_stats before, after;
        vlm_image image;
        vlm_error error = {0};
        if (table[i].strict_only && !vlm_sandbox_is_strict()) continue;
        vlm_decoders_get_stats(d, &before);
        const vlm_status status = run_fault(table[i].word, &image, &error);
        if (status != VLM_INVALID_ARGUMENT || strstr(error.msg, table[i].text) == NULL)
            fail_msg("%s: status %d, %s", table[i].word, status, error.msg);
        assert_null(image.rgb);
        vlm_decoders_get_stats(d, &after);
        assert_int_equal(after.n_restarts, before.n_restarts + 1);
        assert_int_equal(after.n_failed, before.n_failed + 1);
    }
    atomic_store(&neighbour_stop, true);
    (void)pthread_join(neighbour, NULL);
    assert_false(atomic_load(&neighbour_failed));
    assert_true(atomic_load(&neighbour_count) > 10);
}

/* The child survives its limit, as a library does that checks its malloc. */
static void test_memory_bomb(void **state)
{
    (void)state;
    vlm_image image;
    vlm_error error = {0};
    if (!vlm_sandbox_is_strict()) {
        print_message("no memory limit under a sanitizer\n");
        skip();
    }
    assert_int_equal(run_fault("memory", &image, &error), VLM_INVALID_ARGUMENT);
    assert_non_null(strstr(error.msg, "too much memory"));
    for (size_t i = 0; i < N_NAMES; i++) assert_true(decodes_well(i));
}

static void sleep_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

/* What a child says out of turn is not taken for the answer to the next picture. */
static void test_talkative_child(void **state)
{
    (void)state;
    vlm_image image;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(run_fault("say-twice", &image, NULL), VLM_OK);
        assert_int_equal(image.width, 1);
        vlm_image_fini(&image);
        /* Who says it later has the next picture in hand and may lie about it anyhow. */
        sleep_ms(50);
        for (size_t k = 0; k < N_NAMES; k++) assert_true(decodes_well(k));
    }
    /* Pixels that were never written are some bytes, and no fault. */
    assert_int_equal(run_fault("say-unwritten", &image, NULL), VLM_OK);
    assert_int_equal(image.width, 4096);
    vlm_image_fini(&image);
}

/* More crashes than are replaced at once: slower, but every picture has its child. */
static void test_many_crashes(void **state)
{
    (void)state;
    for (int i = 0; i < 150; i++) {
        vlm_image image;
        vlm_error error = {0};
        assert_int_equal(run_fault("crash", &image, &error), VLM_INVALID_ARGUMENT);
        assert_non_null(strstr(error.msg, "crashed"));
    }
    assert_true(decodes_well(0));
}

typedef struct job {
    const char *word;
    atomic_bool cancel;
    vlm_status status;
    uint64_t end_ns;
} job;

static void *do_job(void *user)
{
    job *j = user;
    char file[64];
    vlm_image image;
    vlm_image_format format;
    const int len = snprintf(file, sizeof file, "%s%s", VLM_DECODER_FAULT_MARK, j->word);
    j->status = vlm_decoders_run(d, file, (size_t)len, &j->cancel, &image, &format, NULL);
    j->end_ns = vlm_clock_ns();
    vlm_image_fini(&image);
    return NULL;
}

/* All children hang; more wait.  Those are cancelled first, then the hanging ones. */
static void test_cancel(void **state)
{
    (void)state;
    enum { N_JOBS = N_CHILDREN + 2, LATE_MS = 300 };
    job jobs[N_JOBS];
    pthread_t threads[N_JOBS];
    uint64_t worst = 0;
    for (int i = 0; i < N_JOBS; i++) {
        jobs[i].word = "hang";
        atomic_init(&jobs[i].cancel, false);
        assert_int_equal(pthread_create(&threads[i], NULL, do_job, &jobs[i]), 0);
        sleep_ms(20);
    }
    for (int i = N_JOBS - 1; i >= 0; i--) {
        const uint64_t start = vlm_clock_ns();
        atomic_store(&jobs[i].cancel, true);
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].status, VLM_CANCELLED);
        if (jobs[i].end_ns - start > worst) worst = jobs[i].end_ns - start;
    }
    print_message("cancelled within %.1f ms\n", (double)worst * 1e-6);
    assert_true(worst < (uint64_t)LATE_MS * 1000000);
    for (size_t i = 0; i < N_NAMES; i++) assert_true(decodes_well(i));
    job before = {.word = "nothing"};
    atomic_init(&before.cancel, true);
    (void)do_job(&before);
    assert_int_equal(before.status, VLM_CANCELLED);
}

static atomic_int order_next, order_wrong;

static void *take_turn(void *user)
{
    const int turn = *(const int *)user;
    vlm_image image;
    if (run_fault("slow", &image, NULL) != VLM_OK) atomic_fetch_add(&order_wrong, 1);
    vlm_image_fini(&image);
    /* A thread may be held up on the way here. */
    const int place = atomic_fetch_add(&order_next, 1);
    if (place > turn + 2 || turn > place + 2) atomic_fetch_add(&order_wrong, 1);
    return NULL;
}

/* First come, first served, by one child; the others hang. */
static void test_order(void **state)
{
    (void)state;
    enum { N_TURNS = 10 };
    job jobs[N_CHILDREN];
    pthread_t hanging[N_CHILDREN], threads[N_TURNS];
    int turns[N_TURNS];
    for (int i = 0; i < N_CHILDREN; i++) {
        jobs[i].word = "hang";
        atomic_init(&jobs[i].cancel, false);
        assert_int_equal(pthread_create(&hanging[i], NULL, do_job, &jobs[i]), 0);
    }
    sleep_ms(50);
    for (int i = 0; i < N_TURNS; i++) {
        turns[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, take_turn, &turns[i]), 0);
        sleep_ms(20);
    }
    atomic_store(&jobs[0].cancel, true);
    for (int i = 0; i < N_TURNS; i++) (void)pthread_join(threads[i], NULL);
    for (int i = 0; i < N_CHILDREN; i++) {
        atomic_store(&jobs[i].cancel, true);
        (void)pthread_join(hanging[i], NULL);
    }
    assert_int_equal(atomic_load(&order_wrong), 0);
}

static atomic_int n_wrong;

static void *hammer(void *user)
{
    enum { N_EACH = 200 };
    const size_t first = *(const size_t *)user;
    for (size_t i = 0; i < N_EACH; i++)
        if (!decodes_well((first + i) % N_NAMES)) atomic_fetch_add(&n_wrong, 1);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    enum { N_THREADS = 8 };
    pthread_t threads[N_THREADS];
    size_t first[N_THREADS];
    for (size_t i = 0; i < N_THREADS; i++) {
        first[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, &first[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) (void)pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&n_wrong), 0);
}

typedef struct leaver {
    uint32_t random;
    atomic_bool cancel, done;
} leaver;

/* Pictures, good and bad, that are given up at any moment. */
static void *leave_often(void *user)
{
    enum { N_EACH = 60 };
    static const char *const words[] = {"slow", "crash", "nothing", "lie-seq", "hang"};
    leaver *l = user;
    for (int i = 0; i < N_EACH; i++) {
        char file[64];
        vlm_image image;
        vlm_image_format format;
        l->random = l->random * 1664525u + 1013904223u;
        const char *const word = words[(l->random >> 16) % 5];
        const int len = snprintf(file, sizeof file, "%s%s", VLM_DECODER_FAULT_MARK, word);
        const vlm_status status =
            vlm_decoders_run(d, file, (size_t)len, &l->cancel, &image, &format, NULL);
        const bool fits =
            status == VLM_CANCELLED ||
            status == (word[0] == 'c' || word[0] == 'l' ? VLM_INVALID_ARGUMENT : VLM_OK);
        if (!fits || (status != VLM_OK && image.rgb != NULL)) atomic_fetch_add(&n_wrong, 1);
        vlm_image_fini(&image);
        atomic_store(&l->cancel, false);
        if (i % 8 == 0 && !decodes_well((size_t)i % N_NAMES)) atomic_fetch_add(&n_wrong, 1);
    }
    atomic_store(&l->done, true);
    return NULL;
}

static void test_random_leavers(void **state)
{
    (void)state;
    enum { N_LEAVERS = 4 };
    static leaver leavers[N_LEAVERS];
    pthread_t threads[N_LEAVERS];
    uint64_t memory = 0;
    const int n_fds = count_fds(&memory);
    atomic_store(&n_wrong, 0);
    for (uint32_t i = 0; i < N_LEAVERS; i++) {
        leavers[i].random = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, leave_often, &leavers[i]), 0);
    }
    for (int n_done = 0, round = 0; n_done < N_LEAVERS; round++) {
        sleep_ms(3 + round % 9);
        n_done = 0;
        for (int i = 0; i < N_LEAVERS; i++) {
            if ((round + i) % 2 == 0) atomic_store(&leavers[i].cancel, true);
            n_done += atomic_load(&leavers[i].done);
        }
    }
    for (int i = 0; i < N_LEAVERS; i++) (void)pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&n_wrong), 0);
    for (size_t i = 0; i < 2 * N_NAMES; i++) assert_true(decodes_well(i % N_NAMES));
    assert_true(count_fds(&memory) <= n_fds);
}

static int open_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        char path[1024];
        vlm_error error;
        (void)snprintf(path, sizeof path, "%s/image/%s", VLM_TEST_DATA, names[i]);
        if (vlm_file_read(path, names[i], 1 << 20, &pictures[i], &error) != VLM_OK ||
            vlm_image_decode(pictures[i].data, pictures[i].len, &limits, &expected[i], &error) !=
                VLM_OK) {
            (void)fprintf(stderr, "%s\n", error.msg);
            return -1;
        }
    }
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_NAMES; i++) {
        vlm_buf_fini(&pictures[i]);
        vlm_image_fini(&expected[i]);
    }
    return 0;
}

int main(void)
{
    const vlm_decoders_options options = {
        .n = N_CHILDREN, .limits = limits, .timeout_ms = TIMEOUT_MS, .faults = true};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_in_place),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_formats_are_counted),
        cmocka_unit_test(test_large_then_small),
        cmocka_unit_test(test_misdeeds),
        cmocka_unit_test(test_memory_bomb),
        cmocka_unit_test(test_talkative_child),
        cmocka_unit_test(test_many_crashes),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_random_leavers),
    };
    vlm_error error;
    const uint64_t start = vlm_clock_ns();
    if (vlm_decoders_open(&options, &d, &error) != VLM_OK) {
        (void)fprintf(stderr, "%s\n", error.msg);
        return 1;
    }
    (void)printf("opened within %.1f ms\n", (double)(vlm_clock_ns() - start) * 1e-6);
    const int n_failed = cmocka_run_group_tests(tests, open_all, close_all);
    vlm_decoders_close(d);
    return n_failed;
}
