/* metrics.h - what a gateway counts, as a page for Prometheus: vLLM's names and buckets where it
 * has them, with the prefix vlmd_. Label values come from closed sets; nothing is allocated after
 * vlm_metrics_new. Not: what workers count (they are asked, workers.h).  Threads: the loop's. */
#ifndef VLM_GATEWAY_METRICS_H
#define VLM_GATEWAY_METRICS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

/* Label values of one metric, in the order of its index. */
#define VLM_REASONS "stop", "length"
#define VLM_REJECTS "overloaded", "timeout", "unavailable", "quarantined", "key_limit"

typedef enum vlm_reject {
    VLM_REJECT_OVERLOADED,
    VLM_REJECT_TIMEOUT,
    VLM_REJECT_UNAVAILABLE,
    VLM_REJECT_QUARANTINED,
    VLM_REJECT_KEY_LIMIT,
} vlm_reject;

/* X(id, name, kind, buckets, label, values..., help).  kind: COUNTER, GAUGE or HISTOGRAM; label:
 * MODEL alone, or MODEL and one with a list of values; NONE. */
#define VLM_METRIC_LIST(X)                                                                         \
    X(NUM_REQUESTS_RUNNING, "vlmd_num_requests_running", GAUGE, none, MODEL,                       \
      "Requests that a worker is answering.")                                                      \
    X(NUM_REQUESTS_WAITING, "vlmd_num_requests_waiting", GAUGE, none, MODEL,                       \
      "Requests that wait to be answered.")                                                        \
    X(KV_CACHE_USAGE_PERC, "vlmd_kv_cache_usage_perc", GAUGE, none, MODEL,                         \
      "Used part of the key/value cache, 1 is all of it.")                                         \
    X(PREFIX_CACHE_QUERIES, "vlmd_prefix_cache_queries_total", COUNTER, none, MODEL,               \
      "Tokens looked up in the prefix cache.")                                                     \
    X(PREFIX_CACHE_HITS, "vlmd_prefix_cache_hits_total", COUNTER, none, MODEL,                     \
      "Tokens found in the prefix cache.")                                                         \
    X(NUM_PREEMPTIONS, "vlmd_num_preemptions_total", COUNTER, none, MODEL,                         \
      "Answers that were put off for want of memory and computed anew.")                           \
    X(MM_CACHE_QUERIES, "vlmd_mm_cache_queries_total", COUNTER, none, MODEL,                       \
      "Pictures looked up in the encoder cache.")                                                  \
    X(MM_CACHE_HITS, "vlmd_mm_cache_hits_total", COUNTER, none, MODEL,                             \
      "Pictures found in the encoder cache.")                                                      \
    X(PROMPT_TOKENS, "vlmd_prompt_tokens_total", COUNTER, none, MODEL, "Tokens of prompts.")       \
    X(PROMPT_TOKENS_CACHED, "vlmd_prompt_tokens_cached_total", COUNTER, none, MODEL,               \
      "Tokens of prompts that were not computed again.")                                           \
    X(GENERATION_TOKENS, "vlmd_generation_tokens_total", COUNTER, none, MODEL,                     \
      "Tokens of answers.")                                                                        \
    X(REQUEST_SUCCESS, "vlmd_request_success_total", COUNTER, none, REASON,                        \
      "Answers that ended, by the reason.")                                                        \
    X(TIME_TO_FIRST_TOKEN, "vlmd_time_to_first_token_seconds", HISTOGRAM, ttft, MODEL,             \
      "From a request's arrival to the first token of its answer.")                                \
    X(INTER_TOKEN_LATENCY, "vlmd_inter_token_latency_seconds", HISTOGRAM, token, MODEL,            \
      "Between two tokens of an answer.")                                                          \
    X(E2E_REQUEST_LATENCY, "vlmd_e2e_request_latency_seconds", HISTOGRAM, request, MODEL,          \
      "From a request's arrival to the end of its answer.")                                        \
    X(REQUEST_QUEUE_TIME, "vlmd_request_queue_time_seconds", HISTOGRAM, request, MODEL,            \
      "What a request waited for its turn.")                                                       \
    X(REQUEST_PREFILL_TIME, "vlmd_request_prefill_time_seconds", HISTOGRAM, request, MODEL,        \
      "What the prompt took to compute.")                                                          \
    X(REQUEST_DECODE_TIME, "vlmd_request_decode_time_seconds", HISTOGRAM, request, MODEL,          \
      "What the answer took to compute.")                                                          \
    X(REQUEST_PROMPT_TOKENS, "vlmd_request_prompt_tokens", HISTOGRAM, tokens, MODEL,               \
      "Tokens of a prompt.")                                                                       \
    X(REQUEST_GENERATION_TOKENS, "vlmd_request_generation_tokens", HISTOGRAM, tokens, MODEL,       \
      "Tokens of an answer.")                                                                      \
    X(IMAGES, "vlmd_images_total", COUNTER, none, FORMAT, "Pictures decoded, by their format.")    \
    X(IMAGE_TOKENS, "vlmd_image_tokens_total", COUNTER, none, MODEL, "Tokens of pictures.")        \
    X(IMAGE_DECODE, "vlmd_image_decode_seconds", HISTOGRAM, request, MODEL,                        \
      "What the pictures of a request took to decode.")                                            \
    X(IMAGE_ENCODE, "vlmd_image_encode_seconds", HISTOGRAM, request, MODEL,                        \
      "What the pictures of a request took to encode.")                                            \
    X(IMAGE_FETCH, "vlmd_image_fetch_seconds", HISTOGRAM, request, MODEL,                          \
      "What the pictures of a request took to fetch.")                                             \
    X(REQUESTS_REJECTED, "vlmd_requests_rejected_total", COUNTER, none, REJECT,                    \
      "Requests that were refused, by the reason.")                                                \
    X(WORKER_RESTARTS, "vlmd_worker_restarts_total", COUNTER, none, NONE,                          \
      "Workers that were started again.")                                                          \
    X(HTTP_REQUESTS_IN_FLIGHT, "http_requests_in_flight", GAUGE, none, NONE,                       \
      "HTTP requests that have no answer yet.")

