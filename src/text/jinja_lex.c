#include "text/jinja_lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

typedef struct lexer {
    const char *src; /* line ends are \n, one final one is gone */
    size_t len, pos;
    uint32_t line;
    vlm_arena *arena;
    jtokens *out;
    vlm_error *err;
} lexer;

static vlm_status bad(const lexer *lx, const char *what)
{
    return vlm_fail_at(lx->err, VLM_INVALID_ARGUMENT, lx->pos, "line %u: %s", lx->line, what);
}

static vlm_status push(lexer *lx, jtok tok)
{
    tok.line = lx->line;
    if (!vlm_grow((void **)&lx->out->data, &lx->out->cap, lx->out->len + 1, SIZE_MAX,
                  sizeof *lx->out->data))
        return vlm_fail_memory(lx->err, "template");
    lx->out->data[lx->out->len++] = tok;
    return VLM_OK;
}

static vlm_status push_type(lexer *lx, jtok_type type)
{
    return push(lx, (jtok){.type = type});
}

/* UTF-8 to code points in the arena. */
static vlm_status to_text(lexer *lx, const char *text, size_t len, jstr *out)
{
    jchar *cp = vlm_arena_array(lx->arena, len + 1, sizeof *cp);
    if (cp == NULL) return vlm_fail_memory(lx->err, "template");
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        bool is_bad;
        i += vlm_utf8_decode(text + i, len - i, &c, &is_bad);
        cp[n++] = c;
    }
    *out = (jstr){.cp = cp, .len = n};
    return VLM_OK;
}

static vlm_status push_text(lexer *lx, size_t begin, size_t end)
{
    if (begin >= end) return VLM_OK;
    jtok tok = {.type = JT_TEXT};
    VLM_TRY(to_text(lx, lx->src + begin, end - begin, &tok.text));
    return push(lx, tok);
}

static void count_lines(lexer *lx, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) lx->line += lx->src[i] == '\n';
}

/* Length of the whitespace character at s[at..len), 0 if it is none; with at's character decoded.
 */
static size_t space_len(const char *s, size_t at, size_t len)
{
    if (at >= len) return 0;
    uint32_t cp;
    bool is_bad;
    const size_t n = vlm_utf8_decode(s + at, len - at, &cp, &is_bad);
    return !is_bad && jinja_is_space(cp) ? n : 0;
}

static size_t skip_spaces(const lexer *lx, size_t at)
{
    for (size_t n; (n = space_len(lx->src, at, lx->len)) > 0;) at += n;
    return at;
}

/* The end of src[begin..end) without its trailing whitespace, not going back over a stop byte. */
static size_t strip_end(const lexer *lx, size_t begin, size_t end, bool keep_line)
{
    while (end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)lx->src[at] & 0xC0) == 0x80) at--;
        if (space_len(lx->src, at, end) != end - at) break;
        if (keep_line && lx->src[at] == '\n') break;
        end = at;
    }
    return end;
}

/* lstrip_blocks: a line's beginning that is whitespace alone goes.  line_start: text begins at the
 * start of a line. */
static size_t lstrip(const lexer *lx, size_t begin, size_t end, bool line_start)
{
    const size_t cut = strip_end(lx, begin, end, true);
    if (cut == begin) return line_start ? cut : end;
    return lx->src[cut - 1] == '\n' ? cut : end;
}

static bool starts(const lexer *lx, size_t at, const char *text)
{
    const size_t n = strlen(text);
    return lx->len - at >= n && memcmp(lx->src + at, text, n) == 0;
}

