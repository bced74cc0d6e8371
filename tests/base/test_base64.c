#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/clock.h"
#include "failmalloc.h"

#include <stdlib.h>
#include <string.h>

static void known_vectors(void **state)
{
    (void)state;
    /* RFC 4648, section 10. */
    static const char *const rows[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xFF\xBF", "+/+/"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlm_buf out;
        vlm_error err;
        vlm_buf_init(&out, 100);
        assert_int_equal(vlm_base64_encode(vlm_bytes_of(rows[i][0]), &out, &err), VLM_OK);
        assert_string_equal(out.data, rows[i][1]);
        vlm_buf_clear(&out);
        assert_int_equal(vlm_base64_decode(vlm_bytes_of(rows[i][1]), &out, &err), VLM_OK);
        assert_string_equal(out.data, rows[i][0]);
        vlm_buf_fini(&out);
    }
}

static void what_clients_send(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Zg", "f"},
        {"Zm8", "fo"},
        {"Zm9vYg", "foob"},
        {"-_+/", "\xFB\xFF\xBF"},
        {" Z\tm\r\n9 v\n", "foo"},
        {"Zm9v\r\nYmFy\r\n", "foobar"},
        {"Z m 8 = ", "fo"},
        {"Zg=\r\n=", "f"},
        {"Zg = = \t", "f"},
        {" \r\n\t", ""},
        {"Zh==", "f"}, /* the last four bits belong to no byte */
        {"Zm9", "fo"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlm_buf out;
        vlm_error err;
        vlm_buf_init(&out, strlen(rows[i][1])); /* exactly what is needed */
        assert_int_equal(vlm_base64_decode(vlm_bytes_of(rows[i][0]), &out, &err), VLM_OK);
        assert_string_equal(out.data, rows[i][1]);
        vlm_buf_fini(&out);
    }
}

static void bad_text_is_refused_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned pos;
    } rows[] = {
        {"Z", 1},        {"Zm9vY", 5},       {"Zm9v Y ", 7},  {"=", 0},
        {"Z=", 1},       {"Z===", 1},        {"Zg=", 3},      {"Zg= ", 4},
        {"Zg===", 4},    {"Zm8==", 4},       {"Zm9v=", 4},    {"Zm9v====", 4},
        {"Zg==Zg==", 4}, {"Zg=a", 3},        {"Zg==a", 4},    {"Zm8=\nZm8=", 5},
        {"====", 0},     {"Zm9v!mFy", 4},    {"Zm9vYmF.", 7}, {"data:image/png;base64,Zm9v", 4},
        {"Zm%3D", 2},    {"Zm\xC3\xA9v", 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlm_buf out;
        vlm_error err;
        vlm_buf_init(&out, 100);
        assert_int_equal(vlm_buf_append_str(&out, "x", &err), VLM_OK);
        if (vlm_base64_decode(vlm_bytes_of(rows[i].text), &out, &err) != VLM_INVALID_ARGUMENT ||
            err.pos != rows[i].pos)
            fail_msg("%s: %s", rows[i].text, err.msg);
        assert_int_equal(out.len, 1);
        assert_string_equal(out.data, "x");
        vlm_buf_fini(&out);
    }
}

