/* gRPC's framing, status texts and time-outs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/wire.h"

/* Push bytes in pieces of n; returns how many messages were whole. */
static int push_all(vlm_rpc_reader *r, const uint8_t *data, size_t len, size_t n,
                    vlm_status *status)
{
    int n_messages = 0;
    *status = VLM_OK;
    for (size_t i = 0; i < len && *status == VLM_OK;) {
        size_t used;
        bool complete;
        const size_t piece = len - i < n ? len - i : n;
        *status = vlm_rpc_reader_push(r, data + i, piece, &used, &complete, NULL);
        if (*status == VLM_OK) assert_true(used > 0 || complete);
        n_messages += *status == VLM_OK && complete;
        i += used;
    }
    return n_messages;
}

static void test_messages_cut_anywhere(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0, 0, 0, 0, 3, 'a', 'b', 'c', 0,  0,
                                    0, 0, 0, 0, 0, 0,   0,   1,   'x'};
    for (size_t n = 1; n <= sizeof bytes; n++) {
        vlm_rpc_reader r;
        vlm_status status;
        vlm_rpc_reader_init(&r, 10);
        assert_int_equal(push_all(&r, bytes, sizeof bytes, n, &status), 3);
        assert_int_equal(status, VLM_OK);
        assert_int_equal(r.message.len, 1);
        assert_false(vlm_rpc_reader_is_inside(&r));
        vlm_rpc_reader_fini(&r);
    }
}

static void test_bad_prefixes(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[5];
        vlm_status status;
    } rows[] = {
        {{1, 0, 0, 0, 1}, VLM_UNIMPLEMENTED},
        {{2, 0, 0, 0, 1}, VLM_INTERNAL},
        {{255, 0, 0, 0, 1}, VLM_INTERNAL},
        {{0, 0, 0, 0, 11}, VLM_RESOURCE_EXHAUSTED},
        {{0, 255, 255, 255, 255}, VLM_RESOURCE_EXHAUSTED},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t n = 1; n <= 5; n++) {
            vlm_rpc_reader r;
            vlm_status status;
            vlm_rpc_reader_init(&r, 10);
            assert_int_equal(push_all(&r, rows[i].bytes, 5, n, &status), 0);
            assert_int_equal(status, rows[i].status);
            vlm_rpc_reader_fini(&r);
        }
}

static void test_status_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "plain", "100%", "a\nb", "\xc3\xa9t\xc3\xa9", "%41"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        vlm_buf wire, back;
        vlm_buf_init(&wire, 1000);
        vlm_buf_init(&back, 1000);
        assert_int_equal(vlm_rpc_message_encode(vlm_bytes_of(texts[i]), &wire, NULL), VLM_OK);
        for (size_t k = 0; k < wire.len; k++)
            assert_true(wire.data[k] >= 0x20 && wire.data[k] <= 0x7e);
        assert_int_equal(vlm_rpc_message_decode(vlm_buf_bytes(&wire), &back, NULL), VLM_OK);
        assert_true(vlm_bytes_eq_str(vlm_buf_bytes(&back), texts[i]));
        vlm_buf_fini(&wire);
        vlm_buf_fini(&back);
    }
    vlm_buf back;
    vlm_buf_init(&back, 100);
    assert_int_equal(vlm_rpc_message_decode(vlm_bytes_of("%4%zz%"), &back, NULL), VLM_OK);
    assert_true(vlm_bytes_eq_str(vlm_buf_bytes(&back), "%4%zz%"));
    vlm_buf_fini(&back);
}

static void test_timeouts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns; /* 0: refused */
    } rows[] = {
        {"1n", 1},
        {"5u", 5000},
        {"7m", 7000000},
        {"2S", 2000000000u},
        {"3M", 180000000000u},
        {"1H", 3600000000000u},
        {"99999999S", 99999999000000000u},
        {"", 0},
        {"S", 0},
        {"1", 0},
        {"-1S", 0},
        {"1.5S", 0},
        {"100000000S", 0},
        {"1s", 0},
        {" 1S", 0},
        {"1 S", 0},
        {"0x1S", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t ns = 0;
        assert_int_equal(vlm_rpc_timeout_parse(vlm_bytes_of(rows[i].text), &ns), rows[i].ns != 0);
        if (rows[i].ns != 0) assert_true(ns == rows[i].ns);
    }
    uint64_t ns;
    assert_true(vlm_rpc_timeout_parse(vlm_bytes_of("99999999H"), &ns));
    assert_true(ns == UINT64_MAX);
    static const uint64_t times[] = {
        0, 999, 1000, 99999999000u, 100000000000u, 600000000000u, 100000000000000u, UINT64_MAX};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        char text[VLM_RPC_TIMEOUT_LEN_MAX];
        vlm_rpc_timeout_format(times[i], text);
        assert_true(vlm_rpc_timeout_parse(vlm_bytes_of(text), &ns));
        assert_true(ns <= times[i]);
        if (times[i] < 100000000000000000u) assert_true(times[i] - ns <= times[i] / 1000 + 1000);
    }
}

static void test_status_codes(void **state)
{
    (void)state;
    assert_int_equal(vlm_rpc_status_parse(vlm_bytes_of("0")), VLM_OK);
    assert_int_equal(vlm_rpc_status_parse(vlm_bytes_of("16")), VLM_UNAUTHENTICATED);
    static const char *const bad[] = {"", "17", "99", "-1", "1a", "001"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(vlm_rpc_status_parse(vlm_bytes_of(bad[i])), VLM_UNKNOWN);
    assert_int_equal(vlm_rpc_status_of_http(503), VLM_UNAVAILABLE);
    assert_int_equal(vlm_rpc_status_of_http(404), VLM_UNIMPLEMENTED);
    assert_int_equal(vlm_rpc_status_of_http(418), VLM_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_cut_anywhere), cmocka_unit_test(test_bad_prefixes),
        cmocka_unit_test(test_status_texts),          cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_status_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
