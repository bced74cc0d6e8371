#include "base/utf8.h"

/* For a lead byte: length, and the allowed range of the second byte (Unicode table 3-7). */
static size_t lead(unsigned char b, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xBF;
    if (b < 0x80) return 1;
    if (b < 0xC2) return 0;
    if (b < 0xE0) return 2;
    if (b < 0xF0) {
        if (b == 0xE0) *lo = 0xA0;
        if (b == 0xED) *hi = 0x9F;
        return 3;
    }
    if (b < 0xF5) {
        if (b == 0xF0) *lo = 0x90;
        if (b == 0xF4) *hi = 0x8F;
        return 4;
    }
    return 0;
}

/* Bytes of the longest prefix of text that is a code point or could still become one. */
static size_t prefix(const unsigned char *s, size_t len, size_t *need)
{
    unsigned char lo, hi;
    *need = lead(s[0], &lo, &hi);
    if (*need == 0) return 0;
    size_t i = 1;
    while (i < *need && i < len) {
        if (s[i] < lo || s[i] > hi) break;
        lo = 0x80;
        hi = 0xBF;
        i++;
    }
    return i;
}

size_t vlm_utf8_decode(const char *text, size_t len, uint32_t *cp, bool *bad)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t need;
    const size_t have = prefix(s, len, &need);
    if (need == 0 || have < need) {
        *cp = VLM_UTF8_REPLACEMENT;
        *bad = true;
        return have == 0 ? 1 : have;
    }
    *bad = false;
    static const unsigned char mask[5] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t value = s[0] & mask[need];
    for (size_t i = 1; i < need; i++) value = value << 6 | (s[i] & 0x3Fu);
    *cp = value;
    return need;
}

size_t vlm_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t vlm_utf8_first_bad(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len) {
        if ((unsigned char)text[i] < 0x80) {
            i++;
            continue;
        }
        uint32_t cp;
        bool bad;
        const size_t n = vlm_utf8_decode(text + i, len - i, &cp, &bad);
        if (bad) return i;
        i += n;
    }
    return len;
}

bool vlm_utf8_valid(const char *text, size_t len)
{
    return vlm_utf8_first_bad(text, len) == len;
}

size_t vlm_utf8_incomplete_tail(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back <= len; back++) {
        if ((s[len - back] & 0xC0) == 0x80) continue;
        size_t need;
        const size_t have = prefix(s + len - back, back, &need);
        return need > back && have == back ? back : 0;
    }
    return 0;
}