/* Behind the end of a block or comment: - takes whitespace, trim_blocks one line end unless +. */
static void after_tag(lexer *lx, char sign, bool trims)
{
    size_t at = lx->pos;
    if (sign == '-')
        at = skip_spaces(lx, at);
    else if (trims && sign != '+' && at < lx->len && lx->src[at] == '\n')
        at++;
    count_lines(lx, lx->pos, at);
    lx->pos = at;
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static vlm_status lex_name(lexer *lx)
{
    const size_t begin = lx->pos;
    while (lx->pos < lx->len && (is_name_start(lx->src[lx->pos]) || is_digit(lx->src[lx->pos])))
        lx->pos++;
    jtok tok = {.type = JT_NAME};
    tok.name = vlm_arena_strndup(lx->arena, lx->src + begin, lx->pos - begin);
    if (tok.name == NULL) return vlm_fail_memory(lx->err, "template");
    return push(lx, tok);
}

/* 12, 1_000, 0x1f, 0o7, 0b1, 1.5, 1e3, 1.5e-7. */
static vlm_status lex_number(lexer *lx)
{
    char text[64];
    size_t n = 0, at = lx->pos;
    bool is_float = false;
    int base = 10;
    if (lx->src[at] == '0' && at + 1 < lx->len && strchr("xXoObB", lx->src[at + 1]) != NULL &&
        lx->src[at + 1] != '\0') {
        const char kind = (char)(lx->src[at + 1] | 0x20);
        base = kind == 'x' ? 16 : kind == 'o' ? 8 : 2;
        at += 2;
    }
    for (; at < lx->len && n + 1 < sizeof text; at++) {
        const char c = lx->src[at];
        const char next = at + 1 < lx->len ? lx->src[at + 1] : '\0';
        if (c == '_' && (is_digit(next) || base == 16)) continue;
        if (base == 10 && !is_float && c == '.' && is_digit(next))
            is_float = true;
        else if (base == 10 && (c == 'e' || c == 'E') && memchr(text, 'e', n) == NULL &&
                 (is_digit(next) ||
                  ((next == '-' || next == '+') && at + 2 < lx->len && is_digit(lx->src[at + 2]))))
            is_float = true;
        else if ((c == '-' || c == '+') && n > 0 && text[n - 1] == 'e' && base == 10)
            ;
        else if (!(is_digit(c) || (base == 16 && ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))))
            break;
        text[n++] = base == 10 && c == 'E' ? 'e' : c;
    }
    if (n == 0 || n + 1 >= sizeof text) return bad(lx, "a number that cannot be read");
    text[n] = '\0';
    lx->pos = at;
    jtok tok = {.type = is_float ? JT_FLOAT : JT_INT};
    char *end;
    errno = 0;
    if (is_float)
        tok.f = strtod(text, &end);
    else
        tok.i = strtoll(text, &end, base);
    if (*end != '\0' || (!is_float && errno != 0)) return bad(lx, "a number out of range");
    return push(lx, tok);
}

