/* test_slots.c - places with holders and keys: who is given away when, keys that collide, random
 * operations against plain arrays, and that nothing allocates once they are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/slots.h"
#include "failmalloc.h"

static vlm_slots *new_slots(uint32_t n)
{
    vlm_slots *s;
    vlm_error err;
    assert_int_equal(vlm_slots_new(n, &s, &err), VLM_OK);
    assert_int_equal(vlm_slots_n(s), n);
    assert_int_equal(vlm_slots_n_free(s), n);
    return s;
}

/* The first four bytes say where in the table a key belongs. */
static vlm_slot_key key_of(uint32_t home, uint32_t number)
{
    vlm_slot_key key = {{0}};
    memcpy(key.bytes, &home, sizeof home);
    memcpy(key.bytes + 28, &number, sizeof number);
    return key;
}

static uint32_t take(vlm_slots *s)
{
    uint32_t slot = VLM_SLOT_NONE;
    assert_true(vlm_slots_take(s, &slot));
    assert_true(slot < vlm_slots_n(s));
    return slot;
}

/* Take a place, let it be found as key, let it go. */
static uint32_t put(vlm_slots *s, const vlm_slot_key *key)
{
    const uint32_t slot = take(s);
    assert_true(vlm_slots_publish(s, slot, key));
    vlm_slots_drop(s, slot);
    return slot;
}

static void counts_are(const vlm_slots *s, uint32_t n_held, uint64_t n_refs)
{
    vlm_slots_check(s);
    assert_int_equal(vlm_slots_n_held(s), n_held);
    assert_int_equal(vlm_slots_n_free(s), vlm_slots_n(s) - n_held);
    assert_int_equal(vlm_slots_n_refs(s), n_refs);
}

static void test_holders(void **state)
{
    (void)state;
    vlm_slots *s = new_slots(3);
    const vlm_slot_key a = key_of(1, 1), b = key_of(2, 2);
    uint32_t found = 99;
    assert_false(vlm_slots_has(s, &a));
    assert_false(vlm_slots_find(s, &a, &found));
    assert_int_equal(found, 99);
    const uint32_t slot = take(s);
    counts_are(s, 1, 1);
    assert_false(vlm_slots_is_shared(s, slot));
    assert_true(vlm_slots_publish(s, slot, &a));
    assert_true(vlm_slots_has(s, &a) && !vlm_slots_has(s, &b));
    counts_are(s, 1, 1);
    assert_true(vlm_slots_find(s, &a, &found));
    assert_int_equal(found, slot);
    assert_true(vlm_slots_is_shared(s, slot));
    vlm_slots_ref(s, slot);
    counts_are(s, 1, 3);
    const uint32_t other = take(s);
    assert_int_not_equal(other, slot);
    /* The key is known already: the place stays without one, and may get another. */
    assert_false(vlm_slots_publish(s, other, &a));
    assert_true(vlm_slots_publish(s, other, &b));
    counts_are(s, 2, 4);
    vlm_slots_drop(s, slot);
    assert_true(vlm_slots_is_shared(s, slot));
    vlm_slots_drop(s, slot);
    assert_false(vlm_slots_is_shared(s, slot));
    counts_are(s, 2, 2);
    vlm_slots_drop(s, slot);
    vlm_slots_drop(s, other);
    counts_are(s, 0, 0);
    /* Nobody holds them; they are still there. */
    assert_true(vlm_slots_find(s, &b, &found));
    assert_int_equal(found, other);
    counts_are(s, 1, 1);
    vlm_slots_free(s);
    vlm_slots_free(NULL);
}

