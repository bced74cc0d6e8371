/* chat_case.h - parse a chat completion from an allocation of its exact length, and look at what
 * came of it.  Include it after cmocka.h. */
#ifndef VLM_TESTS_GATEWAY_CHAT_CASE_H
#define VLM_TESTS_GATEWAY_CHAT_CASE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "gateway/chat_request.h"

static inline vlm_chat_limits chat_limits(void)
{
    return (vlm_chat_limits){
        .image_bytes_max = 20 << 20, .images_max = 16, .json = vlm_json_limits_default};
}

static inline bool chat_parse(const char *text, size_t len, const vlm_chat_limits *limits,
                              vlm_chat_request *r, vlm_api_error *error)
{
    char *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    if (len > 0) memcpy(copy, text, len);
    const bool ok = vlm_chat_request_parse(copy, len, limits, r, error);
    free(copy); /* the request must not need it any more */
    return ok;
}

static inline void chat_accept(const char *text, vlm_chat_request *r)
{
    const vlm_chat_limits limits = chat_limits();
    vlm_api_error error;
    if (!chat_parse(text, strlen(text), &limits, r, &error))
        fail_msg("%s: %s: %s", text, error.param, error.message);
}

/* A refusal's body has all four keys, and what it says is what the error holds. */
static inline void chat_check_error(const vlm_api_error *e)
{
    vlm_buf body;
    vlm_json_doc *doc;
    vlm_buf_init(&body, 8192);
    assert_int_equal(vlm_api_error_write(e, &body, NULL), VLM_OK);
    assert_int_equal(vlm_json_parse(body.data, body.len, &vlm_json_limits_default, &doc, NULL),
                     VLM_OK);
    const vlm_json *error = vlm_json_get(vlm_json_root(doc), "error");
    assert_int_equal(vlm_json_object_len(vlm_json_root(doc)), 1);
    assert_int_equal(vlm_json_object_len(error), 4);
    if (vlm_utf8_valid(e->message, strlen(e->message)))
        assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(error, "message")), e->message));
    assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(error, "type")), e->type));
    assert_true(vlm_json_has(error, "param") && vlm_json_has(error, "code"));
    if (e->param[0] == '\0')
        assert_null(vlm_json_get(error, "param"));
    else
        assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(error, "param")), e->param));
    if (e->code == NULL)
        assert_null(vlm_json_get(error, "code"));
    else
        assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(error, "code")), e->code));
    vlm_json_free(doc);
    vlm_buf_fini(&body);
}

/* 400 about param, its message naming it too. */
static inline void chat_refuse_with(const char *text, size_t len, const vlm_chat_limits *limits,
                                    const char *param, const char *code)
{
    vlm_chat_request r;
    vlm_api_error error;
    if (chat_parse(text, len, limits, &r, &error)) {
        vlm_chat_request_fini(&r);
        fail_msg("%.200s: accepted", text);
    }
    if (error.http_status != 400 || strcmp(error.type, "invalid_request_error") != 0 ||
        strcmp(error.param, param) != 0 || strcmp(error.code == NULL ? "" : error.code, code) != 0)
        fail_msg("%.200s: %d %s %s %s: %s", text, error.http_status, error.type, error.param,
                 error.code, error.message);
    if (strstr(error.message, param) == NULL) fail_msg("%s: %s", param, error.message);
    assert_int_equal(error.retry_after_s, 0);
    chat_check_error(&error);
}

static inline void chat_refuse(const char *text, const char *param)
{
    const vlm_chat_limits limits = chat_limits();
    chat_refuse_with(text, strlen(text), &limits, param, "");
}

/* {"messages":[{"role":"user","content":"x"}],MEMBERS} */
static inline const char *chat_with(const char *members)
{
    static char text[65536];
    const int len =
        snprintf(text, sizeof text, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]%s%s}",
                 members[0] == '\0' ? "" : ",", members);
    assert_true(len > 0 && (size_t)len < sizeof text);
    return text;
}

static inline bool chat_data_is(ProtobufCBinaryData data, const char *text)
{
    return data.len == strlen(text) && (data.len == 0 || memcmp(data.data, text, data.len) == 0);
}

#endif