static int hex_value(const char *s, size_t n)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        const char c = (char)(s[i] | 0x20);
        if (is_digit(s[i]))
            value = value * 16 + (s[i] - '0');
        else if (c >= 'a' && c <= 'f')
            value = value * 16 + (c - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* One escape at text[i] (behind the backslash); returns the characters it takes, 0 for an unknown
 * one, which stays as it is. */
static size_t unescape(const char *text, size_t len, uint32_t *cp)
{
    static const char plain[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    const char *found = len > 0 && text[0] != '\0' ? strchr(plain, text[0]) : NULL;
    if (found != NULL) {
        *cp = (unsigned char)values[found - plain];
        return 1;
    }
    const size_t n = len == 0         ? 0
                     : text[0] == 'x' ? 2
                     : text[0] == 'u' ? 4
                     : text[0] == 'U' ? 8
                                      : 0;
    if (n > 0 && len > n) {
        const int value = hex_value(text + 1, n);
        if (value >= 0 && value <= 0x10FFFF && !(value >= 0xD800 && value < 0xE000)) {
            *cp = (uint32_t)value;
            return n + 1;
        }
    }
    if (len > 0 && text[0] >= '0' && text[0] <= '7') {
        size_t k = 0;
        *cp = 0;
        while (k < 3 && k < len && text[k] >= '0' && text[k] <= '7')
            *cp = *cp * 8 + (uint32_t)(text[k++] - '0');
        return k;
    }
    return 0;
}

static vlm_status lex_string(lexer *lx)
{
    const char quote = lx->src[lx->pos];
    size_t end = lx->pos + 1;
    while (end < lx->len && lx->src[end] != quote) end += lx->src[end] == '\\' ? 2 : 1;
    if (end >= lx->len) return bad(lx, "a string that does not end");
    const char *text = lx->src + lx->pos + 1;
    const size_t len = end - lx->pos - 1;
    jchar *cp = vlm_arena_array(lx->arena, len + 1, sizeof *cp);
    if (cp == NULL) return vlm_fail_memory(lx->err, "template");
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        uint32_t c;
        bool is_bad;
        if (text[i] == '\\') {
            const size_t used = unescape(text + i + 1, len - i - 1, &c);
            if (used > 0) {
                cp[n++] = c;
                i += used + 1;
                continue;
            }
            if (i + 1 < len && text[i + 1] == '\n') {
                i += 2;
                continue;
            }
        }
        i += vlm_utf8_decode(text + i, len - i, &c, &is_bad);
        cp[n++] = c;
    }
    const jtok tok = {.type = JT_STRING, .text = {.cp = cp, .len = n}};
    VLM_TRY(push(lx, tok));
    count_lines(lx, lx->pos, end);
    lx->pos = end + 1;
    return VLM_OK;
}

static vlm_status lex_op(lexer *lx)
{
    static const char *const twos[] = {"==", "!=", "<=", ">=", "//", "**"};
    jtok tok = {.type = JT_OP};
    for (size_t i = 0; i < sizeof twos / sizeof twos[0]; i++)
        if (starts(lx, lx->pos, twos[i])) memcpy(tok.op, twos[i], 3);
    if (tok.op[0] == '\0') {
        const char c = lx->src[lx->pos];
        if (c == '\0' || strchr("+-*/%~<>=.:|,;()[]{}", c) == NULL)
            return bad(lx, "an unexpected character");
        tok.op[0] = c;
    }
    lx->pos += strlen(tok.op);
    return push(lx, tok);
}

/* From behind {{ or {% (and its sign) to behind the closing one. */
static vlm_status lex_inside(lexer *lx, bool block)
{
    const char *close = block ? "%}" : "}}";
    size_t depth = 0;
    for (;;) {
        const size_t at = skip_spaces(lx, lx->pos);
        count_lines(lx, lx->pos, at);
        lx->pos = at;
        if (at >= lx->len) return bad(lx, "a tag that does not end");
        const char c = lx->src[at];
        const bool sign = (c == '-' || (c == '+' && block)) && starts(lx, at + 1, close);
        if (depth == 0 && (sign || starts(lx, at, close))) {
            lx->pos = at + 2 + (sign ? 1 : 0);
            VLM_TRY(push_type(lx, block ? JT_BLOCK_END : JT_PRINT_END));
            after_tag(lx, sign ? c : '\0', block);
            return VLM_OK;
        }
        if (c == '(' || c == '[' || c == '{') depth++;
        if ((c == ')' || c == ']' || c == '}') && depth > 0) depth--;
        if (is_name_start(c))
            VLM_TRY(lex_name(lx));
        else if (is_digit(c))
            VLM_TRY(lex_number(lx));
        else if (c == '\'' || c == '"')
            VLM_TRY(lex_string(lx));
        else
            VLM_TRY(lex_op(lx));
    }
}

static vlm_status lex_comment(lexer *lx)
{
    const size_t begin = lx->pos;
    while (lx->pos < lx->len && !starts(lx, lx->pos, "#}")) lx->pos++;
    if (lx->pos >= lx->len) return bad(lx, "a comment that does not end");
    const char sign = lx->pos > begin ? lx->src[lx->pos - 1] : '\0';
    lx->pos += 2;
    count_lines(lx, begin, lx->pos);
    after_tag(lx, sign == '-' || sign == '+' ? sign : '\0', true);
    return VLM_OK;
}

/* At "{%" [sign] spaces "raw" spaces [sign] "%}": position behind it and the closing sign; 0 if it
 * is no such tag. */
static size_t match_tag(const lexer *lx, size_t at, const char *word, char *open_sign,
                        char *close_sign)
{
    if (!starts(lx, at, "{%")) return 0;
    at += 2;
    *open_sign = at < lx->len && (lx->src[at] == '-' || lx->src[at] == '+') ? lx->src[at] : '\0';
    at = skip_spaces(lx, at + (*open_sign != '\0' ? 1 : 0));
    if (!starts(lx, at, word)) return 0;
    at = skip_spaces(lx, at + strlen(word));
    *close_sign = at < lx->len && (lx->src[at] == '-' || lx->src[at] == '+') ? lx->src[at] : '\0';
    at += *close_sign != '\0' ? 1 : 0;
    return starts(lx, at, "%}") ? at + 2 : 0;
}

/* Between raw and endraw everything is text.  No line end is trimmed behind raw. */
static vlm_status lex_raw(lexer *lx, size_t behind_raw, char raw_sign)
{
    char open, close;
    size_t begin = raw_sign == '-' ? skip_spaces(lx, behind_raw) : behind_raw;
    for (size_t at = begin; at < lx->len; at++) {
        const size_t end = match_tag(lx, at, "endraw", &open, &close);
        if (end == 0) continue;
        size_t stop = at;
        if (open == '-')
            stop = strip_end(lx, begin, at, false);
        else if (open != '+')
            stop = lstrip(lx, begin, at, begin == 0 || lx->src[begin - 1] == '\n');
        VLM_TRY(push_text(lx, begin, stop));
        count_lines(lx, lx->pos, end);
        lx->pos = end;
        after_tag(lx, close, true);
        return VLM_OK;
    }
    return bad(lx, "raw without endraw");
}

/* The position of the next {{, {% or {#. */
static size_t next_tag(const lexer *lx)
{
    for (size_t at = lx->pos; at + 1 < lx->len; at++)
        if (lx->src[at] == '{' &&
            (lx->src[at + 1] == '{' || lx->src[at + 1] == '%' || lx->src[at + 1] == '#'))
            return at;
    return lx->len;
}

static vlm_status lex_all(lexer *lx)
{
    while (lx->pos < lx->len) {
        const size_t begin = lx->pos, at = next_tag(lx);
        const bool line_start = begin == 0 || lx->src[begin - 1] == '\n';
        if (at == lx->len) {
            VLM_TRY(push_text(lx, begin, lx->len));
            lx->pos = lx->len;
            break;
        }
        const char kind = lx->src[at + 1];
        const char sign = at + 2 < lx->len ? lx->src[at + 2] : '\0';
        size_t end = at;
        if (sign == '-')
            end = strip_end(lx, begin, at, false);
        else if (kind != '{' && sign != '+')
            end = lstrip(lx, begin, at, line_start);
        VLM_TRY(push_text(lx, begin, end));
        count_lines(lx, begin, at);
        lx->pos = at;
        char open, close;
        const size_t behind_raw = kind == '%' ? match_tag(lx, at, "raw", &open, &close) : 0;
        if (behind_raw > 0) {
            VLM_TRY(lex_raw(lx, behind_raw, close));
            continue;
        }
        lx->pos = at + 2;
        if (sign == '-' || (sign == '+' && kind != '{')) {
            /* {#-#} : the sign of an empty comment closes it too */
            if (!(kind == '#' && starts(lx, at + 3, "#}"))) lx->pos++;
        }
        if (kind == '#') {
            VLM_TRY(lex_comment(lx));
            continue;
        }
        VLM_TRY(push_type(lx, kind == '%' ? JT_BLOCK_BEGIN : JT_PRINT_BEGIN));
        VLM_TRY(lex_inside(lx, kind == '%'));
    }
    return push_type(lx, JT_EOF);
}

vlm_status vlm_jinja_lex(vlm_bytes source, vlm_arena *arena, jtokens *out, vlm_error *err)
{
    char *src = vlm_arena_alloc(arena, source.len + 1);
    if (src == NULL) return vlm_fail_memory(err, "template");
    const size_t bad_at = vlm_utf8_first_bad(source.ptr, source.len);
    if (bad_at < source.len)
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, bad_at, "not UTF-8 at byte %zu", bad_at);
    size_t len = 0;
    for (size_t i = 0; i < source.len; i++) {
        if (source.ptr[i] == '\r') {
            src[len++] = '\n';
            if (i + 1 < source.len && source.ptr[i + 1] == '\n') i++;
        } else {
            src[len++] = source.ptr[i];
        }
    }
    if (len > 0 && src[len - 1] == '\n') len--;
    lexer lx = {.src = src, .len = len, .line = 1, .arena = arena, .out = out, .err = err};
    return lex_all(&lx);
}
