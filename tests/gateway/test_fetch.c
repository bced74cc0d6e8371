/* test_fetch.c - pictures by URL against servers that lie, drip, loop and point inwards.  The whole
 * internet is fetch_net.h's: the fetcher runs with its real checks and real ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/fetch_net.h"
#include "gateway/fetch_server.h"

#include "base/clock.h"
#include "gateway/fetch.h"

enum { MS = 1000000, BYTES_MAX = 1 << 16 };

/* What one fetch came to. */
typedef struct outcome {
    unsigned n_done;
    vlm_status code;
    size_t len;
    char text[2048];
} outcome;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t told = PTHREAD_COND_INITIALIZER;

static void on_done(void *user, vlm_buf *bytes, const vlm_error *error)
{
    outcome *o = user;
    (void)pthread_mutex_lock(&lock);
    o->n_done++;
    o->code = error == NULL ? VLM_OK : error->code;
    o->len = bytes->len;
    (void)snprintf(o->text, sizeof o->text, "%s",
                   error != NULL    ? error->msg
                   : bytes->len > 0 ? bytes->data
                                    : "");
    (void)pthread_cond_broadcast(&told);
    (void)pthread_mutex_unlock(&lock);
}

static void wait_done(const outcome *o)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    int code = 0;
    (void)pthread_mutex_lock(&lock);
    while (o->n_done == 0 && code == 0) code = pthread_cond_timedwait(&told, &lock, &until);
    (void)pthread_mutex_unlock(&lock);
    if (code != 0) fail_msg("a fetch never ends");
}

static vlm_fetcher *open_fetcher(const vlm_fetcher_options *options)
{
    vlm_fetcher *f;
    vlm_error err;
    if (vlm_fetcher_open(options, &f, &err) != VLM_OK) fail_msg("%s", err.msg);
    return f;
}

static const vlm_fetcher_options usual = {
    .bytes_max = BYTES_MAX, .connect_ms = 2000, .total_ms = 5000};

static void get(vlm_fetcher *f, const char *url, outcome *o)
{
    vlm_fetch *fetch;
    vlm_error err;
    *o = (outcome){0};
    const vlm_status status = vlm_fetcher_start(f, url, on_done, o, &fetch, &err);
    if (status != VLM_OK) {
        *o = (outcome){.n_done = 1, .code = status};
        return;
    }
    wait_done(o);
}

static void get_with(const vlm_fetcher_options *options, const char *url, outcome *o)
{
    vlm_fetcher *f = open_fetcher(options);
    get(f, url, o);
    vlm_fetcher_close(f);
    assert_int_equal(o->n_done, 1);
    assert_int_equal(net.n_strays, 0);
}

static void check_ok(const char *url, const char *text)
{
    outcome o;
    get_with(&usual, url, &o);
    if (o.code != VLM_OK) fail_msg("%s: %s", url, o.text);
    assert_string_equal(o.text, text);
}

static void check_refused(const char *url)
{
    outcome o;
    get_with(&usual, url, &o);
    if (o.code == VLM_OK) fail_msg("%s: fetched", url);
    /* What goes to the log says nothing that is the URL's or the address's own. */
    assert_null(strstr(o.text, "://"));
    assert_null(strstr(o.text, "secret"));
}

static int reset(void **state)
{
    (void)state;
    net_reset();
    return 0;
}

static void test_fetches(void **state)
{
    static const char *const urls[] = {
        "http://public.test/ok",  "HTTP://PUBLIC.TEST/ok", "http://public.test:80/ok",
        "http://public.test./ok", "http://two.test/ok",    "http://a.public.test/ok?a=b&c#d",
        "http://" PUBLIC_4 "/ok", "http://1572395042/ok",  "http://0x5db8d822/ok",
    };
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        net_reset();
        check_ok(urls[i], "PICTURE");
        assert_int_equal(net.n_connects, 1);
        assert_int_equal(net.n_lookups, 1);
    }
}

