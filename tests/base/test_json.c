#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "failmalloc.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From an exact allocation, so that a sanitizer sees a read beyond the end. */
static vlm_status parse(const char *text, size_t len, vlm_json_doc **doc, vlm_error *err)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0) memcpy(copy, text, len);
    const vlm_status status = vlm_json_parse(copy, len, &vlm_json_limits_default, doc, err);
    free(copy);
    return status;
}

static vlm_json_doc *must_parse(const char *text)
{
    vlm_json_doc *doc;
    vlm_error err;
    if (parse(text, strlen(text), &doc, &err) != VLM_OK) fail_msg("%s: %s", text, err.msg);
    assert_non_null(doc);
    return doc;
}

#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }
typedef struct text {
    const char *ptr;
    size_t len;
} text;

static void what_is_json(void **state)
{
    (void)state;
    static const text good[] = {
        TEXT("null"),
        TEXT("true"),
        TEXT("false"),
        TEXT("0"),
        TEXT("-0"),
        TEXT("1"),
        TEXT("-12"),
        TEXT("1.5"),
        TEXT("-0.0"),
        TEXT("1e5"),
        TEXT("1E+5"),
        TEXT("1e-5"),
        TEXT("0e0"),
        TEXT("1.25e2"),
        TEXT("\"\""),
        TEXT("\"a\""),
        TEXT("[]"),
        TEXT("{}"),
        TEXT(" [ ] "),
        TEXT("\t{\r\n}\n"),
        TEXT("[1,2]"),
        TEXT("[[],[[]]]"),
        TEXT("{\"a\":1}"),
        TEXT("{\"\":0}"),
        TEXT("{\"a\":{\"a\":{}}}"),
        TEXT("[{\"a\":1},{\"a\":2}]"),
        TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
        TEXT("\"\\u0041\\uD83D\\uDE00\""),
        TEXT("\"\\u0000\""),
        TEXT("[\"\\u0000\",1]"),
        TEXT("{\"a\":\"\\u0000\"}"),
        TEXT("\"\xF0\x9F\x98\x80\""),
        TEXT("\"\x7F\""),
        TEXT("{\"a\":\"b:c,d\"}"),
        TEXT("\"// no comment\""),
        TEXT("[1e999]"),
        TEXT("[123456789012345678901234567890]"),
        TEXT("\"\\uD800\""),
        TEXT("{\"\\\"\":1}"),
        TEXT("{\"\\\\\":1,\"b\":\"\\\\\"}"),
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        vlm_json_doc *doc;
        vlm_error err;
        if (parse(good[i].ptr, good[i].len, &doc, &err) != VLM_OK)
            fail_msg("%s: %s", good[i].ptr, err.msg);
        vlm_json_free(doc);
    }
}

