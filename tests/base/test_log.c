#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int real_stderr, capture;

/* stderr goes to a file between begin() and end(). */
static void begin(void)
{
    char path[] = "/tmp/vlm_log_XXXXXX";
    capture = mkstemp(path);
    assert_true(capture >= 0);
    (void)unlink(path);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(capture, STDERR_FILENO) == STDERR_FILENO);
}

static const char *end(void)
{
    static char text[8192];
    (void)dup2(real_stderr, STDERR_FILENO);
    (void)close(real_stderr);
    const ssize_t len = pread(capture, text, sizeof text - 1, 0);
    (void)close(capture);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

static void text_lines(void **state)
{
    (void)state;
    begin();
    vlm_log_init(VLM_LOG_TEXT, VLM_LOG_WARN);
    vlm_log(VLM_LOG_ERROR, "%s: %d", "config.json", 7);
    vlm_log(VLM_LOG_WARN, "two\nlines\x1b");
    vlm_log(VLM_LOG_INFO, "not shown");
    vlm_log_init(VLM_LOG_TEXT, VLM_LOG_DEBUG);
    vlm_log(VLM_LOG_DEBUG, "shown");
    assert_string_equal(end(), "vlmd: config.json: 7\nvlmd: two?lines?\nvlmd: shown\n");
}

static void json_lines(void **state)
{
    (void)state;
    begin();
    vlm_log_init(VLM_LOG_JSON, VLM_LOG_ERROR);
    vlm_log(VLM_LOG_ERROR, "a \"quoted\" name \xff and \xc3\xa9");
    vlm_log(VLM_LOG_WARN, "not shown");
    vlm_log_init(VLM_LOG_TEXT, VLM_LOG_WARN);
    const char *text = end();
    assert_non_null(strchr(text, '\n'));
    assert_int_equal(strchr(text, '\n')[1], '\0');
    vlm_json_doc *doc;
    vlm_error err;
    assert_int_equal(vlm_json_parse(text, strlen(text), &vlm_json_limits_default, &doc, &err),
                     VLM_OK);
    const vlm_json *root = vlm_json_root(doc);
    assert_int_equal(vlm_json_object_len(root), 3);
    assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(root, "level")), "error"));
    assert_true(vlm_bytes_eq_str(vlm_json_string(vlm_json_get(root, "msg")),
                                 "a \"quoted\" name \xef\xbf\xbd and \xc3\xa9"));
    int year, month, day, hour, minute, second, ms;
    assert_int_equal(sscanf(vlm_json_string(vlm_json_get(root, "ts")).ptr,
                            "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &year, &month, &day, &hour, &minute,
                            &second, &ms),
                     7);
    assert_true(year > 2020 && month >= 1 && month <= 12);
    vlm_json_free(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