static void test_none_left(void **state)
{
    (void)state;
    vlm_slots *s = new_slots(4);
    const vlm_slot_key key = key_of(0, 0);
    bool taken[4] = {false};
    uint32_t slot = 99;
    for (int i = 0; i < 4; i++) {
        slot = take(s);
        assert_false(taken[slot]);
        taken[slot] = true;
    }
    const uint32_t last = slot;
    assert_true(vlm_slots_publish(s, last, &key));
    assert_false(vlm_slots_take(s, &slot));
    assert_int_equal(slot, last);
    assert_true(vlm_slots_find(s, &key, &slot));
    counts_are(s, 4, 5);
    vlm_slots_drop(s, last);
    assert_false(vlm_slots_take(s, &slot));
    vlm_slots_drop(s, last);
    assert_int_equal(take(s), last);
    assert_false(vlm_slots_has(s, &key));
    vlm_slots_free(s);
}

/* What has no key goes first, then what was let go the longest time ago; what was found in between
 * is young again. */
static void test_who_is_given_away(void **state)
{
    (void)state;
    enum { N = 6 };
    vlm_slots *s = new_slots(N);
    vlm_slot_key keys[N];
    uint32_t slots[N], found;
    for (uint32_t i = 0; i < N; i++) {
        keys[i] = key_of(i * 7, i);
        slots[i] = take(s);
    }
    /* 4 and 5 stay without a key. */
    for (uint32_t i = 0; i < 4; i++) assert_true(vlm_slots_publish(s, slots[i], &keys[i]));
    static const uint32_t order[N] = {2, 4, 0, 3, 5, 1};
    for (uint32_t i = 0; i < N; i++) vlm_slots_drop(s, slots[order[i]]);
    assert_true(vlm_slots_find(s, &keys[2], &found));
    vlm_slots_drop(s, found);
    const uint32_t first = take(s), second = take(s);
    assert_true((first == slots[4] && second == slots[5]) ||
                (first == slots[5] && second == slots[4]));
    for (uint32_t i = 0; i < 4; i++) assert_true(vlm_slots_has(s, &keys[i]));
    static const uint32_t then[4] = {0, 3, 1, 2};
    for (uint32_t i = 0; i < 4; i++) {
        /* Asking whether it is there makes nothing young. */
        for (uint32_t k = i; k < 4; k++) assert_true(vlm_slots_has(s, &keys[then[3 + i - k]]));
        assert_int_equal(take(s), slots[then[i]]);
        assert_false(vlm_slots_has(s, &keys[then[i]]));
        assert_false(vlm_slots_find(s, &keys[then[i]], &found));
    }
    counts_are(s, N, N);
    vlm_slots_free(s);
}

static void test_one_place(void **state)
{
    (void)state;
    vlm_slots *s = new_slots(1);
    uint32_t slot;
    for (uint32_t i = 0; i < 100; i++) {
        const vlm_slot_key key = key_of(i, i), before = key_of(i - 1, i - 1);
        assert_int_equal(take(s), 0);
        assert_false(vlm_slots_take(s, &slot));
        assert_false(vlm_slots_has(s, &before));
        assert_true(vlm_slots_publish(s, 0, &key));
        counts_are(s, 1, 1);
        vlm_slots_drop(s, 0);
        assert_true(vlm_slots_find(s, &key, &slot));
        assert_int_equal(slot, 0);
        vlm_slots_drop(s, 0);
        counts_are(s, 0, 0);
    }
    vlm_slots_free(s);
}

enum { N_COLLIDING = 5, N_ORDERS = 120 };

/* The idx-th order of 0..N_COLLIDING-1. */
static void order_of(uint32_t idx, uint32_t order[N_COLLIDING])
{
    uint32_t left[N_COLLIDING] = {0, 1, 2, 3, 4};
    for (uint32_t n = N_COLLIDING; n > 0; n--) {
        const uint32_t pick = idx % n;
        idx /= n;
        order[N_COLLIDING - n] = left[pick];
        memmove(left + pick, left + pick + 1, (n - pick - 1) * sizeof left[0]);
    }
}

