#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "failmalloc.h"

#include <stdlib.h>
#include <string.h>

static void sizes_do_not_wrap(void **state)
{
    (void)state;
    size_t out = 5;
    assert_true(vlm_size_add(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    out = 5;
    assert_false(vlm_size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 5);
    assert_true(vlm_size_mul((size_t)1 << 32, ((size_t)1 << 32) - 1, &out));
    out = 5;
    assert_false(vlm_size_mul((size_t)1 << 32, (size_t)1 << 32, &out));
    assert_false(vlm_size_mul(SIZE_MAX, 2, &out));
    assert_int_equal(out, 5);
    assert_true(vlm_size_mul(SIZE_MAX, 0, &out));
    assert_int_equal(out, 0);
    uint64_t out64 = 7;
    assert_false(vlm_u64_add(UINT64_MAX, UINT64_MAX, &out64));
    assert_false(vlm_u64_mul(UINT64_MAX, 3, &out64));
    assert_true(out64 == 7);
    assert_true(vlm_u64_add(1, 2, &out64) && out64 == 3);
    assert_true(vlm_u64_mul(3, 5, &out64) && out64 == 15);
}

static void calloc_of_nothing_and_of_too_much(void **state)
{
    (void)state;
    void *nothing = vlm_calloc(0, 8);
    assert_non_null(nothing);
    free(nothing);
    assert_null(vlm_calloc(SIZE_MAX / 2, 3));
    uint32_t *some = vlm_calloc(100, sizeof *some);
    assert_non_null(some);
    for (int i = 0; i < 100; i++) assert_int_equal(some[i], 0);
    free(some);
}

static void grow_keeps_content_and_bounds(void **state)
{
    (void)state;
    uint32_t *ptr = NULL;
    size_t cap = 0;
    for (uint32_t n = 0; n < 1000; n++) {
        assert_true(vlm_grow((void **)&ptr, &cap, n + 1, 1000, sizeof *ptr));
        assert_true(cap > n && cap <= 1000);
        ptr[n] = n;
    }
    for (uint32_t n = 0; n < 1000; n++) assert_int_equal(ptr[n], n);
    uint32_t *before = ptr;
    assert_false(vlm_grow((void **)&ptr, &cap, 1001, 1000, sizeof *ptr));
    assert_ptr_equal(ptr, before);
    assert_int_equal(cap, 1000);
    /* A product that would wrap. */
    assert_false(vlm_grow((void **)&ptr, &cap, SIZE_MAX / 2, SIZE_MAX, sizeof *ptr));
    assert_ptr_equal(ptr, before);
    free(ptr);
}

static void aligned(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 63, 64, 65, 4097};
    for (size_t i = 0; i < 6; i++) {
        char *ptr = vlm_alloc_aligned(sizes[i]);
        assert_non_null(ptr);
        assert_int_equal((uintptr_t)ptr % 64, 0);
        memset(ptr, 1, sizes[i]);
        free(ptr);
    }
    assert_null(vlm_alloc_aligned(SIZE_MAX));
    assert_null(vlm_alloc_aligned(SIZE_MAX - 62));
}

static void arena_hands_out_zeroed_separate_memory(void **state)
{
    (void)state;
    vlm_arena arena;
    vlm_arena_init(&arena, (size_t)1 << 24);
    enum { N = 500 };
    unsigned char *ptrs[N];
    for (size_t i = 0; i < N; i++) {
        const size_t len = i * 37 % 997 + (i % 50 == 0 ? 200000 : 0);
        ptrs[i] = vlm_arena_alloc(&arena, len);
        assert_non_null(ptrs[i]);
        assert_int_equal((uintptr_t)ptrs[i] % 16, 0);
        for (size_t k = 0; k < len; k++) assert_int_equal(ptrs[i][k], 0);
        memset(ptrs[i], (int)(i % 255 + 1), len);
    }
    for (size_t i = 0; i < N; i++) {
        const size_t len = i * 37 % 997 + (i % 50 == 0 ? 200000 : 0);
        for (size_t k = 0; k < len; k++) assert_int_equal(ptrs[i][k], i % 255 + 1);
    }
    vlm_arena_fini(&arena);
    assert_int_equal(arena.used_bytes, 0);
    vlm_arena_fini(&arena);
}

static void arena_keeps_its_limit(void **state)
{
    (void)state;
    vlm_arena arena;
    vlm_arena_init(&arena, 64);
    assert_non_null(vlm_arena_alloc(&arena, 1));
    assert_int_equal(arena.used_bytes, 16);
    assert_null(vlm_arena_alloc(&arena, 49));
    assert_null(vlm_arena_alloc(&arena, SIZE_MAX));
    assert_null(vlm_arena_array(&arena, SIZE_MAX / 2, 4));
    assert_non_null(vlm_arena_alloc(&arena, 48));
    assert_null(vlm_arena_alloc(&arena, 0));
    assert_int_equal(arena.used_bytes, 64);
    vlm_arena_fini(&arena);
}

static void arena_copies_strings(void **state)
{
    (void)state;
    vlm_arena arena;
    vlm_arena_init(&arena, 4096);
    assert_string_equal(vlm_arena_strndup(&arena, "hello world", 5), "hello");
    assert_string_equal(vlm_arena_strndup(&arena, NULL, 0), "");
    assert_null(vlm_arena_strndup(&arena, "x", SIZE_MAX));
    vlm_arena_fini(&arena);
}

static void out_of_memory_is_reported(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_arena arena;
        vlm_arena_init(&arena, (size_t)1 << 20);
        const bool first = vlm_arena_alloc(&arena, 100) != NULL;
        const bool second = vlm_arena_alloc(&arena, 100000) != NULL;
        void *ptr = NULL;
        size_t cap = 0;
        const bool third = vlm_grow(&ptr, &cap, 10, 100, 8);
        failmalloc_off();
        n_failed += (unsigned)(!first + !second + !third);
        assert_int_equal(cap > 0, third);
        free(ptr);
        vlm_arena_fini(&arena);
    }
    assert_int_equal(n_failed, 3);
#else
    skip(); /* the sanitizer owns the allocator */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_do_not_wrap),
        cmocka_unit_test(calloc_of_nothing_and_of_too_much),
        cmocka_unit_test(grow_keeps_content_and_bounds),
        cmocka_unit_test(aligned),
        cmocka_unit_test(arena_hands_out_zeroed_separate_memory),
        cmocka_unit_test(arena_keeps_its_limit),
        cmocka_unit_test(arena_copies_strings),
        cmocka_unit_test(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
