#include "text/regex_text.h"

#include <string.h>

#include "base/utf8.h"

/* Characters in order, and what PCRE2 is shown instead. */
typedef struct replacement {
    uint32_t first, last, as;
} replacement;

static const replacement table[] = {
    {0x180E, 0x180E, 0x2060},
};

static uint32_t shown_as(uint32_t cp)
{
    size_t low = 0, high = sizeof table / sizeof *table;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (cp > table[mid].last)
            low = mid + 1;
        else if (cp < table[mid].first)
            high = mid;
        else
            return table[mid].as;
    }
    return cp;
}

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
        const uint32_t as = shown_as(cp);
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
