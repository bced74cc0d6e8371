#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "failmalloc.h"
#include "gateway/chat_answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_OF(object)                                                                            \
    "{\"id\":\"chatcmpl-1\",\"object\":\"" object "\",\"created\":1700000000,"                     \
    "\"model\":\"a \\\"b\\\"\",\"system_fingerprint\":\"vlmd-" VLM_VERSION "\",\"choices\":["
#define CHUNK "data: " HEAD_OF("chat.completion.chunk")
#define DELTA(index, delta) CHUNK "{\"index\":" index ",\"delta\":" delta ",\"logprobs\":null,"
#define ROLE(index)                                                                                \
    DELTA(index, "{\"role\":\"assistant\",\"content\":\"\"}") "\"finish_reason\":null}]"
#define TEXT(index, text) DELTA(index, "{\"content\":\"" text "\"}") "\"finish_reason\":null}]"
#define FINISH(index, reason) DELTA(index, "{}") "\"finish_reason\":\"" reason "\"}]"
#define NO_USAGE ",\"usage\":null"
#define END "}\n\n"
#define DONE "data: [DONE]\n\n"
#define TIMINGS(decode_ms, n_tokens)                                                               \
    ",\"timings\":{\"queue_ms\":1.000,\"image_ms\":2.000,\"prefill_ms\":3.000,\"decode_"           \
    "ms\":" decode_ms ",\"prefill_tokens\":6,\"decode_tokens\":" n_tokens "}"

static ProtobufCBinaryData data_of(const char *text)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)text, .len = strlen(text)};
}

typedef struct mode {
    uint32_t n;
    bool usage, logprobs;
} mode;

static void open_answer(vlm_chat_answer *a, mode m)
{
    const vlm_chat_request r = {
        .n = m.n, .include_usage = m.usage, .logprobs = m.logprobs, .stream = true};
    vlm_error err;
    if (vlm_chat_answer_init(a, &r, "chatcmpl-1", 1700000000, "a \"b\"", &err) != VLM_OK)
        fail_msg("%s", err.msg);
}

/* Feed one event to a stream (out) or a plain answer (NULL). */
static vlm_status feed(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event, vlm_buf *out)
{
    return out == NULL ? vlm_chat_answer_collect(a, event, NULL)
                       : vlm_chat_answer_event(a, event, out, NULL);
}

static vlm_status feed_text(vlm_chat_answer *a, uint32_t choice, const char *text, vlm_buf *out)
{
    Vlm__V1__Delta delta = VLM__V1__DELTA__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    delta.choice = choice;
    delta.text = data_of(text);
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_DELTA;
    event.delta = &delta;
    return feed(a, &event, out);
}

static vlm_status feed_logprobs(vlm_chat_answer *a, const char *text, const char *token,
                                float logprob, vlm_buf *out)
{
    Vlm__V1__TokenLogprob top = VLM__V1__TOKEN_LOGPROB__INIT;
    Vlm__V1__TokenLogprob own = VLM__V1__TOKEN_LOGPROB__INIT;
    Vlm__V1__TokenLogprob *tops[] = {&top, &own}, *list[] = {&own};
    Vlm__V1__Delta delta = VLM__V1__DELTA__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    own.token = data_of(token);
    own.logprob = logprob;
    own.n_top = 2;
    own.top = tops;
    top.token = data_of("\"");
    top.logprob = -INFINITY;
    delta.text = data_of(text);
    delta.n_logprobs = 1;
    delta.logprobs = list;
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_DELTA;
    event.delta = &delta;
    return feed(a, &event, out);
}

static vlm_status feed_started(vlm_chat_answer *a, vlm_buf *out)
{
    Vlm__V1__Usage usage = VLM__V1__USAGE__INIT;
    Vlm__V1__Started started = VLM__V1__STARTED__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    usage.prompt_tokens = 10;
    started.usage = &usage;
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_STARTED;
    event.started = &started;
    return feed(a, &event, out);
}

