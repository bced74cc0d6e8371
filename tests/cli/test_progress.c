#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void lines(void **state)
{
    (void)state;
    static const struct {
        vlm_progress p;
        uint64_t n_done, n_total;
        double seconds;
        const char *want;
    } cases[] = {
        {{.what = "prompt", .item = "tokens", .unit = VLM_PROGRESS_ITEMS},
         150,
         600,
         10.0,
         "prompt [######------------------] 150 of 600 tokens, 15/s, 30 s left"},
        {{.what = "prompt", .item = "tokens", .unit = VLM_PROGRESS_ITEMS},
         3,
         600,
         10.0,
         "prompt [------------------------] 3 of 600 tokens, 0.3/s, 33:10 left"},
        {{.what = "load", .unit = VLM_PROGRESS_BYTES},
         1u << 30,
         (uint64_t)27 << 29,
         4.0,
         "load [#-----------------------] 1.0 GiB of 13.5 GiB, 256.0 MiB/s, 50 s left"},
        {{.what = "load", .unit = VLM_PROGRESS_BYTES},
         0,
         1000,
         4.0,
         "load [------------------------] 0 B of 1000 B"},
        {{.what = "load", .unit = VLM_PROGRESS_BYTES},
         2000,
         1000,
         4.0,
         "load [########################] 1000 B of 1000 B, 250 B/s, 0 s left"},
        /* What was done before the clock started does not count as speed. */
        {{.what = "load", .unit = VLM_PROGRESS_BYTES, .first_done = 500},
         600,
         1000,
         100.0,
         "load [##############----------] 600 B of 1000 B, 1 B/s, 6:40 left"},
        {{.what = "x", .item = "tokens", .unit = VLM_PROGRESS_ITEMS},
         1,
         UINT64_MAX,
         1e-9,
         "x [------------------------] 1 of 18446744073709551616 tokens, 1000000000/s, 99:59:59 "
         "left"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[120];
        vlm_progress_line(&cases[i].p, cases[i].n_done, cases[i].n_total, cases[i].seconds, line,
                          sizeof line);
        assert_string_equal(line, cases[i].want);
        for (int columns = 1; columns < 120; columns++) {
            vlm_progress_line(&cases[i].p, cases[i].n_done, cases[i].n_total, cases[i].seconds,
                              line, columns);
            assert_true(strlen(line) < (size_t)columns);
        }
    }
}

/* A test's stderr may be a terminal; a pipe never is. */
static void silent_without_a_terminal(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const int real = dup(STDERR_FILENO);
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    vlm_progress p;
    vlm_progress_start(&p, "prompt", VLM_PROGRESS_ITEMS, "tokens");
    p.start_ns = 1;
    for (uint64_t i = 0; i < 10; i++) vlm_progress_update(&p, i, 10);
    vlm_progress_clear(&p);
    (void)fflush(stderr);
    assert_true(dup2(real, STDERR_FILENO) >= 0);
    (void)close(real);
    (void)close(fds[1]);
    char c;
    assert_int_equal(read(fds[0], &c, 1), 0);
    (void)close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines),
        cmocka_unit_test(silent_without_a_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
