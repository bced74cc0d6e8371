#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/chat_case.h"

static const char secret[] = "local_run.c: 0x7fff1234 in /srv/models, prompt \"x\"";

/* What a worker's status becomes.  message NULL: the worker's own text reaches the client. */
static void test_statuses(void **state)
{
    (void)state;
    static const struct {
        vlm_status status;
        const char *reason;
        int http;
        const char *type, *code, *param;
        bool retry, shows_text;
    } cases[] = {
        {VLM_INVALID_ARGUMENT, NULL, 400, "invalid_request_error", NULL, "", false, true},
        {VLM_INVALID_ARGUMENT, "invalid_image", 400, "invalid_request_error", "invalid_image",
         "messages", false, true},
        {VLM_UNIMPLEMENTED, NULL, 400, "invalid_request_error", NULL, "", false, true},
        {VLM_OUT_OF_RANGE, "context_length", 400, "invalid_request_error",
         "context_length_exceeded", "messages", false, true},
        {VLM_NOT_FOUND, "model_not_found", 404, "not_found_error", "model_not_found", "model",
         false, true},
        {VLM_RESOURCE_EXHAUSTED, "overloaded", 503, "overloaded_error", "server_overloaded", "",
         true, false},
        {VLM_RESOURCE_EXHAUSTED, NULL, 503, "overloaded_error", "server_overloaded", "", true,
         false},
        {VLM_RESOURCE_EXHAUSTED, "rate_limit", 429, "rate_limit_error", "rate_limit_exceeded", "",
         true, true},
        {VLM_UNAVAILABLE, NULL, 503, "overloaded_error", "worker_unavailable", "", true, false},
        {VLM_DEADLINE_EXCEEDED, NULL, 504, "timeout_error", NULL, "", false, false},
        {VLM_INTERNAL, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_UNKNOWN, "invalid_image", 500, "server_error", NULL, "", false, false},
        {VLM_DATA_LOSS, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_FAILED_PRECONDITION, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_ABORTED, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_PERMISSION_DENIED, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_UNAUTHENTICATED, NULL, 500, "server_error", NULL, "", false, false},
        {VLM_CANCELLED, NULL, 500, "server_error", NULL, "", false, false},
        {(vlm_status)77, NULL, 500, "server_error", NULL, "", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlm_error err = {.code = cases[i].status};
        vlm_api_error e;
        (void)snprintf(err.msg, sizeof err.msg, "%s", secret);
        vlm_api_error_from_status(&e, &err, cases[i].reason);
        assert_int_equal(e.http_status, cases[i].http);
        assert_string_equal(e.type, cases[i].type);
        assert_string_equal(e.code == NULL ? "-" : e.code,
                            cases[i].code == NULL ? "-" : cases[i].code);
        assert_string_equal(e.param, cases[i].param);
        assert_true((e.retry_after_s > 0) == cases[i].retry);
        assert_true(e.retry_after_s <= 30);
        assert_true((strcmp(e.message, secret) == 0) == cases[i].shows_text);
        if (!cases[i].shows_text) assert_null(strstr(e.message, "prompt"));
        assert_true(e.message[0] != '\0');
        chat_check_error(&e);
    }
}

/* The picture that a worker could not read is named. */
static void test_image_param(void **state)
{
    (void)state;
    static const struct {
        const char *message, *param;
    } cases[] = {{"messages[3].content[12]: PNG: bad CRC", "messages[3].content[12]"},
                 {"messages[3]", "messages[3]"},
                 {"messages: too many", "messages"},
                 {"JPEG: no image", "messages"},
                 {"", "messages"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlm_error err = {.code = VLM_INVALID_ARGUMENT};
        vlm_api_error e;
        (void)snprintf(err.msg, sizeof err.msg, "%s", cases[i].message);
        vlm_api_error_from_status(&e, &err, "invalid_image");
        assert_string_equal(e.param, cases[i].param);
        assert_string_equal(e.message, cases[i].message);
        chat_check_error(&e);
    }
    /* Longer than the room for a parameter. */
    vlm_error err = {.code = VLM_INVALID_ARGUMENT};
    vlm_api_error e;
    memset(err.msg, 'x', sizeof err.msg - 1);
    memcpy(err.msg, "messages[", 9);
    vlm_api_error_from_status(&e, &err, "invalid_image");
    assert_int_equal(strlen(e.param), VLM_API_PARAM_LEN_MAX);
    chat_check_error(&e);
}

static void test_constructors(void **state)
{
    (void)state;
    struct {
        vlm_api_error e;
        int status;
        const char *type, *code, *param;
        bool retry;
    } cases[] = {
        {.status = 401, .type = "authentication_error", .code = "invalid_api_key"},
        {.status = 404, .type = "not_found_error"},
        {.status = 404, .type = "not_found_error", .code = "model_not_found", .param = "model"},
        {.status = 405, .type = "invalid_request_error"},
        {.status = 415, .type = "invalid_request_error"},
        {.status = 422, .type = "invalid_request_error", .code = "request_quarantined"},
        {.status = 500, .type = "server_error"},
        {.status = 503, .type = "overloaded_error", .code = "server_overloaded", .retry = true},
        {.status = 503, .type = "overloaded_error", .code = "worker_unavailable", .retry = true},
        {.status = 504, .type = "timeout_error"},
        {.status = 413, .type = "invalid_request_error"},
        {.status = 431, .type = "invalid_request_error"},
        {.status = 505, .type = "server_error"},
        {.status = 503, .type = "overloaded_error", .code = "server_overloaded", .retry = true},
    };
    vlm_api_error_api_key(&cases[0].e);
    vlm_api_error_route(&cases[1].e);
    vlm_api_error_model_not_found(&cases[2].e, vlm_bytes_of("m"));
    vlm_api_error_method(&cases[3].e);
    vlm_api_error_media_type(&cases[4].e, "t");
    vlm_api_error_quarantined(&cases[5].e);
    vlm_api_error_internal(&cases[6].e);
    vlm_api_error_overloaded(&cases[7].e, "t");
    vlm_api_error_unavailable(&cases[8].e);
    vlm_api_error_timeout(&cases[9].e);
    vlm_api_error_http(&cases[10].e, 413, "t");
    vlm_api_error_http(&cases[11].e, 431, "t");
    vlm_api_error_http(&cases[12].e, 505, "t");
    vlm_api_error_http(&cases[13].e, 503, "t");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const vlm_api_error *e = &cases[i].e;
        assert_int_equal(e->http_status, cases[i].status);
        assert_string_equal(e->type, cases[i].type);
        assert_string_equal(e->code == NULL ? "" : e->code,
                            cases[i].code == NULL ? "" : cases[i].code);
        assert_string_equal(e->param, cases[i].param == NULL ? "" : cases[i].param);
        assert_true((e->retry_after_s > 0) == cases[i].retry);
        chat_check_error(e);
    }
}

/* Whatever a client calls its model or parameter, the body is JSON and of bounded length. */
static void test_hostile_text(void **state)
{
    (void)state;
    char name[4096];
    vlm_api_error e;
    static const char *const bits[] = {"\"",   "\\",       "\n",   "\x01",
                                       "\xff", "\xc3\xa9", "%s%n", "</a>"};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
        size_t len = 0;
        while (len + 8 < sizeof name) {
            memcpy(name + len, bits[i], strlen(bits[i]));
            len += strlen(bits[i]);
        }
        vlm_api_error_model_not_found(&e, (vlm_bytes){.ptr = name, .len = len});
        assert_true(strlen(e.message) < 200);
        vlm_json_doc *doc;
        vlm_buf body;
        vlm_buf_init(&body, 8192);
        assert_int_equal(vlm_api_error_write(&e, &body, NULL), VLM_OK);
        assert_int_equal(vlm_json_parse(body.data, body.len, &vlm_json_limits_default, &doc, NULL),
                         VLM_OK);
        vlm_json_free(doc);
        vlm_buf_fini(&body);
        name[len] = '\0';
        vlm_api_error_invalid(&e, "p", "%s", name);
        chat_check_error(&e);
    }
    vlm_api_error_model_not_found(&e, (vlm_bytes){.ptr = NULL, .len = 0});
    chat_check_error(&e);
    /* Writing fails as a whole when there is no room. */
    vlm_buf small;
    vlm_buf_init(&small, 40);
    assert_int_equal(vlm_api_error_write(&e, &small, NULL), VLM_RESOURCE_EXHAUSTED);
    vlm_buf_fini(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_image_param),
        cmocka_unit_test(test_constructors),
        cmocka_unit_test(test_hostile_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
