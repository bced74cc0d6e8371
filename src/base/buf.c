#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

vlm_bytes vlm_bytes_of(const char *text)
{
    return (vlm_bytes){.ptr = text, .len = text == NULL ? 0 : strlen(text)};
}

bool vlm_bytes_eq(vlm_bytes a, vlm_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool vlm_bytes_eq_str(vlm_bytes a, const char *text)
{
    return vlm_bytes_eq(a, vlm_bytes_of(text));
}

bool vlm_bytes_starts(vlm_bytes text, vlm_bytes prefix)
{
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

void vlm_buf_init(vlm_buf *buf, size_t len_max)
{
    *buf = (vlm_buf){.len_max = len_max};
}

void vlm_buf_fini(vlm_buf *buf)
{
    free(buf->data);
    *buf = (vlm_buf){.len_max = buf->len_max};
}

void vlm_buf_clear(vlm_buf *buf)
{
    buf->len = 0;
    if (buf->data != NULL) buf->data[0] = '\0';
}

vlm_bytes vlm_buf_bytes(const vlm_buf *buf)
{
    return (vlm_bytes){.ptr = buf->data, .len = buf->len};
}

vlm_status vlm_buf_reserve(vlm_buf *buf, size_t n_more, vlm_error *err)
{
    size_t len;
    if (!vlm_size_add(buf->len, n_more, &len) || len > buf->len_max)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "text grows beyond its limit of %zu bytes",
                        buf->len_max);
    if (len < buf->cap) return VLM_OK;
    size_t cap = buf->cap + buf->cap / 2 + 64;
    if (cap <= len && !vlm_size_add(len, 1, &cap)) return vlm_fail_memory(err, "buffer");
    char *data = realloc(buf->data, cap);
    if (data == NULL) return vlm_fail_memory(err, "buffer");
    buf->data = data;
    buf->cap = cap;
    buf->data[buf->len] = '\0';
    return VLM_OK;
}

vlm_status vlm_buf_append(vlm_buf *buf, const void *data, size_t len, vlm_error *err)
{
    VLM_TRY(vlm_buf_reserve(buf, len, err));
    if (len > 0) memcpy(buf->data + buf->len, data, len);
    buf->len += len;
    buf->data[buf->len] = '\0';
    return VLM_OK;
}

vlm_status vlm_buf_append_str(vlm_buf *buf, const char *text, vlm_error *err)
{
    return vlm_buf_append(buf, text, strlen(text), err);
}

vlm_status vlm_buf_append_char(vlm_buf *buf, char c, vlm_error *err)
{
    return vlm_buf_append(buf, &c, 1, err);
}

vlm_status vlm_buf_printf(vlm_buf *buf, vlm_error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return vlm_fail(err, VLM_INTERNAL, "a message could not be formatted");
    VLM_TRY(vlm_buf_reserve(buf, (size_t)n, err));
    va_start(ap, fmt);
    (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    buf->len += (size_t)n;
    return VLM_OK;
}
