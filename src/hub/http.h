/* http.h - GET of the Hub: redirects followed one by one, the token sent to the endpoint alone.
 * Not: trying again (blob.h), nor what a status means (words.h).
 * Ownership: a connection belongs to one thread at a time and is kept alive between requests. */
#ifndef VLM_HUB_HTTP_H
#define VLM_HUB_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "hub/env.h"
#include "net/curl.h"

enum { VLM_HUB_URL_LEN_MAX = 8191, VLM_HUB_REDIRECTS_MAX = 8 };

typedef struct vlm_hub_http {
    const vlm_curl *curl;
    const vlm_hub_env *env;
    const atomic_bool *cancelled; /* NULL: never.  Ends a transfer within a second. */
    CURL *handle;
} vlm_hub_http;

VLM_MUST_USE vlm_status vlm_hub_http_open(vlm_hub_http *h, const vlm_hub_env *env,
                                          const atomic_bool *cancelled, vlm_error *err);
void vlm_hub_http_close(vlm_hub_http *h);

typedef struct vlm_hub_answer {
    long status;                       /* of the last answer */
    char error_code[64];               /* X-Error-Code: "GatedRepo", ... */
    uint32_t retry_after_s;            /* 0: not said */
    bool is_range;                     /* 206 */
    uint64_t range_from;               /* its first byte */
    char url[VLM_HUB_URL_LEN_MAX + 1]; /* of the last request */
} vlm_hub_answer;

/* Bytes of a body with status 200 or 206 alone; false ends the transfer. */
typedef bool vlm_hub_bytes_fn(void *user, const vlm_hub_answer *answer, const void *data,
                              size_t len);

/* Bytes [from, to) of the URL, all when to is 0.  OK whatever the status is.  UNAVAILABLE for a
 * transfer that failed or broke off; PERMISSION_DENIED for a redirect that leads from https to http
 * or to no web address; CANCELLED. */
VLM_MUST_USE vlm_status vlm_hub_http_get(vlm_hub_http *h, const char *url, uint64_t from,
                                         uint64_t to, vlm_hub_bytes_fn *bytes, void *user,
                                         vlm_hub_answer *answer, vlm_error *err);

/* Whether two URLs have the same scheme, host and port. */
bool vlm_hub_same_origin(const char *a, const char *b);

#endif