static void what_is_not_json(void **state)
{
    (void)state;
    static const text bad[] = {
        TEXT(""),
        TEXT(" "),
        TEXT("\n"),
        TEXT("nul"),
        TEXT("nulls"),
        TEXT("True"),
        TEXT("NULL"),
        TEXT("NaN"),
        TEXT("-NaN"),
        TEXT("Infinity"),
        TEXT("-Infinity"),
        TEXT("inf"),
        TEXT("+1"),
        TEXT("01"),
        TEXT("-01"),
        TEXT("1."),
        TEXT(".5"),
        TEXT("-.5"),
        TEXT("1e"),
        TEXT("1e+"),
        TEXT("1.e1"),
        TEXT("0x10"),
        TEXT("--1"),
        TEXT("-"),
        TEXT("1 2"),
        TEXT("1,2"),
        TEXT("1a"),
        TEXT("[1 2]"),
        TEXT("[1,]"),
        TEXT("[,1]"),
        TEXT("[,]"),
        TEXT("[1,,2]"),
        TEXT("["),
        TEXT("]"),
        TEXT("[1"),
        TEXT("[1]]"),
        TEXT("[[1]"),
        TEXT("[1}"),
        TEXT("{]"),
        TEXT("{"),
        TEXT("}"),
        TEXT("{\"a\"}"),
        TEXT("{\"a\":}"),
        TEXT("{\"a\" 1}"),
        TEXT("{:1}"),
        TEXT("{1:1}"),
        TEXT("{a:1}"),
        TEXT("{'a':1}"),
        TEXT("{\"a\":1,}"),
        TEXT("{,\"a\":1}"),
        TEXT("{\"a\":1 \"b\":2}"),
        TEXT("{\"a\":1,,\"b\":2}"),
        TEXT("{\"a\"::1}"),
        TEXT("{\"a\":1:2}"),
        TEXT("{\"a\",\"b\"}"),
        TEXT("[\"a\":1]"),
        TEXT("{null:1}"),
        TEXT("{[]:1}"),
        TEXT("\"a"),
        TEXT("\"a\\\""),
        TEXT("\"\\"),
        TEXT("'a'"),
        TEXT("\"\\x41\""),
        TEXT("\"\\u12\""),
        TEXT("\"\\u12G4\""),
        TEXT("\"\\U0041\""),
        TEXT("\"\\ \""),
        TEXT("\"\n\""),
        TEXT("\"\t\""),
        TEXT("\"\0\""),
        TEXT("\0"),
        TEXT("null\0"),
        TEXT("1\0"),
        TEXT("[]\0[]"),
        TEXT("/* c */ 1"),
        TEXT("1 // c"),
        TEXT("[1 /* c */]"),
        TEXT("# c\n1"),
        TEXT("\xEF\xBB\xBF[]"),
        TEXT("\"\xFF\""),
        TEXT("\"\xC3\""),
        TEXT("\"\xED\xA0\x80\""),
        TEXT("\"\xC0\xAF\""),
        TEXT("[]x"),
        TEXT("{}{}"),
        TEXT("[] []"),
        TEXT("\"a\"\"b\""),
        TEXT("\xC2\xA0[]"),
        TEXT("\x0B[]"),
        TEXT("\x0C 1"),
        TEXT(":"),
        TEXT(","),
        TEXT("[:]"),
        TEXT("{\"a\":1}:"),
        TEXT("[true false]"),
        TEXT("[nulltrue]"),
        TEXT("undefined"),
        TEXT("{\"a\":1,\"a\":2}"),
        TEXT("{\"a\":1,\"\\u0061\":2}"),
        TEXT("[{\"b\":[{\"x\":{},\"y\":1,\"x\":[]}]}]"),
        TEXT("{\"\":1,\"\":1}"),
        TEXT("{\"\\u0000\":1}"),
        TEXT("{\"a\\u0000b\":1}"),
        TEXT("{\"a\\u0000\" :1}"),
        TEXT("{\"a\":null,\"a\":null}"),
        TEXT("{\"a\":1,\"b\" 2:}"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vlm_json_doc *doc;
        vlm_error err;
        const vlm_status status = parse(bad[i].ptr, bad[i].len, &doc, &err);
        if (status != VLM_INVALID_ARGUMENT) fail_msg("%zu %s: %d", i, bad[i].ptr, status);
        assert_null(doc);
        assert_int_equal(strncmp(err.msg, "JSON: ", 6), 0);
        assert_true(err.pos <= bad[i].len);
    }
}

static void errors_tell_the_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t pos;
    } cases[] = {
        {"[1, 2, x]", 7}, {"{\"a\": 01}", 6}, {"\"abc\xFF\"", 4}, {"[1]]", 3}, {"[1] 2", 4}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_json_doc *doc;
        vlm_error err;
        assert_int_equal(parse(cases[i].text, strlen(cases[i].text), &doc, &err),
                         VLM_INVALID_ARGUMENT);
        if (err.pos != cases[i].pos) fail_msg("%s: %s", cases[i].text, err.msg);
    }
}

static vlm_status parse_nested(size_t depth, char open, char close, const vlm_json_limits *limits)
{
    const size_t unit = open == '{' ? 5 : 1;
    char *nested = malloc(depth * (unit + 1) + 1);
    assert_non_null(nested);
    char *p = nested;
    for (size_t i = 0; i < depth; i++) {
        memcpy(p, open == '{' ? "{\"a\":" : "[", unit);
        p += unit;
    }
    if (open == '{') *p++ = '1';
    memset(p, close, depth);
    p += depth;
    vlm_json_doc *doc;
    vlm_error err;
    const vlm_status status = vlm_json_parse(nested, (size_t)(p - nested), limits, &doc, &err);
    vlm_json_free(doc);
    free(nested);
    return status;
}

