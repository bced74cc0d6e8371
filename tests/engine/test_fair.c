/* test_fair.c - whose turn it is: the line of a tenant, shares between tenants, limits, and random
 * operations against plain arrays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/fair.h"
#include "failmalloc.h"

enum { NO_LIMIT = 1000000 };

static vlm_fair *new_fair(uint32_t n_max)
{
    vlm_fair *f;
    vlm_error err;
    assert_int_equal(vlm_fair_new(n_max, &f, &err), VLM_OK);
    assert_null(vlm_fair_next(f, NO_LIMIT));
    assert_null(vlm_fair_each(f, NULL));
    return f;
}

static void add(vlm_fair *f, vlm_fair_item *item, const char *tenant)
{
    assert_true(vlm_fair_add(f, item, vlm_bytes_of(tenant)));
}

/* The next one runs, is served n_rows and goes. */
static vlm_fair_item *serve(vlm_fair *f, uint32_t n_rows)
{
    vlm_fair_item *item = vlm_fair_next(f, NO_LIMIT);
    assert_non_null(item);
    vlm_fair_start(f, item);
    vlm_fair_spend(item, n_rows);
    vlm_fair_remove(f, item);
    return item;
}

static void test_one_line(void **state)
{
    (void)state;
    enum { N = 20 };
    vlm_fair *f = new_fair(N);
    vlm_fair_item items[N];
    for (uint32_t i = 0; i < N; i++) {
        add(f, &items[i], "a");
        assert_ptr_equal(vlm_fair_next(f, NO_LIMIT), &items[0]);
        assert_int_equal(vlm_fair_n_waiting(f), i + 1);
    }
    /* From the head, the middle and the end of the line. */
    vlm_fair_remove(f, &items[0]);
    vlm_fair_remove(f, &items[7]);
    vlm_fair_remove(f, &items[N - 1]);
    add(f, &items[7], "a");
    for (uint32_t i = 1; i < N - 1; i++)
        if (i != 7) assert_ptr_equal(serve(f, 1), &items[i]);
    assert_ptr_equal(serve(f, 1), &items[7]);
    assert_int_equal(vlm_fair_n_waiting(f), 0);
    assert_null(vlm_fair_next(f, NO_LIMIT));
    vlm_fair_free(f);
    vlm_fair_free(NULL);
}

static void test_least_served_first(void **state)
{
    (void)state;
    vlm_fair *f = new_fair(30);
    vlm_fair_item items[30];
    static const char *const names[] = {"a", "b", "c"};
    for (uint32_t i = 0; i < 30; i++) add(f, &items[i], names[i / 10]);
    /* What each has had decides, not how often it was its turn. */
    vlm_fair_spend(&items[0], 50);
    vlm_fair_spend(&items[10], 20);
    vlm_fair_spend(&items[20], 70);
    assert_int_equal(vlm_fair_spent(&items[9]), 50);
    static const uint32_t want[] = {10, 0, 11, 20, 12, 1};
    static const uint32_t n_rows[] = {35, 30, 20, 1000, 50, 1000};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        assert_ptr_equal(serve(f, n_rows[i]), &items[want[i]]);
    /* a 1080, b 125, c 1070 */
    for (uint32_t i = 13; i < 20; i++) assert_ptr_equal(serve(f, 10), &items[i]);
    assert_ptr_equal(serve(f, 20), &items[21]);
    assert_ptr_equal(serve(f, 20), &items[2]);
    vlm_fair_free(f);
}

/* Whoever had nothing to do comes in with the least of the others, not with what it had not used.
 */
static void test_nothing_saved_up(void **state)
{
    (void)state;
    vlm_fair *f = new_fair(10);
    vlm_fair_item a[3], b[2], c;
    add(f, &b[0], "b");
    (void)serve(f, 5);
    for (uint32_t i = 0; i < 3; i++) add(f, &a[i], "a");
    vlm_fair_spend(&a[0], 10000);
    add(f, &c, "c");
    vlm_fair_spend(&c, 400);
    /* An idle engine begins where the last who went stopped: at 5. */
    assert_int_equal(vlm_fair_spent(&c), 10405);
    add(f, &b[0], "b");
    assert_int_equal(vlm_fair_spent(&b[0]), 10005);
    vlm_fair_spend(&b[0], 1);
    /* A second one of somebody who is there changes nothing, also while all of them run. */
    vlm_fair_start(f, &b[0]);
    add(f, &b[1], "b");
    assert_int_equal(vlm_fair_spent(&b[1]), 10006);
    assert_ptr_equal(vlm_fair_next(f, NO_LIMIT), &a[0]);
    vlm_fair_free(f);
}

