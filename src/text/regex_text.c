#include "text/regex_text.h"

#include <string.h>

#include "base/utf8.h"
#include "text/unicode.h"

vlm_status vlm_regex_text(vlm_bytes text, vlm_buf *copy, vlm_bytes *out, vlm_error *err)
{
    *out = text;
    vlm_buf_clear(copy);
    bool copied = false;
    for (size_t i = 0; i < text.len;) {
        if ((unsigned char)text.ptr[i] < 0xE0) { /* below U+0800 nothing is replaced */
            i++;
            continue;
        }
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        const uint32_t as = vlm_unicode_older(cp);
        if (as != cp) {
            if (!copied) VLM_TRY(vlm_buf_append(copy, text.ptr, text.len, err));
            copied = true;
            char utf8[4];
            const size_t n = vlm_utf8_encode(as, utf8);
            memcpy(copy->data + i, utf8, n < len ? n : len);
        }
        i += len;
    }
    if (copied) *out = vlm_buf_bytes(copy);
    return VLM_OK;
}
