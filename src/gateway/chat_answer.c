#include "gateway/chat_answer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

/* A plain answer is kept up to COLLECTED_MAX bytes. */
enum { COLLECTED_MAX = 64 << 20, HEAD_MAX = 8192 };

static const int reason_stop = VLM__V1__FINISH_REASON__FINISH_REASON_STOP;
static const int reason_length = VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH;

/* Text of the program's own. */
#define APPEND(out, literal) VLM_TRY(vlm_buf_append(out, literal, sizeof(literal) - 1, err))

static vlm_bytes bytes_of(ProtobufCBinaryData data)
{
    return (vlm_bytes){.ptr = (const char *)data.data, .len = data.len};
}

static const char *finish_text(int reason)
{
    return reason == reason_length ? "\"length\"" : "\"stop\"";
}

/* From the time to the first choice; the same in chunks and plain answers. */
static vlm_status append_origin(vlm_buf *out, int64_t created, const char *model, vlm_error *err)
{
    VLM_TRY(vlm_buf_printf(out, err, ",\"created\":%" PRId64 ",\"model\":", created));
    VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(model), err));
    return vlm_buf_append_str(out, ",\"system_fingerprint\":\"vlmd-" VLM_VERSION "\",\"choices\":[",
                              err);
}

static vlm_status make_heads(vlm_chat_answer *a, const char *id, int64_t created, const char *model,
                             vlm_error *err)
{
    vlm_buf *chunk = &a->chunk_head, *plain = &a->plain_head;
    VLM_TRY(vlm_buf_printf(chunk, err, "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\"",
                           id));
    VLM_TRY(append_origin(chunk, created, model, err));
    VLM_TRY(vlm_buf_printf(plain, err, "{\"id\":\"%s\",\"object\":\"chat.completion\"", id));
    return append_origin(plain, created, model, err);
}

vlm_status vlm_chat_answer_init(vlm_chat_answer *a, const vlm_chat_request *request, const char *id,
                                int64_t created, const char *model, vlm_error *err)
{
    *a = (vlm_chat_answer){
        .n = request->n, .include_usage = request->include_usage, .logprobs = request->logprobs};
    for (uint32_t i = 0; i < VLM_CHAT_CHOICES_MAX; i++) {
        vlm_buf_init(&a->choices[i].content, COLLECTED_MAX);
        vlm_buf_init(&a->choices[i].logprobs, COLLECTED_MAX);
    }
    vlm_buf_init(&a->chunk_head, HEAD_MAX);
    vlm_buf_init(&a->plain_head, HEAD_MAX);
    const vlm_status status = make_heads(a, id, created, model, err);
    if (status != VLM_OK) vlm_chat_answer_fini(a);
    return status;
}

void vlm_chat_answer_fini(vlm_chat_answer *a)
{
    for (uint32_t i = 0; i < VLM_CHAT_CHOICES_MAX; i++) {
        vlm_buf_fini(&a->choices[i].content);
        vlm_buf_fini(&a->choices[i].logprobs);
    }
    vlm_buf_fini(&a->chunk_head);
    vlm_buf_fini(&a->plain_head);
}

/* JSON has no infinities; OpenAI writes -9999 for what is impossible. */
static double finite_logprob(float value)
{
    return isfinite(value) && value > -9999.0f ? (double)value : -9999.0;
}

/* [104,105] */
static vlm_status append_bytes(vlm_buf *out, ProtobufCBinaryData bytes, vlm_error *err)
{
    size_t len_max; /* a byte takes at most three digits and a comma */
    if (!vlm_size_mul(bytes.len, 4, &len_max) || !vlm_size_add(len_max, 2, &len_max))
        return vlm_fail_memory(err, "token");
    VLM_TRY(vlm_buf_reserve(out, len_max, err));
    char *at = out->data + out->len;
    *at++ = '[';
    for (size_t i = 0; i < bytes.len; i++) {
        const unsigned value = bytes.data[i];
        if (i > 0) *at++ = ',';
        if (value >= 100) *at++ = (char)('0' + value / 100);
        if (value >= 10) *at++ = (char)('0' + value / 10 % 10);
        *at++ = (char)('0' + value % 10);
    }
    *at++ = ']';
    *at = '\0';
    out->len = (size_t)(at - out->data);
    return VLM_OK;
}

