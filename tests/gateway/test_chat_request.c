#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "gateway/chat_case.h"

/* What hostile clients put where a number belongs. */
static const char *const values[] = {"-1",
                                     "0",
                                     "1",
                                     "-2147483648",
                                     "2147483647",
                                     "2147483648",
                                     "4294967296",
                                     "9007199254740993",
                                     "9223372036854775808",
                                     "1e308",
                                     "-0.0",
                                     "0.5",
                                     "-9223372036854775809",
                                     "\"7\"",
                                     "null",
                                     "true",
                                     "[1]",
                                     "{}"};
enum { N_VALUES = sizeof values / sizeof *values };

/* taken[i]: 'y' where values[i] is accepted. */
typedef struct row {
    const char *name, *format, *taken;
} row;

static const row rows[] = {
    {"max_tokens", "\"max_tokens\":%s", "nnynyyyyynnnnnynnn"},
    {"max_completion_tokens", "\"max_completion_tokens\":%s", "nnynyyyyynnnnnynnn"},
    {"n", "\"n\":%s", "nnynnnnnnnnnnnynnn"},
    {"top_k", "\"top_k\":%s", "nyynyyyyynnnnnynnn"},
    {"top_logprobs", "\"logprobs\":true,\"top_logprobs\":%s", "nyynnnnnnnnnnnynnn"},
    {"seed", "\"seed\":%s", "yyyyyyyynnnnnnynnn"},
    {"temperature", "\"temperature\":%s", "nyynnnnnnnyynnynnn"},
    {"top_p", "\"top_p\":%s", "nnynnnnnnnnynnynnn"},
    {"min_p", "\"min_p\":%s", "nyynnnnnnnyynnynnn"},
    {"repetition_penalty", "\"repetition_penalty\":%s", "nnynnnnnnnnynnynnn"},
    {"frequency_penalty", "\"frequency_penalty\":%s", "yyynnnnnnnyynnynnn"},
    {"presence_penalty", "\"presence_penalty\":%s", "yyynnnnnnnyynnynnn"},
    {"logit_bias", "\"logit_bias\":{\"5\":%s}", "yyynnnnnnnyynnnnnn"},
    {"logit_bias", "\"logit_bias\":%s", "nnnnnnnnnnnnnnynny"},
    {"stream", "\"stream\":%s", "nnnnnnnnnnnnnnyynn"},
    {"logprobs", "\"logprobs\":%s", "nnnnnnnnnnnnnnyynn"},
    {"ignore_eos", "\"ignore_eos\":%s", "nnnnnnnnnnnnnnyynn"},
    {"stream_options", "\"stream\":true,\"stream_options\":%s", "nnnnnnnnnnnnnnynny"},
    {"stream_options.include_usage", "\"stream\":true,\"stream_options\":{\"include_usage\":%s}",
     "nnnnnnnnnnnnnnyynn"},
    {"stop[0]", "\"stop\":[%s]", "nnnnnnnnnnnnnynnnn"},
    {"model", "\"model\":%s", "nnnnnnnnnnnnnyynnn"},
    {"min_tokens", "\"min_tokens\":%s", "nynnnnnnnnnnnnynnn"},
};

