/* fuzz_utf8.c - any bytes through the decoder: it always goes forward, agrees with itself, and what
 * it holds back is exactly what more bytes could still complete. */
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "fuzz/fuzz.h"

/* Whether some bytes behind text[0..len) make its last len bytes one code point. */
static bool can_be_completed(const char *text, size_t len)
{
    static const unsigned char next[] = {0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF};
    for (size_t a = 0; a < sizeof next; a++) {
        char whole[8] = {0};
        memcpy(whole, text, len);
        whole[len] = (char)next[a];
        memset(whole + len + 1, (char)0x80, 7 - len);
        uint32_t cp;
        bool bad;
        const size_t n = vlm_utf8_decode(whole, 4, &cp, &bad);
        if (!bad && n > len) return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *text = (const char *)data;
    size_t first_bad = len;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        bool bad;
        const size_t n = vlm_utf8_decode(text + i, len - i, &cp, &bad);
        FUZZ_CHECK(n >= 1 && n <= 4 && n <= len - i);
        if (bad) {
            FUZZ_CHECK(cp == VLM_UTF8_REPLACEMENT && n <= 3);
            if (first_bad == len) first_bad = i;
        } else {
            char again[4];
            FUZZ_CHECK(cp <= 0x10FFFF && (cp < 0xD800 || cp > 0xDFFF));
            FUZZ_CHECK(vlm_utf8_encode(cp, again) == n && memcmp(again, text + i, n) == 0);
        }
        i += n;
    }
    FUZZ_CHECK(vlm_utf8_first_bad(text, len) == first_bad);
    const size_t tail = vlm_utf8_incomplete_tail(text, len);
    FUZZ_CHECK(tail <= 3 && tail <= len);
    if (tail > 0) FUZZ_CHECK(can_be_completed(text + len - tail, tail));
    return 0;
}
