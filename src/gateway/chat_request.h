/* chat_request.h - the JSON of a chat completion to the GenerateRequest that workers take.
 * Not: fetching pictures, nor what a model makes of it.
 * Ownership: the request owns everything that its views point to.  Threads: pure. */
#ifndef VLM_GATEWAY_CHAT_REQUEST_H
#define VLM_GATEWAY_CHAT_REQUEST_H

#include <stdbool.h>
#include <vlm/v1/worker.pb-c.h>

#include "base/json.h"
#include "base/mem.h"
#include "gateway/api_error.h"

typedef struct vlm_chat_limits {
    size_t image_bytes_max; /* of a picture's file, after base64 */
    uint32_t images_max;
    vlm_json_limits json;
    bool image_urls; /* http and https are taken */
} vlm_chat_limits;

enum { VLM_CHAT_PARAM_LEN_MAX = 63 };

/* A picture to be fetched: its bytes, malloc'ed, go into *slot, and the request frees them. */
typedef struct vlm_chat_url {
    const char *url; /* begins with http:// or https:// in any case; nothing else is checked */
    ProtobufCBinaryData *slot;
    char param[VLM_CHAT_PARAM_LEN_MAX + 1]; /* "messages[0].content[1].image_url.url" */
} vlm_chat_url;

typedef struct vlm_chat_request {
    vlm_arena arena;
    Vlm__V1__GenerateRequest grpc; /* sampling is never NULL */
    vlm_bytes model;               /* empty: not said */
    bool stream, include_usage, logprobs;
    uint32_t n, n_images;
    ProtobufCBinaryData **images; /* [n_images] in the parts; their bytes are malloc'ed */
    vlm_chat_url *urls;           /* [n_urls] */
    size_t n_urls;
} vlm_chat_request;

/* Null counts as absent, unknown parameters are ignored; what would change the answer and is not
 * there yet is refused by name.  The memory is linear in len; json is not needed afterwards.
 * False: *error (400, or 503 when out of memory) says why, naming the parameter, and nothing is to
 * be freed. */
VLM_MUST_USE bool vlm_chat_request_parse(const char *json, size_t len,
                                         const vlm_chat_limits *limits, vlm_chat_request *out,
                                         vlm_api_error *error);
void vlm_chat_request_fini(vlm_chat_request *r);

#endif