static void test_limit_of_each(void **state)
{
    (void)state;
    enum { N = 12 };
    vlm_fair *f = new_fair(N);
    vlm_fair_item a[4], b[4], nameless[4];
    for (uint32_t i = 0; i < 4; i++) {
        add(f, &a[i], "a");
        add(f, &b[i], "b");
        assert_true(vlm_fair_add(f, &nameless[i], (vlm_bytes){0}));
    }
    for (uint32_t i = 0; i < 4; i++) {
        vlm_fair_spend(&b[i], 100);
        vlm_fair_spend(&nameless[i], 1000);
    }
    for (uint32_t i = 0; i < 2; i++) {
        assert_ptr_equal(vlm_fair_next(f, 2), &a[i]);
        vlm_fair_start(f, &a[i]);
    }
    /* a has had least, but two of it run. */
    for (uint32_t i = 0; i < 2; i++) {
        assert_ptr_equal(vlm_fair_next(f, 2), &b[i]);
        vlm_fair_start(f, &b[i]);
    }
    assert_ptr_equal(vlm_fair_next(f, 3), &a[2]);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ptr_equal(vlm_fair_next(f, 2), &nameless[i]);
        vlm_fair_start(f, &nameless[i]);
    }
    assert_null(vlm_fair_next(f, 2));
    assert_int_equal(vlm_fair_n_waiting(f), 4);
    /* One that waits makes no room when it goes, one that runs does. */
    vlm_fair_remove(f, &a[2]);
    assert_null(vlm_fair_next(f, 2));
    vlm_fair_remove(f, &a[0]);
    assert_ptr_equal(vlm_fair_next(f, 2), &a[3]);
    vlm_fair_start(f, &a[3]);
    assert_null(vlm_fair_next(f, 2));
    vlm_fair_free(f);
}

static void test_names(void **state)
{
    (void)state;
    enum { LEN = VLM_TENANT_LEN_MAX };
    char longest[LEN], other[LEN];
    memset(longest, 'x', LEN);
    memset(other, 'x', LEN);
    other[LEN - 1] = 'y';
    const vlm_bytes names[] = {
        {0},         {.ptr = "a", .len = 1},           {.ptr = "ab", .len = 2},
        {"a\0b", 3}, {.ptr = longest, .len = LEN},     {.ptr = other, .len = LEN},
        {"a\0c", 3}, {.ptr = longest, .len = LEN - 1}, {.ptr = "A", .len = 1},
    };
    enum { N = sizeof names / sizeof names[0] };
    vlm_fair *f = new_fair(2 * N);
    vlm_fair_item items[2][N];
    for (uint32_t i = 0; i < 2 * N; i++)
        assert_true(vlm_fair_add(f, &items[i / N][i % N], names[i % N]));
    for (uint32_t i = 0; i < N; i++) vlm_fair_spend(&items[0][i], 1 + i);
    for (uint32_t i = 0; i < N; i++) assert_int_equal(vlm_fair_spent(&items[1][i]), 1 + i);
    vlm_fair_free(f);
}

static void test_full(void **state)
{
    (void)state;
    enum { N = 5 };
    vlm_fair *f = new_fair(N);
    vlm_fair_item items[N], more;
    char name[8];
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < N; i++) {
            (void)snprintf(name, sizeof name, "%u", round * 3 + i);
            add(f, &items[i], name);
        }
        assert_false(vlm_fair_add(f, &more, vlm_bytes_of("0")));
        /* Running ones count like those that wait. */
        vlm_fair_item *next = vlm_fair_next(f, NO_LIMIT);
        vlm_fair_start(f, next);
        vlm_fair_spend(next, round);
        assert_false(vlm_fair_add(f, &more, vlm_bytes_of("1")));
        assert_int_equal(vlm_fair_n_waiting(f), N - 1);
        vlm_fair_remove(f, next);
        add(f, &more, "more");
        assert_false(vlm_fair_add(f, next, vlm_bytes_of("2")));
        vlm_fair_remove(f, &more);
        for (uint32_t i = 0; i < N; i++)
            if (&items[i] != next) vlm_fair_remove(f, &items[i]);
        assert_int_equal(vlm_fair_n_waiting(f), 0);
        assert_null(vlm_fair_each(f, NULL));
    }
    vlm_fair_free(f);
}

