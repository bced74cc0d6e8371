#include <string.h>

#include "base/mem.h"
#include "net/http1_parts.h"

#define IS_ALNUM(c)                                                                                \
    (((c) >= '0' && (c) <= '9') || ((c) >= 'A' && (c) <= 'Z') || ((c) >= 'a' && (c) <= 'z'))
#define IS_TOKEN(c)                                                                                \
    (IS_ALNUM(c) || (c) == '!' || (c) == '#' || (c) == '$' || (c) == '%' || (c) == '&' ||          \
     (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || (c) == '.' || (c) == '^' ||          \
     (c) == '_' || (c) == '`' || (c) == '|' || (c) == '~')
#define IS_HOST(c)                                                                                 \
    (IS_ALNUM(c) || (c) == '-' || (c) == '.' || (c) == '_' || (c) == '~' || (c) == '!' ||          \
     (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '(' || (c) == ')' || (c) == '*' ||          \
     (c) == '+' || (c) == ';' || (c) == '=')
#define IS_BLANK(c) ((c) == ' ' || (c) == '\t')
#define CLASS(c)                                                                                   \
    ((IS_TOKEN(c) ? VLM_HTTP1_TOKEN : 0) | (IS_HOST(c) ? VLM_HTTP1_HOST : 0) |                     \
     ((c) > 0x20 && (c) < 0x7F && (c) != '#' ? VLM_HTTP1_TARGET : 0) |                             \
     (IS_BLANK(c) || ((c) > 0x20 && (c) != 0x7F) ? VLM_HTTP1_VALUE : 0) |                          \
     (IS_BLANK(c) ? VLM_HTTP1_BLANK : 0))
#define CLASS_4(c) CLASS(c), CLASS((c) + 1), CLASS((c) + 2), CLASS((c) + 3)
#define CLASS_16(c) CLASS_4(c), CLASS_4((c) + 4), CLASS_4((c) + 8), CLASS_4((c) + 12)
#define CLASS_64(c) CLASS_16(c), CLASS_16((c) + 16), CLASS_16((c) + 32), CLASS_16((c) + 48)

const uint8_t vlm_http1_class[256] = {CLASS_64(0), CLASS_64(64), CLASS_64(128), CLASS_64(192)};

bool vlm_http1_is_name(vlm_bytes text, const char *name)
{
    if (text.len != strlen(name)) return false;
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c | 0x20 : c) != name[i]) return false;
    }
    return true;
}

/* text without its first n bytes, n <= text.len. */
static vlm_bytes skip(vlm_bytes text, size_t n)
{
    return (vlm_bytes){.ptr = text.ptr + n, .len = text.len - n};
}

static size_t find_char(vlm_bytes text, char c)
{
    const char *const found = text.len > 0 ? memchr(text.ptr, c, text.len) : NULL;
    return found == NULL ? text.len : (size_t)(found - text.ptr);
}

/* The bytes of reg-name or IP-literal (RFC 3986, 3.2.2) at the beginning of text; 0 if none. */
static size_t host_len(vlm_bytes text)
{
    size_t i = 0;
    if (text.len > 0 && text.ptr[0] == '[') {
        i = 1;
        while (i < text.len &&
               (vlm_http1_hex(text.ptr[i]) >= 0 || text.ptr[i] == ':' || text.ptr[i] == '.'))
            i++;
        return i > 2 && i < text.len && text.ptr[i] == ']' ? i + 1 : 0;
    }
    while (i < text.len) {
        if (vlm_http1_is(text.ptr[i], VLM_HTTP1_HOST))
            i++;
        else if (text.ptr[i] == '%' && text.len - i > 2 && vlm_http1_hex(text.ptr[i + 1]) >= 0 &&
                 vlm_http1_hex(text.ptr[i + 2]) >= 0)
            i += 3;
        else
            break;
    }
    return i;
}

/* uri-host [ ":" port ].  An http URI has a host (RFC 9110, 4.2.1), so an empty one is refused. */
static bool is_host(vlm_bytes text)
{
    const size_t n = host_len(text);
    uint32_t port = 0;
    if (n == 0) return false;
    if (n == text.len) return true;
    if (text.ptr[n] != ':') return false;
    for (size_t i = n + 1; i < text.len; i++) {
        const char c = text.ptr[i];
        if (c < '0' || c > '9') return false;
        port = port * 10 + (uint32_t)(c - '0');
        if (port > 65535) return false;
    }
    return true;
}

/* Path and query of the target; false when it is none of the forms of RFC 9112, 3.2, but for the
 * authority form, which belongs to CONNECT. */
