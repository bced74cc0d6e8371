/* test_populate.c - the thread that makes memory ready: it touches the first blocks alone, changes
 * no byte, and stops wherever it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/populate.h"

enum { LAYERS = 2, HEADS = 2, HEAD_DIM = 64, BLOCKS = 4096, BYTES = 16 * HEADS * HEAD_DIM * 4 };

typedef struct fixture {
    vlm_backend *backend;
    vlm_kv_pool pool;
} fixture;

static void open_pool(fixture *f)
{
    vlm_error err;
    assert_int_equal(vlm_backend_cpu_open(1, VLM_CPU_REFERENCE, &f->backend, &err), VLM_OK);
    assert_int_equal(vlm_kv_pool_init(&f->pool, f->backend, LAYERS, HEADS, HEAD_DIM, BLOCKS,
                                      VLM_DTYPE_F32, &err),
                     VLM_OK);
}

static void close_pool(fixture *f)
{
    vlm_kv_pool_fini(&f->pool);
    f->backend->ops->close(f->backend);
}

static void wait_for(const vlm_populate_thread *t)
{
    while (vlm_populate_thread_runs(t)) (void)usleep(1000);
}

/* Whether the page at ptr has memory. */
static bool is_resident(const void *ptr)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char in_core = 0;
    assert_int_equal(mincore((void *)((uintptr_t)ptr & ~(page - 1)), page, &in_core), 0);
    return (in_core & 1) != 0;
}

static void test_first_blocks_have_memory(void **state)
{
    (void)state;
    fixture f;
    open_pool(&f);
    const unsigned char *k = f.pool.layers[0].k, *v = f.pool.layers[LAYERS - 1].v;
    const size_t last = (size_t)BLOCKS * BYTES - 1;
    const bool was_lazy = !is_resident(k + (size_t)BLOCKS / 4 * BYTES) && !is_resident(v + last);
    vlm_populate_thread *t = vlm_populate_thread_start(&f.pool, BLOCKS / 2 * VLM_KV_BLOCK_TOKENS);
    assert_non_null(t);
    wait_for(t);
    vlm_populate_thread_stop(t);
#if defined(MADV_POPULATE_WRITE)
    /* A kernel before 5.14 says so, and nothing else happens. */
    if (was_lazy && madvise(f.pool.layers[0].k, BYTES, MADV_POPULATE_WRITE) == 0) {
        assert_true(is_resident(k + (size_t)BLOCKS / 4 * BYTES));
        assert_true(is_resident(v + (size_t)BLOCKS / 4 * BYTES));
        assert_false(is_resident(v + last));
    }
#else
    (void)was_lazy;
#endif
    close_pool(&f);
}

static void test_bytes_stay(void **state)
{
    (void)state;
    fixture f;
    open_pool(&f);
    memset(f.pool.layers[1].k, 0x5a, (size_t)BLOCKS * BYTES);
    vlm_populate_thread *t = vlm_populate_thread_start(&f.pool, UINT32_MAX);
    wait_for(t);
    const unsigned char *k = f.pool.layers[1].k;
    for (size_t i = 0; i < (size_t)BLOCKS * BYTES; i++) assert_int_equal(k[i], 0x5a);
    vlm_populate_thread_stop(t);
    close_pool(&f);
}

static void test_stops_anywhere(void **state)
{
    (void)state;
    fixture f;
    open_pool(&f);
    for (int i = 0; i < 20; i++) {
        vlm_populate_thread *t = vlm_populate_thread_start(&f.pool, UINT32_MAX);
        if (i % 2 == 1) (void)usleep(500);
        vlm_populate_thread_stop(t);
    }
    vlm_populate_thread_stop(NULL);
    assert_false(vlm_populate_thread_runs(NULL));
    close_pool(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_blocks_have_memory),
        cmocka_unit_test(test_bytes_stay),
        cmocka_unit_test(test_stops_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
