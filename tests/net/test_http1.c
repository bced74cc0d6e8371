#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "failmalloc.h"
#include "net/http1_parts.h"
#include "net/http1_trace.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static vlm_http1_event next(vlm_http1 *p, const char *text, size_t *n_used, vlm_bytes *body)
{
    return vlm_http1_next(p, text, strlen(text), n_used, body);
}

static void assert_bytes(vlm_bytes got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.ptr, expected, got.len);
}

/* The head that text is, in p. */
static const vlm_http1_request *head_of(vlm_http1 *p, const char *text)
{
    size_t n_used;
    vlm_bytes body;
    vlm_http1_init(p, &vlm_http1_limits_default);
    assert_null(vlm_http1_request_get(p));
    const vlm_http1_event event = next(p, text, &n_used, &body);
    if (event != VLM_HTTP1_HEAD) fail_msg("%s: %s", text, vlm_http1_error_text(p));
    assert_int_equal(n_used, strlen(text));
    return vlm_http1_request_get(p);
}

static void a_request_is_seen_as_it_was_sent(void **state)
{
    (void)state;
    vlm_http1 p;
    const vlm_http1_request *r = head_of(
        &p, "POST http://h:1/a/b?c=d HTTP/1.1\r\nHOST: h:1\r\nX-Two: \t a\tb \t\r\n"
            "x-tWO:second\r\nContent-LENGTH: 3\r\nEmpty: \t\r\nExpect: 100-Continue\r\n\r\n");
    assert_bytes(r->method, "POST");
    assert_bytes(r->target, "http://h:1/a/b?c=d");
    assert_bytes(r->path, "/a/b");
    assert_bytes(r->query, "c=d");
    assert_int_equal(r->minor_version, 1);
    assert_int_equal(r->n_fields, 6);
    assert_bytes(r->fields[0].name, "host");
    assert_bytes(r->fields[1].value, "a\tb");
    assert_bytes(vlm_http1_find(r, "x-two")->value, "a\tb");
    assert_ptr_equal(vlm_http1_find(r, "x-two"), &r->fields[1]);
    assert_bytes(r->fields[2].name, "x-two");
    assert_bytes(r->fields[2].value, "second");
    assert_bytes(vlm_http1_find(r, "empty")->value, "");
    assert_null(vlm_http1_find(r, "x-tw"));
    assert_true(r->has_body && !r->chunked && r->expect_continue && r->keep_alive);
    assert_int_equal(r->content_length, 3);

    size_t n_used;
    vlm_bytes body;
    const char text[] = "abcGET";
    assert_int_equal(next(&p, text, &n_used, &body), VLM_HTTP1_BODY);
    assert_int_equal(n_used, 3);
    assert_ptr_equal(body.ptr, text);
    assert_int_equal(body.len, 3);
    assert_int_equal(vlm_http1_next(&p, NULL, 0, &n_used, &body), VLM_HTTP1_END);
    assert_int_equal(n_used, 0);
    assert_bytes(vlm_http1_request_get(&p)->path, "/a/b");
    assert_int_equal(vlm_http1_next(&p, NULL, 0, &n_used, &body), VLM_HTTP1_NEED_MORE);
    assert_null(vlm_http1_request_get(&p));
    vlm_http1_fini(&p);
}

