/* fuzz_http1.c - hostile bytes to the HTTP/1.1 parser, under limits and with cuts that the first
 * bytes choose.  However the bytes are cut, the events, the body and the place of an error are the
 * same; what is accepted keeps to the limits and to the grammar. */
#include <string.h>

#include "fuzz/fuzz.h"
#include "net/http1_parts.h"
#include "net/http1_trace.h"

enum { N_OPTIONS = 6 };

static const size_t line_maxima[] = {8192, 0, 14, 18, 33, 64};
static const size_t header_maxima[] = {32768, 0, 9, 40, 80, 200};
static const uint32_t field_maxima[] = {100, 0, 1, 2, 3, 5};
static const uint64_t body_maxima[] = {1 << 20, 0, 1, 5, 16, UINT64_MAX};

static void check_request(const vlm_http1_limits *limits, const vlm_http1_request *r)
{
    size_t n_hosts = 0, n_lengths = 0, n_codings = 0, n_bytes = 0;
    FUZZ_CHECK(r->method.len > 0 && r->method.len <= 32 && r->target.len > 0 && r->path.len > 0);
    FUZZ_CHECK(r->method.len + r->target.len + 10 <= limits->request_line_max);
    FUZZ_CHECK(r->path.ptr[0] == '/' || vlm_bytes_eq_str(r->path, "*"));
    FUZZ_CHECK(r->path.len + r->query.len <= r->target.len + 1);
    FUZZ_CHECK(memchr(r->path.ptr, '?', r->path.len) == NULL);
    FUZZ_CHECK(r->minor_version == 0 || r->minor_version == 1);
    FUZZ_CHECK(r->n_fields <= limits->header_fields_max);
    for (size_t i = 0; i < r->n_fields; i++) {
        const vlm_bytes name = r->fields[i].name, value = r->fields[i].value;
        FUZZ_CHECK(name.len > 0);
        n_bytes += name.len + value.len + 3;
        for (size_t k = 0; k < name.len; k++)
            FUZZ_CHECK(vlm_http1_is(name.ptr[k], VLM_HTTP1_TOKEN) &&
                       !(name.ptr[k] >= 'A' && name.ptr[k] <= 'Z'));
        for (size_t k = 0; k < value.len; k++)
            FUZZ_CHECK(vlm_http1_is(value.ptr[k], VLM_HTTP1_VALUE));
        FUZZ_CHECK(value.len == 0 || (!vlm_http1_is(value.ptr[0], VLM_HTTP1_BLANK) &&
                                      !vlm_http1_is(value.ptr[value.len - 1], VLM_HTTP1_BLANK)));
        n_hosts += vlm_bytes_eq_str(name, "host");
        n_lengths += vlm_bytes_eq_str(name, "content-length");
        n_codings += vlm_bytes_eq_str(name, "transfer-encoding");
    }
    FUZZ_CHECK(n_bytes <= limits->header_bytes_max);
    FUZZ_CHECK(n_hosts <= 1 && (n_hosts == 1 || r->minor_version == 0));
    FUZZ_CHECK(n_lengths + n_codings <= 1 && r->chunked == (n_codings == 1));
    FUZZ_CHECK(r->content_length <= limits->body_max && (r->content_length == 0 || n_lengths == 1));
    FUZZ_CHECK(r->has_body == (r->chunked || r->content_length > 0));
}

/* Feed data in pieces whose lengths come from cuts, in turn; one piece if there are none. */
static void run(http1_trace *t, const vlm_http1_limits *limits, const char *data, size_t len,
                const uint8_t *cuts, size_t n_cuts)
{
    vlm_http1 p;
    size_t n_heads = 0;
    vlm_http1_init(&p, limits);
    http1_trace_init(t);
    for (size_t off = 0, i = 0, n; off < len && !t->failed; off += n, i++) {
        n = n_cuts > 0 ? (size_t)cuts[i % n_cuts] + 1 : len;
        if (n > len - off) n = len - off;
        http1_trace_feed(t, &p, data + off, n);
        const vlm_http1_request *const request = vlm_http1_request_get(&p);
        if (t->n_heads > n_heads && request != NULL) check_request(limits, request);
        n_heads = t->n_heads;
        if (n_cuts > 0) vlm_http1_release(&p);
        if (p.store != NULL)
            FUZZ_CHECK(p.store->text.len <= limits->request_line_max + limits->header_bytes_max);
    }
    FUZZ_CHECK(t->n_ends <= t->n_heads && t->n_heads <= t->n_ends + 1);
    vlm_http1_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 8) return 0;
    const vlm_http1_limits limits = {
        .request_line_max = line_maxima[data[0] % N_OPTIONS],
        .header_bytes_max = header_maxima[data[1] % N_OPTIONS],
        .header_fields_max = field_maxima[data[2] % N_OPTIONS],
        .body_max = body_maxima[data[3] % N_OPTIONS],
    };
    static const uint8_t one[] = {0};
    const char *const text = (const char *)data + 8;
    http1_trace whole, cut, bytewise;
    run(&whole, &limits, text, len - 8, NULL, 0);
    run(&cut, &limits, text, len - 8, data + 4, 4);
    run(&bytewise, &limits, text, len - 8, one, 1);
    const http1_trace *const others[] = {&cut, &bytewise};
    for (size_t i = 0; i < 2; i++) {
        FUZZ_CHECK(vlm_bytes_eq(vlm_buf_bytes(&whole.full), vlm_buf_bytes(&others[i]->full)));
        FUZZ_CHECK(whole.n_used == others[i]->n_used && whole.failed == others[i]->failed);
        FUZZ_CHECK(whole.body_bytes == others[i]->body_bytes);
    }
    http1_trace_fini(&whole);
    http1_trace_fini(&cut);
    http1_trace_fini(&bytewise);
    return 0;
}
