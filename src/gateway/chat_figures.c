/* chat_figures.c - what a chat leaves in the log and the metrics. */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/chat_parts.h"

void vlm_chat_note_event(vlm_chat *chat, const Vlm__V1__GenerateEvent *event)
{
    vlm_gateway *g = chat->gateway;
    const uint64_t now = vlm_clock_ns();
    switch (event->event_case) {
    case VLM__V1__GENERATE_EVENT__EVENT_STARTED:
        if (!chat->started) g->n_running++;
        chat->started = true;
        chat->started_ns = now;
        if (event->started->usage != NULL) {
            chat->n_prompt = event->started->usage->prompt_tokens;
            chat->n_image_tokens = event->started->usage->image_tokens;
            chat->n_cached = event->started->usage->cached_tokens;
        }
        break;
    case VLM__V1__GENERATE_EVENT__EVENT_DELTA:
        if (chat->first_ns == 0) {
            chat->first_ns = now;
            vlm_histogram_observe(g->metrics, VLM_METRIC_TIME_TO_FIRST_TOKEN, 0,
                                  vlm_clock_seconds(chat->arrived_ns, now));
        } else {
            vlm_histogram_observe(g->metrics, VLM_METRIC_INTER_TOKEN_LATENCY, 0,
                                  vlm_clock_seconds(chat->last_token_ns, now));
        }
        chat->last_token_ns = now;
        break;
    case VLM__V1__GENERATE_EVENT__EVENT_FINISHED: {
        const Vlm__V1__Finished *f = event->finished;
        if (f->usage != NULL) {
            chat->n_completion += f->usage->completion_tokens;
            chat->n_cached = f->usage->cached_tokens;
        }
        if (f->timings != NULL) {
            chat->queue_ms = f->timings->queue_ms;
            chat->image_ms = f->timings->image_ms;
            chat->image_decode_ms = f->timings->image_decode_ms;
            chat->prefill_ms = f->timings->prefill_ms;
            if (f->timings->decode_ms > chat->decode_ms) chat->decode_ms = f->timings->decode_ms;
        }
        if (f->reason == VLM__V1__FINISH_REASON__FINISH_REASON_CANCELLED) break;
        vlm_counter_add(g->metrics, VLM_METRIC_REQUEST_SUCCESS,
                        f->reason == VLM__V1__FINISH_REASON__FINISH_REASON_LENGTH ? 1 : 0, 1);
        break;
    }
    default: break;
    }
}

void vlm_chat_record(vlm_gateway *g, const vlm_exchange_record *record)
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
    vlm_metrics *m = g->metrics;
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