static bool split_target(vlm_bytes method, vlm_bytes target, vlm_bytes *path, vlm_bytes *query)
{
    vlm_bytes rest = target;
    const size_t scheme_len = find_char(target, ':');
    *query = (vlm_bytes){0};
    if (vlm_bytes_eq_str(target, "*")) {
        *path = target;
        return vlm_bytes_eq_str(method, "OPTIONS");
    }
    if (target.ptr[0] != '/') {
        const vlm_bytes scheme = {.ptr = target.ptr, .len = scheme_len};
        if (!vlm_http1_is_name(scheme, "http") && !vlm_http1_is_name(scheme, "https")) return false;
        rest = skip(target, scheme_len);
        if (!vlm_bytes_starts(rest, vlm_bytes_of("://"))) return false;
        rest = skip(rest, 3);
        const size_t to_path = find_char(rest, '/'), to_query = find_char(rest, '?');
        const size_t n = to_path < to_query ? to_path : to_query;
        if (!is_host((vlm_bytes){.ptr = rest.ptr, .len = n})) return false;
        rest = skip(rest, n);
    }
    const size_t n = find_char(rest, '?');
    *path = n > 0 ? (vlm_bytes){.ptr = rest.ptr, .len = n} : vlm_bytes_of("/");
    if (n < rest.len) *query = skip(rest, n + 1);
    return true;
}

