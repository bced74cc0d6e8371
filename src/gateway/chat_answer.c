#include "gateway/chat_answer.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

enum { CONTENT_MAX = 64 << 20, HEAD_MAX = 8192 };

static vlm_bytes bytes_of(ProtobufCBinaryData data)
{
    return (vlm_bytes){.ptr = (const char *)data.data, .len = data.len};
}

static const char *finish_text(int reason)
{
    return reason == VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH ? "length" : "stop";
}

/* ,"created":...,"model":"..." */
static vlm_status append_origin(vlm_buf *out, int64_t created, const char *model, vlm_error *err)
{
    VLM_TRY(vlm_buf_printf(out, err, ",\"created\":%" PRId64 ",\"model\":", created));
    VLM_TRY(vlm_json_append_string(out, vlm_bytes_of(model), err));
    return vlm_buf_append_str(out, ",\"system_fingerprint\":\"vlmd-" VLM_VERSION "\"", err);
}

vlm_status vlm_chat_answer_init(vlm_chat_answer *a, const vlm_chat_request *request, const char *id,
                                int64_t created, const char *model, vlm_error *err)
{
    *a = (vlm_chat_answer){.n = request->n,
                           .include_usage = request->include_usage,
                           .logprobs = request->logprobs,
                           .created = created};
    for (uint32_t i = 0; i < VLM_CHAT_CHOICES_MAX; i++) {
        vlm_buf_init(&a->choices[i].content, CONTENT_MAX);
        vlm_buf_init(&a->choices[i].logprobs, CONTENT_MAX);
    }
    vlm_buf_init(&a->prefix, HEAD_MAX);
    vlm_buf_init(&a->id_model, HEAD_MAX);
    vlm_status status = vlm_buf_printf(&a->id_model, err, "{\"id\":\"%s\",\"object\":\"", id);
    if (status == VLM_OK)
        status =
            vlm_buf_printf(&a->prefix, err, "data: %schat.completion.chunk\"", a->id_model.data);
    if (status == VLM_OK) status = append_origin(&a->prefix, created, model, err);
    if (status == VLM_OK) status = vlm_buf_append_str(&a->id_model, "chat.completion\"", err);
    if (status == VLM_OK) status = append_origin(&a->id_model, created, model, err);
    if (status != VLM_OK) vlm_chat_answer_fini(a);
    return status;
}

void vlm_chat_answer_fini(vlm_chat_answer *a)
{
    for (uint32_t i = 0; i < VLM_CHAT_CHOICES_MAX; i++) {
        vlm_buf_fini(&a->choices[i].content);
        vlm_buf_fini(&a->choices[i].logprobs);
    }
    vlm_buf_fini(&a->prefix);
    vlm_buf_fini(&a->id_model);
}

/* JSON has no infinities. */
static double finite_logprob(float value)
{
    return value > -9999.0f ? (double)value : -9999.0; /* also for NaN */
}

/* "token":"...","logprob":...,"bytes":[...] */
static vlm_status append_token(vlm_buf *out, const Vlm__V1__TokenLogprob *t, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "{\"token\":", err));
    VLM_TRY(vlm_json_append_string(out, bytes_of(t->token), err));
    VLM_TRY(vlm_buf_printf(out, err, ",\"logprob\":%.9g,\"bytes\":[", finite_logprob(t->logprob)));
    for (size_t i = 0; i < t->token.len; i++)
        VLM_TRY(vlm_buf_printf(out, err, i == 0 ? "%u" : ",%u", t->token.data[i]));
    return vlm_buf_append_char(out, ']', err);
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

static double finite_ms(double ms)
{
    return isfinite(ms) ? ms : 0.0;
}

static vlm_status append_timings(const vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    return vlm_buf_printf(out, err,
                          ",\"timings\":{\"queue_ms\":%.3f,\"image_ms\":%.3f,\"prefill_ms\":%.3f,"
                          "\"decode_ms\":%.3f,\"prefill_tokens\":%" PRIu32
                          ",\"decode_tokens\":%" PRIu32 "}",
                          finite_ms(a->queue_ms), finite_ms(a->image_ms), finite_ms(a->prefill_ms),
                          finite_ms(a->decode_ms), a->prefill_tokens, a->decode_tokens);
}