static void test_ipv6(void **state)
{
    (void)state;
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) skip(); /* this machine has no IPv6 */
    close(fd);
    check_ok("http://six.test/ok", "PICTURE");
    check_ok("http://[" PUBLIC_6 "]/ok", "PICTURE");
    assert_int_equal(net.n_connects, 2);
}

/* What a server learns of us. */
static void test_request(void **state)
{
    outcome o;
    (void)state;
    for (int i = 0; i < 2; i++) {
        get_with(&usual,
                 i == 0 ? "http://public.test/echo?q=1#part"
                        : "http://a.public.test/to?http://public.test/echo?q=1",
                 &o);
        assert_int_equal(o.code, VLM_OK);
        assert_non_null(strstr(o.text, "GET /echo?q=1 HTTP/1.1\r\n"));
        assert_non_null(strstr(o.text, "\r\nHost: public.test\r\n"));
        assert_non_null(strstr(o.text, "\r\nUser-Agent: vlmd/"));
        static const char *const never[] = {"Cookie", "Authorization", "Accept-Encoding",
                                            "Proxy",  "Referer",       "Range"};
        for (size_t k = 0; k < sizeof never / sizeof *never; k++)
            assert_null(strcasestr(o.text, never[k]));
    }
}

/* Rows of class U: each straight, behind a redirect, and behind a name that changes its mind. */
static const char *const inward[] = {
    "http://127.0.0.1/ok",
    "http://127.0.0.1:80/ok",
    "https://127.0.0.1/ok",
    "http://127.1/ok",
    "http://127.0.1/ok",
    "http://2130706433/ok",
    "http://017700000001/ok",
    "http://0x7f000001/ok",
    "http://0x7f.0.0.1/ok",
    "http://0177.0.0.1/ok",
    "http://0177.0.0x1/ok",
    "http://127.0.0.1./ok",
    "http://0/ok",
    "http://0.0.0.0/ok",
    "http://localhost/ok",
    "http://LOCALHOST./ok",
    "http://10.0.0.1/ok",
    "http://172.16.0.1/ok",
    "http://192.168.0.1/ok",
    "http://100.64.0.1/ok",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xa9fea9fe/ok",
    "http://2852039166/ok",
    "http://192.0.0.192/ok",
    "http://198.18.0.1/ok",
    "http://224.0.0.1/ok",
    "http://240.0.0.1/ok",
    "http://255.255.255.255/ok",
    "http://[::1]/ok",
    "http://[::]/ok",
    "http://[0:0:0:0:0:0:0:1]/ok",
    "http://[::ffff:127.0.0.1]/ok",
    "http://[::ffff:7f00:1]/ok",
    "http://[::ffff:a9fe:a9fe]/ok",
    "http://[::127.0.0.1]/ok",
    "http://[64:ff9b::127.0.0.1]/ok",
    "http://[64:ff9b:1::7f00:1]/ok",
    "http://[2002:7f00:1::]/ok",
    "http://[2001:0:7f00:1::]/ok",
    "http://[fd00::1]/ok",
    "http://[fe80::1]/ok",
    "http://[fe80::1%25lo]/ok",
    "http://[fec0::1]/ok",
    "http://[ff02::1]/ok",
    "http://[2001:db8::1]/ok",
    "http://local.test/ok",
    "http://local.test./ok",
    "http://local6.test/ok",
    "http://private.test/ok",
    "http://shared.test/ok",
    "http://meta.test/ok",
    "http://zero.test/ok",
    "http://mapped.test/ok",
    "http://nat64.test/ok",
    "http://6to4.test/ok",
    "http://unique.test/ok",
    "http://link.test/ok",
    "http://many.test/ok",
    "http://mixed4.test/ok",
    "http://mixed6.test/ok",
    "http://mixed-last.test/ok",
    "http://user:secret@public.test/ok",
    "http://public.test@127.0.0.1/ok",
    "http://127.0.0.1\\@public.test/ok",
    "http://public.test\\@127.0.0.1/ok",
    "http://public.test:22/ok",
    "http://public.test:8080/ok",
    "http://public.test:0/ok",
    "http://public%2etest/ok",
    ("http://\xef\xbc\x91"
     "27.0.0.1/ok"),
    "file:///etc/passwd",
    "file://public.test/ok",
    "gopher://public.test/ok",
    "ftp://public.test/ok",
    "dict://public.test/ok",
    "data:image/png;base64,AAAA",
    "unix:///tmp/secret",
    "/ok",
    "ok",
    "",
    "http://",
    "http:///ok",
};
enum { N_INWARD = sizeof inward / sizeof *inward };