static void depth_is_bounded(void **state)
{
    (void)state;
    const vlm_json_limits *limits = &vlm_json_limits_default;
    assert_int_equal(parse_nested(64, '[', ']', limits), VLM_OK);
    assert_int_equal(parse_nested(65, '[', ']', limits), VLM_INVALID_ARGUMENT);
    assert_int_equal(parse_nested(64, '{', '}', limits), VLM_OK);
    assert_int_equal(parse_nested(65, '{', '}', limits), VLM_INVALID_ARGUMENT);
    assert_int_equal(parse_nested(1000000, '[', ']', limits), VLM_INVALID_ARGUMENT);
    assert_int_equal(parse_nested(1000000, '{', '}', limits), VLM_INVALID_ARGUMENT);
    /* What a caller asks for beyond the cap is not given. */
    const vlm_json_limits greedy = {
        .len_max = 1 << 24, .depth_max = SIZE_MAX, .nodes_max = SIZE_MAX};
    assert_int_equal(parse_nested(512, '[', ']', &greedy), VLM_OK);
    assert_int_equal(parse_nested(513, '[', ']', &greedy), VLM_INVALID_ARGUMENT);
    assert_int_equal(parse_nested(1000000, '{', '}', &greedy), VLM_INVALID_ARGUMENT);
}

static void size_and_nodes_are_bounded(void **state)
{
    (void)state;
    const vlm_json_limits limits = {.len_max = 20, .depth_max = 4, .nodes_max = 5};
    static const struct {
        const char *text;
        vlm_status want;
    } cases[] = {
        {"[1,2,3,4]", VLM_OK},
        {"[1,2,3,4,5]", VLM_RESOURCE_EXHAUSTED},
        {"{\"a\":1,\"b\":2}", VLM_OK},
        {"{\"a\":1,\"b\":[]}", VLM_OK},
        {"{\"a\":1,\"b\":[1]}", VLM_RESOURCE_EXHAUSTED},
        {"\"345678901234567890\"", VLM_OK},
        {"\"3456789012345678901\"", VLM_RESOURCE_EXHAUSTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_json_doc *doc;
        vlm_error err;
        const vlm_status status =
            vlm_json_parse(cases[i].text, strlen(cases[i].text), &limits, &doc, &err);
        if (status != cases[i].want) fail_msg("%s: %d", cases[i].text, status);
        vlm_json_free(doc);
    }
}

static void values(void **state)
{
    (void)state;
    vlm_json_doc *doc = must_parse("{\"z\":null,\"b\":true,\"i\":-7,\"d\":0.25,\"s\":\"a\\u0000b\","
                                   "\"a\":[1,null,\"x\"],\"o\":{\"k\":1},\"e\":1e2}");
    const vlm_json *root = vlm_json_root(doc);
    assert_int_equal(vlm_json_typeof(root), VLM_JSON_OBJECT);
    assert_int_equal(vlm_json_object_len(root), 8);
    assert_true(vlm_json_has(root, "z"));
    assert_null(vlm_json_get(root, "z"));
    assert_false(vlm_json_has(root, "missing"));
    assert_null(vlm_json_get(root, "missing"));
    assert_null(vlm_json_get(NULL, "z"));
    assert_null(vlm_json_get(vlm_json_get(root, "a"), "z"));
    assert_true(vlm_json_bool(vlm_json_get(root, "b")));
    assert_int_equal(vlm_json_int(vlm_json_get(root, "i")), -7);
    assert_true(vlm_json_double(vlm_json_get(root, "d")) == 0.25);
    assert_true(vlm_json_double(vlm_json_get(root, "i")) == -7.0);
    assert_int_equal(vlm_json_typeof(vlm_json_get(root, "e")), VLM_JSON_DOUBLE);
    const vlm_bytes s = vlm_json_string(vlm_json_get(root, "s"));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.ptr, "a\0b", 3);
    const vlm_json *a = vlm_json_get(root, "a");
    assert_int_equal(vlm_json_array_len(a), 3);
    assert_int_equal(vlm_json_array_len(root), 0);
    assert_null(vlm_json_at(a, 1));
    assert_string_equal(vlm_json_type_name(vlm_json_at(a, 2)), "a string");
    assert_string_equal(vlm_json_type_name(NULL), "null");
    vlm_json_free(doc);
    vlm_json_free(NULL);

    doc = must_parse("null");
    assert_null(vlm_json_root(doc));
    vlm_json_free(doc);
}

