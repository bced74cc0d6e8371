#include "worker/pack.h"

#include <string.h>

#include "base/utf8.h"

static ProtobufCBinaryData data_of(vlm_bytes bytes)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)bytes.ptr, .len = bytes.len};
}

static vlm_bytes bytes_of(ProtobufCBinaryData data)
{
    return (vlm_bytes){.ptr = (const char *)data.data, .len = data.len};
}

vlm_status vlm_pack_message(const ProtobufCMessage *message, vlm_buf *out, vlm_error *err)
{
    const size_t len = protobuf_c_message_get_packed_size(message);
    VLM_TRY(vlm_buf_reserve(out, len, err));
    (void)protobuf_c_message_pack(message, (uint8_t *)out->data + out->len);
    out->len += len;
    out->data[out->len] = '\0';
    return VLM_OK;
}

static Vlm__V1__Usage usage_of(const vlm_usage *u)
{
    Vlm__V1__Usage out = VLM__V1__USAGE__INIT;
    out.prompt_tokens = u->n_prompt;
    out.completion_tokens = u->n_completion;
    out.cached_tokens = u->n_cached;
    out.image_tokens = u->n_image;
    return out;
}

static vlm_status pack_started(const vlm_event *event, vlm_buf *out, vlm_error *err)
{
    Vlm__V1__Usage usage = usage_of(&event->usage);
    Vlm__V1__Started started = VLM__V1__STARTED__INIT;
    Vlm__V1__GenerateEvent m = VLM__V1__GENERATE_EVENT__INIT;
    started.usage = &usage;
    m.event_case = VLM__V1__GENERATE_EVENT__EVENT_STARTED;
    m.started = &started;
    return vlm_pack_message(&m.base, out, err);
}

static vlm_status pack_done(const vlm_event *event, double queue_ms, double image_ms, vlm_buf *out,
                            vlm_error *err)
{
    static const Vlm__V1__FinishReason reasons[] = {
        [VLM_FINISH_STOP] = VLM__V1__FINISH_REASON__FINISH_REASON_STOP,
        [VLM_FINISH_LENGTH] = VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH,
        [VLM_FINISH_CANCELLED] = VLM__V1__FINISH_REASON__FINISH_REASON_CANCELLED,
    };
    Vlm__V1__Usage usage = usage_of(&event->usage);
    Vlm__V1__Timings timings = VLM__V1__TIMINGS__INIT;
    Vlm__V1__Finished finished = VLM__V1__FINISHED__INIT;
    Vlm__V1__GenerateEvent m = VLM__V1__GENERATE_EVENT__INIT;
    timings.queue_ms = event->timings.queue_s * 1e3 + queue_ms;
    timings.image_ms = event->timings.image_s * 1e3 + image_ms;
    timings.image_decode_ms = image_ms;
    timings.prefill_ms = event->timings.prefill_s * 1e3;
    timings.decode_ms = event->timings.decode_s * 1e3;
    timings.prefill_tokens = event->usage.n_prompt - event->usage.n_cached;
    timings.decode_tokens = event->usage.n_completion;
    finished.choice = event->choice;
    finished.reason = reasons[event->finish];
    finished.usage = &usage;
    finished.timings = &timings;
    m.event_case = VLM__V1__GENERATE_EVENT__EVENT_FINISHED;
    m.finished = &finished;
    return vlm_pack_message(&m.base, out, err);
}

