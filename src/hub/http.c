#include "hub/http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    CONNECT_TIMEOUT_S = 20,
    STALL_S = 30, /* without a byte: the transfer is given up */
    BUFFER_BYTES = 256 << 10,
};

typedef struct transfer {
    vlm_hub_http *http;
    vlm_hub_answer *answer;
    vlm_hub_bytes_fn *bytes;
    void *user;
    bool stopped; /* by bytes */
} transfer;

vlm_status vlm_hub_http_open(vlm_hub_http *h, const vlm_hub_env *env, const atomic_bool *cancelled,
                             vlm_error *err)
{
    *h = (vlm_hub_http){.env = env, .cancelled = cancelled};
    VLM_TRY(vlm_curl_open(&h->curl, err));
    h->handle = h->curl->easy_init();
    return h->handle == NULL ? vlm_fail_memory(err, "download") : VLM_OK;
}

void vlm_hub_http_close(vlm_hub_http *h)
{
    if (h->handle != NULL) h->curl->easy_cleanup(h->handle);
    h->handle = NULL;
}

/* Scheme, host and port of a URL, in lower case and with the port said; false for other schemes. */
static bool origin_of(const char *url, char *out, size_t out_len)
{
    const bool is_https = strncasecmp(url, "https://", 8) == 0;
    if (!is_https && strncasecmp(url, "http://", 7) != 0) return false;
    const char *host = url + (is_https ? 8 : 7);
    const size_t len = strcspn(host, "/?#");
    if (len == 0 || len > 300 || memchr(host, '@', len) != NULL || memchr(host, '\\', len) != NULL)
        return false;
    const char *bracket = memchr(host, ']', len); /* [::1]:80 */
    const char *colon = memchr(bracket != NULL ? bracket : host, ':',
                               len - (size_t)(bracket != NULL ? bracket - host : 0));
    const char *port = colon != NULL ? "" : is_https ? ":443" : ":80";
    const int n =
        snprintf(out, out_len, "%s://%.*s%s", is_https ? "https" : "http", (int)len, host, port);
    if (n < 0 || (size_t)n >= out_len) return false;
    for (char *c = out; *c != '\0'; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
    return true;
}

bool vlm_hub_same_origin(const char *a, const char *b)
{
    char origin_a[350], origin_b[350];
    return origin_of(a, origin_a, sizeof origin_a) && origin_of(b, origin_b, sizeof origin_b) &&
           strcmp(origin_a, origin_b) == 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    transfer *t = user;
    const vlm_curl *c = t->http->curl;
    if (t->answer->status == 0)
        (void)c->easy_getinfo(t->http->handle, CURLINFO_RESPONSE_CODE, &t->answer->status);
    if (t->answer->status != 200 && t->answer->status != 206) return size * n; /* an error's page */
    if (t->bytes(t->user, t->answer, data, size * n)) return size * n;
    t->stopped = true;
    return 0;
}

/* The value of a header line, if it has this name; spaces around it are gone. */
static bool header_is(const char *line, size_t len, const char *name, char *out, size_t out_len)
{
    const size_t name_len = strlen(name);
    if (len <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
        return false;
    const char *value = line + name_len + 1;
    len -= name_len + 1;
    while (len > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        len--;
    }
    while (len > 0 && strchr(" \t\r\n", value[len - 1]) != NULL) len--;
    if (len >= out_len) len = out_len - 1;
    memcpy(out, value, len);
    out[len] = '\0';
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    transfer *t = user;
    vlm_hub_answer *a = t->answer;
    char value[64];
    const size_t len = size * n;
    if (len > 5 && strncasecmp(line, "HTTP/", 5) == 0) {
        /* Another answer begins, after 100 Continue say. */
        a->status = 0;
        a->error_code[0] = '\0';
        a->is_range = false;
    } else if (header_is(line, len, "x-error-code", value, sizeof value)) {
        memcpy(a->error_code, value, sizeof value);
    } else if (header_is(line, len, "retry-after", value, sizeof value)) {
        const unsigned long s = strtoul(value, NULL, 10);
        a->retry_after_s = s > 3600 ? 3600 : (uint32_t)s;
    } else if (header_is(line, len, "content-range", value, sizeof value)) {
        /* bytes 0-99/1000 */
        a->is_range = strncmp(value, "bytes ", 6) == 0 && value[6] >= '0' && value[6] <= '9';
        if (a->is_range) a->range_from = strtoull(value + 6, NULL, 10);
    }
    return len;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    const vlm_hub_http *h = user;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return h->cancelled != NULL && atomic_load(h->cancelled);
}

static void set_options(transfer *t, const char *url, const char *range,
                        const struct curl_slist *headers)
{
    vlm_hub_http *h = t->http;
    const vlm_curl *c = h->curl;
    c->easy_reset(h->handle);
    (void)c->easy_setopt(h->handle, CURLOPT_URL, url);
    (void)c->easy_setopt(h->handle, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)c->easy_setopt(h->handle, CURLOPT_NOSIGNAL, 1L);
    (void)c->easy_setopt(h->handle, CURLOPT_FOLLOWLOCATION, 0L);
    (void)c->easy_setopt(h->handle, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    (void)c->easy_setopt(h->handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)c->easy_setopt(h->handle, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    (void)c->easy_setopt(h->handle, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    (void)c->easy_setopt(h->handle, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    (void)c->easy_setopt(h->handle, CURLOPT_USERAGENT, "vlmd/" VLM_VERSION);
    (void)c->easy_setopt(h->handle, CURLOPT_HTTPHEADER, headers);
    if (range[0] != '\0') (void)c->easy_setopt(h->handle, CURLOPT_RANGE, range);
    (void)c->easy_setopt(h->handle, CURLOPT_WRITEFUNCTION, on_body);
    (void)c->easy_setopt(h->handle, CURLOPT_WRITEDATA, t);
    (void)c->easy_setopt(h->handle, CURLOPT_HEADERFUNCTION, on_header);
    (void)c->easy_setopt(h->handle, CURLOPT_HEADERDATA, t);
    (void)c->easy_setopt(h->handle, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)c->easy_setopt(h->handle, CURLOPT_XFERINFODATA, h);
    (void)c->easy_setopt(h->handle, CURLOPT_NOPROGRESS, 0L);
}

/* Where a redirect leads; libcurl has made a relative one whole. */
static vlm_status follow(vlm_hub_http *h, vlm_hub_answer *a, bool *redirected, vlm_error *err)
{
    const char *location = NULL;
    *redirected = false;
    (void)h->curl->easy_getinfo(h->handle, CURLINFO_REDIRECT_URL, &location);
    if (a->status < 300 || a->status > 399 || location == NULL) return VLM_OK;
    const bool was_https = strncasecmp(a->url, "https://", 8) == 0;
    char origin[350];
    if (strlen(location) > VLM_HUB_URL_LEN_MAX || !origin_of(location, origin, sizeof origin) ||
        (was_https && strncmp(origin, "https://", 8) != 0))
        return vlm_fail(err, VLM_PERMISSION_DENIED, "a redirect leads to an address not taken");
    (void)snprintf(a->url, sizeof a->url, "%s", location);
    *redirected = true;
    return VLM_OK;
}

static vlm_status get_once(transfer *t, const char *range, bool *redirected, vlm_error *err)
{
    vlm_hub_http *h = t->http;
    vlm_hub_answer *a = t->answer;
    char token[VLM_HUB_TOKEN_LEN_MAX + 32], host[300];
    struct curl_slist *headers = NULL;
    if (h->env->token[0] != '\0' && vlm_hub_same_origin(a->url, h->env->endpoint)) {
        (void)snprintf(token, sizeof token, "Authorization: Bearer %s", h->env->token);
        headers = h->curl->slist_append(NULL, token);
        if (headers == NULL) return vlm_fail_memory(err, "download");
    }
    a->status = 0;
    set_options(t, a->url, range, headers);
    const CURLcode code = h->curl->easy_perform(h->handle);
    (void)h->curl->easy_getinfo(h->handle, CURLINFO_RESPONSE_CODE, &a->status);
    h->curl->slist_free_all(headers);
    if (code == CURLE_OK) return follow(h, a, redirected, err);
    *redirected = false;
    if (h->cancelled != NULL && atomic_load(h->cancelled))
        return vlm_fail(err, VLM_CANCELLED, "the download was given up");
    if (t->stopped) return VLM_OK;
    if (code == CURLE_OUT_OF_MEMORY) return vlm_fail_memory(err, "download");
    const char *begin = strstr(a->url, "://");
    (void)snprintf(host, sizeof host, "%.*s", begin == NULL ? 0 : (int)strcspn(begin + 3, "/?"),
                   begin == NULL ? "" : begin + 3);
    return vlm_fail(err, VLM_UNAVAILABLE, "%s: %s", host, h->curl->easy_strerror(code));
}

vlm_status vlm_hub_http_get(vlm_hub_http *h, const char *url, uint64_t from, uint64_t to,
                            vlm_hub_bytes_fn *bytes, void *user, vlm_hub_answer *answer,
                            vlm_error *err)
{
    transfer t = {.http = h, .answer = answer, .bytes = bytes, .user = user};
    char range[64] = "";
    *answer = (vlm_hub_answer){0};
    if (strlen(url) > VLM_HUB_URL_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the URL is too long");
    (void)snprintf(answer->url, sizeof answer->url, "%s", url);
    if (to > 0) (void)snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, from, to - 1);
    for (int i = 0; i <= VLM_HUB_REDIRECTS_MAX; i++) {
        bool redirected;
        VLM_TRY(get_once(&t, range, &redirected, err));
        if (!redirected) return VLM_OK;
    }
    return vlm_fail(err, VLM_UNAVAILABLE, "more than %d redirects", VLM_HUB_REDIRECTS_MAX);
}