static void test_inward_urls(void **state)
{
    (void)state;
    assert_true(N_INWARD >= 60);
    for (size_t i = 0; i < N_INWARD; i++) {
        check_refused(inward[i]);
        if (net.n_connects != 0) fail_msg("%s: a connection was tried", inward[i]);
    }
}

static void test_inward_redirects(void **state)
{
    char url[512];
    (void)state;
    for (size_t i = 0; i < N_INWARD; i++) {
        /* A relative one stays with the server that says it; libcurl reads %2e before we look. */
        if (strchr(inward[i], ':') == NULL || strstr(inward[i], "%2e") != NULL) continue;
        net_reset();
        (void)snprintf(url, sizeof url, "http://public.test/to?%s", inward[i]);
        check_refused(url);
        if (net.n_connects > 1) fail_msg("%s: a connection was tried", url);
    }
    net_reset();
    check_refused("http://public.test/to?//127.0.0.1/ok");
    check_refused("http://public.test/to?http://flip.test/to?http://flip.test/ok");
    assert_int_equal(net.n_connects, 3);
}

/* A name is asked once: what it would answer the second time does not matter. */
static void test_rebinding(void **state)
{
    (void)state;
    check_ok("http://flip.test/ok", "PICTURE");
    assert_int_equal(net.n_lookups, 1);
    assert_int_equal(net.n_connects, 1);
    check_refused("http://flip.test/ok");
    assert_int_equal(net.n_connects, 1);
}

static void test_redirects(void **state)
{
    (void)state;
    check_ok("http://public.test/to?http://a.public.test/ok", "PICTURE");
    check_ok("http://public.test/to?/ok", "PICTURE");
    check_ok("http://public.test/to?//a.public.test/ok", "PICTURE");
    check_ok("http://public.test/hops/3", "PICTURE");
    net_reset();
    check_refused("http://public.test/hops/4");
    assert_int_equal(net.n_connects, 4);
    net_reset();
    check_refused("http://public.test/hops/99999999");
    assert_int_equal(net.n_connects, 4);
    /* A loop within the limits of one. */
    check_refused("http://public.test/to?http://public.test/to?http://public.test/to?"
                  "http://public.test/to?http://public.test/ok");
    check_refused("http://public.test/to?http://public.test:81/ok");
}

static void test_statuses(void **state)
{
    static const unsigned statuses[] = {201, 202, 203, 204, 205, 206, 226, 300, 301, 304, 305, 400,
                                        401, 403, 404, 407, 410, 416, 418, 429, 500, 503, 599};
    char url[64];
    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        (void)snprintf(url, sizeof url, "http://public.test/status/%u", statuses[i]);
        check_refused(url);
    }
}

static void test_sizes(void **state)
{
    static const char *const refused[] = {
        "/size/65600", "/lie-long", "/lie-short", "/endless", "/endless-chunks",
        "/bad-chunks", "/garbage",  "/reset",     "/nothing", "/endless-fields"};
    char url[64];
    outcome o;
    (void)state;
    get_with(&usual, "http://public.test/size/65536", &o);
    assert_int_equal(o.code, VLM_OK);
    assert_int_equal(o.len, BYTES_MAX);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const uint64_t start = vlm_clock_ns();
        (void)snprintf(url, sizeof url, "http://public.test%s", refused[i]);
        check_refused(url);
        if (vlm_clock_ns() - start > 3000ULL * MS) fail_msg("%s takes long", refused[i]);
    }
    /* Bytes are bytes: nothing unpacks them here. */
    get_with(&usual, "http://public.test/gzip", &o);
    if (o.code == VLM_OK) assert_memory_equal(o.text, "\x1f\x8b\x08\x01", 4);
}