/* A thousand requests of one tenant, and one at a time of another: whenever the other waits and has
 * had less, it is next. */
static void test_flood(void **state)
{
    (void)state;
    enum { N = 1000 };
    vlm_fair *f = new_fair(N + 1);
    vlm_fair_item *a = calloc(N, sizeof *a), b;
    assert_non_null(a);
    uint32_t n_a = 0, n_b = 0, n_behind = 0;
    bool b_waits = false;
    for (uint32_t i = 0; i < N; i++) add(f, &a[i], "a");
    while (n_a < N) {
        /* Now and then it stays away for a while. */
        if (!b_waits && (n_a + n_b) % 50 < 40) {
            add(f, &b, "b");
            assert_true(vlm_fair_spent(&b) >= vlm_fair_spent(&a[n_a]));
            b_waits = true;
        }
        const bool behind = b_waits && vlm_fair_spent(&a[n_a]) > vlm_fair_spent(&b);
        const vlm_fair_item *next = vlm_fair_next(f, NO_LIMIT);
        assert_true(next == &a[n_a] || (b_waits && next == &b));
        if (behind) assert_ptr_equal(next, &b);
        n_behind += behind;
        (void)serve(f, next == &b ? 30 : 7 + n_a % 13);
        if (next == &b) {
            b_waits = false;
            n_b++;
        } else {
            n_a++;
        }
    }
    /* As many rows for both, though not as many requests. */
    assert_true(n_b > N / 3 && n_behind > 100);
    vlm_fair_free(f);
    free(a);
}

/* One who sends a large request at a time is away between two of them, and owes for the last. */
static void test_large_one_at_a_time(void **state)
{
    (void)state;
    enum { N = 900, SMALL = 50, LARGE = 4000 };
    vlm_fair *f = new_fair(N + 1);
    vlm_fair_item *a = calloc(N, sizeof *a), b;
    assert_non_null(a);
    uint64_t of_a = 0, of_b = 0;
    uint32_t n_a = 0;
    for (uint32_t i = 0; i < N; i++) add(f, &a[i], "a");
    add(f, &b, "b");
    while (n_a < N) {
        const bool is_b = vlm_fair_next(f, NO_LIMIT) == &b;
        (void)serve(f, is_b ? LARGE : SMALL);
        *(is_b ? &of_b : &of_a) += is_b ? LARGE : SMALL;
        if (is_b) add(f, &b, "b");
        n_a += !is_b;
    }
    assert_true(of_b <= of_a + LARGE && of_a <= of_b + LARGE);
    vlm_fair_free(f);
    free(a);
}

/* The same in plain arrays. */
enum { N_ITEMS = 40, N_MAX = 30, N_TENANTS = 9, N_OPS = 200000, N_EACH = 3 };

typedef enum where { AWAY, WAITS, RUNS } where;

typedef struct model {
    vlm_fair_item items[N_ITEMS];
    where where[N_ITEMS];
    uint32_t tenant[N_ITEMS]; /* 0 has no name */
    uint64_t came_at[N_ITEMS];
    uint64_t spent[N_TENANTS], spent_by_last;
    uint64_t now;
} model;

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static uint32_t n_of(const model *m, uint32_t tenant, where state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_ITEMS; i++)
        n += m->where[i] == state && (tenant == N_TENANTS || m->tenant[i] == tenant);
    return n;
}

static bool is_there(const model *m, uint32_t tenant)
{
    return n_of(m, tenant, WAITS) + n_of(m, tenant, RUNS) > 0;
}

static void model_add(model *m, uint32_t i, uint32_t tenant)
{
    if (!is_there(m, tenant)) {
        uint64_t least = UINT64_MAX;
        for (uint32_t t = 0; t < N_TENANTS; t++)
            if (is_there(m, t) && m->spent[t] < least) least = m->spent[t];
        if (least == UINT64_MAX) least = m->spent_by_last;
        if (m->spent[tenant] < least) m->spent[tenant] = least;
    }
    m->tenant[i] = tenant;
    m->came_at[i] = ++m->now;
    m->where[i] = WAITS;
}

