#include "text/regex.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "text/unicode.h"

/* Steps of one search: enough for a run as long as the text, far from minutes. */
enum {
    MATCH_LIMIT_MIN = 10000000,
    HEAP_LIMIT_KIB = 64 * 1024,
    STACK_START = 32 * 1024,
    STACK_MAX = 8 * 1024 * 1024,
    PATTERN_LEN_MAX = 1 << 16,
    WINDOW_LEN = 256, /* bytes in which one call looks for the beginning of a match */
};

/* PCRE2's limits do not count the steps of a single repeated character, so a pattern such as \s+x
 * over a megabyte of spaces would run for an hour within them.  A search that goes on for many
 * windows without a match therefore also has a time. */
static const double time_limit_s = 10, time_limit_s_per_byte = 5e-6;

struct vlm_regex {
    pcre2_code *code;
};

struct vlm_regex_scratch {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* made when the 32 KiB that JIT code takes by itself are too few */
    vlm_buf copy;           /* of a view */
    uint64_t start_ns;
};

static vlm_status compile(vlm_bytes pattern, pcre2_compile_context *context, pcre2_code **out,
                          vlm_error *err)
{
    int code;
    PCRE2_SIZE at;
    /* ^ and $ of Oniguruma's Ruby syntax are always those of a line. */
    *out = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                             PCRE2_USE_OFFSET_LIMIT,
                         &code, &at, context);
    if (*out == NULL) {
        if (code == PCRE2_ERROR_HEAP_FAILED) return vlm_fail_memory(err, "regular expression");
        char text[128];
        if (pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text) < 0) text[0] = '\0';
        return vlm_fail_at(err, VLM_INVALID_ARGUMENT, at, "regular expression: %s at byte %zu",
                           text, (size_t)at);
    }
    /* Without JIT (no executable memory) the interpreter does the same, slower. */
    (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    return VLM_OK;
}

