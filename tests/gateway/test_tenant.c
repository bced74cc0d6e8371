/* test_tenant.c - names made of API keys, and the share of one of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/tenant.h"

static void test_names(void **state)
{
    (void)state;
    uint8_t digests[2][VLM_SHA256_LEN];
    vlm_sha256("first", 5, digests[0]);
    vlm_sha256("second", 6, digests[1]);
    const vlm_keys keys = {.digests = digests, .n = 2};
    vlm_tenant_names a, again, b, shared, none;
    vlm_tenant_names_of(&keys, 0, false, &a);
    vlm_tenant_names_of(&keys, 0, false, &again);
    vlm_tenant_names_of(&keys, 1, false, &b);
    vlm_tenant_names_of(&keys, 0, true, &shared);
    assert_int_equal(strlen(a.tenant), 32);
    assert_int_equal(strlen(a.cache_salt), 64);
    assert_string_equal(a.tenant, again.tenant);
    assert_string_equal(a.cache_salt, again.cache_salt);
    assert_string_not_equal(a.tenant, b.tenant);
    assert_string_not_equal(a.cache_salt, b.cache_salt);
    assert_string_equal(a.tenant, shared.tenant);
    assert_string_equal(shared.cache_salt, "");
    /* One cannot be made from the other. */
    assert_true(strncmp(a.tenant, a.cache_salt, 32) != 0);
    const int keyless[] = {-1, 2, 1000};
    for (size_t i = 0; i < 3; i++) {
        vlm_tenant_names_of(&keys, keyless[i], false, &none);
        assert_string_equal(none.tenant, "");
        assert_string_equal(none.cache_salt, "");
    }
}

/* How many places one gets who comes alone, then another. */
static void test_share(void **state)
{
    (void)state;
    for (size_t n_max = 1; n_max < 400; n_max++) {
        size_t first = 0, second = 0, third = 0;
        while (vlm_tenant_may_take(first, first, n_max)) first++;
        assert_in_range(first, n_max * 4 / 5, n_max * 4 / 5 + 1);
        while (vlm_tenant_may_take(second, first + second, n_max)) second++;
        if (n_max >= 5) assert_true(second >= 1);
        while (vlm_tenant_may_take(third, first + second + third, n_max)) third++;
        if (n_max >= 40) assert_true(third >= 1);
        assert_true(first + second + third <= n_max);
    }
    assert_false(vlm_tenant_may_take(0, 5, 5));
    assert_false(vlm_tenant_may_take(0, 6, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