static void check_ends(const vlm_fetcher_options *options, const char *url, uint64_t least_ms,
                       uint64_t most_ms)
{
    outcome o;
    const uint64_t start = vlm_clock_ns();
    get_with(options, url, &o);
    const uint64_t took_ms = (vlm_clock_ns() - start) / MS;
    if (o.code == VLM_OK) fail_msg("%s: fetched", url);
    if (took_ms < least_ms || took_ms > most_ms) fail_msg("%s: %u ms", url, (unsigned)took_ms);
}

static void test_slow_servers(void **state)
{
    static const char *const paths[] = {"/drip", "/drip-fields", "/continues", "/hang"};
    vlm_fetcher_options o = usual;
    char url[64];
    (void)state;
    o.total_ms = 400;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        (void)snprintf(url, sizeof url, "http://public.test%s", paths[i]);
        check_ends(&o, url, 350, 1400);
    }
    /* Redirects do not start the clock anew. */
    check_ends(&o, "http://public.test/to?http://public.test/to?http://public.test/drip", 350,
               1400);
    tls.hangs = true;
    check_ends(&o, "https://public.test/ok", 350, 1400);
    o.connect_ms = 200;
    o.total_ms = 5000;
    check_ends(&o, "https://public.test/ok", 150, 1400);
    tls.hangs = false;
    check_ends(&o, "http://hole.test/ok", 150, 1400);
}

static void test_tls(void **state)
{
    (void)state;
    tls.n_requests = 0;
    check_refused("https://public.test/ok");
    check_refused("https://a.public.test/ok");
    assert_int_equal(net.n_served, 2);
    /* The name was the URL's, the certificate nobody's, and nothing was sent. */
    assert_string_equal(tls.name, "a.public.test");
    assert_int_equal(tls.n_requests, 0);
    /* Not TLS at all, and TLS where there is none. */
    check_refused("https://public.test:80/ok");
    check_refused("http://public.test:443/ok");
}

static void test_hosts(void **state)
{
    static const struct {
        const char *url;
        bool ok;
    } cases[] = {
        {"http://public.test/ok", true},
        {"http://a.public.test/ok", true},
        {"http://A.PUBLIC.test./ok", true},
        {"http://two.test/ok", false},
        {"http://" PUBLIC_4 "/ok", false},
        {"http://public.test/to?http://a.public.test/ok", true},
        {"http://public.test/to?http://two.test/ok", false},
        {"http://two.test/to?http://public.test/ok", false},
    };
    vlm_fetcher_options options = usual;
    outcome o;
    (void)state;
    options.hosts = "example.org,public.test";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        get_with(&options, cases[i].url, &o);
        if ((o.code == VLM_OK) != cases[i].ok) fail_msg("%s", cases[i].url);
    }
}

static void test_cancel(void **state)
{
    static const char *const urls[] = {"http://public.test/hang", "http://public.test/drip",
                                       "http://hole.test/ok"};
    vlm_fetcher *f = open_fetcher(&usual);
    (void)state;
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        outcome o = {0};
        vlm_fetch *fetch;
        assert_int_equal(vlm_fetcher_start(f, urls[i], on_done, &o, &fetch, NULL), VLM_OK);
        if (i > 0) nap(100);
        const uint64_t start = vlm_clock_ns();
        vlm_fetch_cancel(fetch);
        wait_done(&o);
        assert_int_not_equal(o.code, VLM_OK);
        assert_true(vlm_clock_ns() - start < 1500ULL * MS);
    }
    vlm_fetcher_close(f);
}