/* At each place of a group, within a long text and in a short one. */
static void every_byte(void **state)
{
    (void)state;
    static const char ok[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
    for (unsigned c = 0; c < 256; c++) {
        for (unsigned pos = 0; pos < 8; pos++) {
            char text[] = "ABCDABCD";
            vlm_buf out;
            vlm_error err;
            text[pos] = (char)c;
            vlm_buf_init(&out, 100);
            const vlm_status status = vlm_base64_decode((vlm_bytes){text, 8}, &out, &err);
            const bool is_ok = c != 0 && strchr(ok, (int)c) != NULL;
            const bool is_blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
            if (is_ok || is_blank || (c == '=' && pos == 7)) {
                assert_int_equal(status, VLM_OK);
                assert_int_equal(out.len, is_ok ? 6 : 5);
            } else {
                assert_int_equal(status, VLM_INVALID_ARGUMENT);
                assert_int_equal(err.pos, pos + (c == '=' && pos % 4 >= 2));
                assert_int_equal(out.len, 0);
            }
            vlm_buf_fini(&out);
        }
    }
}

static void every_length_and_limit(void **state)
{
    (void)state;
    char data[200];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 37 + 11);
    for (size_t n = 0; n <= sizeof data; n++) {
        vlm_buf text, out;
        vlm_error err;
        const size_t len = (n + 2) / 3 * 4;
        vlm_buf_init(&text, len);
        assert_int_equal(vlm_base64_encode((vlm_bytes){data, n}, &text, &err), VLM_OK);
        assert_int_equal(text.len, len);
        /* With padding, and without. */
        for (int k = 0; k < 2; k++) {
            while (k == 1 && text.len > 0 && text.data[text.len - 1] == '=') text.len--;
            vlm_buf_init(&out, n);
            assert_int_equal(vlm_base64_decode(vlm_buf_bytes(&text), &out, &err), VLM_OK);
            assert_int_equal(out.len, n);
            assert_memory_equal(out.data, data, n);
            vlm_buf_fini(&out);
            vlm_buf_init(&out, n - (n > 0));
            assert_int_equal(vlm_base64_decode(vlm_buf_bytes(&text), &out, &err),
                             n > 0 ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
            vlm_buf_fini(&out);
        }
        vlm_buf_fini(&text);
        vlm_buf_init(&text, len - (len > 0));
        assert_int_equal(vlm_base64_encode((vlm_bytes){data, n}, &text, &err),
                         n > 0 ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        assert_int_equal(text.len, 0);
        vlm_buf_fini(&text);
    }
}

static void memory_that_runs_out(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_buf out, text;
        vlm_error err;
        vlm_buf_init(&out, 100);
        vlm_buf_init(&text, 100);
        vlm_status status = vlm_base64_decode(vlm_bytes_of("Zm9v"), &out, &err);
        if (status == VLM_OK) status = vlm_base64_encode(vlm_buf_bytes(&out), &text, &err);
        failmalloc_off();
        assert_int_equal(status, failmalloc_hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        vlm_buf_fini(&out);
        vlm_buf_fini(&text);
    }
#else
    skip(); /* the allocator cannot be replaced under a sanitizer */
#endif
}

/* Prints the speed; a busy machine must not fail a test. */
static void speed(void **state)
{
    (void)state;
    enum { LEN = 16 << 20 };
    vlm_buf text, out;
    char *const data = calloc(1, LEN);
    assert_non_null(data);
    for (size_t i = 0; i < LEN; i++) data[i] = (char)(i * 2654435761u >> 13);
    vlm_buf_init(&text, 2 * LEN);
    vlm_buf_init(&out, LEN);
    assert_int_equal(vlm_base64_encode((vlm_bytes){data, LEN}, &text, NULL), VLM_OK);
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        vlm_buf_clear(&out);
        const uint64_t start = vlm_clock_ns();
        assert_int_equal(vlm_base64_decode(vlm_buf_bytes(&text), &out, NULL), VLM_OK);
        const double s = vlm_clock_seconds(start, vlm_clock_ns());
        if (s < best) best = s;
    }
    assert_memory_equal(out.data, data, LEN);
    print_message("decoding: %.0f MB/s of text\n", (double)text.len / best / 1e6);
    vlm_buf_fini(&text);
    vlm_buf_fini(&out);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(what_clients_send),
        cmocka_unit_test(bad_text_is_refused_with_its_place),
        cmocka_unit_test(every_byte),
        cmocka_unit_test(every_length_and_limit),
        cmocka_unit_test(memory_that_runs_out),
        cmocka_unit_test(speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
