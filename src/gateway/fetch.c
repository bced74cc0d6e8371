#include "gateway/fetch.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "gateway/fetch_addr.h"
#include "net/curl.h"

enum { THREADS_DEFAULT = 16, THREADS_MAX = 64, WAITING_DEFAULT = 256, REDIRECTS_MAX = 3 };

struct vlm_fetch {
    vlm_fetch *next;
    vlm_fetcher *fetcher;
    vlm_fetch_fn *done;
    void *user;
    atomic_bool cancelled;
    uint64_t deadline_ns;
    vlm_buf bytes;
    struct sockaddr_storage pinned;
    char url[VLM_FETCH_URL_LEN_MAX + 1];
};

struct vlm_fetcher {
    vlm_fetcher_options options;
    const vlm_curl *curl;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    vlm_fetch *first, *last; /* waiting */
    uint32_t n_waiting, n_idle, n_threads;
    pthread_t threads[THREADS_MAX];
    atomic_bool closing;
};

static size_t on_bytes(char *data, size_t size, size_t n, void *user)
{
    vlm_fetch *fetch = user;
    /* A short count ends the transfer. */
    return vlm_buf_append(&fetch->bytes, data, size * n, NULL) == VLM_OK ? size * n : 0;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total,
                       curl_off_t up_now)
{
    const vlm_fetch *fetch = user;
    (void)total;
    (void)now;
    (void)up_total;
    (void)up_now;
    return atomic_load(&((vlm_fetch *)(uintptr_t)fetch)->cancelled) ||
           atomic_load(&fetch->fetcher->closing);
}

static bool same_address(const struct sockaddr *a, const struct sockaddr_storage *b)
{
    if (a->sa_family != b->ss_family) return false;
    if (a->sa_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)a)->sin_addr,
                      &((const struct sockaddr_in *)b)->sin_addr, sizeof(struct in_addr)) == 0;
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* The last word before a connection: to the address that was checked, or to none. */
static curl_socket_t on_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    const vlm_fetch *fetch = user;
    if (purpose != CURLSOCKTYPE_IPCXN || !same_address(&address->addr, &fetch->pinned))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Ask for the addresses of the host: all must be global; the first is taken. */
static vlm_status resolve(vlm_fetch *fetch, const vlm_fetch_target *target, vlm_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    const bool all = fetch->fetcher->options.allow_all;
    const int code = getaddrinfo(target->host, NULL, &hints, &list);
    if (code != 0 || list == NULL)
        return vlm_fail(err, VLM_UNAVAILABLE, "no address: %s", gai_strerror(code));
    vlm_status status = VLM_OK;
    for (const struct addrinfo *a = list; a != NULL && status == VLM_OK; a = a->ai_next)
        if (!all && !vlm_fetch_addr_is_global(a->ai_addr))
            status = vlm_fail(err, VLM_PERMISSION_DENIED, "an address is not global");
    if (status == VLM_OK) memcpy(&fetch->pinned, list->ai_addr, list->ai_addrlen);
    freeaddrinfo(list);
    return status;
}

/* "::ADDRESS:PORT": whatever the host, this is dialled; Host and SNI stay. */
static void write_pin(const vlm_fetch *fetch, uint16_t port, char *out, size_t len)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (fetch->pinned.ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const struct sockaddr_in6 *)&fetch->pinned;
        (void)inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof text);
        (void)snprintf(out, len, "::[%s]:%u", text, port);
    } else {
        const struct sockaddr_in *a = (const struct sockaddr_in *)&fetch->pinned;
        (void)inet_ntop(AF_INET, &a->sin_addr, text, sizeof text);
        (void)snprintf(out, len, "::%s:%u", text, port);
    }
}

