#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/status.h"
#include "base/utf8.h"

#include <string.h>

static void names_and_numbers(void **state)
{
    (void)state;
    assert_int_equal(VLM_OK, 0);
    assert_int_equal(VLM_INVALID_ARGUMENT, 3);
    assert_int_equal(VLM_UNAUTHENTICATED, 16);
    assert_string_equal(vlm_status_name(VLM_OK), "OK");
    assert_string_equal(vlm_status_name(VLM_DATA_LOSS), "DATA_LOSS");
    assert_string_equal(vlm_status_name((vlm_status)99), "UNKNOWN");
}

static void fail_fills(void **state)
{
    (void)state;
    vlm_error err;
    assert_int_equal(vlm_fail_at(&err, VLM_NOT_FOUND, 77, "%s: field %d", "config.json", 5),
                     VLM_NOT_FOUND);
    assert_int_equal(err.code, VLM_NOT_FOUND);
    assert_int_equal(err.pos, 77);
    assert_string_equal(err.msg, "config.json: field 5");
    assert_int_equal(vlm_fail(&err, VLM_INTERNAL, "x"), VLM_INTERNAL);
    assert_int_equal(err.pos, 0);
    assert_int_equal(vlm_fail_memory(&err, "cache"), VLM_RESOURCE_EXHAUSTED);
    assert_string_equal(err.msg, "out of memory: cache");
    assert_int_equal(vlm_fail(NULL, VLM_ABORTED, "nobody listens"), VLM_ABORTED);
    assert_int_equal(vlm_fail_prefix(NULL, VLM_ABORTED, "p"), VLM_ABORTED);
}

static void prefix_goes_in_front(void **state)
{
    (void)state;
    vlm_error err;
    (void)vlm_fail_at(&err, VLM_INVALID_ARGUMENT, 9, "hidden_size must be an integer");
    assert_int_equal(vlm_fail_prefix(&err, err.code, "%s", "config.json"), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "config.json: hidden_size must be an integer");
    assert_int_equal(err.pos, 9);
}

/* One line, whatever the file was called. */
static void control_characters_are_replaced(void **state)
{
    (void)state;
    vlm_error err;
    (void)vlm_fail(&err, VLM_NOT_FOUND, "%s", "a\nb\x1b[31m\tc\x7f\xc3\xa9");
    assert_string_equal(err.msg, "a?b?[31m?c?\xc3\xa9");
}

/* Texts of every length around the limit, ending in characters of 1 to 4 bytes. */
static void long_texts_are_cut_on_a_border(void **state)
{
    (void)state;
    static const char *const chars[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t c = 0; c < 4; c++) {
        for (size_t lead = 0; lead < 5; lead++) {
            char text[1100];
            memset(text, 'a', lead);
            size_t len = lead;
            while (len + 4 < sizeof text) {
                memcpy(text + len, chars[c], strlen(chars[c]));
                len += strlen(chars[c]);
            }
            text[len] = '\0';
            vlm_error err;
            (void)vlm_fail(&err, VLM_INTERNAL, "%s", text);
            const size_t got = strlen(err.msg);
            assert_true(got <= VLM_ERROR_MSG_LEN_MAX);
            assert_true(got >= VLM_ERROR_MSG_LEN_MAX - 4);
            assert_true(vlm_utf8_valid(err.msg, got));
            (void)vlm_fail_prefix(&err, VLM_INTERNAL, "%s", text);
            assert_true(strlen(err.msg) <= VLM_ERROR_MSG_LEN_MAX);
            assert_true(vlm_utf8_valid(err.msg, strlen(err.msg)));
        }
    }
}

static vlm_status step(vlm_status status, int *n_calls)
{
    ++*n_calls;
    return status;
}

static vlm_status steps(vlm_status second, int *n_calls)
{
    VLM_TRY(step(VLM_OK, n_calls));
    VLM_TRY(step(second, n_calls));
    VLM_TRY(step(VLM_OK, n_calls));
    return VLM_OK;
}

static void try_stops_at_the_first_failure(void **state)
{
    (void)state;
    int n_calls = 0;
    assert_int_equal(steps(VLM_OK, &n_calls), VLM_OK);
    assert_int_equal(n_calls, 3);
    n_calls = 0;
    assert_int_equal(steps(VLM_CANCELLED, &n_calls), VLM_CANCELLED);
    assert_int_equal(n_calls, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_numbers),
        cmocka_unit_test(fail_fills),
        cmocka_unit_test(prefix_goes_in_front),
        cmocka_unit_test(control_characters_are_replaced),
        cmocka_unit_test(long_texts_are_cut_on_a_border),
        cmocka_unit_test(try_stops_at_the_first_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