/* What an event says of the figures.  False: an event that no worker of ours sends. */
static bool note(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event)
{
    if (event->event_case == VLM__V1__GENERATE_EVENT__EVENT_DELTA)
        return event->delta->choice < a->n && a->choices[event->delta->choice].finish == 0;
    if (event->event_case != VLM__V1__GENERATE_EVENT__EVENT_FINISHED) return true;
    const Vlm__V1__Finished *f = event->finished;
    if (f->choice >= a->n || a->choices[f->choice].finish != 0) return false;
    vlm_chat_choice *c = &a->choices[f->choice];
    c->finish = f->reason == 0 ? (int)VLM__V1__FINISH_REASON__FINISH_REASON_STOP : (int)f->reason;
    a->n_finished++;
    if (f->usage != NULL) {
        c->n_completion = f->usage->completion_tokens;
        a->n_prompt = f->usage->prompt_tokens;
        a->n_cached = f->usage->cached_tokens;
        a->n_image = f->usage->image_tokens;
    }
    if (f->timings != NULL) {
        a->queue_ms = f->timings->queue_ms;
        a->image_ms = f->timings->image_ms;
        a->prefill_ms = f->timings->prefill_ms;
        a->decode_ms += f->timings->decode_ms;
        a->prefill_tokens = f->timings->prefill_tokens;
        a->decode_tokens += f->timings->decode_tokens;
    }
    return true;
}

/* The part of a chunk up to its delta's inside. */
static vlm_status begin_chunk(const vlm_chat_answer *a, uint32_t choice, vlm_buf *out,
                              vlm_error *err)
{
    VLM_TRY(vlm_buf_append(out, a->prefix.data, a->prefix.len, err));
    return vlm_buf_printf(out, err, ",\"choices\":[{\"index\":%" PRIu32 ",\"delta\":{", choice);
}

/* The rest: finish_reason as JSON text, usage null where others have one. */
static vlm_status end_chunk(const vlm_chat_answer *a, const char *finish, bool timings,
                            vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, ",\"finish_reason\":", err));
    VLM_TRY(vlm_buf_append_str(out, finish, err));
    VLM_TRY(vlm_buf_append_str(out, a->include_usage ? "}],\"usage\":null" : "}]", err));
    if (timings) VLM_TRY(append_timings(a, out, err));
    return vlm_buf_append_str(out, "}\n\n", err);
}

static vlm_status write_roles(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    if (a->begun) return VLM_OK;
    a->begun = true;
    for (uint32_t i = 0; i < a->n; i++) {
        VLM_TRY(begin_chunk(a, i, out, err));
        VLM_TRY(vlm_buf_append_str(
            out, "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null", err));
        VLM_TRY(end_chunk(a, "null", false, out, err));
    }
    return VLM_OK;
}

static vlm_status write_delta(const vlm_chat_answer *a, const Vlm__V1__Delta *d, vlm_buf *out,
                              vlm_error *err)
{
    VLM_TRY(begin_chunk(a, d->choice, out, err));
    VLM_TRY(vlm_buf_append_str(out, "\"content\":", err));
    VLM_TRY(vlm_json_append_string(out, bytes_of(d->text), err));
    if (a->logprobs && d->n_logprobs > 0) {
        VLM_TRY(vlm_buf_append_str(out, "},\"logprobs\":{\"content\":[", err));
        VLM_TRY(append_logprobs(out, d, err));
        VLM_TRY(vlm_buf_append_str(out, "],\"refusal\":null}", err));
    } else {
        VLM_TRY(vlm_buf_append_str(out, "},\"logprobs\":null", err));
    }
    return end_chunk(a, "null", false, out, err);
}

vlm_status vlm_chat_answer_event(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event,
                                 vlm_buf *out, vlm_error *err)
{
    if (!note(a, event)) return vlm_fail(err, VLM_INTERNAL, "the worker's events make no sense");
    const Vlm__V1__Finished *f = event->finished;
    switch (event->event_case) {
    case VLM__V1__GENERATE_EVENT__EVENT_DELTA:
        VLM_TRY(write_roles(a, out, err));
        return write_delta(a, event->delta, out, err);
    case VLM__V1__GENERATE_EVENT__EVENT_FINISHED:
        VLM_TRY(write_roles(a, out, err));
        VLM_TRY(begin_chunk(a, f->choice, out, err));
        VLM_TRY(vlm_buf_append_str(out, "},\"logprobs\":null", err));
        return end_chunk(a,
                         a->choices[f->choice].finish ==
                                 (int)VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH
                             ? "\"length\""
                             : "\"stop\"",
                         !a->include_usage && a->n_finished == a->n, out, err);
    default: return VLM_OK;
    }
}

