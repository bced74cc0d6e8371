/* fuzz_url.c - hostile URLs to vlm_fetch_target_parse.  What it takes must mean the same to
 * libcurl, which will dial it: the same host and port.  Lists of hosts must not let a stranger
 * through. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>

#include "fuzz/fuzz.h"
#include "gateway/fetch_addr.h"

static CURLU *(*url_new)(void);
static void (*url_cleanup)(CURLU *url);
static CURLUcode (*url_set)(CURLU *url, CURLUPart part, const char *text, unsigned flags);
static CURLUcode (*url_get)(CURLU *url, CURLUPart part, char **text, unsigned flags);
static void (*curl_release)(void *text);

static void open_curl(void)
{
    static const struct {
        const char *name;
        void *function;
    } names[] = {{"curl_url", &url_new},
                 {"curl_url_cleanup", &url_cleanup},
                 {"curl_url_set", &url_set},
                 {"curl_url_get", &url_get},
                 {"curl_free", &curl_release}};
    void *library = dlopen("libcurl.so.4", RTLD_NOW);
    FUZZ_CHECK(library != NULL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *symbol = dlsym(library, names[i].name);
        FUZZ_CHECK(symbol != NULL);
        memcpy(names[i].function, &symbol, sizeof symbol);
    }
}

/* The address that a host made of numbers alone stands for; false when it is a name. */
static bool number_of(const char *host, char *out, size_t size)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    if (getaddrinfo(host, NULL, &hints, &list) != 0) return false;
    const int code =
        getnameinfo(list->ai_addr, list->ai_addrlen, out, (socklen_t)size, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    return code == 0;
}

static bool same_host(const char *ours, const char *curls)
{
    char a[64], b[64], inner[VLM_FETCH_HOST_LEN_MAX + 1];
    const size_t len = strlen(curls);
    if (len >= 2 && len < sizeof inner && curls[0] == '[' && curls[len - 1] == ']') {
        memcpy(inner, curls + 1, len - 2);
        inner[len - 2] = '\0';
        curls = inner;
    }
    if (strcasecmp(ours, curls) == 0) return true;
    return number_of(ours, a, sizeof a) && number_of(curls, b, sizeof b) && strcmp(a, b) == 0;
}

/* Refusing more than we do is libcurl's right. */
static void check_with_curl(const char *text, const vlm_fetch_target *t)
{
    char *host = NULL, *port = NULL, *user = NULL, want_port[8];
    CURLU *url = url_new();
    FUZZ_CHECK(url != NULL);
    if (url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK) {
        FUZZ_CHECK(url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK);
        FUZZ_CHECK(url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK);
        (void)snprintf(want_port, sizeof want_port, "%u", t->port);
        FUZZ_CHECK(same_host(t->host, host) && strcmp(port, want_port) == 0);
        FUZZ_CHECK(url_get(url, CURLUPART_USER, &user, 0) == CURLUE_NO_USER);
        curl_release(host);
        curl_release(port);
    }
    url_cleanup(url);
}

static void check_lists(const vlm_fetch_target *t)
{
    char below[VLM_FETCH_HOST_LEN_MAX + 16], list[VLM_FETCH_HOST_LEN_MAX + 16];
    const size_t len = strlen(t->host);
    FUZZ_CHECK(vlm_fetch_host_listed(t->host, NULL));
    if (t->is_ipv6 || t->host[len - 1] == '.') return;
    FUZZ_CHECK(vlm_fetch_host_listed(t->host, t->host));
    (void)snprintf(below, sizeof below, "x.%s", t->host);
    FUZZ_CHECK(vlm_fetch_host_listed(below, t->host));
    (void)snprintf(below, sizeof below, "x%s", t->host);
    FUZZ_CHECK(!vlm_fetch_host_listed(below, t->host));
    (void)snprintf(below, sizeof below, "%sx", t->host);
    (void)snprintf(list, sizeof list, "zz.zz,%s", t->host);
    FUZZ_CHECK(!vlm_fetch_host_listed(below, list) ||
               strcasecmp(below + len + 1 - strlen(t->host), t->host) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    vlm_fetch_target t;
    if (url_new == NULL) open_curl();
    char *text = malloc(len + 1);
    FUZZ_CHECK(text != NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    if (vlm_fetch_target_parse((vlm_bytes){.ptr = text, .len = len}, &t)) {
        FUZZ_CHECK(strlen(text) == len && strlen(t.host) > 0);
        check_with_curl(text, &t);
        check_lists(&t);
    }
    free(text);
    return 0;
}
