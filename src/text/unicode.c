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
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)cp);
    if (category == UTF8PROC_CATEGORY_CN)
        category = utf8proc_category((utf8proc_int32_t)vlm_unicode_older(cp));
    return (bits >> category & 1) != 0;
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

bool vlm_unicode_is_numeric(uint32_t cp)
{
    return vlm_unicode_is_number(cp) || (cp >= 0x11DE0 && cp <= 0x11DE9) ||
           (cp >= 0x16FF4 && cp <= 0x16FF6);
}

bool vlm_unicode_is_mark(uint32_t cp)
{
    return cp >= 0x300 && has_category(cp, MARKS);
}

/* Punctuation that is newer than Unicode 8. */
static const uint32_t newer_punctuation[][2] = {
    {0x061D, 0x061D},   {0x09FD, 0x09FD},   {0x0A76, 0x0A76},   {0x0C77, 0x0C77},
    {0x0C84, 0x0C84},   {0x1B7D, 0x1B7E},   {0x2E43, 0x2E4F},   {0x2E52, 0x2E5D},
    {0x10EAD, 0x10EAD}, {0x10F55, 0x10F59}, {0x10F86, 0x10F89}, {0x1144B, 0x1144F},
    {0x1145A, 0x1145B}, {0x1145D, 0x1145D}, {0x11660, 0x1166C}, {0x116B9, 0x116B9},
    {0x1183B, 0x1183B}, {0x11944, 0x11946}, {0x119E2, 0x119E2}, {0x11A3F, 0x11A46},
    {0x11A9A, 0x11A9C}, {0x11A9E, 0x11AA2}, {0x11B00, 0x11B09}, {0x11C41, 0x11C45},
    {0x11C70, 0x11C71}, {0x11EF7, 0x11EF8}, {0x11F43, 0x11F4F}, {0x11FFF, 0x11FFF},
    {0x12FF1, 0x12FF2}, {0x16E97, 0x16E9A}, {0x16FE2, 0x16FE2}, {0x1E95E, 0x1E95F},
};

bool vlm_unicode_is_punctuation(uint32_t cp)
{
    if (cp < 0x80)
        return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
               (cp >= '{' && cp <= '~');
    /* Two that were punctuation then and are not now. */
    if (cp == 0x166D || cp == 0x111C9) return true;
    if (!has_category(cp, PUNCTUATION) || vlm_unicode_older(cp) != cp) return false;
    for (size_t i = 0; i < sizeof newer_punctuation / sizeof *newer_punctuation; i++)
        if (cp >= newer_punctuation[i][0] && cp <= newer_punctuation[i][1]) return false;
    return true;
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