vlm_status vlm_chat_answer_end(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    if (a->n_finished != a->n)
        return vlm_fail(err, VLM_INTERNAL, "the worker ended before all choices did");
    if (a->include_usage) {
        VLM_TRY(vlm_buf_append(out, a->prefix.data, a->prefix.len, err));
        VLM_TRY(vlm_buf_append_str(out, ",\"choices\":[],", err));
        VLM_TRY(append_usage(a, out, err));
        VLM_TRY(append_timings(a, out, err));
        VLM_TRY(vlm_buf_append_str(out, "}\n\n", err));
    }
    return vlm_buf_append_str(out, "data: [DONE]\n\n", err);
}

vlm_status vlm_chat_answer_fail(const vlm_api_error *e, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "data: ", err));
    VLM_TRY(vlm_api_error_write(e, out, err));
    return vlm_buf_append_str(out, "\n\n", err);
}

vlm_status vlm_chat_answer_collect(vlm_chat_answer *a, const Vlm__V1__GenerateEvent *event,
                                   vlm_error *err)
{
    if (!note(a, event)) return vlm_fail(err, VLM_INTERNAL, "the worker's events make no sense");
    if (event->event_case != VLM__V1__GENERATE_EVENT__EVENT_DELTA) return VLM_OK;
    const Vlm__V1__Delta *d = event->delta;
    vlm_chat_choice *c = &a->choices[d->choice];
    VLM_TRY(vlm_buf_append(&c->content, d->text.data, d->text.len, err));
    if (!a->logprobs || d->n_logprobs == 0) return VLM_OK;
    if (c->logprobs.len > 0) VLM_TRY(vlm_buf_append_char(&c->logprobs, ',', err));
    return append_logprobs(&c->logprobs, d, err);
}

static vlm_status write_choice(const vlm_chat_answer *a, uint32_t i, vlm_buf *out, vlm_error *err)
{
    const vlm_chat_choice *c = &a->choices[i];
    VLM_TRY(vlm_buf_printf(
        out, err, "{\"index\":%" PRIu32 ",\"message\":{\"role\":\"assistant\",\"content\":", i));
    VLM_TRY(vlm_json_append_string(out, vlm_buf_bytes(&c->content), err));
    VLM_TRY(vlm_buf_append_str(out, ",\"refusal\":null},\"logprobs\":", err));
    if (a->logprobs) {
        VLM_TRY(vlm_buf_append_str(out, "{\"content\":[", err));
        if (c->logprobs.len > 0)
            VLM_TRY(vlm_buf_append(out, c->logprobs.data, c->logprobs.len, err));
        VLM_TRY(vlm_buf_append_str(out, "],\"refusal\":null}", err));
    } else {
        VLM_TRY(vlm_buf_append_str(out, "null", err));
    }
    return vlm_buf_printf(out, err, ",\"finish_reason\":\"%s\"}", finish_text(c->finish));
}

vlm_status vlm_chat_answer_write(vlm_chat_answer *a, vlm_buf *out, vlm_error *err)
{
    if (a->n_finished != a->n)
        return vlm_fail(err, VLM_INTERNAL, "the worker ended before all choices did");
    VLM_TRY(vlm_buf_append(out, a->id_model.data, a->id_model.len, err));
    VLM_TRY(vlm_buf_append_str(out, ",\"choices\":[", err));
    for (uint32_t i = 0; i < a->n; i++) {
        if (i > 0) VLM_TRY(vlm_buf_append_char(out, ',', err));
        VLM_TRY(write_choice(a, i, out, err));
    }
    VLM_TRY(vlm_buf_append_str(out, "],", err));
    VLM_TRY(append_usage(a, out, err));
    VLM_TRY(append_timings(a, out, err));
    return vlm_buf_append_char(out, '}', err);
}