static vlm_status build(vlm_bytes pattern, vlm_regex **out, vlm_error *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    vlm_regex *regex = calloc(1, sizeof *regex);
    if (context == NULL || regex == NULL) {
        pcre2_compile_context_free(context);
        free(regex);
        return vlm_fail_memory(err, "regular expression");
    }
    (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    (void)pcre2_set_parens_nest_limit(context, 50);
    const vlm_status status = compile(pattern, context, &regex->code, err);
    pcre2_compile_context_free(context);
    if (status != VLM_OK) {
        free(regex);
        return status;
    }
    *out = regex;
    return VLM_OK;
}

vlm_status vlm_regex_new(vlm_bytes pattern, vlm_regex **out, vlm_error *err)
{
    *out = NULL;
    if (pattern.len > PATTERN_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "regular expression: longer than %d bytes",
                        PATTERN_LEN_MAX);
    vlm_buf text;
    vlm_buf_init(&text, PATTERN_LEN_MAX * 256);
    vlm_status status = vlm_regex_translate(pattern, &text, err);
    if (status == VLM_OK) status = build(vlm_buf_bytes(&text), out, err);
    vlm_buf_fini(&text);
    return status;
}
void vlm_regex_free(vlm_regex *regex)
{
    if (regex == NULL) return;
    pcre2_code_free(regex->code);
    free(regex);
}

vlm_status vlm_regex_scratch_new(vlm_regex_scratch **out, vlm_error *err)
{
    vlm_regex_scratch *scratch = calloc(1, sizeof *scratch);
    *out = scratch;
    if (scratch != NULL) {
        vlm_buf_init(&scratch->copy, SIZE_MAX / 4);
        scratch->data = pcre2_match_data_create(16, NULL);
        scratch->context = pcre2_match_context_create(NULL);
        if (scratch->data != NULL && scratch->context != NULL) {
            (void)pcre2_set_heap_limit(scratch->context, HEAP_LIMIT_KIB);
            scratch->start_ns = vlm_clock_ns();
            return VLM_OK;
        }
    }
    vlm_regex_scratch_free(scratch);
    *out = NULL;
    return vlm_fail_memory(err, "regular expression");
}

void vlm_regex_scratch_free(vlm_regex_scratch *scratch)
{
    if (scratch == NULL) return;
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    pcre2_jit_stack_free(scratch->stack);
    vlm_buf_fini(&scratch->copy);
    free(scratch);
}

vlm_status vlm_regex_view(vlm_regex_scratch *scratch, vlm_bytes text, vlm_bytes *out,
                          vlm_error *err)
{
    vlm_buf *copy = &scratch->copy;
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

static size_t char_len(vlm_bytes text, size_t pos)
{
    size_t len = 1;
    while (pos + len < text.len && ((unsigned char)text.ptr[pos + len] & 0xC0) == 0x80) len++;
    return len;
}

/* One call of PCRE2: a match that begins in [pos, pos + WINDOW_LEN]. */
static int match_window(const vlm_regex *regex, vlm_regex_scratch *scratch, vlm_bytes text,
                        size_t pos)
{
    const size_t limit = text.len < UINT32_MAX / 64 ? text.len * 32 : UINT32_MAX / 2;
    (void)pcre2_set_match_limit(scratch->context,
                                (uint32_t)(limit > MATCH_LIMIT_MIN ? limit : MATCH_LIMIT_MIN));
    (void)pcre2_set_offset_limit(scratch->context, pos + WINDOW_LEN);
    return pcre2_match(regex->code, (PCRE2_SPTR)text.ptr, text.len, pos, PCRE2_NO_UTF_CHECK,
                       scratch->data, scratch->context);
}

static vlm_status too_slow(const char *what, vlm_error *err)
{
    return vlm_fail(err, VLM_RESOURCE_EXHAUSTED,
                    "the split pattern exceeds its limits on this text (%s)", what);
}

/* No match begins in the window at *pos: go to the next one, if there is any and there is time. */
static vlm_status next_window(const vlm_regex_scratch *scratch, vlm_bytes text, size_t *pos,
                              bool *more, vlm_error *err)
{
    *more = text.len - *pos > WINDOW_LEN;
    if (!*more) return VLM_OK;
    *pos += WINDOW_LEN;
    *pos += char_len(text, *pos);
    const double seconds = vlm_clock_seconds(scratch->start_ns, vlm_clock_ns());
    if (seconds > time_limit_s + time_limit_s_per_byte * (double)text.len)
        return too_slow("time", err);
    return VLM_OK;
}

/* What a search has found; false when it has to go on. */
static vlm_status take_match(const vlm_regex_scratch *scratch, vlm_bytes text, vlm_regex_walk *walk,
                             size_t *begin, size_t *end, bool *found, vlm_error *err)
{
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(scratch->data);
    *begin = range[0];
    *end = range[1];
    *found = *begin != *end || walk->last_end != *end;
    if (!*found) {
        walk->pos = *end < text.len ? *end + char_len(text, *end) : text.len + 1;
        return VLM_OK;
    }
    /* \K can put the beginning behind the end, or in front of where the search began. */
    if (*begin > *end || *end < walk->pos ||
        (walk->last_end != SIZE_MAX && *begin < walk->last_end))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "the split pattern matches backwards");
    walk->pos = walk->last_end = *end;
    return VLM_OK;
}

vlm_status vlm_regex_next(const vlm_regex *regex, vlm_regex_scratch *scratch, vlm_bytes text,
                          vlm_regex_walk *walk, size_t *begin, size_t *end, bool *found,
                          vlm_error *err)
{
    *found = false;
    while (walk->pos <= text.len && !*found) {
        const int rc = match_window(regex, scratch, text, walk->pos);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT && scratch->stack == NULL) {
            scratch->stack = pcre2_jit_stack_create(STACK_START, STACK_MAX, NULL);
            if (scratch->stack == NULL) return vlm_fail_memory(err, "regular expression");
            pcre2_jit_stack_assign(scratch->context, NULL, scratch->stack);
        } else if (rc == PCRE2_ERROR_NOMATCH) {
            bool more = false;
            VLM_TRY(next_window(scratch, text, &walk->pos, &more, err));
            if (!more) return VLM_OK;
        } else if (rc == PCRE2_ERROR_NOMEMORY) {
            return vlm_fail_memory(err, "regular expression");
        } else if (rc < 0) {
            return too_slow(rc == PCRE2_ERROR_MATCHLIMIT ? "steps" : "memory", err);
        } else {
            VLM_TRY(take_match(scratch, text, walk, begin, end, found, err));
        }
    }
    return VLM_OK;
}