/* {"token":"...","logprob":...,"bytes":[...] without the end of the object. */
static vlm_status append_token(vlm_buf *out, const Vlm__V1__TokenLogprob *t, vlm_error *err)
{
    APPEND(out, "{\"token\":");
    VLM_TRY(vlm_json_append_string(out, bytes_of(t->token), err));
    VLM_TRY(vlm_buf_printf(out, err, ",\"logprob\":%.9g,\"bytes\":", finite_logprob(t->logprob)));
    return append_bytes(out, t->token, err);
}

static vlm_status append_logprob(vlm_buf *out, const Vlm__V1__TokenLogprob *t, vlm_error *err)
{
    VLM_TRY(append_token(out, t, err));
    VLM_TRY(vlm_buf_append_str(out, ",\"top_logprobs\":[", err));
    for (size_t i = 0; i < t->n_top; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(append_token(out, t->top[i], err));
        VLM_TRY(vlm_buf_append_char(out, '}', err));
    }
    return vlm_buf_append_str(out, "]}", err);
}

static vlm_status append_logprobs(vlm_buf *out, const Vlm__V1__Delta *d, vlm_error *err)
{
    for (size_t i = 0; i < d->n_logprobs; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(append_logprob(out, d->logprobs[i], err));
    }
    return VLM_OK;
}

static uint32_t n_completion_of(const vlm_chat_answer *a)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n; i++) n += a->choices[i].n_completion;
    return n;
}

static vlm_status append_usage(const vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    const uint32_t n_completion = n_completion_of(a);
    return vlm_buf_printf(
        out, err,
        "\"usage\":{\"prompt_tokens\":%" PRIu32 ",\"completion_tokens\":%" PRIu32
        ",\"total_tokens\":%" PRIu64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu32
        ",\"image_tokens\":%" PRIu32 "}}",
        a->n_prompt, n_completion, (uint64_t)a->n_prompt + n_completion, a->n_cached, a->n_image);
}

static vlm_status append_timings(const vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    return vlm_buf_printf(
        out, err,
        ",\"timings\":{\"queue_ms\":%.3f,\"image_ms\":%.3f,\"prefill_ms\":%.3f,"
        "\"decode_ms\":%.3f,\"prefill_tokens\":%" PRIu32 ",\"decode_tokens\":%" PRIu32 "}",
        a->queue_ms, a->image_ms, a->prefill_ms, a->decode_ms, a->prefill_tokens, a->decode_tokens);
}

/* How many of the prompt's tokens were found shows only at the end: of what the choices say, the
 * most. */
static void note_prompt(vlm_chat_answer *a, const Vlm__V1__Usage *usage)
{
    if (usage == NULL) return;
    a->n_prompt = usage->prompt_tokens;
    if (usage->cached_tokens > a->n_cached) a->n_cached = usage->cached_tokens;
    a->n_image = usage->image_tokens;
}

/* What no clock can have shown counts as nothing: JSON has no NaN, and sums stay finite. */
static double clean_ms(double ms)
{
    return ms > 0.0 && ms < 1e15 ? ms : 0.0;
}

static vlm_status note_finished(vlm_chat_answer *a, const Vlm__V1__Finished *f, vlm_error *err)
{
    vlm_chat_choice *c = &a->choices[f->choice];
    if (f->reason == VLM__V1__FINISH_REASON__FINISH_REASON_CANCELLED)
        return vlm_fail(err, VLM_UNAVAILABLE, "the worker gave the answer up");
    if ((int)f->reason != reason_stop && (int)f->reason != reason_length)
        return vlm_fail(err, VLM_INTERNAL, "the worker's answer ends for no known reason");
    c->finish = (int)f->reason;
    a->n_finished++;
    note_prompt(a, f->usage);
    if (f->usage != NULL) c->n_completion = f->usage->completion_tokens;
    if (f->timings == NULL) return VLM_OK;
    a->queue_ms = clean_ms(f->timings->queue_ms);
    a->image_ms = clean_ms(f->timings->image_ms);
    a->prefill_ms = clean_ms(f->timings->prefill_ms);
    if (!a->has_timings || f->timings->prefill_tokens < a->prefill_tokens)
        a->prefill_tokens = f->timings->prefill_tokens;
    a->has_timings = true;
    /* Choices are computed side by side: the longest is the answer's. */
    if (clean_ms(f->timings->decode_ms) > a->decode_ms)
        a->decode_ms = clean_ms(f->timings->decode_ms);
    a->decode_tokens += f->timings->decode_tokens;
    return VLM_OK;
}