typedef enum vlm_metric {
#define VLM_METRIC_ENUM(id, ...) VLM_METRIC_##id,
    VLM_METRIC_LIST(VLM_METRIC_ENUM)
#undef VLM_METRIC_ENUM
        VLM_N_METRICS
} vlm_metric;

typedef struct vlm_metrics vlm_metrics;

VLM_MUST_USE vlm_status vlm_metrics_new(vlm_metrics **out, vlm_error *err);
/* Frees those of vlm_metrics_new_model too. */
void vlm_metrics_free(vlm_metrics *m);
/* What another model counts: on the page of first, which owns it. */
VLM_MUST_USE vlm_status vlm_metrics_new_model(vlm_metrics *first, const char *model,
                                              vlm_metrics **out, vlm_error *err);
/* The value of model_name; cut at 255 bytes and where it is no UTF-8. */
void vlm_metrics_set_model(vlm_metrics *m, const char *model);

/* label: index into the metric's label values, 0 when it has none. */
void vlm_counter_add(vlm_metrics *m, vlm_metric metric, uint32_t label, uint64_t n);
/* For what is counted elsewhere. */
void vlm_counter_set(vlm_metrics *m, vlm_metric metric, uint32_t label, uint64_t n);
void vlm_gauge_set(vlm_metrics *m, vlm_metric metric, uint32_t label, double value);
/* A value that is negative or not finite is left out. */
void vlm_histogram_observe(vlm_metrics *m, vlm_metric metric, uint32_t label, double value);

/* http_requests_total and http_request_duration_seconds.  status 0: no answer was sent. */
void vlm_metrics_http(vlm_metrics *m, const char *handler, const char *method, int status,
                      double seconds);

/* Append the page with all models of it.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_metrics_write(const vlm_metrics *m, vlm_buf *out, vlm_error *err);

#endif
