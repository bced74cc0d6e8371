/* curl.h - libcurl, opened when it is first needed: a program that fetches nothing runs without it.
 * Threads: vlm_curl_open from any; the table is constant afterwards. */
#ifndef VLM_NET_CURL_H
#define VLM_NET_CURL_H

/* The checks are macros around the functions themselves. */
#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include <stdbool.h>

#include "base/status.h"

typedef struct vlm_curl {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    void (*easy_cleanup)(CURL *curl);
    void (*easy_reset)(CURL *curl);
    CURLcode (*easy_setopt)(CURL *curl, CURLoption option, ...);
    CURLcode (*easy_perform)(CURL *curl);
    CURLcode (*easy_getinfo)(CURL *curl, CURLINFO info, ...);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
} vlm_curl;

/* FAILED_PRECONDITION when the library is not installed. */
VLM_MUST_USE vlm_status vlm_curl_open(const vlm_curl **out, vlm_error *err);

#endif