static void set_options(const vlm_fetch *fetch, CURL *curl, const struct curl_slist *pin,
                        const struct curl_slist *headers, uint64_t left_ms)
{
    const vlm_fetcher_options *o = &fetch->fetcher->options;
    const vlm_curl *c = fetch->fetcher->curl;
    const uint64_t connect_ms = o->connect_ms < left_ms ? o->connect_ms : left_ms;
    (void)c->easy_setopt(curl, CURLOPT_URL, fetch->url);
    (void)c->easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)c->easy_setopt(curl, CURLOPT_CONNECT_TO, pin);
    (void)c->easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    (void)c->easy_setopt(curl, CURLOPT_OPENSOCKETDATA, fetch);
    (void)c->easy_setopt(curl, CURLOPT_PROXY, "");
    (void)c->easy_setopt(curl, CURLOPT_NOPROXY, "*");
    (void)c->easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)c->easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    (void)c->easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
    (void)c->easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    (void)c->easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    (void)c->easy_setopt(curl, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    (void)c->easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)o->bytes_max);
    (void)c->easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    (void)c->easy_setopt(curl, CURLOPT_USERAGENT, "vlmd/" VLM_VERSION);
    (void)c->easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    (void)c->easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
    (void)c->easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)c->easy_setopt(curl, CURLOPT_XFERINFODATA, fetch);
    (void)c->easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
}

/* One request.  *redirected: fetch->url is where to go on. */
static vlm_status fetch_once(vlm_fetch *fetch, CURL *curl, bool *redirected, vlm_error *err)
{
    const vlm_curl *c = fetch->fetcher->curl;
    const vlm_fetcher_options *o = &fetch->fetcher->options;
    vlm_fetch_target target;
    char pin_text[INET6_ADDRSTRLEN + 16];
    *redirected = false;
    if (!vlm_fetch_target_parse(vlm_bytes_of(fetch->url), &target))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the URL is not taken");
    if (!o->allow_all && target.port != 80 && target.port != 443)
        return vlm_fail(err, VLM_PERMISSION_DENIED, "port %u", target.port);
    if (!vlm_fetch_host_listed(target.host, o->hosts))
        return vlm_fail(err, VLM_PERMISSION_DENIED, "the host is not listed");
    VLM_TRY(resolve(fetch, &target, err));
    const uint64_t now = vlm_clock_ns();
    if (now >= fetch->deadline_ns) return vlm_fail(err, VLM_DEADLINE_EXCEEDED, "too slow");
    write_pin(fetch, target.port, pin_text, sizeof pin_text);
    struct curl_slist *pin = c->slist_append(NULL, pin_text);
    struct curl_slist *headers = c->slist_append(NULL, "Accept: image/*");
    vlm_buf_clear(&fetch->bytes);
    c->easy_reset(curl);
    set_options(fetch, curl, pin, headers, (fetch->deadline_ns - now) / 1000000 + 1);
    const CURLcode code = c->easy_perform(curl);
    long http_status = 0;
    const char *location = NULL;
    (void)c->easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http_status);
    (void)c->easy_getinfo(curl, CURLINFO_REDIRECT_URL, &location);
    vlm_status status = VLM_OK;
    if (pin == NULL || headers == NULL) {
        status = vlm_fail_memory(err, "fetch");
    } else if (code != CURLE_OK) {
        status = vlm_fail(err, VLM_UNAVAILABLE, "transfer failed: libcurl's code %d", (int)code);
    } else if (http_status >= 300 && http_status < 400 && location != NULL &&
               strlen(location) <= VLM_FETCH_URL_LEN_MAX) {
        (void)snprintf(fetch->url, sizeof fetch->url, "%s", location);
        *redirected = true;
    } else if (http_status != 200) {
        status = vlm_fail(err, VLM_UNAVAILABLE, "HTTP status %ld", http_status);
    }
    c->slist_free_all(pin);
    c->slist_free_all(headers);
    return status;
}

static vlm_status fetch_all(vlm_fetch *fetch, CURL *curl, vlm_error *err)
{
    for (int i = 0; i <= REDIRECTS_MAX; i++) {
        bool redirected;
        if (atomic_load(&fetch->cancelled)) return vlm_fail(err, VLM_CANCELLED, "cancelled");
        VLM_TRY(fetch_once(fetch, curl, &redirected, err));
        if (!redirected) return VLM_OK;
    }
    return vlm_fail(err, VLM_UNAVAILABLE, "more than %d redirects", REDIRECTS_MAX);
}

static void run_fetch(vlm_fetch *fetch, CURL *curl)
{
    vlm_error error;
    vlm_status status = VLM_OK;
    if (curl == NULL) status = vlm_fail_memory(&error, "fetch");
    if (status == VLM_OK) status = fetch_all(fetch, curl, &error);
    fetch->done(fetch->user, &fetch->bytes, status == VLM_OK ? NULL : &error);
    vlm_buf_fini(&fetch->bytes);
    free(fetch);
}

