#include "base/status.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const char *vlm_status_name(vlm_status code)
{
    switch (code) {
#define VLM_STATUS_CASE(name, number)                                                              \
    case VLM_##name: return #name;
        VLM_STATUS_LIST(VLM_STATUS_CASE)
#undef VLM_STATUS_CASE
    }
    return "UNKNOWN";
}

/* Error text reaches terminals and logs: one line, no control characters, no half code point. */
static void sanitize(char *msg, size_t len_max)
{
    size_t len = strlen(msg);
    if (len == len_max) {
        while (len > 0 && ((unsigned char)msg[len - 1] & 0xC0) == 0x80) len--;
        if (len > 0 && ((unsigned char)msg[len - 1] & 0x80) != 0) len--;
        msg[len] = '\0';
    }
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)msg[i] < 0x20 || msg[i] == 0x7F) msg[i] = '?';
}

void vlm_error_set(vlm_error *err, vlm_status code, uint64_t pos, const char *fmt, ...)
{
    assert(code != VLM_OK);
    if (err == NULL) return;
    err->code = code;
    err->pos = pos;
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    sanitize(err->msg, VLM_ERROR_MSG_LEN_MAX);
}

void vlm_error_prefix(vlm_error *err, const char *fmt, ...)
{
    if (err == NULL) return;
    char text[2 * VLM_ERROR_MSG_LEN_MAX + 4];
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(text, VLM_ERROR_MSG_LEN_MAX + 1, fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : (size_t)n;
    if (len > VLM_ERROR_MSG_LEN_MAX) len = VLM_ERROR_MSG_LEN_MAX;
    memcpy(text + len, ": ", 2);
    memcpy(text + len + 2, err->msg, strlen(err->msg) + 1);
    text[VLM_ERROR_MSG_LEN_MAX] = '\0';
    memcpy(err->msg, text, VLM_ERROR_MSG_LEN_MAX + 1);
    sanitize(err->msg, VLM_ERROR_MSG_LEN_MAX);
}