/* What an event says of the figures. */
static vlm_status note(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event, vlm_error *err)
{
    uint32_t choice;
    switch (event->event_case) {
    case VLM__V1__GENERATE_EVENT__EVENT_STARTED:
        note_prompt(a, event->started->usage);
        return VLM_OK;
    case VLM__V1__GENERATE_EVENT__EVENT_DELTA: choice = event->delta->choice; break;
    case VLM__V1__GENERATE_EVENT__EVENT_FINISHED: choice = event->finished->choice; break;
    default: return VLM_OK;
    }
    if (choice >= a->n || a->choices[choice].finish != 0)
        return vlm_fail(err, VLM_INTERNAL, "the worker's events make no sense");
    return event->event_case == VLM__V1__GENERATE_EVENT__EVENT_DELTA
               ? VLM_OK
               : note_finished(a, event->finished, err);
}

/* The part of a chunk up to its delta's inside. */
static vlm_status begin_chunk(const vlm_chat_answer *a, uint32_t choice, vlm_buf *out,
                              vlm_error *err)
{
    char text[] = "{\"index\":0,\"delta\":{";
    _Static_assert(VLM_CHAT_CHOICES_MAX <= 10, "one digit");
    text[sizeof "{\"index\":" - 1] = (char)('0' + choice);
    VLM_TRY(vlm_buf_append(out, a->chunk_head.data, a->chunk_head.len, err));
    return vlm_buf_append(out, text, sizeof text - 1, err);
}

/* The rest: finish_reason as JSON text, usage null where another chunk has it. */
static vlm_status end_chunk(const vlm_chat_answer *a, const char *finish, bool timings,
                            vlm_buf *out, vlm_error *err)
{
    APPEND(out, ",\"finish_reason\":");
    VLM_TRY(vlm_buf_append_str(out, finish, err));
    APPEND(out, "}]");
    if (a->include_usage) APPEND(out, ",\"usage\":null");
    if (timings) VLM_TRY(append_timings(a, out, err));
    APPEND(out, "}\n\n");
    return VLM_OK;
}

static vlm_status write_roles(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    if (a->begun) return VLM_OK;
    for (uint32_t i = 0; i < a->n; i++) {
        VLM_TRY(begin_chunk(a, i, out, err));
        APPEND(out, "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null");
        VLM_TRY(end_chunk(a, "null", false, out, err));
    }
    a->begun = true;
    return VLM_OK;
}

static vlm_status write_delta(const vlm_chat_answer *a, const Vlm__V1__Delta *d, vlm_buf *out,
                              vlm_error *err)
{
    const bool logprobs = a->logprobs && d->n_logprobs > 0;
    if (d->text.len == 0 && !logprobs) return VLM_OK;
    VLM_TRY(begin_chunk(a, d->choice, out, err));
    APPEND(out, "\"content\":");
    VLM_TRY(vlm_json_append_string(out, bytes_of(d->text), err));
    if (logprobs) {
        APPEND(out, "},\"logprobs\":{\"content\":[");
        VLM_TRY(append_logprobs(out, d, err));
        APPEND(out, "],\"refusal\":null}");
    } else {
        APPEND(out, "},\"logprobs\":null");
    }
    return end_chunk(a, "null", false, out, err);
}

static vlm_status write_finish(const vlm_chat_answer *a, uint32_t choice, vlm_buf *out,
                               vlm_error *err)
{
    VLM_TRY(begin_chunk(a, choice, out, err));
    APPEND(out, "},\"logprobs\":null");
    return end_chunk(a, finish_text(a->choices[choice].finish),
                     !a->include_usage && a->n_finished == a->n, out, err);
}

/* On failure take back what was appended: half a chunk would spoil the error that comes after it.
 */
static vlm_status keep_whole(vlm_buf *out, size_t len, vlm_status status)
{
    if (status == VLM_OK || out->len == len) return status;
    out->len = len;
    out->data[len] = '\0';
    return status;
}

static vlm_status write_event(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event, vlm_buf *out,
                              vlm_error *err)
{
    switch (event->event_case) {
    case VLM__V1__GENERATE_EVENT__EVENT_DELTA:
        VLM_TRY(write_roles(a, out, err));
        return write_delta(a, event->delta, out, err);
    case VLM__V1__GENERATE_EVENT__EVENT_FINISHED:
        VLM_TRY(write_roles(a, out, err));
        return write_finish(a, event->finished->choice, out, err);
    default: return VLM_OK;
    }
}