static void *run(void *user)
{
    vlm_fetcher *f = user;
    CURL *curl = f->curl->easy_init();
    (void)pthread_mutex_lock(&f->lock);
    for (;;) {
        while (f->first == NULL && !atomic_load(&f->closing)) {
            f->n_idle++;
            (void)pthread_cond_wait(&f->wake, &f->lock);
            f->n_idle--;
        }
        vlm_fetch *fetch = f->first;
        if (fetch == NULL) break;
        f->first = fetch->next;
        if (f->first == NULL) f->last = NULL;
        f->n_waiting--;
        (void)pthread_mutex_unlock(&f->lock);
        run_fetch(fetch, curl);
        (void)pthread_mutex_lock(&f->lock);
    }
    (void)pthread_mutex_unlock(&f->lock);
    if (curl != NULL) f->curl->easy_cleanup(curl);
    return NULL;
}

vlm_status vlm_fetcher_open(const vlm_fetcher_options *options, vlm_fetcher **out, vlm_error *err)
{
    const vlm_curl *curl;
    *out = NULL;
    VLM_TRY(vlm_curl_open(&curl, err));
    vlm_fetcher *f = calloc(1, sizeof *f);
    if (f == NULL) return vlm_fail_memory(err, "fetcher");
    f->options = *options;
    f->curl = curl;
    vlm_fetcher_options *o = &f->options;
    if (o->threads_max == 0) o->threads_max = THREADS_DEFAULT;
    if (o->threads_max > THREADS_MAX) o->threads_max = THREADS_MAX;
    if (o->waiting_max == 0) o->waiting_max = WAITING_DEFAULT;
    if (o->connect_ms == 0) o->connect_ms = 3000;
    if (o->total_ms == 0) o->total_ms = 10000;
    (void)pthread_mutex_init(&f->lock, NULL);
    (void)pthread_cond_init(&f->wake, NULL);
    *out = f;
    return VLM_OK;
}

void vlm_fetcher_close(vlm_fetcher *f)
{
    if (f == NULL) return;
    (void)pthread_mutex_lock(&f->lock);
    atomic_store(&f->closing, true);
    for (vlm_fetch *fetch = f->first; fetch != NULL; fetch = fetch->next)
        atomic_store(&fetch->cancelled, true);
    (void)pthread_cond_broadcast(&f->wake);
    (void)pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; i < f->n_threads; i++) (void)pthread_join(f->threads[i], NULL);
    (void)pthread_cond_destroy(&f->wake);
    (void)pthread_mutex_destroy(&f->lock);
    free(f);
}

vlm_status vlm_fetcher_start(vlm_fetcher *f, const char *url, vlm_fetch_fn *done, void *user,
                             vlm_fetch **out, vlm_error *err)
{
    *out = NULL;
    const size_t len = strlen(url);
    if (len > VLM_FETCH_URL_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the URL is longer than %d bytes",
                        VLM_FETCH_URL_LEN_MAX);
    vlm_fetch *fetch = calloc(1, sizeof *fetch);
    if (fetch == NULL) return vlm_fail_memory(err, "fetch");
    fetch->fetcher = f;
    fetch->done = done;
    fetch->user = user;
    fetch->deadline_ns = vlm_clock_ns() + f->options.total_ms * 1000000;
    memcpy(fetch->url, url, len + 1);
    vlm_buf_init(&fetch->bytes, f->options.bytes_max);
    (void)pthread_mutex_lock(&f->lock);
    bool ok = f->n_waiting < f->options.waiting_max + f->options.threads_max;
    if (ok && f->n_idle <= f->n_waiting && f->n_threads < f->options.threads_max &&
        pthread_create(&f->threads[f->n_threads], NULL, run, f) == 0)
        f->n_threads++;
    ok = ok && f->n_threads > 0;
    if (ok) {
        if (f->last != NULL)
            f->last->next = fetch;
        else
            f->first = fetch;
        f->last = fetch;
        f->n_waiting++;
        *out = fetch;
        (void)pthread_cond_signal(&f->wake);
    }
    (void)pthread_mutex_unlock(&f->lock);
    if (ok) return VLM_OK;
    free(fetch);
    return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "too many pictures are being fetched");
}

void vlm_fetch_cancel(vlm_fetch *fetch)
{
    atomic_store(&fetch->cancelled, true);
}