static vlm_status feed_finished(vlm_chat_answer *a, uint32_t choice, int reason, uint32_t n_tokens,
                                vlm_buf *out)
{
    Vlm__V1__Usage usage = VLM__V1__USAGE__INIT;
    Vlm__V1__Timings timings = VLM__V1__TIMINGS__INIT;
    Vlm__V1__Finished finished = VLM__V1__FINISHED__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    usage.prompt_tokens = 10;
    usage.completion_tokens = n_tokens;
    usage.cached_tokens = 4;
    usage.image_tokens = 5;
    timings.queue_ms = 1.0;
    timings.image_ms = 2.0;
    timings.prefill_ms = 3.0;
    timings.decode_ms = 13.5 * n_tokens;
    timings.prefill_tokens = 6;
    timings.decode_tokens = n_tokens;
    finished.choice = choice;
    finished.reason = (Vlm__V1__FinishReason)reason;
    finished.usage = &usage;
    finished.timings = &timings;
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_FINISHED;
    event.finished = &finished;
    return feed(a, &event, out);
}

enum {
    STOP = VLM__V1__FINISH_REASON__FINISH_REASON_STOP,
    LENGTH = VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH,
    CANCELLED = VLM__V1__FINISH_REASON__FINISH_REASON_CANCELLED,
};

#define OK(expr) assert_int_equal(expr, VLM_OK)

static void test_stream(void **state)
{
    (void)state;
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    open_answer(&a, (mode){.n = 1});
    OK(feed_started(&a, &out));
    assert_int_equal(out.len, 0); /* nothing before the first token */
    OK(feed_text(&a, 0, "he\"l\n", &out));
    OK(feed_text(&a, 0, "", &out)); /* half a code point: nothing to say yet */
    OK(feed_text(&a, 0, "\xc3\xa9", &out));
    OK(feed_finished(&a, 0, STOP, 3, &out));
    OK(vlm_chat_answer_end(&a, &out, NULL));
    assert_string_equal(out.data, ROLE("0") END TEXT("0", "he\\\"l\\n") END TEXT("0", "\xc3\xa9")
                                      END FINISH("0", "stop") TIMINGS("40.500", "3") END DONE);
    vlm_chat_answer_fini(&a);
    vlm_buf_fini(&out);
}

static void test_stream_usage(void **state)
{
    (void)state;
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    open_answer(&a, (mode){.n = 2, .usage = true});
    OK(feed_text(&a, 1, "b", &out));
    OK(feed_finished(&a, 1, LENGTH, 1, &out));
    OK(feed_text(&a, 0, "a", &out));
    OK(feed_finished(&a, 0, STOP, 2, &out));
    OK(vlm_chat_answer_end(&a, &out, NULL));
    assert_string_equal(
        out.data, ROLE("0") NO_USAGE END ROLE("1") NO_USAGE END TEXT("1", "b")
                      NO_USAGE END FINISH("1", "length") NO_USAGE END TEXT("0", "a")
                          NO_USAGE END FINISH("0", "stop") NO_USAGE END CHUNK
        "],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3,\"total_tokens\":13,"
        "\"prompt_tokens_details\":{\"cached_tokens\":4,\"image_tokens\":5}}" TIMINGS("27.000", "3")
            END DONE);
    vlm_chat_answer_fini(&a);
    vlm_buf_fini(&out);
}

/* No token at all: the role still comes first. */
static void test_empty(void **state)
{
    (void)state;
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    open_answer(&a, (mode){.n = 1});
    OK(feed_finished(&a, 0, LENGTH, 0, &out));
    OK(vlm_chat_answer_end(&a, &out, NULL));
    assert_string_equal(out.data,
                        ROLE("0") END FINISH("0", "length") TIMINGS("0.000", "0") END DONE);
    vlm_chat_answer_fini(&a);
    vlm_buf_clear(&out);

    open_answer(&a, (mode){.n = 1, .logprobs = true});
    OK(feed_finished(&a, 0, STOP, 0, NULL));
    OK(vlm_chat_answer_write(&a, &out, NULL));
    assert_non_null(strstr(out.data, "\"content\":\"\",\"refusal\":null},\"logprobs\":"
                                     "{\"content\":[],\"refusal\":null},\"finish_reason\":"));
    vlm_chat_answer_fini(&a);
    vlm_buf_fini(&out);
}

