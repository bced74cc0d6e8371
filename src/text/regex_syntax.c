#include <stdbool.h>
#include <string.h>

#include "text/regex.h"

/* Oniguruma's \w, which PCRE2's differs from by 12,901 characters.  Outside a class it also takes
 * six numbers of Latin-1. */
#define WORD                                                                                       \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"                    \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define WORD_ALONE WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"

/* One escape: what replaces it, or what it is that cannot be said in PCRE2. */
static vlm_status put_escape(char c, bool in_class, const char **what, vlm_buf *out, vlm_error *err)
{
    switch (c) {
    case 'h':
    case 'H': *what = "\\h"; return VLM_OK;
    case 'b':
    case 'B':
        if (!in_class) *what = "\\b";
        break;
    case 'w': return vlm_buf_append_str(out, in_class ? WORD : "[" WORD_ALONE "]", err);
    case 'W':
        if (in_class) *what = "\\W in a class";
        return vlm_buf_append_str(out, "[^" WORD_ALONE "]", err);
    default: break;
    }
    VLM_TRY(vlm_buf_append_char(out, '\\', err));
    return vlm_buf_append_char(out, c, err);
}

/* (?m) and such, where the letter stands for something else in PCRE2. */
static bool sets_m(vlm_bytes p, size_t i)
{
    for (size_t k = i + 2; k < p.len && p.ptr[k] != '\0' && strchr("imx-", p.ptr[k]) != NULL; k++)
        if (p.ptr[k] == 'm') return true;
    return false;
}

/* Inside a class Oniguruma's Ruby syntax knows && and nested classes; elsewhere \h is a hexadecimal
 * digit and (?m) lets '.' match a line end.  PCRE2 means other things by all of them. */
vlm_status vlm_regex_translate(vlm_bytes p, vlm_buf *out, vlm_error *err)
{
    bool in_class = false;
    for (size_t i = 0; i < p.len; i++) {
        const char c = p.ptr[i];
        const char next = i + 1 < p.len ? p.ptr[i + 1] : '\0';
        const char *what = NULL;
        if (c == '\\' && i + 1 < p.len) {
            VLM_TRY(put_escape(next, in_class, &what, out, err));
            i++;
        } else if (in_class && c == '[' && next == ':') {
            const size_t begin = i;
            while (i + 1 < p.len && p.ptr[i] != ']') i++;
            VLM_TRY(vlm_buf_append(out, p.ptr + begin, i + 1 - begin, err));
        } else {
            VLM_TRY(vlm_buf_append_char(out, c, err));
            if (in_class && c == '&' && next == '&') what = "&& in a class";
            if (in_class && c == '[') what = "a class in a class";
            if (!in_class && c == '(' && next == '?' && sets_m(p, i)) what = "(?m)";
            if (in_class && c == ']') {
                in_class = false;
            } else if (!in_class && c == '[') {
                in_class = true;
                if (next == '^') VLM_TRY(vlm_buf_append_char(out, p.ptr[++i], err));
                if (i + 1 < p.len && p.ptr[i + 1] == ']') what = "a class that starts with ]";
            }
        }
        if (what != NULL)
            return vlm_fail_at(err, VLM_UNIMPLEMENTED, i, "regular expression: %s is not supported",
                               what);
    }
    return VLM_OK;
}
