/* chat_figures.c - what a chat leaves in the log and the metrics. */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/chat_parts.h"

static void note_started(vlm_chat *chat, const Vlm__V1__Started *s)
{
    if (!chat->started) chat->gateway->n_running++;
    chat->started = true;
    chat->started_ns = vlm_clock_ns();
    if (s->usage == NULL) return;
    chat->n_prompt = s->usage->prompt_tokens;
    chat->n_image_tokens = s->usage->image_tokens;
    chat->n_cached = s->usage->cached_tokens;
}

/* Choices come side by side: the time between tokens is between those of one choice. */
static void note_delta(vlm_chat *chat, const Vlm__V1__Delta *d)
{
    vlm_metrics *m = chat->metrics;
    const uint64_t now = vlm_clock_ns();
    if (d->choice >= VLM_CHAT_CHOICES_MAX) return; /* the answer says what is wrong */
    uint64_t *last_ns = &chat->last_token_ns[d->choice];
    if (chat->first_ns == 0) {
        chat->first_ns = now;
        vlm_histogram_observe(m, VLM_METRIC_TIME_TO_FIRST_TOKEN, 0,
                              vlm_clock_seconds(chat->arrived_ns, now));
    }
    if (*last_ns != 0)
        vlm_histogram_observe(m, VLM_METRIC_INTER_TOKEN_LATENCY, 0,
                              vlm_clock_seconds(*last_ns, now));
    *last_ns = now;
}

static void note_finished(vlm_chat *chat, const Vlm__V1__Finished *f)
{
    if (f->usage != NULL) {
        chat->n_completion += f->usage->completion_tokens;
        if (f->usage->cached_tokens > chat->n_cached) chat->n_cached = f->usage->cached_tokens;
    }
    if (f->timings != NULL) {
        chat->queue_ms = f->timings->queue_ms;
        chat->image_ms = f->timings->image_ms;
        chat->image_decode_ms = f->timings->image_decode_ms;
        chat->prefill_ms = f->timings->prefill_ms;
        if (f->timings->decode_ms > chat->decode_ms) chat->decode_ms = f->timings->decode_ms;
    }
    if (f->reason == VLM__V1__FINISH_REASON__FINISH_REASON_CANCELLED) return;
    vlm_counter_add(chat->metrics, VLM_METRIC_REQUEST_SUCCESS,
                    f->reason == VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH ? 1 : 0, 1);
}

void vlm_chat_note_event(vlm_chat *chat, const Vlm__V1__GenerateEvent *event)
{
    switch (event->event_case) {
    case VLM__V1__GENERATE_EVENT__EVENT_STARTED: note_started(chat, event->started); break;
    case VLM__V1__GENERATE_EVENT__EVENT_DELTA: note_delta(chat, event->delta); break;
    case VLM__V1__GENERATE_EVENT__EVENT_FINISHED: note_finished(chat, event->finished); break;
    default: break;
    }
}

void vlm_chat_forget_events(vlm_chat *chat)
{
    chat->n_completion = chat->n_cached = 0;
    chat->decode_ms = 0.0;
    chat->first_ns = 0;
    for (size_t i = 0; i < VLM_CHAT_CHOICES_MAX; i++) chat->last_token_ns[i] = 0;
}

void vlm_chat_record(const vlm_exchange_record *record)
{
    const vlm_chat *chat = record->detail;
    const bool is_parsed = chat->state != VLM_CHAT_PARSING && chat->has_request;
    const vlm_log_field fields[] = {
        {.name = "method", .text = record->method},
        {.name = "route", .text = record->handler},
        {.name = "status", .number = record->status},
        {.name = "duration_ms", .number = record->seconds * 1e3, .decimals = 1},
        {.name = "model", .text = chat->model},
        {.name = "prompt_tokens", .number = chat->n_prompt},
        {.name = "completion_tokens", .number = chat->n_completion},
        {.name = "cached_tokens", .number = chat->n_cached},
        {.name = "images", .number = is_parsed ? chat->request.n_images : 0},
        {.name = "queue_ms", .number = chat->queue_ms, .decimals = 1},
        {.name = "image_ms", .number = chat->image_ms, .decimals = 1},
        {.name = "prefill_ms", .number = chat->prefill_ms, .decimals = 1},
        {.name = "decode_ms", .number = chat->decode_ms, .decimals = 1},
        {.name = "worker", .text = chat->worker_name},
        {.name = "seed",
         .number = is_parsed && chat->request.grpc.sampling != NULL
                       ? (double)chat->request.grpc.sampling->seed
                       : 0.0},
    };
    vlm_log_fields(VLM_LOG_INFO, "request", record->request_id, fields,
                   sizeof fields / sizeof *fields);
    vlm_metrics *m = chat->metrics;
    if (chat->n_prompt == 0) return;
    vlm_counter_add(m, VLM_METRIC_PROMPT_TOKENS, 0, chat->n_prompt);
    vlm_counter_add(m, VLM_METRIC_PROMPT_TOKENS_CACHED, 0, chat->n_cached);
    vlm_counter_add(m, VLM_METRIC_GENERATION_TOKENS, 0, chat->n_completion);
    vlm_counter_add(m, VLM_METRIC_IMAGE_TOKENS, 0, chat->n_image_tokens);
    vlm_histogram_observe(m, VLM_METRIC_E2E_REQUEST_LATENCY, 0, record->seconds);
    vlm_histogram_observe(m, VLM_METRIC_REQUEST_QUEUE_TIME, 0, chat->queue_ms * 1e-3);
    vlm_histogram_observe(m, VLM_METRIC_REQUEST_PREFILL_TIME, 0, chat->prefill_ms * 1e-3);
    vlm_histogram_observe(m, VLM_METRIC_REQUEST_DECODE_TIME, 0, chat->decode_ms * 1e-3);
    if (is_parsed && chat->request.n_images > 0) {
        const double encode_ms = chat->image_ms - chat->image_decode_ms;
        vlm_histogram_observe(m, VLM_METRIC_IMAGE_DECODE, 0, chat->image_decode_ms * 1e-3);
        vlm_histogram_observe(m, VLM_METRIC_IMAGE_ENCODE, 0, encode_ms * 1e-3);
    }
    vlm_histogram_observe(m, VLM_METRIC_REQUEST_PROMPT_TOKENS, 0, chat->n_prompt);
    vlm_histogram_observe(m, VLM_METRIC_REQUEST_GENERATION_TOKENS, 0, chat->n_completion);
}