static bool may_run(const model *m, uint32_t tenant)
{
    return n_of(m, tenant, WAITS) > 0 && (tenant == 0 || n_of(m, tenant, RUNS) < N_EACH);
}

/* Whether item i, or nobody, may be next by the rules; of tenants that had the same any. */
static void check_next(const model *m, const vlm_fair_item *next)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t t = 0; t < N_TENANTS; t++)
        if (may_run(m, t) && m->spent[t] < least) least = m->spent[t];
    if (next == NULL) {
        assert_true(least == UINT64_MAX);
        return;
    }
    const uint32_t i = (uint32_t)(next - m->items), tenant = m->tenant[i];
    assert_true(m->where[i] == WAITS && may_run(m, tenant) && m->spent[tenant] == least);
    for (uint32_t k = 0; k < N_ITEMS; k++)
        if (m->where[k] == WAITS && m->tenant[k] == tenant)
            assert_true(m->came_at[k] >= m->came_at[i]);
}

static void random_op(vlm_fair *f, model *m)
{
    static const char names[] = "-abcdefgh";
    const uint32_t i = random_below(N_ITEMS), what = random_below(8);
    if (m->where[i] == AWAY) {
        const uint32_t tenant = random_below(N_TENANTS);
        const vlm_bytes name = {.ptr = &names[tenant], .len = tenant > 0};
        const uint32_t n = n_of(m, N_TENANTS, WAITS) + n_of(m, N_TENANTS, RUNS);
        assert_int_equal(vlm_fair_add(f, &m->items[i], name), n < N_MAX);
        if (n < N_MAX) model_add(m, i, tenant);
    } else if (what < 4) {
        vlm_fair_item *next = vlm_fair_next(f, N_EACH);
        check_next(m, next);
        if (next == NULL) return;
        vlm_fair_start(f, next);
        m->where[next - m->items] = RUNS;
    } else if (what < 6) {
        const uint32_t n_rows = random_below(100);
        vlm_fair_spend(&m->items[i], n_rows);
        m->spent[m->tenant[i]] += n_rows;
    } else if (m->where[i] == RUNS || what == 6) {
        vlm_fair_remove(f, &m->items[i]);
        m->where[i] = AWAY;
        const uint32_t n_left = n_of(m, N_TENANTS, WAITS) + n_of(m, N_TENANTS, RUNS);
        if (n_left == 0) m->spent_by_last = m->spent[m->tenant[i]];
    }
}

static void compare(const vlm_fair *f, const model *m)
{
    bool seen[N_ITEMS] = {false};
    uint32_t n = 0;
    for (vlm_fair_item *item = NULL; (item = vlm_fair_each(f, item)) != NULL; n++) {
        const size_t i = (size_t)(item - m->items);
        assert_true(i < N_ITEMS && m->where[i] == WAITS && !seen[i]);
        seen[i] = true;
    }
    assert_int_equal(n, n_of(m, N_TENANTS, WAITS));
    assert_int_equal(n, vlm_fair_n_waiting(f));
    for (uint32_t i = 0; i < N_ITEMS; i++) {
        if (m->where[i] == AWAY) continue;
        assert_true(vlm_fair_spent(&m->items[i]) == m->spent[m->tenant[i]]);
        assert_int_equal(m->items[i].waits, m->where[i] == WAITS);
    }
}

static void test_random_operations(void **state)
{
    (void)state;
    vlm_fair *f = new_fair(N_MAX);
    static model m;
    uint32_t n_full = 0, n_empty = 0;
#if FAILMALLOC_AVAILABLE
    assert_true(failmalloc_again(1));
#endif
    for (uint32_t op = 1; op <= N_OPS; op++) {
        random_op(f, &m);
        if (op % 100 != 0) continue;
        compare(f, &m);
        n_full += n_of(&m, N_TENANTS, AWAY) == N_ITEMS - N_MAX;
        n_empty += vlm_fair_next(f, N_EACH) == NULL;
        check_next(&m, vlm_fair_next(f, N_EACH));
    }
#if FAILMALLOC_AVAILABLE
    failmalloc_off();
    assert_false(failmalloc_hit); /* nothing allocates after new */
#endif
    assert_true(n_full > 10 && n_empty > 10);
    vlm_fair_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_least_served_first),
        cmocka_unit_test(test_nothing_saved_up),
        cmocka_unit_test(test_limit_of_each),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_large_one_at_a_time),
        cmocka_unit_test(test_random_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
