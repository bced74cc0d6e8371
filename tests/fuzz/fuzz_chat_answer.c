/* fuzz_chat_answer.c - random events of a worker into the stream's and the plain answer.  The
 * stream, read back line by line, is JSON of one shape; its pieces in a row are the plain answer's
 * content; roles come first, reasons last, usage and timings once. */
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz/fuzz.h"
#include "gateway/chat_answer.h"

enum { N_CHOICES = VLM_CHAT_CHOICES_MAX, TOKENS_MAX = 4 };

typedef struct input {
    const uint8_t *data;
    size_t len;
} input;

static uint8_t take(input *in)
{
    if (in->len == 0) return 0;
    in->len--;
    return *in->data++;
}

/* Up to n_max of the bytes that follow. */
static ProtobufCBinaryData take_bytes(input *in, size_t n_max)
{
    size_t n = take(in) % (n_max + 1);
    if (n > in->len) n = in->len;
    const ProtobufCBinaryData out = {.data = (uint8_t *)(uintptr_t)in->data, .len = n};
    in->data += n;
    in->len -= n;
    return out;
}

static float take_float(input *in)
{
    uint8_t bytes[4];
    float value;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = take(in);
    memcpy(&value, bytes, sizeof value);
    return value;
}

static double take_double(input *in)
{
    uint8_t bytes[8];
    double value;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = take(in);
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* What has been read back of a stream. */
typedef struct reading {
    vlm_buf content[N_CHOICES];
    bool has_role[N_CHOICES], is_finished[N_CHOICES];
    size_t n_timings, n_usages, n_logprobs, n_done;
    const vlm_chat_request *request;
} reading;

static bool is_number(const vlm_json *node)
{
    return vlm_json_typeof(node) == VLM_JSON_INT || vlm_json_typeof(node) == VLM_JSON_DOUBLE;
}

static void check_logprobs(const vlm_json *list, size_t *n)
{
    for (size_t i = 0; i < vlm_json_array_len(list); i++) {
        const vlm_json *t = vlm_json_at(list, i), *tops = vlm_json_get(t, "top_logprobs");
        FUZZ_CHECK(is_number(vlm_json_get(t, "logprob")));
        FUZZ_CHECK(vlm_json_typeof(vlm_json_get(t, "token")) == VLM_JSON_STRING);
        FUZZ_CHECK(vlm_json_typeof(vlm_json_get(t, "bytes")) == VLM_JSON_ARRAY);
        FUZZ_CHECK(vlm_json_typeof(tops) == VLM_JSON_ARRAY);
        for (size_t k = 0; k < vlm_json_array_len(tops); k++)
            FUZZ_CHECK(vlm_json_double(vlm_json_get(vlm_json_at(tops, k), "logprob")) >= -9999.0);
        (*n)++;
    }
}

static void check_usage(const vlm_json *usage)
{
    const int64_t total = vlm_json_int(vlm_json_get(usage, "total_tokens"));
    FUZZ_CHECK(total == vlm_json_int(vlm_json_get(usage, "prompt_tokens")) +
                            vlm_json_int(vlm_json_get(usage, "completion_tokens")));
}

static void check_timings(const vlm_json *timings)
{
    static const char *const names[] = {"queue_ms",  "image_ms",       "prefill_ms",
                                        "decode_ms", "prefill_tokens", "decode_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const vlm_json *node = vlm_json_get(timings, names[i]);
        FUZZ_CHECK(is_number(node) && vlm_json_double(node) >= 0.0);
    }
}

static void read_choice(reading *in, const vlm_json *choice)
{
    const vlm_json *delta = vlm_json_get(choice, "delta");
    const vlm_json *content = vlm_json_get(delta, "content");
    const int64_t i = vlm_json_int(vlm_json_get(choice, "index"));
    FUZZ_CHECK(i >= 0 && i < (int64_t)in->request->n && !in->is_finished[i]);
    if (vlm_json_has(delta, "role")) {
        FUZZ_CHECK(!in->has_role[i] && vlm_json_string(content).len == 0);
        in->has_role[i] = true;
    }
    FUZZ_CHECK(in->has_role[i]);
    check_logprobs(vlm_json_get(vlm_json_get(choice, "logprobs"), "content"), &in->n_logprobs);
    if (vlm_json_get(choice, "finish_reason") != NULL) {
        FUZZ_CHECK(vlm_json_object_len(delta) == 0);
        in->is_finished[i] = true;
        return;
    }
    const vlm_bytes text = vlm_json_string(content);
    FUZZ_CHECK(vlm_buf_append(&in->content[i], text.ptr, text.len, NULL) == VLM_OK);
}

static void read_line(reading *in, const char *line, size_t len)
{
    vlm_json_doc *doc;
    FUZZ_CHECK(in->n_done == 0 && len > 6 && memcmp(line, "data: ", 6) == 0);
    if (len == 12 && memcmp(line + 6, "[DONE]", 6) == 0) {
        in->n_done++;
        return;
    }
    FUZZ_CHECK(vlm_json_parse(line + 6, len - 6, &vlm_json_limits_default, &doc, NULL) == VLM_OK);
    const vlm_json *root = vlm_json_root(doc), *choices = vlm_json_get(root, "choices");
    FUZZ_CHECK(vlm_json_has(root, "usage") == in->request->include_usage);
    FUZZ_CHECK(vlm_json_array_len(choices) <= 1 && in->n_timings == 0);
    if (vlm_json_array_len(choices) == 1) {
        FUZZ_CHECK(vlm_json_get(root, "usage") == NULL);
        read_choice(in, vlm_json_at(choices, 0));
    } else {
        check_usage(vlm_json_get(root, "usage"));
        in->n_usages++;
    }
    if (vlm_json_has(root, "timings")) {
        check_timings(vlm_json_get(root, "timings"));
        in->n_timings++;
    }
    vlm_json_free(doc);
}

static void read_stream(reading *in, vlm_bytes text)
{
    size_t at = 0;
    while (at < text.len) {
        const char *end = memchr(text.ptr + at, '\n', text.len - at);
        FUZZ_CHECK(end != NULL && end + 1 < text.ptr + text.len && end[1] == '\n');
        read_line(in, text.ptr + at, (size_t)(end - text.ptr) - at);
        at = (size_t)(end - text.ptr) + 2;
    }
}

static void compare(const reading *in, vlm_bytes plain, bool has_bad_utf8)
{
    vlm_json_doc *doc;
    size_t n_logprobs = 0;
    FUZZ_CHECK(vlm_json_parse(plain.ptr, plain.len, &vlm_json_limits_default, &doc, NULL) ==
               VLM_OK);
    const vlm_json *root = vlm_json_root(doc), *choices = vlm_json_get(root, "choices");
    FUZZ_CHECK(vlm_json_array_len(choices) == in->request->n);
    for (uint32_t i = 0; i < in->request->n; i++) {
        const vlm_json *choice = vlm_json_at(choices, i);
        const vlm_json *message = vlm_json_get(choice, "message");
        FUZZ_CHECK(in->is_finished[i]);
        /* A code point cut in two is whole again in the plain answer alone; no worker cuts any. */
        FUZZ_CHECK(has_bad_utf8 || vlm_bytes_eq(vlm_json_string(vlm_json_get(message, "content")),
                                                vlm_buf_bytes(&in->content[i])));
        check_logprobs(vlm_json_get(vlm_json_get(choice, "logprobs"), "content"), &n_logprobs);
    }
    FUZZ_CHECK(n_logprobs == in->n_logprobs);
    check_usage(vlm_json_get(root, "usage"));
    check_timings(vlm_json_get(root, "timings"));
    vlm_json_free(doc);
}

typedef struct pair {
    vlm_chat_answer stream, plain;
    vlm_buf text;
    bool has_bad_utf8;
} pair;

/* Both answers take the event, or both refuse it for the same reason and add nothing. */
static void feed(pair *p, const Vlm__V1__GenerateEvent *event)
{
    const size_t len = p->text.len;
    const vlm_status status = vlm_chat_answer_event(&p->stream, event, &p->text, NULL);
    FUZZ_CHECK(vlm_chat_answer_collect(&p->plain, event, NULL) == status);
    FUZZ_CHECK(status == VLM_OK || p->text.len == len);
    if (status == VLM_OK && event->event_case == VLM__V1__GENERATE_EVENT__EVENT_DELTA)
        p->has_bad_utf8 |=
            !vlm_utf8_valid((const char *)event->delta->text.data, event->delta->text.len);
}

static void feed_delta(pair *p, input *in, uint32_t choice)
{
    Vlm__V1__TokenLogprob tokens[TOKENS_MAX], *list[TOKENS_MAX], *tops[TOKENS_MAX];
    Vlm__V1__Delta delta = VLM__V1__DELTA__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    delta.choice = choice;
    delta.text = take_bytes(in, 40);
    delta.n_logprobs = take(in) % TOKENS_MAX;
    for (size_t i = 0; i < delta.n_logprobs; i++) {
        vlm__v1__token_logprob__init(&tokens[i]);
        tokens[i].token = take_bytes(in, 20);
        tokens[i].logprob = take_float(in);
        list[i] = tops[i] = &tokens[i];
    }
    if (delta.n_logprobs > 1) {
        tokens[0].n_top = delta.n_logprobs - 1;
        tokens[0].top = tops + 1;
    }
    delta.logprobs = list;
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_DELTA;
    event.delta = &delta;
    feed(p, &event);
}

static void feed_finished(pair *p, input *in, uint32_t choice, uint8_t reason)
{
    Vlm__V1__Usage usage = VLM__V1__USAGE__INIT;
    Vlm__V1__Timings timings = VLM__V1__TIMINGS__INIT;
    Vlm__V1__Finished finished = VLM__V1__FINISHED__INIT;
    Vlm__V1__GenerateEvent event = VLM__V1__GENERATE_EVENT__INIT;
    const uint8_t has = take(in);
    usage.prompt_tokens = (uint32_t)take(in) << 24;
    usage.completion_tokens = (uint32_t)take(in) << 24;
    timings.queue_ms = take_double(in);
    timings.image_ms = take_double(in);
    timings.prefill_ms = take_double(in);
    timings.decode_ms = take_double(in);
    timings.decode_tokens = take(in);
    finished.choice = choice;
    finished.reason = (Vlm__V1__FinishReason)(reason % 5);
    if ((has & 1) != 0) finished.usage = &usage;
    if ((has & 2) != 0) finished.timings = &timings;
    event.event_case = VLM__V1__GENERATE_EVENT__EVENT_FINISHED;
    event.finished = &finished;
    feed(p, &event);
}

/* A worker's bytes as they are. */
static void feed_wire(pair *p, input *in)
{
    const ProtobufCBinaryData bytes = take_bytes(in, 255);
    Vlm__V1__GenerateEvent *event = vlm__v1__generate_event__unpack(NULL, bytes.len, bytes.data);
    if (event == NULL) return;
    feed(p, event);
    vlm__v1__generate_event__free_unpacked(event, NULL);
}

static void finish(pair *p, const vlm_chat_request *request)
{
    reading in = {.request = request};
    vlm_buf plain;
    vlm_buf_init(&plain, 1 << 24);
    for (size_t i = 0; i < N_CHOICES; i++) vlm_buf_init(&in.content[i], 1 << 24);
    const size_t len = p->text.len;
    const vlm_status status = vlm_chat_answer_end(&p->stream, &p->text, NULL);
    FUZZ_CHECK(vlm_chat_answer_write(&p->plain, &plain, NULL) == status);
    FUZZ_CHECK(status == VLM_OK || (p->text.len == len && plain.len == 0));
    read_stream(&in, vlm_buf_bytes(&p->text));
    FUZZ_CHECK(in.n_done == (status == VLM_OK));
    FUZZ_CHECK(in.n_usages == (status == VLM_OK && request->include_usage));
    FUZZ_CHECK(status != VLM_OK || in.n_timings == 1);
    if (status == VLM_OK) compare(&in, vlm_buf_bytes(&plain), p->has_bad_utf8);
    for (size_t i = 0; i < N_CHOICES; i++) vlm_buf_fini(&in.content[i]);
    vlm_buf_fini(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    input in = {.data = data, .len = len};
    const uint8_t mode = take(&in);
    const vlm_chat_request request = {
        .n = 1 + mode % N_CHOICES, .include_usage = (mode & 8) != 0, .logprobs = (mode & 16) != 0};
    char model[64];
    const ProtobufCBinaryData name = take_bytes(&in, sizeof model - 1);
    (void)snprintf(model, sizeof model, "%.*s", (int)name.len, (const char *)name.data);
    pair p = {.has_bad_utf8 = false};
    vlm_buf_init(&p.text, 1 << 24);
    FUZZ_CHECK(vlm_chat_answer_init(&p.stream, &request, "chatcmpl-1", 1, model, NULL) == VLM_OK);
    FUZZ_CHECK(vlm_chat_answer_init(&p.plain, &request, "chatcmpl-1", 1, model, NULL) == VLM_OK);
    while (in.len > 0) {
        const uint8_t what = take(&in);
        switch (what >> 4 & 3) {
        case 0:
        case 1: feed_delta(&p, &in, what % 16U); break;
        case 2: feed_finished(&p, &in, what % 16U, take(&in)); break;
        default: feed_wire(&p, &in); break;
        }
    }
    if ((mode & 32) != 0) /* most inputs would leave some choice open */
        for (uint32_t i = 0; i < request.n; i++)
            feed_finished(&p, &in, i, VLM__V1__FINISH_REASON__FINISH_REASON_STOP);
    finish(&p, &request);
    vlm_chat_answer_fini(&p.stream);
    vlm_chat_answer_fini(&p.plain);
    vlm_buf_fini(&p.text);
    return 0;
}
