/* api_error.h - errors as clients of the OpenAI API see them, from one table of kinds.
 * Not: sending them.  Threads: pure. */
#ifndef VLM_GATEWAY_API_ERROR_H
#define VLM_GATEWAY_API_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum { VLM_API_PARAM_LEN_MAX = 127 };

typedef struct vlm_api_error {
    int http_status;
    const char *type;
    const char *code;                      /* NULL: null */
    char param[VLM_API_PARAM_LEN_MAX + 1]; /* "": null */
    char message[VLM_ERROR_MSG_LEN_MAX + 1];
    uint32_t retry_after_s; /* 0: none */
} vlm_api_error;

/* A worker's error: its gRPC status and the trailer vlmd-reason (or NULL).  What is not the
 * client's to know has a text of its own. */
void vlm_api_error_from_status(vlm_api_error *out, const vlm_error *err, const char *reason);

/* 400 invalid_request_error about a parameter. */
void vlm_api_error_invalid(vlm_api_error *out, const char *param, const char *fmt, ...)
    VLM_PRINTF(3, 4);
/* 400 to 505 of HTTP itself. */
void vlm_api_error_http(vlm_api_error *out, int status, const char *text);
void vlm_api_error_api_key(vlm_api_error *out);                         /* 401 */
void vlm_api_error_route(vlm_api_error *out);                           /* 404 */
void vlm_api_error_model_not_found(vlm_api_error *out, vlm_bytes name); /* 404 */
void vlm_api_error_method(vlm_api_error *out);                          /* 405 */
void vlm_api_error_media_type(vlm_api_error *out, const char *text);    /* 415 */
void vlm_api_error_quarantined(vlm_api_error *out);                     /* 422 */
void vlm_api_error_internal(vlm_api_error *out);                        /* 500 */
void vlm_api_error_overloaded(vlm_api_error *out, const char *text);    /* 503, Retry-After */
void vlm_api_error_rate_limit(vlm_api_error *out);                      /* 429, Retry-After */
void vlm_api_error_unavailable(vlm_api_error *out);                     /* 503, Retry-After */
void vlm_api_error_not_loaded(vlm_api_error *out, vlm_bytes model);     /* 503, Retry-After */
void vlm_api_error_admin_key(vlm_api_error *out, bool is_set);     /* 401; 403: there is none */
void vlm_api_error_conflict(vlm_api_error *out, const char *text); /* 409 */
void vlm_api_error_timeout(vlm_api_error *out);                    /* 504 */

/* Append {"error":{"message","type","param","code"}}.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_api_error_write(const vlm_api_error *e, vlm_buf *out, vlm_error *err);

#endif