static void test_numbers(void **state)
{
    (void)state;
    static const char *const no_json[] = {"NaN", "Infinity", "-Infinity", "+1",
                                          "01",  "1.",       "0x1",       ""};
    const vlm_chat_limits limits = chat_limits();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char members[256];
        assert_int_equal(strlen(rows[i].taken), N_VALUES);
        for (size_t v = 0; v < N_VALUES; v++) {
            vlm_chat_request r;
            vlm_api_error error;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(members, sizeof members, rows[i].format, values[v]);
#pragma GCC diagnostic pop
            const char *text = chat_with(members);
            if (rows[i].taken[v] == 'n') {
                chat_refuse(text, rows[i].name);
                continue;
            }
            if (!chat_parse(text, strlen(text), &limits, &r, &error))
                fail_msg("%s: %s", text, error.message);
            vlm_chat_request_fini(&r);
        }
        for (size_t v = 0; v < sizeof no_json / sizeof *no_json; v++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(members, sizeof members, rows[i].format, no_json[v]);
#pragma GCC diagnostic pop
            const bool is_list = strcmp(rows[i].name, "stop[0]") == 0 && no_json[v][0] == '\0';
            if (!is_list) chat_refuse(chat_with(members), "");
        }
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *members, *param;
    } cases[] = {
        {"\"max_tokens\":1.0", "max_tokens"},
        {"\"max_tokens\":1e2", "max_tokens"},
        {"\"n\":9", "n"},
        {"\"temperature\":2.0000001", "temperature"},
        {"\"temperature\":-1e-300", "temperature"},
        {"\"top_p\":1.0000001", "top_p"},
        {"\"min_p\":1.1", "min_p"},
        {"\"repetition_penalty\":1e30", "repetition_penalty"},
        {"\"frequency_penalty\":-2.1", "frequency_penalty"},
        {"\"presence_penalty\":2.1", "presence_penalty"},
        {"\"top_logprobs\":5", "top_logprobs"},
        {"\"logprobs\":false,\"top_logprobs\":0", "top_logprobs"},
        {"\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
        {"\"stream_options\":{\"include_usage\":true}", "stream_options"},
        {"\"stream\":false,\"stream_options\":{}", "stream_options"},
        {"\"stop\":\"\"", "stop"},
        {"\"stop\":7", "stop"},
        {"\"stop\":{}", "stop"},
        {"\"stop\":[\"a\",\"\"]", "stop[1]"},
        {"\"stop\":[\"a\",\"b\",null]", "stop[2]"},
        {"\"stop\":[[\"a\"]]", "stop[0]"},
        {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\",\"12\","
         "\"13\",\"14\",\"15\",\"16\",\"17\"]",
         "stop"},
        {"\"logit_bias\":{\"\":1}", "logit_bias"},
        {"\"logit_bias\":{\"-1\":1}", "logit_bias"},
        {"\"logit_bias\":{\"+1\":1}", "logit_bias"},
        {"\"logit_bias\":{\"01\":1}", "logit_bias"},
        {"\"logit_bias\":{\" 1\":1}", "logit_bias"},
        {"\"logit_bias\":{\"1.0\":1}", "logit_bias"},
        {"\"logit_bias\":{\"4294967297\":1}", "logit_bias"},
        {"\"logit_bias\":{\"5\":100.5}", "logit_bias"},
        {"\"logit_bias\":{\"5\":\"1\"}", "logit_bias"},
        {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "tools"},
        {"\"tools\":7", "tools"},
        {"\"tool_choice\":\"required\"", "tool_choice"},
        {"\"tool_choice\":{\"type\":\"function\"}", "tool_choice"},
        {"\"functions\":[{}]", "functions"},
        {"\"function_call\":{\"name\":\"f\"}", "function_call"},
        {"\"response_format\":{\"type\":\"json_object\"}", "response_format"},
        {"\"response_format\":{\"type\":\"json_schema\"}", "response_format"},
        {"\"response_format\":\"text\"", "response_format"},
        {"\"response_format\":{}", "response_format"},
        {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
        {"\"modalities\":[]", "modalities"},
        {"\"modalities\":[null]", "modalities"},
        {"\"audio\":{}", "audio"},
        {"\"prediction\":{}", "prediction"},
        {"\"web_search_options\":{}", "web_search_options"},
        {"\"guided_json\":{}", "guided_json"},
        {"\"guided_choice\":[\"a\"]", "guided_choice"},
        {"\"min_tokens\":5", "min_tokens"},
        {"\"stop_token_ids\":[5]", "stop_token_ids"},
        {"\"skip_special_tokens\":false", "skip_special_tokens"},
        {"\"add_generation_prompt\":false", "add_generation_prompt"},
        {"\"continue_final_message\":true", "continue_final_message"},
        {"\"chat_template_kwargs\":{\"a\":1}", "chat_template_kwargs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        chat_refuse(chat_with(cases[i].members), cases[i].param);
}

static void test_bodies(void **state)
{
    (void)state;
    static const char *const no_param[] = {"",
                                           "{",
                                           "[]",
                                           "null",
                                           "5",
                                           "\"x\"",
                                           "{} {}",
                                           "\xff",
                                           "true",
                                           "{\"messages\":",
                                           "{\"a\":1,\"a\":2}",
                                           "\xef\xbb\xbf{}"};
    const vlm_chat_limits limits = chat_limits();
    for (size_t i = 0; i < sizeof no_param / sizeof *no_param; i++) chat_refuse(no_param[i], "");
    chat_refuse_with("{}\0", 3, &limits, "", "");
    chat_refuse("{}", "messages");
    /* Deeper than the limit: 400, and no stack is spent. */
    enum { DEPTH = 100000 };
    char *deep = malloc(DEPTH);
    assert_non_null(deep);
    memset(deep, '[', DEPTH);
    chat_refuse_with(deep, DEPTH, &limits, "", "");
    free(deep);
}

/* Values that change nothing, and parameters of others. */
static void test_ignored(void **state)
{
    (void)state;
    static const char *const members[] = {
        "",
        "\"model\":\"\"",
        "\"tools\":[],\"tool_choice\":\"auto\",\"functions\":[],\"function_call\":\"none\"",
        "\"tool_choice\":\"none\",\"parallel_tool_calls\":true",
        "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"]",
        "\"user\":\"u\",\"metadata\":{\"a\":\"b\"},\"store\":true,\"service_tier\":\"auto\"",
        "\"safety_identifier\":\"s\",\"prompt_cache_key\":\"k\",\"verbosity\":\"low\"",
        "\"reasoning_effort\":\"high\",\"unknown_thing\":{\"x\":[1,2,{\"y\":null}]}",
        "\"min_tokens\":0,\"stop_token_ids\":[],\"skip_special_tokens\":true,\"bad_words\":[]",
        "\"use_beam_search\":false,\"echo\":false,\"add_generation_prompt\":true",
        "\"stop\":[],\"logit_bias\":{},\"stream\":true,\"stream_options\":{\"x\":5}",
        "\"tools\":null,\"audio\":null,\"response_format\":null,\"stop\":null,\"model\":null",
        "\"stream\":null,\"stream_options\":null,\"logit_bias\":null,\"seed\":null",
        "\"top_logprobs\":null,\"modalities\":null,\"temperature\":null,\"n\":null",
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        vlm_chat_request r;
        chat_accept(chat_with(members[i]), &r);
        assert_int_equal(r.n, 1);
        assert_int_equal(r.grpc.n, 1);
        assert_int_equal(r.grpc.max_tokens, 0);
        assert_int_equal(r.grpc.n_stop, 0);
        assert_int_equal(r.model.len, 0);
        assert_int_equal(r.grpc.sampling->n_logit_bias, 0);
        assert_int_equal(r.grpc.sampling->opt_seed_case, 0);
        assert_int_equal(r.grpc.sampling->opt_temperature_case, 0);
        assert_false(r.include_usage || r.logprobs || r.grpc.logprobs || r.grpc.ignore_eos);
        vlm_chat_request_fini(&r);
    }
}

static void test_values(void **state)
{
    (void)state;
    vlm_chat_request r;
    chat_accept(chat_with("\"model\":\"m/\\u00e9\",\"max_tokens\":7,\"temperature\":0.25,"
                          "\"top_p\":0.5,\"n\":8,\"stream\":true,\"stop\":[\"a\\n\",\"\\u0000b\"],"
                          "\"stream_options\":{\"include_usage\":true},\"seed\":-2,"
                          "\"frequency_penalty\":-2,\"presence_penalty\":2,\"top_k\":40,"
                          "\"logit_bias\":{\"0\":-100,\"999999999\":0.5},\"logprobs\":true,"
                          "\"top_logprobs\":20,\"min_p\":1,\"repetition_penalty\":1.5,"
                          "\"ignore_eos\":true"),
                &r);
    const Vlm__V1__Sampling *s = r.grpc.sampling;
    assert_true(vlm_bytes_eq_str(r.model, "m/\xc3\xa9"));
    assert_true(chat_data_is(r.grpc.model, "m/\xc3\xa9"));
    assert_int_equal(r.grpc.max_tokens, 7);
    assert_int_equal(r.n, 8);
    assert_int_equal(r.grpc.n, 8);
    assert_true(r.stream && r.include_usage && r.logprobs);
    assert_true(r.grpc.logprobs && r.grpc.ignore_eos);
    assert_int_equal(r.grpc.top_logprobs, 20);
    assert_int_equal(r.grpc.n_stop, 2);
    assert_true(chat_data_is(r.grpc.stop[0], "a\n"));
    assert_int_equal(r.grpc.stop[1].len, 2);
    assert_memory_equal(r.grpc.stop[1].data, "\0b", 2);
    assert_int_equal(s->opt_seed_case, VLM__V1__SAMPLING__OPT_SEED_SEED);
    assert_true(s->seed == UINT64_MAX - 1);
    assert_true(s->opt_temperature_case != 0 && s->temperature == 0.25f);
    assert_true(s->opt_top_p_case != 0 && s->top_p == 0.5f);
    assert_true(s->opt_min_p_case != 0 && s->min_p == 1.0f);
    assert_true(s->opt_repetition_penalty_case != 0 && s->repetition_penalty == 1.5f);
    assert_true(s->opt_frequency_penalty_case != 0 && s->frequency_penalty == -2.0f);
    assert_true(s->opt_presence_penalty_case != 0 && s->presence_penalty == 2.0f);
    assert_true(s->opt_top_k_case != 0 && s->top_k == 40);
    assert_int_equal(s->n_logit_bias, 2);
    assert_int_equal(s->logit_bias[0]->token_id, 0);
    assert_true(s->logit_bias[0]->bias == -100.0f);
    assert_int_equal(s->logit_bias[1]->token_id, 999999999);
    assert_true(s->logit_bias[1]->bias == 0.5f);
    vlm_chat_request_fini(&r);

    chat_accept(chat_with("\"stop\":\"end\",\"max_tokens\":5,\"max_completion_tokens\":9"), &r);
    assert_int_equal(r.grpc.n_stop, 1);
    assert_true(chat_data_is(r.grpc.stop[0], "end"));
    assert_int_equal(r.grpc.max_tokens, 9); /* the newer name counts, smaller or not */
    vlm_chat_request_fini(&r);

    chat_accept(chat_with("\"max_tokens\":99999999999999999999,\"seed\":9223372036854775807,"
                          "\"top_p\":1e-300,\"top_k\":5000000000"),
                &r);
    assert_int_equal(r.grpc.max_tokens, UINT32_MAX);
    assert_int_equal(r.grpc.sampling->top_k, UINT32_MAX);
    assert_true(r.grpc.sampling->seed == INT64_MAX);
    assert_true(r.grpc.sampling->top_p > 0.0f); /* not rounded to what is refused */
    vlm_chat_request_fini(&r);
}

/* Lengths and counts at their limits and one beyond. */
static void test_limits(void **state)
{
    (void)state;
    static char members[40000];
    for (int beyond = 0; beyond < 2; beyond++) {
        vlm_chat_request r;
        (void)snprintf(members, sizeof members, "\"stop\":\"%0*d\"", 256 + beyond, 1);
        if (beyond) {
            chat_refuse(chat_with(members), "stop");
        } else {
            chat_accept(chat_with(members), &r);
            assert_int_equal(r.grpc.stop[0].len, 256);
            vlm_chat_request_fini(&r);
        }
        size_t len = (size_t)snprintf(members, sizeof members, "\"logit_bias\":{");
        for (int i = 0; i < 1024 + beyond; i++)
            len += (size_t)snprintf(members + len, sizeof members - len, "%s\"%d\":1",
                                    i > 0 ? "," : "", i);
        (void)snprintf(members + len, sizeof members - len, "}");
        if (beyond) {
            chat_refuse(chat_with(members), "logit_bias");
        } else {
            chat_accept(chat_with(members), &r);
            assert_int_equal(r.grpc.sampling->n_logit_bias, 1024);
            assert_int_equal(r.grpc.sampling->logit_bias[1023]->token_id, 1023);
            vlm_chat_request_fini(&r);
        }
    }
}

static void test_out_of_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    static const char text[] =
        "{\"model\":\"m\",\"stop\":[\"a\"],\"logit_bias\":{\"1\":1},\"messages\":["
        "{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":["
        "{\"type\":\"text\",\"text\":\"t\"},"
        "{\"type\":\"image_url\",\"image_url\":\"data:;base64,QUJD%2B%2B%2B%2B\"},"
        "{\"type\":\"image_url\",\"image_url\":\"data:,AB%43\"},"
        "{\"type\":\"image_url\",\"image_url\":\"http://a/b\"}]}]}";
    vlm_chat_limits limits = chat_limits();
    limits.image_urls = true;
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_chat_request r;
        vlm_api_error error;
        const bool ok = vlm_chat_request_parse(text, sizeof text - 1, &limits, &r, &error);
        failmalloc_off();
        if (ok) {
            assert_int_equal(r.n_images, 3);
            vlm_chat_request_fini(&r);
        } else {
            n_failed++;
            if (error.http_status != 503) fail_msg("%u: %s", n, error.message);
            assert_true(error.retry_after_s > 0);
        }
    }
    assert_true(n_failed >= 5);
#else
    skip(); /* a sanitizer's allocator cannot be replaced */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bodies),        cmocka_unit_test(test_ignored),
        cmocka_unit_test(test_values),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
