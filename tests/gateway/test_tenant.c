/* test_tenant.c - names made of API keys. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
