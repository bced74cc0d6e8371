#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/normalizer.h"

/* One code point decomposes into at most 18 (U+FDFA). */
enum { DECOMPOSED_MAX = 32, SHORT_RUN = 16 };

/* Characters with a class or decomposition that are newer than Unicode 9, the version the library
 * normalises by: to it they are starters that join nothing. */
static const uint32_t newer[][2] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C},
    {0x1FBF0, 0x1FBF9},
};

static bool is_newer(uint32_t cp)
{
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        const size_t mid = (low + high) / 2;
        if (cp > newer[mid][1])
            low = mid + 1;
        else if (cp < newer[mid][0])
            high = mid;
        else
            return true;
    }
    return false;
}

static int combining_class(int32_t cp)
{
    return utf8proc_get_property(cp)->combining_class;
}

/* Stable sort of a run of marks by class: canonical ordering.  Linear, so that a megabyte of marks
 * in the worst order costs no more than others (utf8proc's own sort is quadratic). */
static vlm_status order_run(vlm_norm_scratch *s, int32_t *run, size_t n, vlm_error *err)
{
    if (n <= SHORT_RUN) {
        for (size_t i = 1; i < n; i++) {
            const int32_t cp = run[i];
            size_t k = i;
            for (; k > 0 && combining_class(run[k - 1]) > combining_class(cp); k--)
                run[k] = run[k - 1];
            run[k] = cp;
        }
        return VLM_OK;
    }
    if (!vlm_grow((void **)&s->sorted, &s->cap_sorted, n, SIZE_MAX, sizeof *s->sorted))
        return vlm_fail_memory(err, "normalisation");
    size_t begin[257] = {0};
    for (size_t i = 0; i < n; i++) begin[combining_class(run[i]) + 1]++;
    for (size_t i = 1; i < 257; i++) begin[i] += begin[i - 1];
    for (size_t i = 0; i < n; i++) s->sorted[begin[combining_class(run[i])]++] = run[i];
    memcpy(run, s->sorted, n * sizeof *run);
    return VLM_OK;
}

/* Decompose text (a segment) into s->chars, in canonical order. */
static vlm_status decompose(vlm_norm_scratch *s, vlm_bytes text, utf8proc_option_t options,
                            size_t *n_out, vlm_error *err)
{
    size_t n = 0, run = 0;
    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        bool is_bad = false;
        i += vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        if (!vlm_grow((void **)&s->chars, &s->cap_chars, n + DECOMPOSED_MAX, SIZE_MAX,
                      sizeof *s->chars))
            return vlm_fail_memory(err, "normalisation");
        int bound = 0;
        const utf8proc_ssize_t added = utf8proc_decompose_char((utf8proc_int32_t)cp, s->chars + n,
                                                               DECOMPOSED_MAX, options, &bound);
        if (added < 0 || added > DECOMPOSED_MAX)
            return vlm_fail(err, VLM_INTERNAL, "normalisation of U+%04X failed", cp);
        for (const size_t end = n + (size_t)added; n < end; n++) {
            if (combining_class(s->chars[n]) != 0) continue;
            VLM_TRY(order_run(s, s->chars + run, n - run, err));
            run = n + 1;
        }
    }
    VLM_TRY(order_run(s, s->chars + run, n - run, err));
    *n_out = n;
    return VLM_OK;
}

static vlm_status put_known(vlm_norm_scratch *s, unsigned side, vlm_norm_kind kind, vlm_bytes text,
                            const uint8_t *user, uint8_t mark, vlm_error *err)
{
    const bool compat = kind == VLM_NORM_NFKC || kind == VLM_NORM_NFKD;
    const bool compose = kind == VLM_NORM_NFC || kind == VLM_NORM_NFKC;
    const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    size_t n = 0;
    VLM_TRY(decompose(s, text, (utf8proc_option_t)options, &n, err));
    if (compose && n > 0) {
        const utf8proc_ssize_t left = utf8proc_normalize_utf32(
            s->chars, (utf8proc_ssize_t)n, (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        if (left < 0) return vlm_fail(err, VLM_INTERNAL, "normalisation failed");
        n = (size_t)left;
    }
    for (size_t i = 0; i < n; i++) {
        char utf8[4];
        const size_t len = vlm_utf8_encode((uint32_t)s->chars[i], utf8);
        VLM_TRY(vlm_norm_put(s, side, utf8, len, user, mark, err));
    }
    return VLM_OK;
}

/* What lies between newer characters is normalised, they stay as they are. */
static vlm_status put_segment(vlm_norm_scratch *s, unsigned side, vlm_norm_kind kind,
                              vlm_bytes text, const uint8_t *user, uint8_t mark, vlm_error *err)
{
    size_t begin = 0;
    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        if (is_newer(cp)) {
            const vlm_bytes known = {text.ptr + begin, i - begin};
            VLM_TRY(put_known(s, side, kind, known, user, mark, err));
            VLM_TRY(vlm_norm_put(s, side, text.ptr + i, len, user, mark, err));
            begin = i + len;
        }
        i += len;
    }
    const vlm_bytes known = {text.ptr + begin, text.len - begin};
    return put_known(s, side, kind, known, user, mark, err);
}

/* The text is taken in segments: runs of ASCII, which stay as they are, and runs of other
 * characters together with the one ASCII character in front, which marks may join. */
vlm_status vlm_norm_unicode(vlm_norm_scratch *s, unsigned side, vlm_norm_kind kind, vlm_bytes text,
                            const uint8_t *user, vlm_error *err)
{
    size_t i = 0;
    while (i < text.len) {
        size_t ascii_end = i;
        while (ascii_end < text.len && (unsigned char)text.ptr[ascii_end] < 0x80) ascii_end++;
        const size_t plain_end = ascii_end < text.len && ascii_end > i ? ascii_end - 1 : ascii_end;
        while (i < plain_end) {
            size_t end = i + 1;
            while (end < plain_end && (user == NULL || user[end] == user[i])) end++;
            VLM_TRY(vlm_norm_put(s, side, text.ptr + i, end - i, user, user == NULL ? 0 : user[i],
                                 err));
            i = end;
        }
        size_t end = ascii_end;
        while (end < text.len && (unsigned char)text.ptr[end] >= 0x80) end++;
        uint8_t mark = 0;
        for (size_t k = i; user != NULL && k < end; k++) mark |= user[k];
        VLM_TRY(put_segment(s, side, kind, (vlm_bytes){text.ptr + i, end - i}, user, mark, err));
        i = end;
    }
    return VLM_OK;
}