static vlm_status pack_text(const vlm_event *event, vlm_buf *out, vlm_error *err)
{
    Vlm__V1__TokenLogprob tops[VLM_REQUEST_TOP_LOGPROBS_MAX],
        *top_list[VLM_REQUEST_TOP_LOGPROBS_MAX];
    Vlm__V1__TokenLogprob logprob = VLM__V1__TOKEN_LOGPROB__INIT, *logprob_list[] = {&logprob};
    Vlm__V1__Delta delta = VLM__V1__DELTA__INIT;
    Vlm__V1__GenerateEvent m = VLM__V1__GENERATE_EVENT__INIT;
    uint32_t id = event->token_id;
    delta.choice = event->choice;
    delta.text = data_of(event->text);
    if (event->has_token) {
        delta.n_token_ids = 1;
        delta.token_ids = &id;
    }
    if (event->logprob != NULL) {
        const vlm_token_logprob *l = event->logprob;
        const uint32_t n_top = l->n_top;
        for (uint32_t i = 0; i < n_top && i < VLM_REQUEST_TOP_LOGPROBS_MAX; i++) {
            tops[i] = (Vlm__V1__TokenLogprob)VLM__V1__TOKEN_LOGPROB__INIT;
            tops[i].token_id = l->top[i].id;
            tops[i].logprob = l->top[i].logprob;
            tops[i].token = data_of(l->top[i].bytes);
            top_list[i] = &tops[i];
        }
        logprob.token_id = id;
        logprob.logprob = l->logprob;
        logprob.token = data_of(l->bytes);
        logprob.n_top = n_top;
        logprob.top = top_list;
        delta.n_logprobs = 1;
        delta.logprobs = logprob_list;
    }
    m.event_case = VLM__V1__GENERATE_EVENT__EVENT_DELTA;
    m.delta = &delta;
    return vlm_pack_message(&m.base, out, err);
}

vlm_status vlm_pack_event(const vlm_event *event, double queue_ms, double image_ms, vlm_buf *out,
                          vlm_error *err)
{
    switch (event->type) {
    case VLM_EVENT_STARTED: return pack_started(event, out, err);
    case VLM_EVENT_TEXT: return pack_text(event, out, err);
    case VLM_EVENT_DONE: return pack_done(event, queue_ms, image_ms, out, err);
    case VLM_EVENT_ERROR: break;
    }
    return vlm_fail(err, VLM_INTERNAL, "no event for the wire");
}

static vlm_status check_text(ProtobufCBinaryData text, const char *name, size_t i, vlm_error *err)
{
    if (vlm_utf8_valid((const char *)text.data, text.len)) return VLM_OK;
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, i, "%s[%zu]: not UTF-8", name, i);
}

size_t vlm_unpack_n_pictures(const Vlm__V1__GenerateRequest *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_messages; i++)
        for (size_t p = 0; p < m->messages[i]->n_parts; p++)
            n += m->messages[i]->parts[p]->kind_case == VLM__V1__PART__KIND_IMAGE;
    return n;
}

static vlm_status unpack_message(const Vlm__V1__Message *m, size_t idx, size_t *n_pictures_left,
                                 vlm_arena *arena, vlm_message *out, vlm_error *err)
{
    vlm_part *parts = vlm_arena_array(arena, m->n_parts, sizeof *parts);
    if (parts == NULL) return vlm_fail_memory(err, "messages");
    VLM_TRY(check_text(m->role, "messages.role", idx, err));
    if (m->role.len == 0)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages[%zu].role: there is none", idx);
    for (size_t i = 0; i < m->n_parts; i++) {
        const Vlm__V1__Part *part = m->parts[i];
        switch (part->kind_case) {
        case VLM__V1__PART__KIND_TEXT:
            VLM_TRY(check_text(part->text, "messages.parts.text", i, err));
            parts[i].text = bytes_of(part->text);
            break;
        case VLM__V1__PART__KIND_IMAGE:
            if (*n_pictures_left == 0)
                return vlm_fail(err, VLM_INTERNAL, "messages[%zu]: a picture is missing", idx);
            --*n_pictures_left;
            parts[i].is_picture = true;
            break;
        default:
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "messages[%zu].parts[%zu]: neither text nor image", idx, i);
        }
    }
    *out = (vlm_message){.role = bytes_of(m->role), .parts = parts, .n_parts = m->n_parts};
    return VLM_OK;
}

