#include "text/unicode.h"

#include <utf8proc.h>

#include "base/utf8.h"

/* Bits of categories, by utf8proc's numbers. */
#define BIT(category) (1u << UTF8PROC_CATEGORY_##category)
enum {
    LETTERS = BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO),
    NUMBERS = BIT(ND) | BIT(NL) | BIT(NO),
    MARKS = BIT(MN) | BIT(MC) | BIT(ME),
    PUNCTUATION = BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO),
};

static bool has_category(uint32_t cp, uint32_t bits)
{
    return (bits >> utf8proc_category((utf8proc_int32_t)cp) & 1) != 0;
}

bool vlm_unicode_is_letter(uint32_t cp)
{
    if (cp < 0x80) return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z';
    return has_category(cp, LETTERS);
}

bool vlm_unicode_is_number(uint32_t cp)
{
    if (cp < 0x80) return cp >= '0' && cp <= '9';
    return has_category(cp, NUMBERS);
}

bool vlm_unicode_is_mark(uint32_t cp)
{
    return cp >= 0x300 && has_category(cp, MARKS);
}

bool vlm_unicode_is_punctuation(uint32_t cp)
{
    if (cp < 0x80)
        return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
               (cp >= '{' && cp <= '~');
    return has_category(cp, PUNCTUATION);
}

bool vlm_unicode_is_space(uint32_t cp)
{
    if (cp < 0x80) return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool vlm_unicode_is_word(uint32_t cp)
{
    if (cp < 0x80) return vlm_unicode_is_letter(cp) || vlm_unicode_is_number(cp) || cp == '_';
    if (cp == 0x200C || cp == 0x200D) return true;
    /* Alphabetic beyond letters, marks and letter numbers: the circled and squared Latin letters.
     */
    if ((cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
        (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189))
        return true;
    return has_category(cp, LETTERS | MARKS | BIT(ND) | BIT(NL) | BIT(PC));
}

size_t vlm_unicode_leading_space(vlm_bytes text)
{
    size_t pos = 0;
    while (pos < text.len) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + pos, text.len - pos, &cp, &is_bad);
        if (!vlm_unicode_is_space(cp)) break;
        pos += len;
    }
    return pos;
}

size_t vlm_unicode_trailing_space(vlm_bytes text)
{
    size_t end = text.len;
    while (end > 0) {
        size_t begin = end - 1;
        while (begin > 0 && ((unsigned char)text.ptr[begin] & 0xC0) == 0x80) begin--;
        uint32_t cp;
        bool is_bad = false;
        (void)vlm_utf8_decode(text.ptr + begin, end - begin, &cp, &is_bad);
        if (!vlm_unicode_is_space(cp)) break;
        end = begin;
    }
    return text.len - end;
}
