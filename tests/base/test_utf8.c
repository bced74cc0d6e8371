#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Encode by the definition of RFC 3629 section 3, not by the code under test. */
static size_t reference_encode(uint32_t cp, unsigned char out[4])
{
    static const unsigned char marks[5] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    const size_t n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1;) {
        out[i] = (unsigned char)(0x80 + cp % 64);
        cp /= 64;
    }
    out[0] = (unsigned char)(marks[n] + cp);
    return n;
}

static void every_code_point_makes_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        unsigned char want[4];
        const size_t n = reference_encode(cp, want);
        uint32_t got_cp;
        bool bad;
        const size_t got_n = vlm_utf8_decode((const char *)want, n, &got_cp, &bad);
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            /* ED A0..BF xx: the lead byte alone is the maximal bad part. */
            assert_true(bad && got_n == 1 && got_cp == 0xFFFD);
            continue;
        }
        if (bad || got_n != n || got_cp != cp) fail_msg("U+%04X", cp);
        char out[4];
        if (vlm_utf8_encode(cp, out) != n || memcmp(out, want, n) != 0) fail_msg("U+%04X", cp);
        for (size_t cut = 1; cut < n; cut++)
            if (vlm_utf8_incomplete_tail((const char *)want, cut) != cut) fail_msg("U+%04X", cp);
        if (vlm_utf8_incomplete_tail((const char *)want, n) != 0) fail_msg("U+%04X", cp);
    }
}

/* Code points as Python's bytes.decode("utf-8", "replace") gives them, '.' for U+FFFD. */
static void decode_all(const char *text, size_t len, char *out)
{
    size_t i = 0, n = 0;
    while (i < len) {
        uint32_t cp;
        bool bad;
        const size_t step = vlm_utf8_decode(text + i, len - i, &cp, &bad);
        assert_true(step >= 1 && step <= 4 && step <= len - i);
        assert_int_equal(bad && cp != 0xFFFD, 0);
        out[n++] = bad ? '.' : cp < 0x80 ? (char)cp : '#';
        i += step;
    }
    out[n] = '\0';
}

static void malformed_text_is_replaced_by_maximal_subparts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        /* The Unicode Standard 15, section 3.9, tables 3-8 to 3-11. */
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", "........A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", "........A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", ".....A..B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "....A"},
        /* Bytes that never occur. */
        {"\xC0", "."},
        {"\xC1\xBF", ".."},
        {"\xF5\x80\x80\x80", "...."},
        {"\xFE\xFF", ".."},
        {"\xF8\x88\x80\x80\x80", "....."},
        /* Continuation bytes alone, and cut sequences at the end and before text. */
        {"\x80", "."},
        {"\xBF\xBF"
         "a",
         "..a"},
        {"\xC3", "."},
        {"\xC3"
         "a",
         ".a"},
        {"\xE2\x82", "."},
        {"\xE2\x82"
         "a",
         ".a"},
        {"\xF0\x9F\x98", "."},
        {"\xF0\x9F\x98"
         "a",
         ".a"},
        {"\xF0\x9F"
         "\xC3\xA9",
         ".#"},
        /* Overlong forms of '/', NUL and U+FFFF; beyond U+10FFFF. */
        {"\xE0\x9F\xBF", "..."},
        {"\xF0\x8F\xBF\xBF", "...."},
        {"\xF4\x90\x80\x80", "...."},
        /* The borders that are good. */
        {"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", "######"},
        {"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", "##"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char got[64];
        const size_t len = strlen(cases[i].text);
        decode_all(cases[i].text, len, got);
        if (strcmp(got, cases[i].want) != 0) fail_msg("case %zu: %s", i, got);
        const char *bad = strchr(cases[i].want, '.');
        assert_int_equal(vlm_utf8_valid(cases[i].text, len), bad == NULL);
    }
}

static void first_bad_is_an_offset(void **state)
{
    (void)state;
    assert_int_equal(vlm_utf8_first_bad("", 0), 0);
    assert_int_equal(vlm_utf8_first_bad("abc", 3), 3);
    assert_int_equal(vlm_utf8_first_bad("a\0b", 3), 3);
    assert_int_equal(vlm_utf8_first_bad("\xC3\xA9\xE2\x82\xAC!\xFF", 7), 6);
    assert_int_equal(vlm_utf8_first_bad("\xE2\x82", 2), 0);
}

static void what_is_held_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t want;
    } cases[] = {
        {"", 0},
        {"a", 0},
        {"a\xC3", 1},
        {"\xE2\x82", 2},
        {"\xF0\x9F\x98", 3},
        {"\xF0", 1},
        /* Already bad: waiting would never mend it. */
        {"\x80", 0},
        {"\xC3\xA9\xA9", 0},
        {"\xE0\x80", 0},
        {"\xED\xA0", 0},
        {"\xF0\x80", 0},
        {"\xF4\x90", 0},
        {"\xFF", 0},
        {"\xF0\x9F\x98\x80", 0},
        {"\x80\x80\x80", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t got = vlm_utf8_incomplete_tail(cases[i].text, strlen(cases[i].text));
        if (got != cases[i].want) fail_msg("case %zu: %zu", i, got);
    }
}

/* All texts of three bytes: decoding never reads beyond the end (exact allocation, for ASan) and
 * valid() agrees with decode(). */
static void every_three_bytes(void **state)
{
    (void)state;
    char *text = malloc(3);
    assert_non_null(text);
    for (uint32_t v = 0; v < 1u << 24; v += 1 + (v & 7)) {
        text[0] = (char)(v >> 16);
        text[1] = (char)(v >> 8);
        text[2] = (char)v;
        size_t i = 0;
        bool any_bad = false;
        while (i < 3) {
            uint32_t cp;
            bool bad;
            const size_t n = vlm_utf8_decode(text + i, 3 - i, &cp, &bad);
            if (n == 0 || n > 3 - i) fail_msg("%06X", v);
            any_bad |= bad;
            i += n;
        }
        if (any_bad == vlm_utf8_valid(text, 3)) fail_msg("%06X", v);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_makes_the_round_trip),
        cmocka_unit_test(malformed_text_is_replaced_by_maximal_subparts),
        cmocka_unit_test(first_bad_is_an_offset),
        cmocka_unit_test(what_is_held_back),
        cmocka_unit_test(every_three_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
