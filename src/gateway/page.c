#include "gateway/page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/sha256.h"

enum { POLICY_LEN_MAX = 2048, TAG_LEN_MAX = 16 };

struct vlm_page {
    vlm_bytes html;
    vlm_buf policy, etag;
    vlm_http1_out_field fields[VLM_RESPONSE_MORE_MAX];
    size_t n_fields;
};

static vlm_status append_digest(vlm_bytes data, vlm_buf *out, vlm_error *err)
{
    uint8_t digest[VLM_SHA256_LEN];
    vlm_sha256(data.ptr, data.len, digest);
    return vlm_base64_encode((vlm_bytes){.ptr = (const char *)digest, .len = sizeof digest}, out,
                             err);
}

/* " 'sha256-...'" for what is inside each element of that name. */
static vlm_status append_sources(vlm_bytes html, const char *name, vlm_buf *out, vlm_error *err)
{
    char open[TAG_LEN_MAX], close[TAG_LEN_MAX];
    (void)snprintf(open, sizeof open, "<%s", name);
    (void)snprintf(close, sizeof close, "</%s>", name);
    const char *p = html.ptr, *const end = html.ptr + html.len;
    while ((p = memmem(p, (size_t)(end - p), open, strlen(open))) != NULL) {
        const char *text = memchr(p, '>', (size_t)(end - p));
        const char *stop =
            text == NULL ? NULL : memmem(text + 1, (size_t)(end - text - 1), close, strlen(close));
        if (stop == NULL) return vlm_fail(err, VLM_INTERNAL, "the page: a %s does not end", name);
        text++;
        VLM_TRY(vlm_buf_append_str(out, " 'sha256-", err));
        VLM_TRY(append_digest((vlm_bytes){.ptr = text, .len = (size_t)(stop - text)}, out, err));
        VLM_TRY(vlm_buf_append_char(out, '\'', err));
        p = stop;
    }
    return VLM_OK;
}

static vlm_status write_policy(vlm_bytes html, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_str(out, "default-src 'none'; script-src", err));
    VLM_TRY(append_sources(html, "script", out, err));
    VLM_TRY(vlm_buf_append_str(out, "; style-src", err));
    VLM_TRY(append_sources(html, "style", out, err));
    /* The last two: no text can become markup or code by mistake. */
    return vlm_buf_append_str(out,
                              "; img-src data: blob:; connect-src 'self'; base-uri 'none'; "
                              "form-action 'none'; frame-ancestors 'none'; "
                              "require-trusted-types-for 'script'; trusted-types 'none'",
                              err);
}

static vlm_status write_etag(vlm_bytes html, vlm_buf *out, vlm_error *err)
{
    VLM_TRY(vlm_buf_append_char(out, '"', err));
    VLM_TRY(append_digest(html, out, err));
    return vlm_buf_append_char(out, '"', err);
}

static void add_field(vlm_page *p, const char *name, const char *value)
{
    p->fields[p->n_fields++] =
        (vlm_http1_out_field){.name = vlm_bytes_of(name), .value = vlm_bytes_of(value)};
}

vlm_status vlm_page_new(vlm_bytes html, vlm_page **out, vlm_error *err)
{
    *out = NULL;
    vlm_page *p = calloc(1, sizeof *p);
    if (p == NULL) return vlm_fail_memory(err, "page");
    p->html = html;
    vlm_buf_init(&p->policy, POLICY_LEN_MAX);
    vlm_buf_init(&p->etag, POLICY_LEN_MAX);
    vlm_status status = write_policy(html, &p->policy, err);
    if (status == VLM_OK) status = write_etag(html, &p->etag, err);
    if (status != VLM_OK) {
        vlm_page_free(p);
        return status;
    }
    add_field(p, "ETag", p->etag.data);
    add_field(p, "Cache-Control", "no-cache");
    add_field(p, "Content-Security-Policy", p->policy.data);
    add_field(p, "X-Content-Type-Options", "nosniff");
    add_field(p, "Referrer-Policy", "no-referrer");
    add_field(p, "Cross-Origin-Opener-Policy", "same-origin");
    add_field(p, "Cross-Origin-Resource-Policy", "same-origin");
    *out = p;
    return VLM_OK;
}

void vlm_page_free(vlm_page *p)
{
    if (p == NULL) return;
    vlm_buf_fini(&p->policy);
    vlm_buf_fini(&p->etag);
    free(p);
}

/* Tags hold no quotation mark: one that is found with both of its own is a whole one. */
static bool names(vlm_bytes value, vlm_bytes etag)
{
    return vlm_bytes_eq_str(value, "*") ||
           (value.len > 0 && memmem(value.ptr, value.len, etag.ptr, etag.len) != NULL);
}

vlm_response vlm_page_answer(const vlm_page *p, const vlm_bytes *if_none_match)
{
    /* All fields: they take the place of those that the browser has kept. */
    if (if_none_match != NULL && names(*if_none_match, vlm_buf_bytes(&p->etag)))
        return (vlm_response){.status = 304, .more = p->fields, .n_more = p->n_fields};
    return (vlm_response){.status = 200,
                          .content_type = "text/html; charset=utf-8",
                          .body = p->html,
                          .more = p->fields,
                          .n_more = p->n_fields};
}