static vlm_status unpack_sampling(const Vlm__V1__Sampling *s, vlm_arena *arena, vlm_sampling *out,
                                  vlm_error *err)
{
    if (s == NULL) return VLM_OK;
    if (s->opt_temperature_case != 0) out->temperature = s->temperature;
    if (s->opt_top_k_case != 0) out->top_k = s->top_k;
    if (s->opt_top_p_case != 0) out->top_p = s->top_p;
    if (s->opt_min_p_case != 0) out->min_p = s->min_p;
    if (s->opt_repetition_penalty_case != 0) out->repetition_penalty = s->repetition_penalty;
    if (s->opt_frequency_penalty_case != 0) out->frequency_penalty = s->frequency_penalty;
    if (s->opt_presence_penalty_case != 0) out->presence_penalty = s->presence_penalty;
    if (s->opt_seed_case != 0) out->seed = s->seed;
    if (s->n_logit_bias > VLM_LOGIT_BIAS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "logit_bias: at most %d", VLM_LOGIT_BIAS_MAX);
    vlm_logit_bias *bias = vlm_arena_array(arena, s->n_logit_bias, sizeof *bias);
    if (bias == NULL) return vlm_fail_memory(err, "logit_bias");
    for (size_t i = 0; i < s->n_logit_bias; i++)
        bias[i] =
            (vlm_logit_bias){.id = s->logit_bias[i]->token_id, .bias = s->logit_bias[i]->bias};
    out->logit_bias = bias;
    out->n_logit_bias = (uint32_t)s->n_logit_bias;
    return VLM_OK;
}

/* Of a request: bytes that are only compared. */
static vlm_status unpack_name(ProtobufCBinaryData name, const char *field, vlm_bytes *out,
                              vlm_error *err)
{
    enum { NAME_LEN_MAX = 256 };
    if (name.len > NAME_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: longer than %d bytes", field, NAME_LEN_MAX);
    if (!vlm_utf8_valid((const char *)name.data, name.len))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "%s: not UTF-8", field);
    *out = bytes_of(name);
    return VLM_OK;
}

vlm_status vlm_unpack_request(const Vlm__V1__GenerateRequest *m, const vlm_sampling *defaults,
                              const vlm_pictures *pictures, size_t n_pictures, vlm_arena *arena,
                              vlm_request *out, vlm_error *err)
{
    size_t n_pictures_left = n_pictures;
    *out = (vlm_request){.pictures = pictures,
                         .sampling = *defaults,
                         .n_choices = m->n,
                         .max_tokens = m->max_tokens,
                         .ignore_eos = m->ignore_eos != 0,
                         .logprobs = m->logprobs != 0,
                         .n_top_logprobs = m->top_logprobs};
    if (m->n_messages > VLM_REQUEST_MESSAGES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "messages: at most %d",
                        VLM_REQUEST_MESSAGES_MAX);
    vlm_message *messages = vlm_arena_array(arena, m->n_messages, sizeof *messages);
    vlm_bytes *stop = vlm_arena_array(arena, m->n_stop, sizeof *stop);
    if (messages == NULL || stop == NULL) return vlm_fail_memory(err, "messages");
    for (size_t i = 0; i < m->n_messages; i++)
        VLM_TRY(unpack_message(m->messages[i], i, &n_pictures_left, arena, &messages[i], err));
    for (size_t i = 0; i < m->n_stop; i++) {
        VLM_TRY(check_text(m->stop[i], "stop", i, err));
        stop[i] = bytes_of(m->stop[i]);
    }
    VLM_TRY(unpack_sampling(m->sampling, arena, &out->sampling, err));
    VLM_TRY(unpack_name(m->cache_salt, "cache_salt", &out->cache_salt, err));
    VLM_TRY(unpack_name(m->tenant, "tenant", &out->tenant, err));
    out->messages = messages;
    out->n_messages = m->n_messages;
    out->stop = stop;
    out->n_stop = m->n_stop;
    return VLM_OK;
}