/* Keys put in the one order, which drives them out in the same one; found first in the other. */
static void drive_out(const vlm_slot_key keys[N_COLLIDING], const uint32_t put_in[N_COLLIDING],
                      const uint32_t out[N_COLLIDING])
{
    vlm_slots *s = new_slots(N_COLLIDING);
    uint32_t slots[N_COLLIDING], found;
    for (uint32_t i = 0; i < N_COLLIDING; i++) slots[put_in[i]] = put(s, &keys[put_in[i]]);
    for (uint32_t i = 0; i < N_COLLIDING; i++) {
        assert_true(vlm_slots_find(s, &keys[out[i]], &found));
        assert_int_equal(found, slots[out[i]]);
        vlm_slots_drop(s, found);
    }
    for (uint32_t i = 0; i < N_COLLIDING; i++) {
        assert_int_equal(take(s), slots[out[i]]);
        for (uint32_t k = 0; k < N_COLLIDING; k++)
            assert_int_equal(vlm_slots_has(s, &keys[out[k]]), k > i);
        vlm_slots_check(s);
    }
    vlm_slots_free(s);
}

/* A table for 5 places has 16: keys of one home, of neighbouring ones, and over its end. */
static void test_colliding_keys(void **state)
{
    (void)state;
    static const uint32_t homes[][N_COLLIDING] = {
        {3, 3, 3, 3, 3},
        {15, 15, 15, 15, 15},
        {14, 14, 15, 15, 0},
        {15, 0, 15, 1, 0},
        {3, 4, 3, 5, 4},
        /* The same home once the table's mask is laid over them. */
        {0x7000000fu, 0x8000000fu, 15, 0x10, 0x100},
    };
    uint32_t put_in[N_COLLIDING], out[N_COLLIDING];
    vlm_slot_key keys[N_COLLIDING];
    for (size_t h = 0; h < sizeof homes / sizeof homes[0]; h++) {
        for (uint32_t i = 0; i < N_COLLIDING; i++) keys[i] = key_of(homes[h][i], i);
        for (uint32_t a = 0; a < N_ORDERS; a += h == 0 ? 1 : 3)
            for (uint32_t b = 0; b < N_ORDERS; b++) {
                order_of(a, put_in);
                order_of(b, out);
                drive_out(keys, put_in, out);
            }
    }
}

/* The same in plain arrays. */
enum { N_PLACES = 24, N_KEYS = 60, N_HOMES = 7, N_OPS = 200000, REFS_MAX = 5, NO_KEY = N_KEYS };

typedef struct model {
    uint32_t n_refs[N_PLACES];
    uint32_t key[N_PLACES]; /* or NO_KEY */
    uint64_t let_go_at[N_PLACES];
    uint64_t now;
} model;

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

static uint32_t place_with(const model *m, uint32_t key)
{
    for (uint32_t i = 0; i < N_PLACES; i++)
        if (m->key[i] == key) return i;
    return VLM_SLOT_NONE;
}

/* Whether the rules let take give away this one. */
static bool may_be_taken(const model *m, uint32_t slot)
{
    if (m->n_refs[slot] > 0) return false;
    if (m->key[slot] == NO_KEY) return true;
    for (uint32_t i = 0; i < N_PLACES; i++)
        if (m->n_refs[i] == 0 && (m->key[i] == NO_KEY || m->let_go_at[i] < m->let_go_at[slot]))
            return false;
    return true;
}

static void random_take(vlm_slots *s, model *m)
{
    uint32_t slot = VLM_SLOT_NONE, n_held = 0;
    for (uint32_t i = 0; i < N_PLACES; i++) n_held += m->n_refs[i] > 0;
    const bool taken = vlm_slots_take(s, &slot);
    assert_int_equal(taken, n_held < N_PLACES);
    if (!taken) return;
    assert_true(slot < N_PLACES && may_be_taken(m, slot));
    m->n_refs[slot] = 1;
    m->key[slot] = NO_KEY;
}

static void random_find(vlm_slots *s, model *m, uint32_t number, const vlm_slot_key *key)
{
    uint32_t slot = VLM_SLOT_NONE;
    const uint32_t want = place_with(m, number);
    assert_int_equal(vlm_slots_has(s, key), want != VLM_SLOT_NONE);
    if (want != VLM_SLOT_NONE && m->n_refs[want] == REFS_MAX) return;
    assert_int_equal(vlm_slots_find(s, key, &slot), want != VLM_SLOT_NONE);
    assert_int_equal(slot, want);
    if (want != VLM_SLOT_NONE) m->n_refs[want]++;
}

