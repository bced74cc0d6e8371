#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "failmalloc.h"
#include "net/http1_write.h"

static vlm_http1_out_field field(const char *name, const char *value)
{
    return (vlm_http1_out_field){.name = vlm_bytes_of(name), .value = vlm_bytes_of(value)};
}

/* What was written, with the time of Date replaced. */
static void assert_written(const vlm_buf *out, const char *expected)
{
    char *const text = strdup(out->data);
    assert_non_null(text);
    char *const date = strstr(text, "\r\nDate: ");
    assert_non_null(date);
    assert_memory_equal(date + 8 + VLM_HTTP1_DATE_LEN, "\r\n", 2);
    memset(date + 8, '-', VLM_HTTP1_DATE_LEN);
    assert_int_equal(strlen(text), out->len);
    assert_string_equal(text, expected);
    free(text);
}

#define DATE "Date: -----------------------------\r\n"

static void heads(void **state)
{
    (void)state;
    static const struct {
        int status, minor_version;
        vlm_http1_body_kind kind;
        uint64_t body_len;
        bool keep_alive;
        const char *expected;
    } rows[] = {
        {200, 1, VLM_HTTP1_BODY_LENGTH, 12, true,
         "HTTP/1.1 200 OK\r\n" DATE "A: b\r\nContent-Length: 12\r\n\r\n"},
        {404, 1, VLM_HTTP1_BODY_LENGTH, 0, false,
         "HTTP/1.1 404 Not Found\r\n" DATE
         "A: b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
        {200, 1, VLM_HTTP1_BODY_CHUNKED, 0, true,
         "HTTP/1.1 200 OK\r\n" DATE "A: b\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {200, 1, VLM_HTTP1_BODY_CHUNKED, 0, false,
         "HTTP/1.1 200 OK\r\n" DATE
         "A: b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"},
        {200, 0, VLM_HTTP1_BODY_CHUNKED, 0, true,
         "HTTP/1.1 200 OK\r\n" DATE "A: b\r\nConnection: close\r\n\r\n"},
        {200, 0, VLM_HTTP1_BODY_LENGTH, UINT64_MAX, true,
         "HTTP/1.1 200 OK\r\n" DATE
         "A: b\r\nConnection: keep-alive\r\nContent-Length: 18446744073709551615\r\n\r\n"},
        {204, 1, VLM_HTTP1_BODY_NONE, 7, true, "HTTP/1.1 204 No Content\r\n" DATE "A: b\r\n\r\n"},
        {304, 1, VLM_HTTP1_BODY_NONE, 7, true, "HTTP/1.1 304 Not Modified\r\n" DATE "A: b\r\n\r\n"},
        {202, 1, VLM_HTTP1_BODY_NONE, 7, true,
         "HTTP/1.1 202 Accepted\r\n" DATE "A: b\r\nContent-Length: 0\r\n\r\n"},
        {599, 1, VLM_HTTP1_BODY_NONE, 0, true,
         "HTTP/1.1 599 \r\n" DATE "A: b\r\nContent-Length: 0\r\n\r\n"},
    };
    const vlm_http1_out_field fields[] = {field("A", "b")};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlm_buf out;
        vlm_error err;
        vlm_buf_init(&out, 1000);
        assert_int_equal(vlm_http1_write_head(&out, rows[i].status, rows[i].minor_version, fields,
                                              1, rows[i].kind, rows[i].body_len, rows[i].keep_alive,
                                              &err),
                         VLM_OK);
        assert_written(&out, rows[i].expected);
        vlm_buf_fini(&out);
    }
}

static vlm_status write_with(vlm_buf *out, vlm_http1_out_field f, vlm_error *err)
{
    return vlm_http1_write_head(out, 200, 1, &f, 1, VLM_HTTP1_BODY_NONE, 0, true, err);
}

/* No value can end its line, and no field can tell the body's length a second time. */
static void answers_cannot_be_split(void **state)
{
    (void)state;
    static const char *const names[] = {
        "",
        "a b",
        "a:",
        "a\r\nb",
        "\xC3\xA9",
        "Content-Length",
        "content-length",
        "TRANSFER-ENCODING",
        "Connection",
        "Date",
        "a\n",
    };
    vlm_buf out;
    vlm_error err;
    vlm_buf_init(&out, 1000);
    assert_int_equal(vlm_buf_append_str(&out, "before", &err), VLM_OK);
    for (unsigned c = 0; c < 256; c++) {
        const char value[3] = {'a', (char)c, 'b'};
        const vlm_http1_out_field f = {.name = vlm_bytes_of("X"), .value = {value, 3}};
        const bool ok = (c >= 0x20 && c != 0x7F) || c == '\t';
        assert_int_equal(write_with(&out, f, &err), ok ? VLM_OK : VLM_INVALID_ARGUMENT);
        if (ok) {
            assert_non_null(memmem(out.data, out.len, value, 3));
            out.len = 6;
            out.data[6] = '\0';
        } else {
            assert_int_equal(err.pos, 1);
        }
        assert_int_equal(out.len, 6);
        assert_string_equal(out.data, "before");
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(write_with(&out, field(names[i], "x"), &err), VLM_INVALID_ARGUMENT);
        assert_string_equal(out.data, "before");
    }
    static const int statuses[] = {-1, 0, 100, 101, 199, 600, 1000};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        assert_int_equal(
            vlm_http1_write_head(&out, statuses[i], 1, NULL, 0, VLM_HTTP1_BODY_NONE, 0, true, &err),
            VLM_INVALID_ARGUMENT);
    assert_int_equal(
        vlm_http1_write_head(&out, 204, 1, NULL, 0, VLM_HTTP1_BODY_LENGTH, 0, true, &err),
        VLM_INVALID_ARGUMENT);
    assert_string_equal(out.data, "before");
    vlm_buf_fini(&out);
}

