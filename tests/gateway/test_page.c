/* test_page.c - the fields that the page at / is sent with. */
#include "failmalloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/page.h"

static const char *field(const vlm_response *r, const char *name)
{
    for (size_t i = 0; i < r->n_more; i++)
        if (vlm_bytes_eq_str(r->more[i].name, name)) return r->more[i].value.ptr;
    fail_msg("no %s", name);
    return NULL;
}

static vlm_page *page_of(const char *html)
{
    vlm_page *p;
    vlm_error error;
    assert_int_equal(vlm_page_new(vlm_bytes_of(html), &p, &error), VLM_OK);
    return p;
}

static void test_digests(void **state)
{
    (void)state;
    /* Digests from `printf 'TEXT' | openssl dgst -sha256 -binary | base64`. */
    vlm_page *p = page_of("<style>b{}</style><p>style</p><script type=\"x\">a()</script>"
                          "<script></script>");
    const vlm_response r = vlm_page_answer(p, NULL);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.content_type, "text/html; charset=utf-8");
    assert_string_equal(
        field(&r, "Content-Security-Policy"),
        "default-src 'none'; "
        "script-src 'sha256-qVpDBgj7bpq5hMAcGp3AOc79J3Y1Z4HvySTwKrWDoy4=' "
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; "
        "style-src 'sha256-7yqHVAesot11p6HczDsgKRipvI5UPgs97z80zNXlans='; "
        "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'");
    vlm_page_free(p);
}

static void test_nothing_to_allow(void **state)
{
    (void)state;
    vlm_page *p = page_of("<p>none</p>");
    const vlm_response r = vlm_page_answer(p, NULL);
    assert_non_null(strstr(field(&r, "Content-Security-Policy"), "; script-src; style-src; "));
    vlm_page_free(p);
    p = page_of("");
    assert_int_equal(vlm_page_answer(p, NULL).body.len, 0);
    vlm_page_free(p);
}

static void test_no_end(void **state)
{
    (void)state;
    static const char *const texts[] = {"<script", "<script>", "<style>a</styl", "<style></script>",
                                        "<script></script><script>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        vlm_page *p;
        vlm_error error;
        assert_int_equal(vlm_page_new(vlm_bytes_of(texts[i]), &p, &error), VLM_INTERNAL);
        assert_null(p);
    }
}

static void test_if_none_match(void **state)
{
    (void)state;
    vlm_page *p = page_of("<p>a</p>"), *other = page_of("<p>b</p>");
    vlm_response r = vlm_page_answer(p, NULL);
    const char *etag = field(&r, "ETag");
    char list[256];
    r = vlm_page_answer(other, NULL);
    assert_string_not_equal(etag, field(&r, "ETag"));
    assert_true(etag[0] == '"' && etag[strlen(etag) - 1] == '"');
    (void)snprintf(list, sizeof list, "\"x\", W/%s,\"y\"", etag);
    const char *const same[] = {etag, list, "*"};
    for (size_t i = 0; i < 3; i++) {
        const vlm_bytes value = vlm_bytes_of(same[i]);
        r = vlm_page_answer(p, &value);
        assert_int_equal(r.status, 304);
        assert_int_equal(r.body.len, 0);
        assert_null(r.content_type);
        assert_string_equal(field(&r, "ETag"), etag);
    }
    (void)snprintf(list, sizeof list, "%.*s\"", (int)strlen(etag) - 2, etag);
    const char *const others[] = {"", "\"\"", "**", list, etag + 1};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const vlm_bytes value = vlm_bytes_of(others[i]);
        assert_int_equal(vlm_page_answer(p, &value).status, 200);
    }
    vlm_page_free(p);
    vlm_page_free(other);
}

/* The one inside the program. */
static void test_file(void **state)
{
    (void)state;
    vlm_page *p;
    assert_int_equal(vlm_page_new(vlm_page_file, &p, NULL), VLM_OK);
    const vlm_response r = vlm_page_answer(p, NULL);
    assert_true(r.body.len > 1000 && memcmp(r.body.ptr, "<!doctype html>", 15) == 0);
    const char *policy = field(&r, "Content-Security-Policy");
    const char *script = strstr(policy, "script-src 'sha256-"),
               *style = strstr(policy, "style-src 'sha256-");
    assert_true(script != NULL && style != NULL);
    assert_null(strstr(policy, "unsafe"));
    assert_string_equal(field(&r, "X-Content-Type-Options"), "nosniff");
    assert_string_equal(field(&r, "Referrer-Policy"), "no-referrer");
    assert_string_equal(field(&r, "Cross-Origin-Opener-Policy"), "same-origin");
    assert_string_equal(field(&r, "Cross-Origin-Resource-Policy"), "same-origin");
    assert_string_equal(field(&r, "Cache-Control"), "no-cache");
    vlm_page_free(p);
}

static void test_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_page *p;
        vlm_error error;
        const vlm_status status = vlm_page_new(vlm_page_file, &p, &error);
        failmalloc_off();
        if (status != VLM_OK) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            assert_null(p);
            n_failed++;
        }
        vlm_page_free(p);
    }
    assert_true(n_failed >= 3);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests), cmocka_unit_test(test_nothing_to_allow),
        cmocka_unit_test(test_no_end),  cmocka_unit_test(test_if_none_match),
        cmocka_unit_test(test_file),    cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
