#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"

#include <string.h>
#include <unistd.h>

enum { N_MAX = 10007, THREADS_MAX = 9 };

typedef struct counts {
    /* Plain, not atomic: ranges are disjoint, and the thread sanitizer sees it when they are not.
     */
    uint32_t seen[N_MAX];
    uint32_t by_thread[VLM_POOL_THREADS_MAX];
    size_t n, longest;
    uint32_t n_threads;
    uint32_t bad[VLM_POOL_THREADS_MAX];
} counts;

static void count(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    counts *c = ctx;
    if (thread_idx >= c->n_threads) return;
    if (begin >= end || end > c->n || end - begin > c->longest) c->bad[thread_idx]++;
    for (size_t i = begin; i < end && i < c->n; i++) c->seen[i]++;
    c->by_thread[thread_idx] += (uint32_t)(end - begin);
}

static void count_all(vlm_pool *pool, bool tapered, size_t n, size_t grain)
{
    static counts c;
    memset(&c, 0, sizeof c);
    c.n = n;
    c.n_threads = vlm_pool_n_threads(pool);
    const size_t share = n / c.n_threads;
    c.longest = tapered && share > grain ? share : grain;
    (tapered ? vlm_pool_run_tapered : vlm_pool_run)(pool, n, grain, count, &c);
    uint32_t total = 0;
    for (uint32_t i = 0; i < c.n_threads; i++) {
        assert_int_equal(c.bad[i], 0);
        total += c.by_thread[i];
    }
    assert_int_equal(total, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(c.seen[i], 1);
}

static void every_index_once(void **state)
{
    (void)state;
    static const size_t ns[] = {0, 1, 2, 3, 7, 64, 1000, N_MAX};
    static const size_t grains[] = {1, 2, 3, 7, 64, 1000, 20000};
    static const uint32_t threads[] = {1, 2, 3, THREADS_MAX};
    for (size_t t = 0; t < 4; t++) {
        vlm_pool *pool;
        vlm_error err;
        assert_int_equal(vlm_pool_new(threads[t], &pool, &err), VLM_OK);
        assert_int_equal(vlm_pool_n_threads(pool), threads[t]);
        for (size_t a = 0; a < sizeof ns / sizeof ns[0]; a++) {
            for (size_t b = 0; b < sizeof grains / sizeof grains[0]; b++) {
                count_all(pool, false, ns[a], grains[b]);
                count_all(pool, true, ns[a], grains[b]);
            }
        }
        vlm_pool_free(pool);
    }
}

/* Loops back to back, and with pauses long enough that the threads fall asleep in between: what one
 * loop wrote, the next one reads on whatever thread. */
static void add_one(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    uint32_t *values = ctx;
    for (size_t i = begin; i < end; i++) values[i] = values[i] + 1;
}

static void many_loops(void **state)
{
    (void)state;
    enum { ROUNDS = 2000, N = 257 };
    static uint32_t values[N];
    memset(values, 0, sizeof values);
    vlm_pool *pool;
    assert_int_equal(vlm_pool_new(3, &pool, NULL), VLM_OK);
    for (int round = 0; round < ROUNDS; round++) {
        const size_t grain = (size_t)(round % 5 + 1);
        if (round % 2 == 0)
            vlm_pool_run(pool, N, grain, add_one, values);
        else
            vlm_pool_run_tapered(pool, N, grain, add_one, values);
        if (round % 200 == 0) (void)usleep(3000);
    }
    vlm_pool_free(pool);
    for (size_t i = 0; i < N; i++) assert_int_equal(values[i], ROUNDS);
}

static void opened_and_closed_at_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 60; i++) {
        vlm_pool *pool;
        assert_int_equal(vlm_pool_new(1 + i % 5, &pool, NULL), VLM_OK);
        if (i % 3 == 0) (void)usleep(500);
        vlm_pool_free(pool);
    }
    vlm_pool_free(NULL);
}

static void cpu_and_clock(void **state)
{
    (void)state;
    assert_true(vlm_cpu_count() >= 1);
    assert_true(vlm_cpu_level_best() < VLM_CPU_N_LEVELS);
    for (int i = 0; i < VLM_CPU_N_LEVELS; i++) {
        vlm_cpu_level level = VLM_CPU_N_LEVELS;
        assert_true(vlm_cpu_level_parse(vlm_cpu_level_name((vlm_cpu_level)i), &level));
        assert_int_equal(level, i);
    }
    vlm_cpu_level level = VLM_CPU_REFERENCE;
    assert_false(vlm_cpu_level_parse("mmx", &level));
    assert_false(vlm_cpu_level_parse("", &level));
    uint64_t last = vlm_clock_ns();
    for (int i = 0; i < 1000; i++) {
        const uint64_t now = vlm_clock_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(vlm_clock_seconds(1000000000u, 3500000000u) == 2.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once),
        cmocka_unit_test(many_loops),
        cmocka_unit_test(opened_and_closed_at_once),
        cmocka_unit_test(cpu_and_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
