/* Matchers written by hand for patterns that are in wide use: several times as fast as PCRE2, and
 * with the library's Unicode.  Each takes the alternatives in the pattern's order. */
#include "base/utf8.h"
#include "text/pretok.h"
#include "text/unicode.h"

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define LLAMA3_WITH(numbers)                                                                       \
    "(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                                 \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

vlm_match_kind vlm_pretok_fast_kind(vlm_bytes pattern)
{
    static const struct {
        const char *pattern;
        vlm_match_kind kind;
    } known[] = {
        {CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
         VLM_MATCH_GPT2},
        {LLAMA3_WITH("\\p{N}{1,3}"), VLM_MATCH_LLAMA3},
        {LLAMA3_WITH("\\p{N}"), VLM_MATCH_QWEN2},
        {"\\s+$", VLM_MATCH_TRAILING_SPACE},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (vlm_bytes_eq_str(pattern, known[i].pattern)) return known[i].kind;
    return VLM_MATCH_REGEX;
}

typedef enum char_class {
    CLASS_LETTER,
    CLASS_NUMBER,
    CLASS_SPACE,
    CLASS_OTHER,
    CLASS_END
} char_class;

typedef struct one_char {
    uint32_t cp;
    size_t len; /* 0 at the end */
    char_class class;
} one_char;

static char_class class_of(uint32_t cp)
{
    if (vlm_unicode_is_letter(cp)) return CLASS_LETTER;
    if (vlm_unicode_is_number(cp)) return CLASS_NUMBER;
    return vlm_unicode_is_space(cp) ? CLASS_SPACE : CLASS_OTHER;
}

static one_char char_at(vlm_bytes text, size_t pos)
{
    if (pos >= text.len) return (one_char){.class = CLASS_END};
    one_char c;
    bool is_bad = false;
    c.len = vlm_utf8_decode(text.ptr + pos, text.len - pos, &c.cp, &is_bad);
    c.class = class_of(c.cp);
    return c;
}

/* End of the run of one class that begins at pos, of at most n_max characters. */
static size_t run_end(vlm_bytes text, size_t pos, char_class class, size_t n_max)
{
    for (size_t n = 0; n < n_max; n++) {
        const one_char c = char_at(text, pos);
        if (c.class != class) break;
        pos += c.len;
    }
    return pos;
}

/* Behind 's 't 're 've 'm 'll 'd at pos, or pos.  Without case U+017F is an s, as in Unicode. */
static size_t contraction_end(vlm_bytes text, size_t pos, bool any_case)
{
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (text.len - pos < 2 || text.ptr[pos] != '\'') return pos;
    const char *rest = text.ptr + pos + 1;
    const size_t left = text.len - pos - 1;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        const vlm_bytes want = vlm_bytes_of(endings[i]);
        if (left < want.len) continue;
        size_t k = 0;
        while (k < want.len) {
            const char c = rest[k];
            const bool upper = any_case && c >= 'A' && c <= 'Z';
            if ((upper ? (char)(c | 0x20) : c) != want.ptr[k]) break;
            k++;
        }
        if (k == want.len) return pos + 1 + k;
    }
    if (any_case && left >= 2 && rest[0] == '\xC5' && rest[1] == '\xBF') return pos + 3;
    return pos;
}

/* \s+(?!\S)|\s+ : a run of white space leaves its last character to what follows it. */
static size_t space_end(vlm_bytes text, size_t pos)
{
    size_t end = pos, last = pos;
    for (;;) {
        const one_char c = char_at(text, end);
        if (c.class == CLASS_END) return end;
        if (c.class != CLASS_SPACE) return last > pos ? last : end;
        last = end;
        end += c.len;
    }
}

static size_t gpt2_end(vlm_bytes text, size_t pos)
{
    const size_t contraction = contraction_end(text, pos, false);
    if (contraction > pos) return contraction;
    one_char c = char_at(text, pos);
    if (c.cp == ' ') {
        const one_char next = char_at(text, pos + 1);
        if (next.class == CLASS_SPACE || next.class == CLASS_END) return space_end(text, pos);
        pos++;
        c = next;
    }
    if (c.class == CLASS_SPACE) return space_end(text, pos);
    return run_end(text, pos, c.class, SIZE_MAX);
}

/* \s*[\r\n]+ : behind the last line end of the white space at pos, or pos when it has none. */
static size_t line_ends_end(vlm_bytes text, size_t pos)
{
    size_t end = pos;
    for (;;) {
        const one_char c = char_at(text, pos);
        if (c.class != CLASS_SPACE) return end;
        pos += c.len;
        if (c.cp == '\r' || c.cp == '\n') end = pos;
    }
}

static size_t llama3_end(vlm_bytes text, size_t pos, size_t n_digits)
{
    const size_t contraction = contraction_end(text, pos, true);
    if (contraction > pos) return contraction;
    const one_char c = char_at(text, pos);
    if (c.class == CLASS_LETTER) return run_end(text, pos, CLASS_LETTER, SIZE_MAX);
    if (c.class == CLASS_NUMBER) return run_end(text, pos, CLASS_NUMBER, n_digits);
    const one_char next = char_at(text, pos + c.len);
    if (next.class == CLASS_LETTER && c.cp != '\r' && c.cp != '\n')
        return run_end(text, pos + c.len, CLASS_LETTER, SIZE_MAX);
    if (c.class == CLASS_OTHER || (c.cp == ' ' && next.class == CLASS_OTHER)) {
        size_t end = run_end(text, pos + c.len, CLASS_OTHER, SIZE_MAX);
        while (end < text.len && (text.ptr[end] == '\r' || text.ptr[end] == '\n')) end++;
        return end;
    }
    const size_t end = line_ends_end(text, pos);
    return end > pos ? end : space_end(text, pos);
}

size_t vlm_pretok_fast_end(vlm_match_kind kind, vlm_bytes text, size_t pos)
{
    switch (kind) {
    case VLM_MATCH_GPT2: return gpt2_end(text, pos);
    case VLM_MATCH_LLAMA3: return llama3_end(text, pos, 3);
    default: return llama3_end(text, pos, 1);
    }
}