/* Many servers that never answer: starting stays quick, too many are refused, all are told. */
static void test_stuck(void **state)
{
    enum { N = 256 };
    static outcome outcomes[N + 200];
    vlm_fetcher_options options = usual;
    unsigned n_started = 0;
    (void)state;
    options.total_ms = 1500;
    memset(outcomes, 0, sizeof outcomes);
    vlm_fetcher *f = open_fetcher(&options);
    const uint64_t start = vlm_clock_ns();
    for (size_t i = 0; i < N + 200; i++) {
        vlm_fetch *fetch;
        vlm_error err;
        const vlm_status status =
            vlm_fetcher_start(f, i % 2 == 0 ? "http://public.test/hang" : "http://hole.test/",
                              on_done, &outcomes[i], &fetch, &err);
        if (status != VLM_OK) {
            assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
            break;
        }
        n_started++;
    }
    assert_true(vlm_clock_ns() - start < 500ULL * MS);
    assert_true(n_started >= N && n_started < N + 200);
    for (size_t i = 0; i < n_started; i++) wait_done(&outcomes[i]);
    assert_true(vlm_clock_ns() - start < 3500ULL * MS);
    for (size_t i = 0; i < n_started; i++) assert_int_not_equal(outcomes[i].code, VLM_OK);
    /* And then it goes on. */
    outcome o;
    get(f, "http://public.test/ok", &o);
    assert_int_equal(o.code, VLM_OK);
    vlm_fetcher_close(f);
    for (size_t i = 0; i < n_started; i++) assert_int_equal(outcomes[i].n_done, 1);
    assert_int_equal(net.n_strays, 0);
}

static void test_close(void **state)
{
    enum { N = 100 };
    static outcome outcomes[N];
    vlm_fetcher *f = open_fetcher(&usual);
    vlm_fetch *fetch;
    (void)state;
    memset(outcomes, 0, sizeof outcomes);
    for (size_t i = 0; i < N; i++)
        assert_int_equal(
            vlm_fetcher_start(f, "http://public.test/hang", on_done, &outcomes[i], &fetch, NULL),
            VLM_OK);
    nap(100);
    const uint64_t start = vlm_clock_ns();
    vlm_fetcher_close(f);
    assert_true(vlm_clock_ns() - start < 2500ULL * MS);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(outcomes[i].n_done, 1);
        assert_int_not_equal(outcomes[i].code, VLM_OK);
    }
    vlm_fetcher_close(NULL);
}

static void test_long_url(void **state)
{
    static char url[20000];
    (void)state;
    (void)snprintf(url, sizeof url, "http://public.test/ok?");
    memset(url + strlen(url), 'x', sizeof url - strlen(url) - 1);
    check_refused(url);
    assert_int_equal(net.n_connects, 0);
    url[8000] = '\0';
    check_ok(url, "PICTURE");
}

int main(void)
{
    /* A proxy, its credentials and .netrc are none of ours. */
    static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
                                          "ALL_PROXY"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++)
        (void)setenv(proxies[i], "http://127.0.0.1:9/", 1);
    (void)unsetenv("no_proxy");
    open_tls();
    net_open(serve);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_fetches, reset),
        cmocka_unit_test_setup(test_ipv6, reset),
        cmocka_unit_test_setup(test_request, reset),
        cmocka_unit_test_setup(test_inward_urls, reset),
        cmocka_unit_test_setup(test_inward_redirects, reset),
        cmocka_unit_test_setup(test_rebinding, reset),
        cmocka_unit_test_setup(test_redirects, reset),
        cmocka_unit_test_setup(test_statuses, reset),
        cmocka_unit_test_setup(test_sizes, reset),
        cmocka_unit_test_setup(test_slow_servers, reset),
        cmocka_unit_test_setup(test_tls, reset),
        cmocka_unit_test_setup(test_hosts, reset),
        cmocka_unit_test_setup(test_cancel, reset),
        cmocka_unit_test_setup(test_stuck, reset),
        cmocka_unit_test_setup(test_close, reset),
        cmocka_unit_test_setup(test_long_url, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