static void objects_keep_their_order(void **state)
{
    (void)state;
    vlm_json_doc *doc = must_parse("{\"z\":1,\"a\":2,\"m\":null,\"b\":4}");
    const char *const want[] = {"z", "a", "m", "b"};
    size_t n = 0;
    for (vlm_json_iter it = vlm_json_iter_begin(vlm_json_root(doc)); vlm_json_iter_next(&it); n++) {
        assert_true(n < 4);
        assert_string_equal(it.key, want[n]);
        assert_int_equal(it.value == NULL, n == 2);
    }
    assert_int_equal(n, 4);
    vlm_json_free(doc);
    doc = must_parse("{}");
    vlm_json_iter it = vlm_json_iter_begin(vlm_json_root(doc));
    assert_false(vlm_json_iter_next(&it));
    vlm_json_free(doc);
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t want;
        bool fits;
    } ints[] = {
        {"0", 0, true},
        {"-0", 0, true},
        {"9007199254740993", 9007199254740993, true},
        {"9223372036854775806", INT64_MAX - 1, true},
        {"9223372036854775807", INT64_MAX, true},
        {"-9223372036854775808", INT64_MIN, true},
        {"-9223372036854775807", -INT64_MAX, true},
        {"9223372036854775808", INT64_MAX, false},
        {"18446744073709551615", INT64_MAX, false},
        {"99999999999999999999999999", INT64_MAX, false},
        {"-9223372036854775809", INT64_MIN, false},
        {"-99999999999999999999999999", INT64_MIN, false},
    };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        vlm_json_doc *doc = must_parse(ints[i].text);
        const vlm_json *node = vlm_json_root(doc);
        assert_int_equal(vlm_json_typeof(node), VLM_JSON_INT);
        if (vlm_json_int(node) != ints[i].want || vlm_json_int_fits(node) != ints[i].fits)
            fail_msg("%s: %lld", ints[i].text, (long long)vlm_json_int(node));
        vlm_json_free(doc);
    }
    static const struct {
        const char *text;
        double want;
    } reals[] = {{"1e-05", 1e-05},
                 {"0.1", 0.1},
                 {"2.2250738585072014e-308", DBL_MIN},
                 {"1.7976931348623157e308", DBL_MAX},
                 {"5e-324", 5e-324},
                 {"1e-400", 0.0},
                 {"-0.0", -0.0},
                 {"500000.0", 500000.0},
                 {"123456789012345680000.0", 1.2345678901234568e20}};
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        vlm_json_doc *doc = must_parse(reals[i].text);
        const double got = vlm_json_double(vlm_json_root(doc));
        if (memcmp(&got, &reals[i].want, sizeof got) != 0) fail_msg("%s: %g", reals[i].text, got);
        vlm_json_free(doc);
    }
}

