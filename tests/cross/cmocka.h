/* cmocka.h - as much of cmocka as the tests of base and tensor use, for a cross build on a machine
 * that has the library for itself alone.  A failed check ends its test, not the program; the output
 * counts as cmocka's does.
 * Not: mocks, fixtures, checks from other threads. */
#ifndef VLM_TESTS_CROSS_CMOCKA_H
#define VLM_TESTS_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { CMOCKA_FAILED = 1, CMOCKA_SKIPPED = 2 };
static jmp_buf cmocka_end;

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
        .name = #function, .run = function                                                         \
    }
#define print_message(...) ((void)printf(__VA_ARGS__))
#define print_error(...) ((void)fprintf(stderr, __VA_ARGS__))
#define skip() longjmp(cmocka_end, CMOCKA_SKIPPED)
#define fail_msg(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        print_error("\n%s:%d: error\n", __FILE__, __LINE__);                                       \
        longjmp(cmocka_end, CMOCKA_FAILED);                                                        \
    } while (0)
#define cmocka_check(is_so, what)                                                                  \
    do {                                                                                           \
        if (!(is_so)) fail_msg("%s", what);                                                        \
    } while (0)

#define assert_true(c) cmocka_check(c, #c)
#define assert_false(c) cmocka_check(!(c), "not " #c)
#define assert_null(p) cmocka_check((p) == NULL, #p " is NULL")
#define assert_non_null(p) cmocka_check((p) != NULL, #p " is not NULL")
#define assert_ptr_equal(a, b) cmocka_check((const void *)(a) == (const void *)(b), #a " is " #b)
#define assert_string_equal(a, b) cmocka_check(strcmp(a, b) == 0, #a " is " #b)
#define assert_memory_equal(a, b, n) cmocka_check(memcmp(a, b, n) == 0, #a " has the bytes of " #b)
#define assert_int_equal(a, b)                                                                     \
    do {                                                                                           \
        const uintmax_t cmocka_a = (uintmax_t)(a), cmocka_b = (uintmax_t)(b);                      \
        if (cmocka_a != cmocka_b)                                                                  \
            fail_msg("%s is %s: %jd, %jd", #a, #b, (intmax_t)cmocka_a, (intmax_t)cmocka_b);        \
    } while (0)

static inline int cmocka_run(const struct CMUnitTest *tests, size_t n_tests)
{
    static size_t n_passed, n_failed, n_skipped;
    static size_t i;
    printf("[==========] Running %zu test(s).\n", n_tests);
    for (i = 0; i < n_tests; i++) {
        void *state = NULL;
        printf("[ RUN      ] %s\n", tests[i].name);
        (void)fflush(stdout);
        const int end = setjmp(cmocka_end);
        if (end == 0) tests[i].run(&state);
        n_passed += end == 0;
        n_failed += end == CMOCKA_FAILED;
        n_skipped += end == CMOCKA_SKIPPED;
        printf("[  %s ] %s\n",
               end == 0                ? "     OK"
               : end == CMOCKA_SKIPPED ? "SKIPPED"
                                       : "FAILED ",
               tests[i].name);
    }
    printf("[==========] %zu test(s) run.\n[  PASSED  ] %zu test(s).\n", n_tests, n_passed);
    if (n_skipped > 0) printf("[  SKIPPED ] %zu test(s).\n", n_skipped);
    if (n_failed > 0) printf("[  FAILED  ] %zu test(s).\n", n_failed);
    return (int)n_failed;
}

#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    cmocka_run(tests, sizeof(tests) / sizeof(tests)[0])
#define cmocka_run_group_tests_name(name, tests, setup, teardown)                                  \
    cmocka_run_group_tests(tests, setup, teardown)

#endif
