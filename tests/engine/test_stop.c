/* test_stop.c - stop strings over a streamed text, however it is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/stop.h"

typedef struct stop_case {
    const char *strings[4];
    const char *text;
    const char *want;
    bool hit;
} stop_case;

static const stop_case cases[] = {
    {{NULL}, "nothing stops this", "nothing stops this", false},
    {{"END"}, "a text END and more", "a text ", true},
    {{"END"}, "a text EN", "a text EN", false},
    {{"END"}, "ENEND", "EN", true},
    {{"END"}, "END", "", true},
    {{"aab"}, "aaaab!", "aa", true},
    {{"abcd", "bc"}, "xabcy", "xa", true},
    {{"abcd", "bc"}, "xabc", "xa", true},
    {{"abcd", "bc"}, "xabcd", "xa", true},
    {{"abc", "bc"}, "xabcd", "x", true},
    {{"b", "abc"}, "zzabc", "zza", true},
    {{"\n\n", "###"}, "one\ntwo\n\nthree", "one\ntwo", true},
    {{"\xC3\xA9"}, "caf\xC3\xA9 au lait", "caf", true},
};

static void run_case(const stop_case *c, size_t piece_len)
{
    vlm_bytes strings[4];
    size_t n = 0;
    while (n < 4 && c->strings[n] != NULL) {
        strings[n] = vlm_bytes_of(c->strings[n]);
        n++;
    }
    vlm_stop stop;
    vlm_buf out;
    vlm_error err;
    vlm_buf_init(&out, 1000);
    assert_int_equal(vlm_stop_init(&stop, strings, n, &err), VLM_OK);
    const size_t len = strlen(c->text);
    for (size_t at = 0; at < len; at += piece_len) {
        const vlm_bytes piece = {.ptr = c->text + at,
                                 .len = len - at < piece_len ? len - at : piece_len};
        assert_int_equal(vlm_stop_push(&stop, piece, &out, &err), VLM_OK);
    }
    assert_int_equal(vlm_stop_flush(&stop, &out, &err), VLM_OK);
    assert_int_equal(stop.hit, c->hit);
    assert_int_equal(out.len, strlen(c->want));
    if (out.len > 0) assert_memory_equal(out.data, c->want, out.len);
    vlm_stop_fini(&stop);
    vlm_buf_fini(&out);
}

static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece_len = 1; piece_len <= strlen(cases[i].text); piece_len++)
            run_case(&cases[i], piece_len);
}

/* Only what may begin a stop string is held back. */
static void test_streams_early(void **state)
{
    (void)state;
    const vlm_bytes strings[] = {{"STOP", 4}};
    vlm_stop stop;
    vlm_buf out;
    vlm_error err;
    vlm_buf_init(&out, 1000);
    assert_int_equal(vlm_stop_init(&stop, strings, 1, &err), VLM_OK);
    assert_int_equal(vlm_stop_push(&stop, vlm_bytes_of("hello ST"), &out, &err), VLM_OK);
    assert_string_equal(out.data, "hello ");
    assert_int_equal(vlm_stop_push(&stop, vlm_bytes_of("AY"), &out, &err), VLM_OK);
    assert_string_equal(out.data, "hello STAY");
    vlm_stop_fini(&stop);
    vlm_buf_fini(&out);
}

static void test_refusals(void **state)
{
    (void)state;
    vlm_stop stop;
    vlm_error err;
    char long_text[VLM_STOP_LEN_MAX + 1];
    memset(long_text, 'x', sizeof long_text);
    vlm_bytes strings[VLM_STOP_STRINGS_MAX + 1];
    for (size_t i = 0; i <= VLM_STOP_STRINGS_MAX; i++) strings[i] = vlm_bytes_of("x");
    assert_int_equal(vlm_stop_init(&stop, strings, VLM_STOP_STRINGS_MAX + 1, &err),
                     VLM_INVALID_ARGUMENT);
    vlm_stop_fini(&stop);
    assert_int_equal(vlm_stop_init(&stop, strings, VLM_STOP_STRINGS_MAX, &err), VLM_OK);
    vlm_stop_fini(&stop);
    strings[0] = (vlm_bytes){long_text, sizeof long_text};
    assert_int_equal(vlm_stop_init(&stop, strings, 1, &err), VLM_INVALID_ARGUMENT);
    vlm_stop_fini(&stop);
    strings[0] = (vlm_bytes){long_text, VLM_STOP_LEN_MAX};
    assert_int_equal(vlm_stop_init(&stop, strings, 1, &err), VLM_OK);
    vlm_stop_fini(&stop);
    strings[0] = (vlm_bytes){"", 0};
    assert_int_equal(vlm_stop_init(&stop, strings, 1, &err), VLM_INVALID_ARGUMENT);
    vlm_stop_fini(&stop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_streams_early),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