vlm_status vlm_chat_answer_event(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event,
                                 vlm_buf *out, vlm_error *err)
{
    const size_t len = out->len;
    VLM_TRY(note(a, event, err));
    return keep_whole(out, len, write_event(a, event, out, err));
}

static vlm_status write_end(const vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    if (a->include_usage) {
        VLM_TRY(vlm_buf_append(out, a->chunk_head.data, a->chunk_head.len, err));
        APPEND(out, "],");
        VLM_TRY(append_usage(a, out, err));
        VLM_TRY(append_timings(a, out, err));
        APPEND(out, "}\n\n");
    }
    APPEND(out, "data: [DONE]\n\n");
    return VLM_OK;
}

static vlm_status check_finished(const vlm_chat_answer *a, vlm_error *err)
{
    if (a->n_finished == a->n) return VLM_OK;
    return vlm_fail(err, VLM_INTERNAL, "the worker ended before all choices did");
}

vlm_status vlm_chat_answer_end(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    const size_t len = out->len;
    VLM_TRY(check_finished(a, err));
    return keep_whole(out, len, write_end(a, out, err));
}

static vlm_status write_failure(const vlm_api_error *e, vlm_buf *out, vlm_error *err)
{
    APPEND(out, "data: ");
    VLM_TRY(vlm_api_error_write(e, out, err));
    APPEND(out, "\n\n");
    return VLM_OK;
}

vlm_status vlm_chat_answer_fail(const vlm_api_error *e, vlm_buf *out, vlm_error *err)
{
    const size_t len = out->len;
    return keep_whole(out, len, write_failure(e, out, err));
}

/* logprobs of a plain answer hold what is between the brackets. */
static vlm_status collect(vlm_chat_answer *a, const Vlm__V1__Delta *d, vlm_error *err)
{
    vlm_chat_choice *c = &a->choices[d->choice];
    const size_t before = c->content.len + c->logprobs.len;
    VLM_TRY(vlm_buf_append(&c->content, d->text.data, d->text.len, err));
    if (a->logprobs && d->n_logprobs > 0) {
        if (c->logprobs.len > 0) VLM_TRY(vlm_buf_append_char(&c->logprobs, ',', err));
        VLM_TRY(append_logprobs(&c->logprobs, d, err));
    }
    a->n_collected += c->content.len + c->logprobs.len - before;
    if (a->n_collected > COLLECTED_MAX)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "the answer is longer than %d bytes",
                        COLLECTED_MAX);
    return VLM_OK;
}

vlm_status vlm_chat_answer_collect(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event,
                                   vlm_error *err)
{
    VLM_TRY(note(a, event, err));
    if (event->event_case != VLM__V1__GENERATE_EVENT__EVENT_DELTA) return VLM_OK;
    return collect(a, event->delta, err);
}

static vlm_status write_choice(const vlm_chat_answer *a, uint32_t i, vlm_buf *out, vlm_error *err)
{
    const vlm_chat_choice *c = &a->choices[i];
    VLM_TRY(vlm_buf_printf(
        out, err, "{\"index\":%" PRIu32 ",\"message\":{\"role\":\"assistant\",\"content\":", i));
    VLM_TRY(vlm_json_append_string(out, vlm_buf_bytes(&c->content), err));
    APPEND(out, ",\"refusal\":null},\"logprobs\":");
    if (a->logprobs) {
        APPEND(out, "{\"content\":[");
        VLM_TRY(vlm_buf_append(out, c->logprobs.data, c->logprobs.len, err));
        APPEND(out, "],\"refusal\":null}");
    } else {
        APPEND(out, "null");
    }
    return vlm_buf_printf(out, err, ",\"finish_reason\":%s}", finish_text(c->finish));
}

static vlm_status write_plain(const vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append(out, a->plain_head.data, a->plain_head.len, err));
    for (uint32_t i = 0; i < a->n; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(write_choice(a, i, out, err));
    }
    APPEND(out, "],");
    VLM_TRY(append_usage(a, out, err));
    VLM_TRY(append_timings(a, out, err));
    return vlm_buf_append_char(out, '}', err);
}

vlm_status vlm_chat_answer_write(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    const size_t len = out->len;
    VLM_TRY(check_finished(a, err));
    return keep_whole(out, len, write_plain(a, out, err));
}
