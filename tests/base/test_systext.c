/* What is read from the text of /proc and /sys, and that any text is refused or read, never
 * trusted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/systext.h"

#include <stdio.h>
#include <string.h>

static void sets(void **state)
{
    (void)state;
    vlm_cpu_ids a = {0}, b = {0};
    vlm_cpu_ids_add(&a, 0);
    vlm_cpu_ids_add(&a, 63);
    vlm_cpu_ids_add(&a, 64);
    vlm_cpu_ids_add(&a, VLM_CPU_IDS_MAX - 1);
    vlm_cpu_ids_add(&a, VLM_CPU_IDS_MAX);
    vlm_cpu_ids_add(&a, UINT32_MAX);
    assert_int_equal(vlm_cpu_ids_count(&a), 4);
    assert_false(vlm_cpu_ids_has(&a, VLM_CPU_IDS_MAX));
    assert_int_equal(vlm_cpu_ids_next(&a, 0), 0);
    assert_int_equal(vlm_cpu_ids_next(&a, 1), 63);
    assert_int_equal(vlm_cpu_ids_next(&a, 65), VLM_CPU_IDS_MAX - 1);
    assert_int_equal(vlm_cpu_ids_next(&a, VLM_CPU_IDS_MAX), VLM_CPU_IDS_MAX);
    vlm_cpu_ids_add(&b, 64);
    const vlm_cpu_ids both = vlm_cpu_ids_and(&a, &b);
    assert_int_equal(vlm_cpu_ids_count(&both), 1);
    assert_true(vlm_cpu_ids_has(&both, 64));
}

static void cpu_lists(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int n; /* -1: refused */
        uint32_t first;
    } cases[] = {
        {"0\n", 1, 0},
        {"0-3,8,10-11\n", 7, 0},
        {"5-5", 1, 5},
        {"", 0, VLM_CPU_IDS_MAX},
        {"\n", 0, VLM_CPU_IDS_MAX},
        {"4090-5000", 6, 4090},
        {"0-18446744073709551615", VLM_CPU_IDS_MAX, 0},
        {"18446744073709551615", 0, VLM_CPU_IDS_MAX},
        {"0-18446744073709551616", -1, 0},
        {"3-1", -1, 0},
        {"0,", -1, 0},
        {",0", -1, 0},
        {"0--3", -1, 0},
        {"-1", -1, 0},
        {"0 1", -1, 0},
        {"a", -1, 0},
        {"0-3:2/4", -1, 0},
        {"+1", -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_cpu_ids ids;
        const bool ok = vlm_systext_cpu_list(cases[i].text, &ids);
        if (ok != (cases[i].n >= 0)) fail_msg("\"%s\"", cases[i].text);
        if (!ok) continue;
        assert_int_equal(vlm_cpu_ids_count(&ids), cases[i].n);
        assert_int_equal(vlm_cpu_ids_next(&ids, 0), cases[i].first);
    }
}

static void numbers_and_fields(void **state)
{
    (void)state;
    uint64_t n = 0;
    assert_true(vlm_systext_number(" \t12 kB\n", &n) && n == 12);
    assert_true(vlm_systext_number("18446744073709551615", &n) && n == UINT64_MAX);
    static const char *const bad[] = {"", "\n", "-1", "+1", "max", "18446744073709551616", "x1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vlm_systext_number(bad[i], &n));
    static const char text[] = "MemTotal:  100 kB\nSwapTotal:\t 7 kB\nSwapFree:\nSwap";
    assert_true(vlm_systext_field(text, "SwapTotal:", &n) && n == 7);
    assert_true(vlm_systext_field(text, "MemTotal:", &n) && n == 100);
    /* No number on the line: that of the next line is another's. */
    assert_false(vlm_systext_field(text, "SwapFree:", &n));
    assert_false(vlm_systext_field(text, "SwapCached:", &n));
    assert_false(vlm_systext_field("", "a", &n));
}

static void chosen_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"always [madvise] never\n", "madvise"},
        {"always madvise [never]\n", "never"},
        {"[averylongword]", "averylo"},
        {"always madvise never", NULL},
        {"[", NULL},
        {"[]", NULL},
        {"[a\n]", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char word[8] = "?";
        const bool ok = vlm_systext_chosen(cases[i].text, word, sizeof word);
        assert_int_equal(ok, cases[i].want != NULL);
        assert_string_equal(word, ok ? cases[i].want : "");
    }
}