static void nothing_is_written_by_halves(void **state)
{
    (void)state;
    vlm_buf whole, out;
    vlm_error err;
    vlm_buf_init(&whole, 1000);
    assert_int_equal(write_with(&whole, field("A", "b"), &err), VLM_OK);
    for (size_t max = 0; max <= whole.len; max++) {
        vlm_buf_init(&out, max);
        assert_int_equal(write_with(&out, field("A", "b"), &err),
                         max < whole.len ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        assert_int_equal(out.len, max < whole.len ? 0 : whole.len);
        vlm_buf_fini(&out);
    }
    for (size_t max = 0; max <= 10; max++) { /* "3\r\nabc\r\n" */
        vlm_buf_init(&out, max);
        assert_int_equal(vlm_http1_write_chunk(&out, vlm_bytes_of("abc"), &err),
                         max < 8 ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        assert_int_equal(out.len, max < 8 ? 0 : 8);
        vlm_buf_fini(&out);
    }
#if FAILMALLOC_AVAILABLE
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_buf_init(&out, 1000);
        const vlm_status status = write_with(&out, field("A", "b"), &err);
        failmalloc_off();
        assert_int_equal(status, failmalloc_hit ? VLM_RESOURCE_EXHAUSTED : VLM_OK);
        assert_int_equal(out.len, failmalloc_hit ? 0 : whole.len);
        vlm_buf_fini(&out);
    }
#endif
    vlm_buf_fini(&whole);
}

static void chunks(void **state)
{
    (void)state;
    vlm_buf out;
    vlm_error err;
    char big[4097];
    memset(big, 'x', sizeof big);
    vlm_buf_init(&out, 10000);
    assert_int_equal(vlm_http1_write_chunk(&out, vlm_bytes_of("data: x\n\n"), &err), VLM_OK);
    assert_int_equal(vlm_http1_write_chunk(&out, vlm_bytes_of(""), &err), VLM_OK);
    assert_int_equal(vlm_http1_write_chunk(&out, (vlm_bytes){"a\0b\0c\0d\0e\0f", 11}, &err),
                     VLM_OK);
    assert_int_equal(vlm_http1_write_last_chunk(&out, &err), VLM_OK);
    assert_int_equal(out.len, 14 + 16 + 5);
    assert_memory_equal(out.data, "9\r\ndata: x\n\n\r\nb\r\na\0b\0c\0d\0e\0f\r\n0\r\n\r\n",
                        out.len);
    vlm_buf_clear(&out);
    assert_int_equal(vlm_http1_write_chunk(&out, (vlm_bytes){big, sizeof big}, &err), VLM_OK);
    assert_memory_equal(out.data, "1001\r\nxxx", 9);
    assert_int_equal(out.len, 6 + 4097 + 2);
    vlm_buf_fini(&out);
    assert_string_equal(VLM_HTTP1_CONTINUE, "HTTP/1.1 100 Continue\r\n\r\n");
}

static void dates(void **state)
{
    (void)state;
    static const struct {
        int64_t unix_s;
        const char *expected;
    } rows[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"},
        {-1, "Thu, 01 Jan 1970 00:00:00 GMT"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char date[VLM_HTTP1_DATE_LEN + 1];
        vlm_http1_date(rows[i].unix_s, date);
        assert_string_equal(date, rows[i].expected);
    }
    vlm_buf out;
    vlm_buf_init(&out, 1000);
    const time_t before = time(NULL);
    assert_int_equal(write_with(&out, field("A", "b"), NULL), VLM_OK);
    struct tm tm = {0};
    assert_non_null(strptime(strstr(out.data, "Date: ") + 6, "%a, %d %b %Y %H:%M:%S GMT", &tm));
    assert_in_range(timegm(&tm), before, time(NULL));
    vlm_buf_fini(&out);
}

static void every_status_that_is_sent_has_a_name(void **state)
{
    (void)state;
    static const int statuses[] = {200, 204, 400, 401, 404, 405, 408, 413, 414, 415,
                                   417, 422, 429, 431, 500, 501, 502, 503, 504, 505};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        assert_true(vlm_http1_reason(statuses[i])[0] != '\0');
    assert_string_equal(vlm_http1_reason(431), "Request Header Fields Too Large");
    assert_string_equal(vlm_http1_reason(0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(answers_cannot_be_split),
        cmocka_unit_test(nothing_is_written_by_halves),
        cmocka_unit_test(chunks),
        cmocka_unit_test(dates),
        cmocka_unit_test(every_status_that_is_sent_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