static void test_plain(void **state)
{
    (void)state;
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    open_answer(&a, (mode){.n = 2, .usage = true});
    OK(feed_started(&a, NULL));
    OK(feed_text(&a, 0, "he", NULL));
    OK(feed_text(&a, 1, "x\\", NULL));
    OK(feed_text(&a, 0, "llo", NULL));
    OK(feed_finished(&a, 0, STOP, 2, NULL));
    assert_int_equal(vlm_chat_answer_write(&a, &out, NULL), VLM_INTERNAL); /* one is missing */
    assert_int_equal(out.len, 0);
    OK(feed_finished(&a, 1, LENGTH, 1, NULL));
    OK(vlm_chat_answer_write(&a, &out, NULL));
    assert_string_equal(
        out.data,
        HEAD_OF("chat.completion") "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                                   "\"hello\",\"refusal\":null},\"logprobs\":null,"
                                   "\"finish_reason\":\"stop\"},{\"index\":1,\"message\":{\"role\":"
                                   "\"assistant\",\"content\":\"x\\\\\",\"refusal\":null},"
                                   "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":"
                                   "{\"prompt_tokens\":10,\"completion_tokens\":3,\"total_tokens\":"
                                   "13,\"prompt_tokens_details\":{\"cached_tokens\":4,"
                                   "\"image_tokens\":5}}" TIMINGS("27.000", "3") "}");
    vlm_chat_answer_fini(&a);
    vlm_buf_fini(&out);
}

static void test_logprobs(void **state)
{
    (void)state;
#define HALF                                                                                       \
    "{\"content\":[{\"token\":\"a\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[97,195],"              \
    "\"top_logprobs\":[{\"token\":\"\\\"\",\"logprob\":-9999,\"bytes\":[34]},"                     \
    "{\"token\":\"a\xef\xbf\xbd\",\"logprob\":-0.5,\"bytes\":[97,195]}]}"
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    open_answer(&a, (mode){.n = 1, .logprobs = true});
    OK(feed_logprobs(&a, "", "a\xc3", -0.5f, &out));
    assert_non_null(strstr(out.data, "\"delta\":{\"content\":\"\"},\"logprobs\":" HALF
                                     "],\"refusal\":null},\"finish_reason\":null}]}\n\n"));
    vlm_chat_answer_fini(&a);
    vlm_buf_clear(&out);

    open_answer(&a, (mode){.n = 1, .logprobs = true});
    OK(feed_logprobs(&a, "", "a\xc3", -0.5f, NULL));
    OK(feed_logprobs(&a, "", "", 0.0f, NULL));
    OK(feed_finished(&a, 0, STOP, 2, NULL));
    OK(vlm_chat_answer_write(&a, &out, NULL));
    assert_non_null(strstr(out.data, "\"logprobs\":" HALF ",{\"token\":\"\",\"logprob\":0,"
                                     "\"bytes\":[],\"top_logprobs\":[{"));
    vlm_chat_answer_fini(&a);
    vlm_buf_clear(&out);

    /* Not asked for: left out although the worker sends them. */
    open_answer(&a, (mode){.n = 1});
    OK(feed_logprobs(&a, "a", "a", -0.5f, &out));
    assert_null(strstr(out.data, "top_logprobs"));
    vlm_chat_answer_fini(&a);
    vlm_buf_fini(&out);
}

