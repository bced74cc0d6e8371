#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "gateway/chat_case.h"

static const char *with_messages(const char *messages)
{
    static char text[65536];
    const int len = snprintf(text, sizeof text, "{\"messages\":%s}", messages);
    assert_true(len > 0 && (size_t)len < sizeof text);
    return text;
}

/* One user message with one part, {"type":"image_url","image_url":VALUE}. */
static const char *with_image(const char *value)
{
    static char text[4096];
    const int len = snprintf(text, sizeof text,
                             "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                             "\"image_url\",\"image_url\":%s}]}]}",
                             value);
    assert_true(len > 0 && (size_t)len < sizeof text);
    return text;
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *messages, *param;
    } cases[] = {
        {"null", "messages"},
        {"\"x\"", "messages"},
        {"{}", "messages"},
        {"[]", "messages"},
        {"[null]", "messages[0]"},
        {"[\"x\"]", "messages[0]"},
        {"[{}]", "messages[0].role"},
        {"[{\"role\":5,\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"User\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"user\\u0000\",\"content\":\"x\"}]", "messages[0].role"},
        {"[{\"role\":\"tool\",\"content\":\"x\",\"tool_call_id\":\"1\"}]", "messages[0].role"},
        {"[{\"role\":\"function\",\"content\":\"x\",\"name\":\"f\"}]", "messages[0].role"},
        {"[{\"role\":\"user\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"system\",\"content\":null}]", "messages[0].content"},
        {"[{\"role\":\"assistant\"}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":5}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":{}}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":[]}]", "messages[0].content"},
        {"[{\"role\":\"user\",\"content\":\"x\",\"name\":5}]", "messages[0].name"},
        {"[{\"role\":\"user\",\"content\":[null]}]", "messages[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[\"x\"]}]", "messages[0].content[0]"},
        {"[{\"role\":\"user\",\"content\":[{}]}]", "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]",
         "messages[0].content[0].type"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":null}]}]",
         "messages[0].content[0].text"},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":[\"x\"]}]}]",
         "messages[0].content[0].text"},
        {"[{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]",
         "messages[0].content[0].type"},
        {"[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\"}]}]",
         "messages[0].tool_calls"},
        {"[{\"role\":\"assistant\",\"content\":\"x\",\"refusal\":\"no\"}]", "messages[0].refusal"},
        {"[{\"role\":\"assistant\",\"content\":\"x\",\"audio\":{\"id\":\"a\"}}]",
         "messages[0].audio"},
        {"[{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\"}}]",
         "messages[0].function_call"},
        {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":[{\"type\":"
         "\"text\","
         "\"text\":\"t\"},{\"type\":\"image_url\"}]}]",
         "messages[1].content[1].image_url"},
        {"[{\"role\":\"system\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"QUJD\"}]}]",
         "messages[0].content[0]"},
        {"[{\"role\":\"assistant\",\"content\":[{\"type\":\"image_url\",\"image_url\":\"QUJD\"}]}]",
         "messages[0].content[0]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        chat_refuse(with_messages(cases[i].messages), cases[i].param);
}

static void test_images_refused(void **state)
{
    (void)state;
    static const char plain[] = "messages[0].content[0].image_url";
    static const char inner[] = "messages[0].content[0].image_url.url";
    static const char detail[] = "messages[0].content[0].image_url.detail";
    static const struct {
        const char *value, *param, *code;
    } cases[] = {
        {"null", plain, ""},
        {"5", plain, ""},
        {"[]", plain, ""},
        {"{}", inner, ""},
        {"{\"url\":null}", inner, ""},
        {"{\"url\":5}", inner, ""},
        {"{\"url\":\"QUJD\",\"detail\":\"max\"}", detail, ""},
        {"{\"url\":\"QUJD\",\"detail\":1}", detail, ""},
        {"\"\"", plain, "invalid_image"},
        {"\" \\n\"", plain, "invalid_image"},
        {"\"data:\"", plain, ""},
        {"\"data:image/png;base64\"", plain, ""},
        {"\"data:image/png;base64,\"", plain, "invalid_image"},
        {"\"data:,\"", plain, "invalid_image"},
        {"\"data:image/png;base64,@@@\"", plain, "invalid_image"},
        {"\"data:image/png;base64,QUJDR\"", plain, "invalid_image"},
        {"\"data:image/png;base64,QU=JD\"", plain, "invalid_image"},
        {"\"data:image/png;base64,QUJD%\"", plain, "invalid_image"},
        {"{\"url\":\"data:image/png;base64,QU\\u0000JD\"}", inner, "invalid_image"},
        {"\"QUJ\\u00e9\"", plain, "invalid_image"},
        {"\"ftp://x/y.png\"", plain, ""},
        {"\"file:///etc/passwd\"", plain, ""},
        {"\"javascript:x\"", plain, ""},
        {"\"http://x/y.png\"", plain, ""},
        {"{\"url\":\"HTTPS://x/y.png\"}", inner, ""},
    };
    const vlm_chat_limits limits = chat_limits();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = with_image(cases[i].value);
        chat_refuse_with(text, strlen(text), &limits, cases[i].param, cases[i].code);
    }
}