static void quotas(void **state)
{
    (void)state;
    double n = 0.0;
    assert_true(vlm_systext_quota_v2("150000 100000\n", &n) && n == 1.5);
    assert_true(vlm_systext_quota_v1("50000\n", "100000\n", &n) && n == 0.5);
    static const char *const v2[] = {"max 100000\n", "",     "100000",     "0 100000",
                                     "100000 0",     "-1 1", "100000 max", "1\n2"};
    for (size_t i = 0; i < sizeof v2 / sizeof v2[0]; i++)
        assert_false(vlm_systext_quota_v2(v2[i], &n));
    assert_false(vlm_systext_quota_v1("-1\n", "100000\n", &n));
    assert_false(vlm_systext_quota_v1("100000\n", "0\n", &n));
    assert_false(vlm_systext_quota_v1("", "", &n));
}

static void cgroup_paths(void **state)
{
    (void)state;
    static const char mixed[] = "12:memory:/a\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/init\n"
                                "0::/user.slice/a:b\n";
    char path[64];
    assert_true(vlm_systext_cgroup_path(mixed, "", path, sizeof path));
    assert_string_equal(path, "/user.slice/a:b");
    assert_true(vlm_systext_cgroup_path(mixed, "cpu", path, sizeof path));
    assert_string_equal(path, "/docker/x");
    assert_true(vlm_systext_cgroup_path(mixed, "memory", path, sizeof path));
    assert_string_equal(path, "/a");
    assert_false(vlm_systext_cgroup_path(mixed, "cpuset", path, sizeof path));
    assert_false(vlm_systext_cgroup_path(mixed, "", path, 5));
    static const char *const bad[] = {
        "",     "0",       "0:",      "0::",  "0::\n",
        "0::x", ":cpu:/a", "0:\n:/a", "\n\n", "99999999999999999999::/a"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vlm_systext_cgroup_path(bad[i], "", path, sizeof path));
}

static void load_averages(void **state)
{
    (void)state;
    double load = 0.0;
    assert_true(vlm_systext_load("6.25 6.72 6.87 3/1234 5678\n", &load) && load == 6.25);
    static const char *const bad[] = {"", "\n", "nan", "inf", "-1", "x", "1e999", "."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vlm_systext_load(bad[i], &load));
}

static void ticks(void **state)
{
    (void)state;
    static const char text[] = "cpu  100 200 300 400 500 600 700 800 900 1000\n"
                               "cpu0 1 2 3 4 5 6 7 8 9 10\n"
                               "cpu1 10 20 30 40 50 60 70 80 90 100\n"
                               "cpu2 1 1 1 1\n"
                               "cpu3\n"
                               "intr 5\n";
    vlm_cpu_ids cpus = {0};
    vlm_cpu_ticks t;
    assert_false(vlm_systext_ticks(text, &cpus, &t));
    vlm_cpu_ids_add(&cpus, 0);
    assert_true(vlm_systext_ticks(text, &cpus, &t));
    assert_int_equal(t.busy, 1 + 2 + 3 + 6 + 7);
    assert_int_equal(t.steal, 8);
    assert_int_equal(t.total, 36);
    vlm_cpu_ids_add(&cpus, 1);
    vlm_cpu_ids_add(&cpus, 2);
    assert_true(vlm_systext_ticks(text, &cpus, &t));
    assert_int_equal(t.total, 36 + 360 + 4);
    vlm_cpu_ids other = {0};
    vlm_cpu_ids_add(&other, 9);
    assert_false(vlm_systext_ticks(text, &other, &t));
    static const char *const bad[] = {
        "", "cpu", "cpux 1", "cpu18446744073709551616 1", "cpu-1 5", "cpu4294967296 1 2 3 4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vlm_systext_ticks(bad[i], &cpus, &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets),
        cmocka_unit_test(cpu_lists),
        cmocka_unit_test(numbers_and_fields),
        cmocka_unit_test(chosen_words),
        cmocka_unit_test(quotas),
        cmocka_unit_test(cgroup_paths),
        cmocka_unit_test(load_averages),
        cmocka_unit_test(ticks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