/* Figures that JSON cannot write. */
static void test_no_numbers(void **state)
{
    (void)state;
    static const float logprobs[] = {-INFINITY, INFINITY, NAN, -10000.0f};
    vlm_chat_answer a;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    for (size_t i = 0; i < sizeof logprobs / sizeof *logprobs; i++) {
        vlm_buf_clear(&out);
        open_answer(&a, (mode){.n = 1, .logprobs = true});
        OK(feed_logprobs(&a, "x", "x", logprobs[i], &out));
        assert_non_null(strstr(out.data, "\"token\":\"x\",\"logprob\":-9999,\"bytes\":[120]"));
        vlm_chat_answer_fini(&a);
    }
    static const double times[] = {NAN, INFINITY, -INFINITY, -1.0, 1e300};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        Vlm__V1__Timings timings = VLM__V1__TIMINGS__INIT;
        Vlm__V1__Finished finished = VLM__V1__FINISHED__INIT;
        Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
        timings.queue_ms = timings.image_ms = timings.prefill_ms = timings.decode_ms = times[i];
        finished.reason = VLM__V1__FINISH_REASON__FINISH_REASON_STOP;
        finished.timings = &timings;
        event.event_case = VLM__V1__GENERATE_EVENT__EVENT_FINISHED;
        event.finished = &finished;
        vlm_buf_clear(&out);
        open_answer(&a, (mode){.n = 1});
        OK(vlm_chat_answer_event(&a, &event, &out, NULL));
        assert_non_null(strstr(out.data, "{\"queue_ms\":0.000,\"image_ms\":0.000,\"prefill_ms\":"
                                         "0.000,\"decode_ms\":0.000,\"prefill_tokens\":0,"));
        vlm_chat_answer_fini(&a);
    }
    vlm_buf_fini(&out);
}

/* Whichever choice ends last: the longest time, all tokens, the most that was found. */
static void test_figures_of_choices(void **state)
{
    (void)state;
    static const struct {
        double decode_ms;
        uint32_t n_cached;
    } choices[] = {{10.0, 4}, {30.0, 16}, {20.0, 0}};
    for (uint32_t first = 0; first < 3; first++) {
        vlm_chat_answer a;
        vlm_buf out;
        vlm_buf_init(&out, 65536);
        open_answer(&a, (mode){.n = 3});
        OK(feed_started(&a, NULL));
        for (uint32_t i = 0; i < 3; i++) {
            const uint32_t c = (first + i) % 3;
            Vlm__V1__Usage usage = VLM__V1__USAGE__INIT;
            Vlm__V1__Timings timings = VLM__V1__TIMINGS__INIT;
            Vlm__V1__Finished finished = VLM__V1__FINISHED__INIT;
            Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
            usage.prompt_tokens = 20;
            usage.completion_tokens = timings.decode_tokens = 2;
            usage.cached_tokens = choices[c].n_cached;
            timings.decode_ms = choices[c].decode_ms;
            timings.prefill_tokens = 20 - choices[c].n_cached;
            finished.choice = c;
            finished.reason = VLM__V1__FINISH_REASON__FINISH_REASON_STOP;
            finished.usage = &usage;
            finished.timings = &timings;
            event.event_case = VLM__V1__GENERATE_EVENT__EVENT_FINISHED;
            event.finished = &finished;
            OK(vlm_chat_answer_collect(&a, &event, NULL));
        }
        OK(vlm_chat_answer_write(&a, &out, NULL));
        assert_non_null(strstr(out.data, "\"completion_tokens\":6,"));
        assert_non_null(strstr(out.data, "\"cached_tokens\":16,"));
        assert_non_null(
            strstr(out.data, "\"decode_ms\":30.000,\"prefill_tokens\":4,\"decode_tokens\":6}"));
        vlm_chat_answer_fini(&a);
        vlm_buf_fini(&out);
    }
}

static void test_fail(void **state)
{
    (void)state;
    vlm_api_error e;
    vlm_buf out;
    vlm_buf_init(&out, 65536);
    vlm_api_error_timeout(&e);
    OK(vlm_chat_answer_fail(&e, &out, NULL));
    assert_string_equal(out.data, "data: {\"error\":{\"message\":\"the request took too long\","
                                  "\"type\":\"timeout_error\",\"param\":null,\"code\":null}}\n\n");
    vlm_buf_fini(&out);
}