static void random_publish(vlm_slots *s, model *m, uint32_t at, uint32_t number,
                           const vlm_slot_key *key)
{
    if (m->n_refs[at] == 0 || m->key[at] != NO_KEY) return;
    const bool is_new = place_with(m, number) == VLM_SLOT_NONE;
    assert_int_equal(vlm_slots_publish(s, at, key), is_new);
    if (is_new) m->key[at] = number;
}

static void random_op(vlm_slots *s, model *m)
{
    const uint32_t at = random_below(N_PLACES), number = random_below(N_KEYS);
    const vlm_slot_key key = key_of(number % N_HOMES * 9, number);
    const uint32_t what = random_below(16);
    if (what < 4) {
        random_take(s, m);
    } else if (what < 6) {
        random_find(s, m, number, &key);
    } else if (what < 10) {
        random_publish(s, m, at, number, &key);
    } else if (what < 11) {
        if (m->n_refs[at] == 0 || m->n_refs[at] == REFS_MAX) return;
        vlm_slots_ref(s, at);
        m->n_refs[at]++;
    } else if (m->n_refs[at] > 0) {
        vlm_slots_drop(s, at);
        m->let_go_at[at] = ++m->now;
        m->n_refs[at]--;
    }
    assert_int_equal(vlm_slots_is_shared(s, at), m->n_refs[at] > 1);
}

static void compare(const vlm_slots *s, const model *m)
{
    uint64_t n_refs = 0;
    uint32_t n_held = 0;
    for (uint32_t i = 0; i < N_PLACES; i++) {
        n_refs += m->n_refs[i];
        n_held += m->n_refs[i] > 0;
    }
    counts_are(s, n_held, n_refs);
    for (uint32_t number = 0; number < N_KEYS; number++) {
        const vlm_slot_key key = key_of(number % N_HOMES * 9, number);
        assert_int_equal(vlm_slots_has(s, &key), place_with(m, number) != VLM_SLOT_NONE);
    }
}

/* The first allocation would fail and say so. */
static void forbid_memory(void)
{
#if FAILMALLOC_AVAILABLE
    assert_true(failmalloc_again(1));
#endif
}

static void no_memory_was_taken(void)
{
#if FAILMALLOC_AVAILABLE
    failmalloc_off();
    assert_false(failmalloc_hit);
#endif
}

static void test_random_operations(void **state)
{
    (void)state;
    vlm_slots *s = new_slots(N_PLACES);
    model m = {.now = 0};
    uint32_t n_full = 0, n_free = 0;
    for (uint32_t i = 0; i < N_PLACES; i++) m.key[i] = NO_KEY;
    forbid_memory();
    for (uint32_t op = 1; op <= N_OPS; op++) {
        random_op(s, &m);
        if (op % 1000 == 0) compare(s, &m);
        n_full += vlm_slots_n_free(s) == 0;
        n_free += vlm_slots_n_free(s) > N_PLACES / 2;
    }
    no_memory_was_taken();
    /* It was the one and the other. */
    assert_true(n_full > 100 && n_free > 100);
    vlm_slots_free(s);
}

static void test_new_fails(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    uint32_t n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_slots *s;
        vlm_error err = {0};
        const vlm_status status = vlm_slots_new(100, &s, &err);
        failmalloc_off();
        n_failed += status != VLM_OK;
        assert_true(status == VLM_OK || (status == VLM_RESOURCE_EXHAUSTED && s == NULL));
        vlm_slots_free(s);
    }
    assert_true(n_failed >= 2);
#else
    print_message("the allocator cannot be replaced under a sanitizer\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holders),           cmocka_unit_test(test_none_left),
        cmocka_unit_test(test_who_is_given_away), cmocka_unit_test(test_one_place),
        cmocka_unit_test(test_colliding_keys),    cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_new_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
