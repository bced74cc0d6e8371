#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "failmalloc.h"

#include <string.h>

static void views(void **state)
{
    (void)state;
    assert_int_equal(vlm_bytes_of(NULL).len, 0);
    assert_int_equal(vlm_bytes_of("abc").len, 3);
    assert_true(vlm_bytes_eq((vlm_bytes){0}, vlm_bytes_of("")));
    assert_true(vlm_bytes_eq((vlm_bytes){"a\0b", 3}, (vlm_bytes){"a\0b", 3}));
    assert_false(vlm_bytes_eq((vlm_bytes){"a\0b", 3}, (vlm_bytes){"a\0c", 3}));
    assert_false(vlm_bytes_eq_str((vlm_bytes){"a\0b", 3}, "a"));
    assert_true(vlm_bytes_starts(vlm_bytes_of("model."), vlm_bytes_of("model")));
    assert_true(vlm_bytes_starts(vlm_bytes_of("x"), (vlm_bytes){0}));
    assert_false(vlm_bytes_starts(vlm_bytes_of("mod"), vlm_bytes_of("model")));
}

static void appends(void **state)
{
    (void)state;
    vlm_buf buf;
    vlm_buf_init(&buf, 1000);
    vlm_error err;
    assert_null(buf.data);
    assert_int_equal(vlm_buf_append(&buf, NULL, 0, &err), VLM_OK);
    assert_int_equal(vlm_buf_append_str(&buf, "ab", &err), VLM_OK);
    assert_int_equal(vlm_buf_append_char(&buf, '\0', &err), VLM_OK);
    assert_int_equal(vlm_buf_printf(&buf, &err, "%d-%s", 42, "x"), VLM_OK);
    assert_int_equal(buf.len, 7);
    assert_memory_equal(buf.data,
                        "ab\0"
                        "42-x",
                        8);
    vlm_buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.data, "");
    vlm_buf_fini(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len_max, 1000);
}

static void the_limit_is_exact_and_all_or_nothing(void **state)
{
    (void)state;
    vlm_buf buf;
    vlm_buf_init(&buf, 100);
    vlm_error err;
    for (int i = 0; i < 99; i++) assert_int_equal(vlm_buf_append_char(&buf, 'x', &err), VLM_OK);
    assert_int_equal(vlm_buf_append_str(&buf, "yz", &err), VLM_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.msg, "100 bytes"));
    assert_int_equal(buf.len, 99);
    assert_int_equal(vlm_buf_printf(&buf, &err, "%d", 12), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(strlen(buf.data), 99);
    assert_int_equal(vlm_buf_append_char(&buf, 'y', &err), VLM_OK);
    assert_int_equal(vlm_buf_append_char(&buf, 'y', &err), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(vlm_buf_append(&buf, "q", SIZE_MAX, &err), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(vlm_buf_reserve(&buf, SIZE_MAX - 50, &err), VLM_RESOURCE_EXHAUSTED);
    assert_int_equal(vlm_buf_append(&buf, "", 0, &err), VLM_OK);
    assert_int_equal(buf.len, 100);
    vlm_buf_fini(&buf);
}

static void reserve_makes_appends_safe(void **state)
{
    (void)state;
    vlm_buf buf;
    vlm_buf_init(&buf, SIZE_MAX);
    vlm_error err;
    assert_int_equal(vlm_buf_reserve(&buf, 5000, &err), VLM_OK);
    const char *data = buf.data;
    for (int i = 0; i < 5000; i++) assert_int_equal(vlm_buf_append_char(&buf, 'x', &err), VLM_OK);
    assert_ptr_equal(buf.data, data);
    vlm_buf_fini(&buf);
}

static void out_of_memory_changes_nothing(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_buf buf;
        vlm_buf_init(&buf, 1 << 20);
        vlm_error err;
        size_t len = 0;
        for (int i = 0; i < 2000; i++) {
            const vlm_status status = vlm_buf_append_str(&buf, "0123456789", &err);
            if (status == VLM_OK) {
                len += 10;
            } else {
                assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
                n_failed++;
            }
            assert_int_equal(buf.len, len);
        }
        failmalloc_off();
        for (size_t i = 0; i < len; i++) assert_int_equal(buf.data[i], '0' + (int)(i % 10));
        vlm_buf_fini(&buf);
    }
    assert_true(n_failed > 5);
#else
    skip(); /* the sanitizer owns the allocator */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views),
        cmocka_unit_test(appends),
        cmocka_unit_test(the_limit_is_exact_and_all_or_nothing),
        cmocka_unit_test(reserve_makes_appends_safe),
        cmocka_unit_test(out_of_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