vlm_http1_event vlm_http1_check_line(vlm_http1 *p, vlm_bytes version)
{
    vlm_http1_store *const store = p->store;
    const char *const v = version.ptr;
    const vlm_bytes method = {.ptr = store->text.data, .len = store->method_len};
    const vlm_bytes target = {.ptr = store->text.data + method.len, .len = store->target_len};
    vlm_bytes path, query;
    if (memcmp(v, "HTTP/", 5) != 0 || v[5] < '0' || v[5] > '9' || v[6] != '.' || v[7] < '0' ||
        v[7] > '9')
        return vlm_http1_fail(p, 400, "the HTTP version is malformed");
    if (v[5] != '1' || v[7] > '1')
        return vlm_http1_fail(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    if (vlm_bytes_eq_str(method, "CONNECT"))
        return vlm_http1_fail(p, 501, "CONNECT is for proxies");
    if (!split_target(method, target, &path, &query))
        return vlm_http1_fail(p, 400, "the request target is malformed");
    store->request.minor_version = v[7] - '0';
    return VLM_HTTP1_NEED_MORE;
}

/* What the fields of a header say about the message and its connection. */
typedef struct framing {
    unsigned n_hosts, n_lengths, n_codings;
    bool close, keep_alive;
} framing;

/* The next element of a list (RFC 9110, 5.6.1) without white space; false at its end. */
static bool next_element(vlm_bytes *list, vlm_bytes *element)
{
    if (list->ptr == NULL) return false;
    const size_t n = find_char(*list, ',');
    size_t begin = 0, end = n;
    while (begin < end && vlm_http1_is(list->ptr[begin], VLM_HTTP1_BLANK)) begin++;
    while (end > begin && vlm_http1_is(list->ptr[end - 1], VLM_HTTP1_BLANK)) end--;
    *element = (vlm_bytes){.ptr = list->ptr + begin, .len = end - begin};
    *list = n < list->len ? skip(*list, n + 1) : (vlm_bytes){0};
    return true;
}

static void read_connection(vlm_bytes value, framing *f)
{
    vlm_bytes option;
    while (next_element(&value, &option)) {
        if (vlm_http1_is_name(option, "close")) f->close = true;
        if (vlm_http1_is_name(option, "keep-alive")) f->keep_alive = true;
    }
}

/* 1*DIGIT; a sign, a list or anything else is refused. */
static vlm_http1_event read_length(vlm_http1 *p, vlm_bytes value)
{
    uint64_t n = 0;
    if (value.len == 0) return vlm_http1_fail(p, 400, "Content-Length is empty");
    for (size_t i = 0; i < value.len; i++) {
        const char c = value.ptr[i];
        if (c < '0' || c > '9' || !vlm_u64_mul(n, 10, &n) ||
            !vlm_u64_add(n, (uint64_t)(c - '0'), &n))
            return vlm_http1_fail(p, 400, "Content-Length is no number, or none that makes sense");
    }
    p->store->request.content_length = n;
    return VLM_HTTP1_NEED_MORE;
}

/* `chunked` alone is done here.  Others before it are asked for in vain (501); without it at the
 * end nobody can tell where the body ends (RFC 9112, 6.3). */
static vlm_http1_event read_coding(vlm_http1 *p, vlm_bytes value)
{
    vlm_bytes coding = {0};
    unsigned n = 0, n_chunked = 0;
    bool is_chunked = false;
    while (next_element(&value, &coding)) {
        for (size_t i = 0; i < coding.len; i++)
            if (!vlm_http1_is(coding.ptr[i], VLM_HTTP1_TOKEN)) coding.len = 0;
        if (coding.len == 0) return vlm_http1_fail(p, 400, "Transfer-Encoding is malformed");
        is_chunked = vlm_http1_is_name(coding, "chunked");
        n_chunked += is_chunked;
        n++;
    }
    if (!is_chunked || n_chunked > 1)
        return vlm_http1_fail(p, 400, "Transfer-Encoding does not end in one chunked");
    if (n > 1) return vlm_http1_fail(p, 501, "Transfer-Encoding other than chunked");
    p->store->request.chunked = true;
    return VLM_HTTP1_NEED_MORE;
}

static vlm_http1_event read_field(vlm_http1 *p, const vlm_http1_field *field, framing *f)
{
    vlm_http1_request *const request = &p->store->request;
    const vlm_bytes name = field->name, value = field->value;
    if (vlm_bytes_eq_str(name, "host")) {
        if (f->n_hosts++ > 0) return vlm_http1_fail(p, 400, "Host is given twice");
        if (!is_host(value)) return vlm_http1_fail(p, 400, "Host is malformed");
    } else if (vlm_bytes_eq_str(name, "content-length")) {
        if (f->n_lengths++ > 0) return vlm_http1_fail(p, 400, "Content-Length is given twice");
        return read_length(p, value);
    } else if (vlm_bytes_eq_str(name, "transfer-encoding")) {
        if (request->minor_version == 0)
            return vlm_http1_fail(p, 400, "Transfer-Encoding in HTTP/1.0");
        if (f->n_codings++ > 0) return vlm_http1_fail(p, 400, "Transfer-Encoding is given twice");
        return read_coding(p, value);
    } else if (vlm_bytes_eq_str(name, "connection")) {
        read_connection(value, f);
    } else if (vlm_bytes_eq_str(name, "expect") && request->minor_version > 0) {
        if (!vlm_http1_is_name(value, "100-continue"))
            return vlm_http1_fail(p, 417, "an expectation other than 100-continue");
        request->expect_continue = true;
    }
    return VLM_HTTP1_NEED_MORE;
}

/* The text no longer moves: the lengths become views. */
static void place_fields(vlm_http1 *p)
{
    vlm_http1_store *const store = p->store;
    const char *at = store->text.data + store->method_len + store->target_len;
    for (uint32_t i = 0; i < p->n_fields; i++) {
        vlm_http1_field *const field = &store->fields[i];
        field->name.ptr = at;
        field->value.ptr = at + field->name.len;
        at = field->value.ptr + field->value.len;
    }
}

vlm_http1_event vlm_http1_finish_head(vlm_http1 *p)
{
    vlm_http1_store *const store = p->store;
    vlm_http1_request *const request = &store->request;
    framing f = {0};
    const vlm_bytes method = {.ptr = store->text.data, .len = store->method_len};
    const vlm_bytes target = {.ptr = store->text.data + method.len, .len = store->target_len};
    *request = (vlm_http1_request){.method = method,
                                   .target = target,
                                   .minor_version = request->minor_version,
                                   .fields = store->fields,
                                   .n_fields = p->n_fields};
    (void)split_target(method, target, &request->path, &request->query);
    place_fields(p);
    for (uint32_t i = 0; i < p->n_fields; i++)
        if (read_field(p, &store->fields[i], &f) == VLM_HTTP1_ERROR) return VLM_HTTP1_ERROR;
    if (f.n_hosts == 0 && request->minor_version > 0)
        return vlm_http1_fail(p, 400, "Host is missing");
    if (f.n_codings > 0 && f.n_lengths > 0)
        return vlm_http1_fail(p, 400, "Content-Length and Transfer-Encoding are both given");
    if (request->content_length > p->limits.body_max)
        return vlm_http1_fail(p, 413, "the body is too large");
    request->has_body = request->chunked || request->content_length > 0;
    request->keep_alive = !f.close && (request->minor_version > 0 || f.keep_alive);
    return VLM_HTTP1_NEED_MORE;
}

const vlm_http1_field *vlm_http1_find(const vlm_http1_request *request, const char *name)
{
    const vlm_bytes wanted = vlm_bytes_of(name);
    for (size_t i = 0; i < request->n_fields; i++)
        if (vlm_bytes_eq(request->fields[i].name, wanted)) return &request->fields[i];
    return NULL;
}