static void test_images(void **state)
{
    (void)state;
    static const struct {
        const char *value, *bytes;
    } cases[] = {
        {"\"QUJD\"", "ABC"},
        {"\"QUJDRA\"", "ABCD"},
        {"\"QUJDRA==\"", "ABCD"},
        {"\" QU\\r\\nJD\\n\"", "ABC"},
        {"\"_-_-\"", "\xff\xef\xfe"},
        {"\"data:image/png;base64,QUJD\"", "ABC"},
        {"\"DATA:IMAGE/PNG;BASE64,QUJD\"", "ABC"},
        {"\"data:;base64,QUJD\"", "ABC"},
        {"\"data:text/html;charset=x;name=a;base64,QUJD\"", "ABC"},
        {"\"data:image/png; base64 ,QUJD\"", "ABC"},
        {"\"data:image/png;base64,%2B%2b_-\"", "\xfb\xef\xfe"},
        {"\"data:image/png;base64,QQ%3D%3D\"", "A"},
        {"\"data:image/png,A%42C%\"", "ABC%"},
        {"\"data:,%zz%4\"", "%zz%4"},
        {"\"data:base64,QUJD\"", "QUJD"},
        {"\"data:,a,b\"", "a,b"},
        {"{\"url\":\"QUJD\"}", "ABC"},
        {"{\"url\":\"data:;base64,QUJD\",\"detail\":\"low\"}", "ABC"},
        {"{\"url\":\"QUJD\",\"detail\":null,\"x\":1}", "ABC"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlm_chat_request r;
        chat_accept(with_image(cases[i].value), &r);
        const Vlm__V1__Part *part = r.grpc.messages[0]->parts[0];
        assert_int_equal(r.n_images, 1);
        assert_int_equal(r.n_urls, 0);
        assert_int_equal(part->kind_case, VLM__V1__PART__KIND_IMAGE);
        if (!chat_data_is(part->image, cases[i].bytes))
            fail_msg("%s: %zu bytes", cases[i].value, part->image.len);
        vlm_chat_request_fini(&r);
    }
}

static void test_urls(void **state)
{
    (void)state;
    static const char text[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
        "\"https://a.b/c?d=e\"},{\"type\":\"text\",\"text\":\"t\"},{\"type\":\"image_url\","
        "\"image_url\":{\"url\":\"HTTP://x\"}},{\"type\":\"image_url\",\"image_url\":\"QUJD\"}]}]}";
    vlm_chat_limits limits = chat_limits();
    vlm_chat_request r;
    vlm_api_error error;
    limits.image_urls = true;
    assert_true(chat_parse(text, sizeof text - 1, &limits, &r, &error));
    assert_int_equal(r.n_images, 3);
    assert_int_equal(r.n_urls, 2);
    assert_string_equal(r.urls[0].url, "https://a.b/c?d=e");
    assert_string_equal(r.urls[0].param, "messages[0].content[0].image_url");
    assert_string_equal(r.urls[1].url, "HTTP://x");
    assert_string_equal(r.urls[1].param, "messages[0].content[2].image_url.url");
    assert_ptr_equal(r.urls[1].slot, &r.grpc.messages[0]->parts[2]->image);
    /* A picture that has come is the request's. */
    uint8_t *bytes = malloc(3);
    assert_non_null(bytes);
    *r.urls[0].slot = (ProtobufCBinaryData){.data = bytes, .len = 3};
    vlm_chat_request_fini(&r);

    const char *nul = with_image("\"http://a\\u0000b/\"");
    chat_refuse_with(nul, strlen(nul), &limits, "messages[0].content[0].image_url", "");
    const char *ftp = with_image("\"ftp://a/\"");
    chat_refuse_with(ftp, strlen(ftp), &limits, "messages[0].content[0].image_url", "");
}

/* Pictures at the limits of their size and number, and one beyond. */
static void test_image_limits(void **state)
{
    (void)state;
    vlm_chat_limits limits = chat_limits();
    limits.image_bytes_max = 4;
    limits.images_max = 2;
    static const struct {
        const char *image;
        bool taken;
    } sizes[] = {{"QUJDRA==", true},
                 {"QUJDRA", true},
                 {"Q U J D R A = =", true},
                 {"QUJDREU=", false},
                 {"QUJDREU", false},
                 {"data:,ABCD", true},
                 {"data:,ABCDE", false},
                 {"data:,%41%41%41%41", true},
                 {"data:,%41%41%41%41%41", false}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char value[64];
        (void)snprintf(value, sizeof value, "\"%s\"", sizes[i].image);
        const char *text = with_image(value);
        vlm_chat_request r;
        vlm_api_error error;
        if (!sizes[i].taken) {
            chat_refuse_with(text, strlen(text), &limits, "messages[0].content[0].image_url",
                             "invalid_image");
            continue;
        }
        assert_true(chat_parse(text, strlen(text), &limits, &r, &error));
        vlm_chat_request_fini(&r);
    }
    static const char part[] = "{\"type\":\"image_url\",\"image_url\":\"QUJD\"}";
    for (size_t n = 2; n <= 3; n++) {
        char list[512];
        size_t len = 0;
        for (size_t i = 0; i < n; i++)
            len +=
                (size_t)snprintf(list + len, sizeof list - len,
                                 "%s{\"role\":\"user\",\"content\":[%s]}", i > 0 ? "," : "", part);
        char messages[600];
        (void)snprintf(messages, sizeof messages, "[%s]", list);
        const char *text = with_messages(messages);
        vlm_chat_request r;
        vlm_api_error error;
        if (n == 3) {
            chat_refuse_with(text, strlen(text), &limits, "messages", "");
        } else {
            assert_true(chat_parse(text, strlen(text), &limits, &r, &error));
            vlm_chat_request_fini(&r);
        }
    }
}

/* A picture as large as allowed is decoded once and held once. */
static void test_large_image(void **state)
{
    (void)state;
    enum { N_BYTES = 1 << 20 };
    vlm_chat_limits limits = chat_limits();
    limits.image_bytes_max = N_BYTES;
    vlm_chat_request r;
    vlm_api_error error;
    vlm_buf text;
    char *bytes = malloc(N_BYTES + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i <= N_BYTES; i++) bytes[i] = (char)(i * i >> 3);
    for (size_t extra = 0; extra < 2; extra++) {
        vlm_buf_init(&text, 4 << 20);
        assert_int_equal(
            vlm_buf_append_str(&text,
                               "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
                               "\"image_url\",\"image_url\":{\"url\":\"data:;base64,",
                               NULL),
            VLM_OK);
        assert_int_equal(
            vlm_base64_encode((vlm_bytes){.ptr = bytes, .len = N_BYTES + extra}, &text, NULL),
            VLM_OK);
        assert_int_equal(vlm_buf_append_str(&text, "\"}}]}]}", NULL), VLM_OK);
        if (extra > 0) {
            chat_refuse_with(text.data, text.len, &limits, "messages[0].content[0].image_url.url",
                             "invalid_image");
        } else {
            assert_true(chat_parse(text.data, text.len, &limits, &r, &error));
            const ProtobufCBinaryData image = r.grpc.messages[0]->parts[0]->image;
            assert_int_equal(image.len, N_BYTES);
            assert_memory_equal(image.data, bytes, N_BYTES);
            assert_true(r.arena.used_bytes < 4096);
            vlm_chat_request_fini(&r);
        }
        vlm_buf_fini(&text);
    }
    free(bytes);
}

static void test_messages(void **state)
{
    (void)state;
    vlm_chat_request r;
    chat_accept(with_messages("[{\"role\":\"developer\",\"content\":\"d\"},"
                              "{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"s\"}"
                              "]},{\"role\":\"user\",\"content\":\"\",\"name\":\"Ann\"},"
                              "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,"
                              "\"tool_calls\":[],\"audio\":null,\"function_call\":null},"
                              "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                              "\"\\u0000\\ud83d\\ude00\"},{\"type\":\"image_url\",\"image_url\":"
                              "\"QUJD\"},{\"type\":\"text\",\"text\":\"\"}]}]"),
                &r);
    assert_int_equal(r.grpc.n_messages, 5);
    assert_true(chat_data_is(r.grpc.messages[0]->role, "system"));
    assert_true(chat_data_is(r.grpc.messages[0]->parts[0]->text, "d"));
    assert_true(chat_data_is(r.grpc.messages[1]->role, "system"));
    assert_true(chat_data_is(r.grpc.messages[1]->parts[0]->text, "s"));
    assert_int_equal(r.grpc.messages[2]->n_parts, 1);
    assert_int_equal(r.grpc.messages[2]->parts[0]->text.len, 0);
    assert_true(chat_data_is(r.grpc.messages[2]->name, "Ann"));
    assert_true(chat_data_is(r.grpc.messages[3]->role, "assistant"));
    assert_int_equal(r.grpc.messages[3]->n_parts, 0);
    const Vlm__V1__Message *last = r.grpc.messages[4];
    assert_int_equal(last->n_parts, 3);
    assert_int_equal(last->parts[0]->text.len, 5);
    assert_memory_equal(last->parts[0]->text.data, "\0\xf0\x9f\x98\x80", 5);
    assert_true(chat_data_is(last->parts[1]->image, "ABC"));
    vlm_chat_request_fini(&r);
}

/* {"messages":[ITEM,ITEM,...]} or the same as the parts of one message. */
static char *repeat(const char *head, const char *item, size_t n, const char *tail)
{
    const size_t size = strlen(head) + (strlen(item) + 1) * n + strlen(tail) + 1;
    char *text = malloc(size), *at = text;
    assert_non_null(text);
    at += snprintf(at, size, "%s", head);
    for (size_t i = 0; i < n; i++)
        at += snprintf(at, size - (size_t)(at - text), "%s%s", i > 0 ? "," : "", item);
    (void)snprintf(at, size - (size_t)(at - text), "%s", tail);
    return text;
}

static void test_counts(void **state)
{
    (void)state;
    static const char message[] = "{\"role\":\"user\",\"content\":\"x\"}";
    static const char parts_head[] = "{\"messages\":[{\"role\":\"user\",\"content\":[";
    static const char part[] = "{\"type\":\"text\",\"text\":\"\"}";
    for (size_t n = 4096; n <= 4097; n++) {
        char *messages = repeat("{\"messages\":[", message, n, "]}");
        char *parts = repeat(parts_head, part, n, "]}]}");
        vlm_chat_request r;
        if (n == 4096) {
            chat_accept(messages, &r);
            assert_int_equal(r.grpc.n_messages, n);
            vlm_chat_request_fini(&r);
            chat_accept(parts, &r);
            assert_int_equal(r.grpc.messages[0]->n_parts, n);
            vlm_chat_request_fini(&r);
        } else {
            chat_refuse(messages, "messages");
            chat_refuse(parts, "messages[0].content");
        }
        free(messages);
        free(parts);
    }
    /* Half a million of the smallest things are refused, not run out of memory over. */
    char *zeros = repeat(parts_head, "0", 500000, "]}]}");
    chat_refuse(zeros, "messages[0].content");
    free(zeros);
    char *lists = repeat("{\"messages\":[", "{\"role\":\"user\",\"content\":[0]}", 100000, "]}");
    chat_refuse(lists, "messages");
    free(lists);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_images_refused),
        cmocka_unit_test(test_images),       cmocka_unit_test(test_urls),
        cmocka_unit_test(test_image_limits), cmocka_unit_test(test_large_image),
        cmocka_unit_test(test_messages),     cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
