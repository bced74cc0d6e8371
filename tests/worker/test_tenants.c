/* test_tenants.c - the places of a worker, counted by tenant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "worker/tenants.h"

enum { PLACES = 1000 };

static vlm_tenants tenants;
static size_t n_taken;

static vlm_status take(const char *name, size_t n_max, vlm_tenant_places **out)
{
    vlm_error err;
    const vlm_status status =
        vlm_tenants_take(&tenants, vlm_bytes_of(name), n_taken, n_max, out, &err);
    if (status == VLM_OK)
        n_taken++;
    else
        assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
    return status;
}

static void give_back(vlm_tenant_places *places)
{
    vlm_tenants_give_back(&tenants, places);
    n_taken--;
}

/* As many as there are for name; how many that were. */
static size_t take_all(const char *name, size_t n_max, vlm_tenant_places **out)
{
    size_t n = 0;
    while (take(name, n_max, &out[n]) == VLM_OK) n++;
    assert_null(out[n]);
    return n;
}

static int setup(void **state)
{
    (void)state;
    tenants = (vlm_tenants){{0}};
    n_taken = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    vlm_tenants_fini(&tenants);
    return 0;
}

static void test_others_find_room(void **state)
{
    (void)state;
    vlm_tenant_places *a[PLACES], *b[PLACES], *c[PLACES];
    assert_int_equal(take_all("a", 320, a), 256);
    assert_int_equal(take_all("b", 320, b), 52);
    assert_int_equal(take_all("c", 320, c), 10);
    assert_int_equal(tenants.by_name.n, 3);
    /* Two places are free: a may hold fewer than four times what is. */
    vlm_tenant_places *more;
    for (size_t i = 0; i < 49; i++) give_back(a[i]);
    assert_int_equal(take("a", 320, &more), VLM_RESOURCE_EXHAUSTED);
    give_back(a[49]);
    assert_int_equal(take("a", 320, &more), VLM_OK);
}

static void test_places_come_back(void **state)
{
    (void)state;
    vlm_tenant_places *a[PLACES];
    for (size_t round = 0; round < 3; round++) {
        assert_int_equal(take_all("a", 10, a), 8);
        assert_int_equal(tenants.by_name.n, 1);
        for (size_t i = 0; i < 8; i++) give_back(a[i]);
        assert_int_equal(tenants.by_name.n, 0);
        assert_int_equal(n_taken, 0);
    }
}

static void test_without_a_name(void **state)
{
    (void)state;
    vlm_tenant_places *a[PLACES], *nobody[PLACES];
    assert_int_equal(take_all("a", 10, a), 8);
    assert_int_equal(take("", 10, &nobody[0]), VLM_OK);
    assert_null(nobody[0]);
    assert_int_equal(take("", 10, &nobody[1]), VLM_OK);
    assert_int_equal(take("", 10, &nobody[2]), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(take("b", 10, &nobody[2]), VLM_RESOURCE_EXHAUSTED);
    give_back(nobody[0]);
    assert_int_equal(take("b", 10, &nobody[0]), VLM_OK);
    assert_non_null(nobody[0]);
}

static void test_many_tenants(void **state)
{
    (void)state;
    static vlm_tenant_places *places[PLACES];
    char name[32];
    for (size_t i = 0; i < PLACES; i++) {
        (void)snprintf(name, sizeof name, "tenant %zu", i);
        assert_int_equal(take(name, PLACES, &places[i]), VLM_OK);
    }
    assert_int_equal(tenants.by_name.n, PLACES);
    for (size_t i = 0; i < PLACES; i += 2) give_back(places[i]);
    assert_int_equal(tenants.by_name.n, PLACES / 2);
    /* The rest is freed by fini. */
}

static void test_names_of_any_bytes(void **state)
{
    (void)state;
    vlm_tenant_places *one, *two, *again;
    vlm_error err;
    const vlm_bytes names[] = {{.ptr = "a\0b", .len = 3}, {.ptr = "a\0c", .len = 3}};
    assert_int_equal(vlm_tenants_take(&tenants, names[0], 0, 9, &one, &err), VLM_OK);
    assert_int_equal(vlm_tenants_take(&tenants, names[1], 1, 9, &two, &err), VLM_OK);
    assert_int_equal(vlm_tenants_take(&tenants, names[0], 2, 9, &again, &err), VLM_OK);
    assert_ptr_not_equal(one, two);
    assert_ptr_equal(one, again);
    vlm_tenants_give_back(&tenants, NULL);
}

static void test_out_of_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    vlm_tenant_places *p = NULL;
    vlm_error err;
    unsigned n = 1;
    for (; failmalloc_again(n); n++) {
        const vlm_status status = vlm_tenants_take(&tenants, vlm_bytes_of("a"), 0, 10, &p, &err);
        failmalloc_off();
        assert_int_equal(status == VLM_OK, p != NULL);
        if (status == VLM_OK) {
            vlm_tenants_give_back(&tenants, p);
            vlm_tenants_fini(&tenants);
        } else {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
        }
        assert_int_equal(tenants.by_name.n, 0);
    }
    assert_true(n > 2);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_others_find_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_tenants, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_of_any_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