/* Events that a worker of ours never sends make no answer. */
static void test_nonsense(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        vlm_chat_answer a;
        vlm_buf text, *out = plain ? NULL : &text;
        vlm_buf_init(&text, 65536);
        open_answer(&a, (mode){.n = 2});
        assert_int_equal(feed_text(&a, 2, "x", out), VLM_INTERNAL);
        assert_int_equal(feed_text(&a, UINT32_MAX, "x", out), VLM_INTERNAL);
        assert_int_equal(feed_finished(&a, 2, STOP, 1, out), VLM_INTERNAL);
        assert_int_equal(feed_finished(&a, 0, 0, 1, out), VLM_INTERNAL);
        assert_int_equal(feed_finished(&a, 0, 99, 1, out), VLM_INTERNAL);
        /* Never a "stop" that was none. */
        assert_int_equal(feed_finished(&a, 0, CANCELLED, 1, out), VLM_UNAVAILABLE);
        assert_int_equal(text.len, 0);
        OK(feed_finished(&a, 0, STOP, 1, out));
        assert_int_equal(feed_finished(&a, 0, STOP, 1, out), VLM_INTERNAL);
        assert_int_equal(feed_text(&a, 0, "x", out), VLM_INTERNAL);
        vlm_buf_clear(&text);
        assert_int_equal(plain ? vlm_chat_answer_write(&a, &text, NULL)
                               : vlm_chat_answer_end(&a, &text, NULL),
                         VLM_INTERNAL);
        assert_int_equal(text.len, 0);
        vlm_chat_answer_fini(&a);
        vlm_buf_fini(&text);
    }
}

/* 64 MiB over all choices together. */
static void test_collected_limit(void **state)
{
    (void)state;
    enum { PIECE = 1 << 20 };
    vlm_chat_answer a;
    vlm_error err;
    char *piece = malloc(PIECE + 1);
    assert_non_null(piece);
    memset(piece, 'x', PIECE);
    piece[PIECE] = '\0';
    open_answer(&a, (mode){.n = 8});
    for (uint32_t i = 0; i < 64; i++) OK(feed_text(&a, i % 8, piece, NULL));
    Vlm__V1__Delta delta = VLM__V1__DELTA__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    delta.text = data_of("y");
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_DELTA;
    event.delta = &delta;
    assert_int_equal(vlm_chat_answer_collect(&a, &event, &err), VLM_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.msg, "67108864"));
    vlm_chat_answer_fini(&a);
    free(piece);
}

static void test_out_of_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    const vlm_chat_request r = {.n = 2, .logprobs = true};
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_chat_answer a;
        vlm_buf out;
        vlm_buf_init(&out, 1 << 20);
        vlm_status status = vlm_chat_answer_init(&a, &r, "chatcmpl-1", 1, "m", NULL);
        const bool is_open = status == VLM_OK;
        for (int i = 0; status == VLM_OK && i < 20; i++)
            status = feed_logprobs(&a, "text", "token", -1.0f, i % 2 == 0 ? NULL : &out);
        for (uint32_t i = 0; status == VLM_OK && i < 2; i++)
            status = feed_finished(&a, i, STOP, 1, &out);
        if (status == VLM_OK) status = vlm_chat_answer_end(&a, &out, NULL);
        if (status == VLM_OK) {
            vlm_buf_fini(&out); /* what is written takes memory anew */
            status = vlm_chat_answer_write(&a, &out, NULL);
        }
        failmalloc_off();
        if (status != VLM_OK) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            /* Whole chunks alone, so that an error may follow. */
            if (out.len > 0) assert_string_equal(out.data + out.len - 3, "}\n\n");
            n_failed++;
        }
        if (is_open) vlm_chat_answer_fini(&a);
        vlm_buf_fini(&out);
    }
    assert_true(n_failed > 8);
#else
    skip(); /* a sanitizer's allocator cannot be replaced */
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_usage),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_no_numbers),
        cmocka_unit_test(test_figures_of_choices),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_collected_limit),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