static void typed_members(void **state)
{
    (void)state;
    vlm_json_doc *doc =
        must_parse("{\"n\":null,\"b\":false,\"i\":12,\"neg\":-1,\"big\":99999999999999999999,"
                   "\"f\":1.5,\"inf\":1e999,\"s\":\"x\",\"whole\":3.0}");
    const vlm_json *o = vlm_json_root(doc);
    vlm_error err;
    bool b = true;
    int64_t i = 5;
    uint32_t u = 6;
    double d = 7.0;
    float f = 8.0f;
    vlm_bytes s = vlm_bytes_of("default");
    /* Absent and null leave the default. */
    const char *const absent[] = {"n", "missing"};
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(vlm_json_opt_bool(o, absent[k], &b, &err), VLM_OK);
        assert_int_equal(vlm_json_opt_int(o, absent[k], 0, 1, &i, &err), VLM_OK);
        assert_int_equal(vlm_json_opt_u32(o, absent[k], 0, 1, &u, &err), VLM_OK);
        assert_int_equal(vlm_json_opt_double(o, absent[k], 0, 1, &d, &err), VLM_OK);
        assert_int_equal(vlm_json_opt_float(o, absent[k], 0, 1, &f, &err), VLM_OK);
        assert_int_equal(vlm_json_opt_string(o, absent[k], &s, &err), VLM_OK);
    }
    assert_true(b && i == 5 && u == 6 && d == 7.0 && f == 8.0f && vlm_bytes_eq_str(s, "default"));

    assert_int_equal(vlm_json_opt_bool(o, "b", &b, &err), VLM_OK);
    assert_false(b);
    assert_int_equal(vlm_json_opt_int(o, "neg", -5, 5, &i, &err), VLM_OK);
    assert_int_equal(i, -1);
    assert_int_equal(vlm_json_opt_u32(o, "i", 0, 12, &u, &err), VLM_OK);
    assert_int_equal(u, 12);
    assert_int_equal(vlm_json_opt_double(o, "i", 0, 20, &d, &err), VLM_OK);
    assert_true(d == 12.0);
    assert_int_equal(vlm_json_opt_float(o, "f", 0, 20, &f, &err), VLM_OK);
    assert_true(f == 1.5f);
    assert_int_equal(vlm_json_opt_string(o, "s", &s, &err), VLM_OK);
    assert_true(vlm_bytes_eq_str(s, "x"));

    /* The wrong type or range names the key and changes nothing. */
    assert_int_equal(vlm_json_opt_bool(o, "i", &b, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "i must be true or false, not an integer");
    assert_int_equal(vlm_json_opt_u32(o, "i", 0, 11, &u, &err), VLM_INVALID_ARGUMENT);
    assert_string_equal(err.msg, "i must be between 0 and 11");
    assert_int_equal(vlm_json_opt_u32(o, "neg", 0, 11, &u, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_u32(o, "big", 0, UINT32_MAX, &u, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_int(o, "big", INT64_MIN, INT64_MAX, &i, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_int(o, "whole", 0, 9, &i, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_double(o, "inf", -INFINITY, INFINITY, &d, &err),
                     VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_double(o, "s", 0, 1, &d, &err), VLM_INVALID_ARGUMENT);
    assert_int_equal(vlm_json_opt_string(o, "f", &s, &err), VLM_INVALID_ARGUMENT);
    assert_true(u == 12 && i == -1 && d == 12.0 && vlm_bytes_eq_str(s, "x"));
    vlm_json_free(doc);
}

static void strings_written_are_read_back(void **state)
{
    (void)state;
    static const struct {
        text in;
        const char *want;
    } cases[] = {
        {TEXT(""), "\"\""},
        {{NULL, 0}, "\"\""},
        {TEXT("a\"b\\c/d"), "\"a\\\"b\\\\c/d\""},
        {TEXT("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\""},
        {TEXT("\0\x01\x1F\x7F"), "\"\\u0000\\u0001\\u001f\x7F\""},
        {TEXT("\xC3\xA9\xF0\x9F\x98\x80"), "\"\xC3\xA9\xF0\x9F\x98\x80\""},
        {TEXT("a\xFFz\xE2\x82"), "\"a\xEF\xBF\xBDz\xEF\xBF\xBD\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_buf buf;
        vlm_buf_init(&buf, 1000);
        vlm_error err;
        const vlm_bytes in = {cases[i].in.ptr, cases[i].in.len};
        assert_int_equal(vlm_json_append_string(&buf, in, &err), VLM_OK);
        assert_string_equal(buf.data, cases[i].want);
        vlm_json_doc *doc = must_parse(buf.data);
        if (strchr(cases[i].want, '\xBF') == NULL)
            assert_true(vlm_bytes_eq(vlm_json_string(vlm_json_root(doc)), in));
        vlm_json_free(doc);
        vlm_buf_fini(&buf);
    }
    vlm_buf full;
    vlm_buf_init(&full, 3);
    vlm_error err;
    assert_int_equal(vlm_json_append_string(&full, vlm_bytes_of("abc"), &err),
                     VLM_RESOURCE_EXHAUSTED);
    vlm_buf_fini(&full);
}

static void escapes_are_resolved(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\"\\u00e9\\u20AC\"", "\xC3\xA9\xE2\x82\xAC"},
        {"\"\\uD83D\\uDE00\"", "\xF0\x9F\x98\x80"},
        {"\"\\uD83D\"", "\xEF\xBF\xBD"},
        {"\"\\uD83Dx\"", "\xEF\xBF\xBDx"},
        {"\"\\uDE00\"", "\xEF\xBF\xBD"},
        {"\"\\uDE00\\uD83D\"", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\"\\uD83D\\u0041\"", "\xEF\xBF\xBD"
                               "A"},
        {"\"\\\\u0041\"", "\\u0041"},
        {"\"\\/\"", "/"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vlm_json_doc *doc = must_parse(cases[i].text);
        const vlm_bytes got = vlm_json_string(vlm_json_root(doc));
        if (!vlm_bytes_eq_str(got, cases[i].want)) fail_msg("%s: %s", cases[i].text, got.ptr);
        vlm_json_free(doc);
    }
}

/* Linear: wide objects and long strings, 2^16 members in well under a second. */
static void wide_object(void **state)
{
    (void)state;
    enum { N = 65536 };
    vlm_buf buf;
    vlm_buf_init(&buf, 1 << 24);
    vlm_error err;
    assert_int_equal(vlm_buf_append_char(&buf, '{', &err), VLM_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(vlm_buf_printf(&buf, &err, "%s\"k%d\":%d", i > 0 ? "," : "", i, i),
                         VLM_OK);
    assert_int_equal(vlm_buf_append_char(&buf, '}', &err), VLM_OK);
    vlm_json_doc *doc = must_parse(buf.data);
    assert_int_equal(vlm_json_object_len(vlm_json_root(doc)), N);
    assert_int_equal(vlm_json_int(vlm_json_get(vlm_json_root(doc), "k40000")), 40000);
    vlm_json_free(doc);
    vlm_buf_fini(&buf);
}

static void out_of_memory_is_never_a_wrong_document(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
#define LONG_TEXT                                                                                  \
    "a long text, long enough that the buffer it is read into has to grow at least once on its "   \
    "way, which is where a lost allocation would hurt; a long text again, for good measure"
    static const char text_of_all[] =
        "{\"list\":[1,2.5,\"three\",{\"four\":[true,null]}],\"" LONG_TEXT "\":\"" LONG_TEXT
        "\",\"c\":1,\"d\":2,\"e\":3,\"f\":4,\"g\":5,\"h\":6,\"i\":7,\"j\":8,\"k\":9,\"l\":10,"
        "\"m\":11,\"n\":12,\"o\":13,\"p\":14,\"q\":15,\"r\":16,\"s\":17}";
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_json_doc *doc;
        vlm_error err;
        const vlm_status status = vlm_json_parse(text_of_all, sizeof text_of_all - 1,
                                                 &vlm_json_limits_default, &doc, &err);
        failmalloc_off();
        if (status != VLM_OK) {
            if (status != VLM_RESOURCE_EXHAUSTED) fail_msg("allocation %u: %s", n, err.msg);
            assert_null(doc);
            n_failed++;
            continue;
        }
        const vlm_json *root = vlm_json_root(doc);
        assert_int_equal(vlm_json_object_len(root), 19);
        const vlm_json *list = vlm_json_get(root, "list");
        assert_int_equal(vlm_json_array_len(list), 4);
        assert_int_equal(vlm_json_array_len(vlm_json_get(vlm_json_at(list, 3), "four")), 2);
        assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(root, LONG_TEXT)), LONG_TEXT));
        vlm_json_free(doc);
    }
    assert_true(n_failed >= 4);
#else
    skip(); /* the sanitizer owns the allocator */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_json),
        cmocka_unit_test(what_is_not_json),
        cmocka_unit_test(errors_tell_the_byte),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(size_and_nodes_are_bounded),
        cmocka_unit_test(values),
        cmocka_unit_test(objects_keep_their_order),
        cmocka_unit_test(numbers),
        cmocka_unit_test(typed_members),
        cmocka_unit_test(strings_written_are_read_back),
        cmocka_unit_test(escapes_are_resolved),
        cmocka_unit_test(wide_object),
        cmocka_unit_test(out_of_memory_is_never_a_wrong_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
