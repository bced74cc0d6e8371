/* test_cpu.c - that the level found is the one that the emulated CPU of a cross build has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/cpu.h"

/* VLM_TEST_CPU_LEVEL: what tests/CMakeLists.txt says of the CPU. */
static void best_level_is_the_one_told(void **state)
{
    (void)state;
    const vlm_cpu_level best = vlm_cpu_level_best();
    print_message("level %s\n", vlm_cpu_level_name(best));
    const char *told = getenv("VLM_TEST_CPU_LEVEL");
    if (told == NULL) return;
    assert_string_equal(vlm_cpu_level_name(best), told);
}

static void levels_are_of_one_family(void **state)
{
    (void)state;
    const vlm_cpu_level best = vlm_cpu_level_best();
    assert_true(vlm_cpu_level_has(VLM_CPU_REFERENCE));
    assert_true(vlm_cpu_level_has(best));
    assert_false(vlm_cpu_level_has(VLM_CPU_AVX2) && vlm_cpu_level_has(VLM_CPU_NEON));
    for (int i = 1; i < VLM_CPU_N_LEVELS; i++) {
        const vlm_cpu_level level = (vlm_cpu_level)i;
        const bool same_family = (level >= VLM_CPU_NEON) == (best >= VLM_CPU_NEON);
        assert_true(vlm_cpu_level_has(level) == (same_family && level <= best));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best_level_is_the_one_told),
        cmocka_unit_test(levels_are_of_one_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
