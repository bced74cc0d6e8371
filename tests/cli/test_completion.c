/* Completions and the manual: kinds of values, quoting, the frame, and memory that runs out.
 * Whether shells and man understand them is for tests/e2e/test_install.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/completion.h"
#include "cli/man_page.h"
#include "failmalloc.h"

static vlm_status man_page(vlm_buf *text, vlm_error *err)
{
    static const char frame[] = "vlmd @VERSION@\n@COMMANDS@\n@OPTIONS@\nlast";
    return vlm_man_page((vlm_bytes){.ptr = frame, .len = sizeof frame - 1}, text, err);
}

static vlm_completion_fn *const makers[] = {vlm_completion_bash, vlm_completion_zsh,
                                            vlm_completion_fish, man_page};
enum { N_MAKERS = sizeof makers / sizeof makers[0], LEN_MAX = 1 << 20 };

static void kinds(void **state)
{
    (void)state;
    static const struct {
        vlm_option row;
        vlm_completion_kind kind;
    } options[] = {
        {VLM_OPTION_IMAGE, VLM_COMPLETION_FILE},   {VLM_OPTION_OUTPUT, VLM_COMPLETION_FILE},
        {VLM_OPTION_RAW, VLM_COMPLETION_NOTHING},  {VLM_OPTION_PROMPT, VLM_COMPLETION_ANY},
        {VLM_OPTION_DTYPE, VLM_COMPLETION_CHOICE}, {VLM_OPTION_SEED, VLM_COMPLETION_ANY},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        assert_int_equal(vlm_completion_of_option(&vlm_option_rows[options[i].row]),
                         options[i].kind);
    static const struct {
        vlm_command command;
        vlm_completion_kind kind;
    } commands[] = {
        {VLM_COMMAND_RUN, VLM_COMPLETION_MODEL},
        {VLM_COMMAND_TEMPLATE, VLM_COMPLETION_MODEL},
        {VLM_COMMAND_GATEWAY, VLM_COMPLETION_NOTHING},
        {VLM_COMMAND_HELP, VLM_COMPLETION_COMMAND},
        {VLM_COMMAND_COMPLETION, VLM_COMPLETION_SHELL},
    };
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        assert_int_equal(vlm_completion_of_argument(&vlm_command_rows[commands[i].command]),
                         commands[i].kind);
    assert_true(vlm_completion_knows_mock(VLM_COMMAND_SERVE));
    assert_false(vlm_completion_knows_mock(VLM_COMMAND_RUN));
}

static void quoting(void **state)
{
    (void)state;
    vlm_buf text;
    vlm_error err;
    vlm_buf_init(&text, 64);
    assert_int_equal(vlm_completion_quote(&text, "a'b\\c[d]", "\\[]", "'\\''", &err), VLM_OK);
    assert_string_equal(text.data, "a'\\''b\\\\c\\[d\\]");
    vlm_buf_fini(&text);
}

/* What the frame says comes through as it is, the last line without an end too. */
static void frame(void **state)
{
    (void)state;
    vlm_buf text;
    vlm_error err;
    vlm_buf_init(&text, LEN_MAX);
    assert_int_equal(man_page(&text, &err), VLM_OK);
    assert_memory_equal(text.data, "vlmd " VLM_VERSION "\n.TP\n\\fBrun\\fR \\fI[MODEL]\\fR\n", 38);
    assert_string_equal(text.data + text.len - 6, "\nlast\n");
    assert_non_null(strstr(text.data, ".SS Sampling\n"));
    assert_non_null(strstr(text.data, "\\fB\\-i\\fR, \\fB\\-\\-image\\fR \\fIFILE\\fR\n"));
    assert_null(strstr(text.data, "@OPTIONS@"));
    vlm_buf_clear(&text);
    assert_int_equal(vlm_man_page((vlm_bytes){0}, &text, &err), VLM_OK);
    assert_int_equal(text.len, 0);
    vlm_buf_fini(&text);
}

static void a_full_buffer_is_an_error(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MAKERS; i++) {
        vlm_buf text;
        vlm_error err;
        vlm_buf_init(&text, LEN_MAX);
        assert_int_equal(makers[i](&text, &err), VLM_OK);
        const size_t len = text.len;
        vlm_buf_fini(&text);
        for (size_t len_max = 0; len_max < len; len_max += 1 + len / 100) {
            vlm_buf_init(&text, len_max);
            assert_int_equal(makers[i](&text, &err), VLM_RESOURCE_EXHAUSTED);
            vlm_buf_fini(&text);
        }
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    for (size_t i = 0; i < N_MAKERS; i++) {
        unsigned n_failed = 0;
        for (unsigned n = 1; failmalloc_again(n); n++) {
            vlm_buf text;
            vlm_error err;
            vlm_buf_init(&text, LEN_MAX);
            const vlm_status status = makers[i](&text, &err);
            failmalloc_off();
            if (status != VLM_OK) assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            n_failed += status != VLM_OK;
            vlm_buf_fini(&text);
        }
        assert_true(n_failed > 3);
    }
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds),
        cmocka_unit_test(quoting),
        cmocka_unit_test(frame),
        cmocka_unit_test(a_full_buffer_is_an_error),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
