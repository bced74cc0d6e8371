/* test_share.c - how many of the places that all share one may hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/share.h"

/* How many places one gets who comes alone, then another. */
static void test_share(void **state)
{
    (void)state;
    for (size_t n_max = 1; n_max < 400; n_max++) {
        size_t first = 0, second = 0, third = 0;
        while (vlm_share_may_take(first, first, n_max)) first++;
        assert_in_range(first, n_max * 4 / 5, n_max * 4 / 5 + 1);
        while (vlm_share_may_take(second, first + second, n_max)) second++;
        if (n_max >= 5) assert_true(second >= 1);
        while (vlm_share_may_take(third, first + second + third, n_max)) third++;
        if (n_max >= 40) assert_true(third >= 1);
        assert_true(first + second + third <= n_max);
    }
    assert_false(vlm_share_may_take(0, 5, 5));
    assert_false(vlm_share_may_take(0, 6, 5));
    assert_true(vlm_share_may_take(0, 0, SIZE_MAX));
    assert_true(vlm_share_may_take(7, 8, 10));
    assert_false(vlm_share_may_take(8, 8, 10));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