static void connections_are_kept_as_the_version_and_the_fields_say(void **state)
{
    static const struct {
        const char *text;
        bool keep;
    } rows[] = {
        {GET "\r\n", true},
        {GET "Connection: close\r\n\r\n", false},
        {GET "Connection: CLOSE\r\n\r\n", false},
        {GET "Connection: closed\r\n\r\n", true},
        {GET "Connection: x-close\r\n\r\n", true},
        {GET "Connection: upgrade,\tclose \r\n\r\n", false},
        {GET "Connection: , ,close\r\n\r\n", false},
        {GET "Connection: keep-alive\r\nConnection: close\r\n\r\n", false},
        {GET "Connection: close, keep-alive\r\n\r\n", false},
        {GET "Connection:\r\n\r\n", true},
        {"GET / HTTP/1.0\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n", true},
        {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false},
        {"GET / HTTP/1.0\r\nKeep-Alive: 5\r\n\r\n", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vlm_http1 p;
        if (head_of(&p, rows[i].text)->keep_alive != rows[i].keep) fail_msg("%s", rows[i].text);
        vlm_http1_fini(&p);
    }
}

static void what_has_a_body(void **state)
{
    (void)state;
    vlm_http1 p;
    assert_false(head_of(&p, GET "\r\n")->has_body);
    vlm_http1_fini(&p);
    assert_false(head_of(&p, GET "Content-Length: 0\r\n\r\n")->has_body);
    vlm_http1_fini(&p);
    const vlm_http1_request *r = head_of(&p, CHUNKED);
    assert_true(r->has_body && r->chunked && r->content_length == 0);
    vlm_http1_fini(&p);
    r = head_of(&p, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    assert_false(r->expect_continue);
    assert_int_equal(r->minor_version, 0);
    vlm_http1_fini(&p);
}

static void messages_follow_each_other(void **state)
{
    (void)state;
    enum { N = 1000 };
    http1_trace t;
    vlm_http1 p;
    vlm_buf text;
    vlm_error err;
    vlm_buf_init(&text, (size_t)1 << 20);
    for (int i = 0; i < N; i++) {
        assert_int_equal(vlm_buf_printf(&text, &err,
                                        i % 3 == 0   ? "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
                                        : i % 3 == 1 ? "PUT /%d HTTP/1.1\r\nHost: a\r\n"
                                                       "Content-Length: 3\r\n\r\nabc"
                                                     : "PUT /%d HTTP/1.1\r\nHost: a\r\n"
                                                       "Transfer-Encoding: chunked\r\n\r\n"
                                                       "2\r\nab\r\n1\r\nc\r\n0\r\nA: b\r\n\r\n",
                                        i),
                         VLM_OK);
    }
    /* In pieces of each of these sizes; memory is released now and then. */
    static const size_t sizes[] = {1, 2, 3, 7, 64, 1000, SIZE_MAX};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        vlm_http1_init(&p, &vlm_http1_limits_default);
        http1_trace_init(&t);
        for (size_t off = 0, n; off < text.len; off += n) {
            n = text.len - off < sizes[k] ? text.len - off : sizes[k];
            http1_trace_feed(&t, &p, text.data + off, n);
            if (off % 5 == 0) vlm_http1_release(&p);
        }
        assert_false(t.failed);
        assert_int_equal(t.n_ends, N);
        assert_int_equal(t.body_bytes, 3 * (N - (N + 2) / 3));
        assert_non_null(strstr(t.brief.data, "GET /999[]"));
        http1_trace_fini(&t);
        vlm_http1_fini(&p);
    }
    vlm_buf_fini(&text);
}

static void an_idle_connection_costs_only_the_struct(void **state)
{
    (void)state;
    vlm_http1 p;
    size_t n_used;
    vlm_bytes body;
    assert_true(sizeof p <= 200);
    (void)head_of(&p, CHUNKED);
    vlm_http1_release(&p);
    assert_non_null(vlm_http1_request_get(&p)); /* within the message nothing is freed */
    assert_int_equal(next(&p, "0\r\n\r\n", &n_used, &body), VLM_HTTP1_END);
    assert_non_null(p.store);
    vlm_http1_release(&p);
    assert_null(p.store);
    assert_null(vlm_http1_request_get(&p));
    assert_int_equal(next(&p, "\r\n", &n_used, &body), VLM_HTTP1_NEED_MORE);
    assert_null(p.store);
    assert_int_equal(next(&p, "G", &n_used, &body), VLM_HTTP1_NEED_MORE);
    vlm_http1_release(&p);
    assert_non_null(p.store);
    assert_int_equal(next(&p, "\n", &n_used, &body), VLM_HTTP1_ERROR);
    vlm_http1_release(&p);
    assert_null(p.store);
    assert_int_equal(vlm_http1_error_status(&p), 400);
    vlm_http1_fini(&p);
}

/* The status that refuses text under limits, 0 if it is accepted; in one piece, and byte by byte.
 */
static int status_of(const vlm_http1_limits *limits, vlm_bytes text)
{
    int status[2];
    size_t n_used[2];
    for (int k = 0; k < 2; k++) {
        vlm_http1 p;
        http1_trace t;
        vlm_http1_init(&p, limits);
        http1_trace_init(&t);
        for (size_t i = 0, n; i < text.len && !t.failed; i += n) {
            n = k == 0 ? text.len : 1;
            http1_trace_feed(&t, &p, text.ptr + i, n);
        }
        status[k] = vlm_http1_error_status(&p);
        n_used[k] = t.n_used;
        assert_true(t.failed || t.n_ends == 1);
        assert_true(t.body_bytes <= limits->body_max);
        http1_trace_fini(&t);
        vlm_http1_fini(&p);
    }
    assert_int_equal(status[0], status[1]);
    assert_int_equal(n_used[0], n_used[1]);
    return status[0];
}

static int status_of_text(const vlm_http1_limits *limits, const char *text)
{
    return status_of(limits, vlm_bytes_of(text));
}

static void limits_are_exact(void **state)
{
    (void)state;
    vlm_http1_limits limits = vlm_http1_limits_default;
    limits.request_line_max = strlen("GET /path HTTP/1.1");
    assert_int_equal(status_of_text(&limits, "GET /path HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
    assert_int_equal(status_of_text(&limits, "GET /pathx HTTP/1.1\r\nHost: a\r\n\r\n"), 414);
    assert_int_equal(status_of_text(&limits, "GET /path  HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    /* A limit at each place of the line. */
    for (limits.request_line_max = 0; limits.request_line_max < 18; limits.request_line_max++)
        assert_int_equal(status_of_text(&limits, "GET /path HTTP/1.1\r\nHost: a\r\n\r\n"), 414);

    limits = vlm_http1_limits_default;
    const char two[] = "GET / HTTP/1.1\r\nHost: a\r\nX:  b \r\n\r\n";
    for (limits.header_bytes_max = 0; limits.header_bytes_max < 17; limits.header_bytes_max++)
        assert_int_equal(status_of_text(&limits, two), 431);
    assert_int_equal(status_of_text(&limits, two), 0);
    const char trailer[] = CHUNKED "0\r\nX: b\r\n\r\n"; /* 9 + 28 + 6 bytes of fields */
    for (limits.header_bytes_max = 37; limits.header_bytes_max < 43; limits.header_bytes_max++)
        assert_int_equal(status_of_text(&limits, trailer), 431);
    assert_int_equal(status_of_text(&limits, trailer), 0);

    limits = vlm_http1_limits_default;
    limits.header_fields_max = 2;
    assert_int_equal(status_of_text(&limits, two), 0);
    assert_int_equal(status_of_text(&limits, trailer), 431);
    limits.header_fields_max = 3;
    assert_int_equal(status_of_text(&limits, trailer), 0);
    limits.header_fields_max = 1;
    assert_int_equal(status_of_text(&limits, two), 431);
}

static void a_body_too_large_is_refused_before_it_comes(void **state)
{
    (void)state;
    vlm_http1_limits limits = vlm_http1_limits_default;
    limits.body_max = 5;
    assert_int_equal(status_of_text(&limits, GET "Content-Length: 5\r\n\r\nhello"), 0);
    assert_int_equal(status_of_text(&limits, GET "Content-Length: 6\r\n\r\n"), 413);
    assert_int_equal(status_of_text(&limits, CHUNKED "5\r\nhello\r\n0\r\n\r\n"), 0);
    assert_int_equal(status_of_text(&limits, CHUNKED "6\r\n"), 413);
    assert_int_equal(status_of_text(&limits, CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), 0);
    assert_int_equal(status_of_text(&limits, CHUNKED "3\r\nabc\r\n3\r\n"), 413);
    limits.body_max = 0;
    assert_int_equal(status_of_text(&limits, CHUNKED "0\r\n\r\n"), 0);
    assert_int_equal(status_of_text(&limits, CHUNKED "1\r\n"), 413);
    limits.body_max = UINT64_MAX;
    assert_int_equal(status_of_text(&limits, CHUNKED "1\r\na\r\nffffffffffffffff\r\n"), 413);
}

static void the_defaults_are_those_of_the_documents(void **state)
{
    (void)state;
    const vlm_http1_limits *const limits = &vlm_http1_limits_default;
    vlm_buf text;
    vlm_error err;
    vlm_buf_init(&text, (size_t)1 << 20);
    for (unsigned extra = 0; extra < 2; extra++) {
        vlm_buf_clear(&text);
        assert_int_equal(vlm_buf_printf(&text, &err, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n",
                                        (int)(8192 - 14 + extra), 0),
                         VLM_OK);
        assert_int_equal(status_of(limits, vlm_buf_bytes(&text)), extra == 0 ? 0 : 414);
        vlm_buf_clear(&text);
        assert_int_equal(
            vlm_buf_printf(&text, &err, GET "X:%0*d\r\n\r\n", (int)(32768 - 9 - 4 + extra), 0),
            VLM_OK);
        assert_int_equal(status_of(limits, vlm_buf_bytes(&text)), extra == 0 ? 0 : 431);
        vlm_buf_clear(&text);
        assert_int_equal(vlm_buf_append_str(&text, GET, &err), VLM_OK);
        for (unsigned i = 0; i < 99 + extra; i++)
            assert_int_equal(vlm_buf_printf(&text, &err, "X%u: y\r\n", i), VLM_OK);
        assert_int_equal(vlm_buf_append_str(&text, "\r\n", &err), VLM_OK);
        assert_int_equal(status_of(limits, vlm_buf_bytes(&text)), extra == 0 ? 0 : 431);
    }
    vlm_buf_fini(&text);
    assert_int_equal(status_of_text(limits, GET "Content-Length: 67108865\r\n\r\n"), 413);
    vlm_http1 p;
    assert_int_equal(head_of(&p, GET "Content-Length: 67108864\r\n\r\n")->content_length, 1 << 26);
    vlm_http1_fini(&p);
}

/* Send n chunks of this text; the bytes that were taken before it was refused, 0 if it was not. */
static size_t refused_after(const char *chunk, size_t n, size_t *max_store)
{
    vlm_http1 p;
    size_t sent = 0, n_used;
    vlm_bytes body;
    (void)head_of(&p, CHUNKED);
    for (size_t i = 0; i < n; i++) {
        const char *at = chunk;
        vlm_http1_event event;
        do {
            event = next(&p, at, &n_used, &body);
            at += n_used;
            sent += n_used;
        } while (event == VLM_HTTP1_BODY);
        if (p.store->text.cap > *max_store) *max_store = p.store->text.cap;
        if (event != VLM_HTTP1_ERROR) continue;
        assert_int_equal(vlm_http1_error_status(&p), 400);
        vlm_http1_fini(&p);
        return sent;
    }
    vlm_http1_fini(&p);
    return 0;
}

static void tiny_chunks_come_to_an_end(void **state)
{
    (void)state;
    char ext[300] = "1;";
    size_t max_store = 0;
    memset(ext + 2, 'x', 255);
    memcpy(ext + 257, "\r\ny\r\n", 6);
    /* 64 KiB of framing and twice the body: 3 bytes of 5 count against it. */
    const size_t sent = refused_after("1\r\nx\r\n", 3 << 20, &max_store);
    assert_in_range(sent, 120000, 140000);
    assert_in_range(refused_after(ext, 10000, &max_store), 65536, 70000);
    /* Chunks that a client would send are not refused. */
    assert_int_equal(refused_after("4\r\nabcd\r\n", 1 << 20, &max_store), 0);
    assert_true(max_store < 1024);
}

/* Time on the CPU: what else runs does not count. */
static double thread_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A header fed byte by byte takes a time in proportion to its length. */
static void time_is_linear(void **state)
{
    (void)state;
    double seconds[2] = {1e9, 1e9};
    vlm_http1_limits limits = vlm_http1_limits_default;
    limits.header_bytes_max = (size_t)1 << 30;
    for (int round = 0; round < 5; round++) {
        for (unsigned k = 0; k < 2; k++) {
            const size_t n = (size_t)1 << (k == 0 ? 17 : 20);
            vlm_http1 p;
            size_t n_used;
            vlm_bytes body;
            vlm_http1_init(&p, &limits);
            assert_int_equal(next(&p, GET "X: ", &n_used, &body), VLM_HTTP1_NEED_MORE);
            const double start = thread_seconds();
            for (size_t i = 0; i < n; i++)
                assert_true(vlm_http1_next(&p, "y", 1, &n_used, &body) == VLM_HTTP1_NEED_MORE);
            const double s = thread_seconds() - start;
            if (s < seconds[k]) seconds[k] = s;
            vlm_http1_fini(&p);
        }
    }
    print_message("byte by byte: %.1f ns a byte\n", seconds[1] / (1 << 20) * 1e9);
    /* 8 times the bytes: 8 times the time, 64 times if it were quadratic. */
    assert_true(seconds[1] < 24 * seconds[0]);
}

static void an_error_is_for_good_and_repeats_nothing(void **state)
{
    (void)state;
    vlm_http1 p;
    size_t n_used;
    vlm_bytes body;
    vlm_http1_init(&p, &vlm_http1_limits_default);
    assert_int_equal(vlm_http1_error_status(&p), 0);
    assert_string_equal(vlm_http1_error_text(&p), "");
    assert_int_equal(next(&p, GET "secret: \x01", &n_used, &body), VLM_HTTP1_ERROR);
    assert_null(strstr(vlm_http1_error_text(&p), "secret"));
    assert_int_equal(next(&p, GET "\r\n", &n_used, &body), VLM_HTTP1_ERROR);
    assert_int_equal(n_used, 0);
    assert_int_equal(vlm_http1_next(&p, NULL, 0, &n_used, &body), VLM_HTTP1_ERROR);
    assert_null(vlm_http1_request_get(&p));
    vlm_http1_fini(&p);
}

static void memory_that_runs_out_is_a_503(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    vlm_buf text;
    unsigned n_failed = 0;
    vlm_buf_init(&text, (size_t)1 << 20);
    assert_int_equal(vlm_buf_append_str(&text, CHUNKED, NULL), VLM_OK);
    text.len -= 2;
    for (int i = 0; i < 97; i++)
        assert_int_equal(vlm_buf_printf(&text, NULL, "Name-%d: %050d\r\n", i, i), VLM_OK);
    assert_int_equal(vlm_buf_append_str(&text, "\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n", NULL), VLM_OK);
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_http1 p;
        size_t off = 0, n_used;
        vlm_bytes body;
        vlm_http1_event event;
        vlm_http1_init(&p, &vlm_http1_limits_default);
        do {
            event = vlm_http1_next(&p, text.data + off, text.len - off, &n_used, &body);
            off += n_used;
        } while (event != VLM_HTTP1_END && event != VLM_HTTP1_ERROR);
        failmalloc_off();
        if (failmalloc_hit) {
            n_failed++;
            assert_int_equal(event, VLM_HTTP1_ERROR);
            assert_int_equal(vlm_http1_error_status(&p), 503);
        } else {
            assert_int_equal(event, VLM_HTTP1_END);
            assert_int_equal(vlm_http1_request_get(&p)->n_fields, 99);
        }
        vlm_http1_fini(&p);
    }
    assert_true(n_failed > 5);
    vlm_buf_fini(&text);
#else
    skip(); /* the allocator cannot be replaced under a sanitizer */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_seen_as_it_was_sent),
        cmocka_unit_test(connections_are_kept_as_the_version_and_the_fields_say),
        cmocka_unit_test(what_has_a_body),
        cmocka_unit_test(messages_follow_each_other),
        cmocka_unit_test(an_idle_connection_costs_only_the_struct),
        cmocka_unit_test(limits_are_exact),
        cmocka_unit_test(a_body_too_large_is_refused_before_it_comes),
        cmocka_unit_test(the_defaults_are_those_of_the_documents),
        cmocka_unit_test(tiny_chunks_come_to_an_end),
        cmocka_unit_test(time_is_linear),
        cmocka_unit_test(an_error_is_for_good_and_repeats_nothing),
        cmocka_unit_test(memory_that_runs_out_is_a_503),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
