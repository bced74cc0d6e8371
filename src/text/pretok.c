#include "text/pretok.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/standin.h"
#include "text/unicode.h"

void vlm_pretok_fini(vlm_pretok *pretok)
{
    for (size_t i = 0; i < pretok->n; i++) {
        vlm_regex_free(pretok->steps[i].regex);
        vlm_buf_fini(&pretok->steps[i].put);
    }
    free(pretok->steps);
    *pretok = (vlm_pretok){0};
}

vlm_status vlm_pretok_add_step(vlm_pretok *pretok, vlm_pretok_kind kind, vlm_pretok_step **step,
                               vlm_error *err)
{
    if (pretok->n == VLM_PRETOK_STEPS_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "pre_tokenizer: more than %d steps",
                        VLM_PRETOK_STEPS_MAX);
    if (!vlm_grow((void **)&pretok->steps, &pretok->cap, pretok->n + 1, SIZE_MAX,
                  sizeof *pretok->steps))
        return vlm_fail_memory(err, "pre_tokenizer");
    *step = &pretok->steps[pretok->n++];
    **step = (vlm_pretok_step){.kind = kind};
    vlm_buf_init(&(*step)->put, SIZE_MAX / 4);
    return VLM_OK;
}

vlm_status vlm_pretok_add_pattern(vlm_pretok *pretok, vlm_bytes pattern, vlm_error *err)
{
    vlm_pretok_step *step = NULL;
    VLM_TRY(vlm_pretok_add_step(pretok, VLM_PRETOK_SPLIT, &step, err));
    step->match = vlm_pretok_fast_kind(pattern);
    if (step->match != VLM_MATCH_REGEX) return VLM_OK;
    const vlm_status status = vlm_regex_new(pattern, &step->regex, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "pre_tokenizer");
}

void vlm_pretok_scratch_init(vlm_pretok_scratch *s)
{
    *s = (vlm_pretok_scratch){0};
    for (unsigned side = 0; side < 2; side++) vlm_buf_init(&s->text[side], SIZE_MAX / 4);
}

void vlm_pretok_scratch_fini(vlm_pretok_scratch *s)
{
    for (unsigned side = 0; side < 2; side++) {
        vlm_buf_fini(&s->text[side]);
        free(s->spans[side]);
    }
    vlm_regex_scratch_free(s->regex);
    *s = (vlm_pretok_scratch){0};
}

/* Add a word to the side that is being written; empty ones vanish. */
static vlm_status put_span(vlm_pretok_scratch *s, size_t begin, size_t end, vlm_error *err)
{
    const unsigned side = s->side_spans ^ 1;
    if (begin == end) return VLM_OK;
    if (s->n_spans[side] == s->cap_spans[side] &&
        !vlm_grow((void **)&s->spans[side], &s->cap_spans[side], s->n_spans[side] + 1, SIZE_MAX,
                  sizeof(vlm_span)))
        return vlm_fail_memory(err, "words of a text");
    s->spans[side][s->n_spans[side]++] = (vlm_span){begin, end};
    return VLM_OK;
}

/* Splitting: matches and gaps of one word arrive in order and become words. */

typedef struct splitter {
    vlm_pretok_scratch *s;
    vlm_split_behavior behavior;
    bool invert;
    bool has_held, held_is_match; /* the word that may still grow */
    vlm_span held;
} splitter;

static vlm_status split_flush(splitter *sp, vlm_error *err)
{
    if (!sp->has_held) return VLM_OK;
    sp->has_held = false;
    return put_span(sp->s, sp->held.begin, sp->held.end, err);
}

static vlm_status split_event(splitter *sp, size_t begin, size_t end, bool is_match, vlm_error *err)
{
    is_match = is_match != sp->invert;
    bool joins = false;
    switch (sp->behavior) {
    case VLM_SPLIT_ISOLATED: return put_span(sp->s, begin, end, err);
    case VLM_SPLIT_REMOVED: return is_match ? VLM_OK : put_span(sp->s, begin, end, err);
    case VLM_SPLIT_CONTIGUOUS: joins = is_match == sp->held_is_match; break;
    case VLM_SPLIT_MERGED_WITH_PREVIOUS: joins = is_match && !sp->held_is_match; break;
    case VLM_SPLIT_MERGED_WITH_NEXT: joins = sp->held_is_match && !is_match; break;
    }
    if (sp->has_held && joins) {
        sp->held.end = end;
    } else {
        VLM_TRY(split_flush(sp, err));
        sp->held = (vlm_span){begin, end};
        sp->has_held = true;
    }
    sp->held_is_match = is_match;
    return VLM_OK;
}

static bool is_in(vlm_match_kind kind, uint32_t cp)
{
    switch (kind) {
    case VLM_MATCH_NUMBER: return vlm_unicode_is_numeric(cp);
    case VLM_MATCH_PUNCTUATION: return vlm_unicode_is_punctuation(cp);
    default: return vlm_unicode_is_space(cp);
    }
}

static vlm_status split_by_char(splitter *sp, vlm_match_kind kind, vlm_bytes text, vlm_span word,
                                vlm_error *err)
{
    size_t done = word.begin;
    for (size_t i = word.begin; i < word.end;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + i, word.end - i, &cp, &is_bad);
        if (is_in(kind, cp)) {
            if (done < i) VLM_TRY(split_event(sp, done, i, false, err));
            VLM_TRY(split_event(sp, i, i + len, true, err));
            done = i + len;
        }
        i += len;
    }
    return done < word.end ? split_event(sp, done, word.end, false, err) : VLM_OK;
}

/* \w+|[^\w\s]+ : runs of word characters and runs of others, white space between. */
static int word_class(uint32_t cp)
{
    if (vlm_unicode_is_word(cp)) return 0;
    return vlm_unicode_is_space(cp) ? 2 : 1;
}

static vlm_status split_by_word(splitter *sp, vlm_bytes text, vlm_span word, vlm_error *err)
{
    size_t begin = word.begin;
    int class = -1;
    for (size_t i = word.begin; i < word.end;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text.ptr + i, word.end - i, &cp, &is_bad);
        const int next = word_class(cp);
        if (class >= 0 && next != class) {
            VLM_TRY(split_event(sp, begin, i, class != 2, err));
            begin = i;
        }
        class = next;
        i += len;
    }
    return split_event(sp, begin, word.end, class != 2, err);
}

/* \s+$ with ^ and $ at lines: each run of white space up to its last place in front of a line feed
 * or at the end.  PCRE2 would try every start of a run that has no such place. */
static vlm_status split_trailing(splitter *sp, vlm_bytes text, vlm_span word, vlm_error *err)
{
    size_t done = word.begin;
    for (size_t i = word.begin; i < word.end;) {
        uint32_t cp;
        bool is_bad = false;
        size_t len = vlm_utf8_decode(text.ptr + i, word.end - i, &cp, &is_bad);
        if (!vlm_unicode_is_space(cp)) {
            i += len;
            continue;
        }
        const size_t begin = i;
        size_t end = begin;
        do {
            i += len;
            if (i == word.end || text.ptr[i] == '\n') end = i;
            if (i == word.end) break;
            len = vlm_utf8_decode(text.ptr + i, word.end - i, &cp, &is_bad);
        } while (vlm_unicode_is_space(cp));
        if (end == begin) continue;
        if (done < begin) VLM_TRY(split_event(sp, done, begin, false, err));
        VLM_TRY(split_event(sp, begin, end, true, err));
        done = i = end;
    }
    return done < word.end ? split_event(sp, done, word.end, false, err) : VLM_OK;
}

static vlm_status split_by_string(splitter *sp, vlm_bytes needle, vlm_bytes text, vlm_span word,
                                  vlm_error *err)
{
    size_t done = word.begin;
    while (needle.len > 0 && done < word.end) {
        const char *at = memmem(text.ptr + done, word.end - done, needle.ptr, needle.len);
        if (at == NULL) break;
        const size_t begin = (size_t)(at - text.ptr);
        if (done < begin) VLM_TRY(split_event(sp, done, begin, false, err));
        done = begin + needle.len;
        VLM_TRY(split_event(sp, begin, done, true, err));
    }
    return done < word.end ? split_event(sp, done, word.end, false, err) : VLM_OK;
}

static vlm_status split_by_regex(splitter *sp, const vlm_regex *regex, vlm_bytes patched,
                                 vlm_span word, vlm_error *err)
{
    const vlm_bytes text = {patched.ptr + word.begin, word.end - word.begin};
    vlm_regex_walk walk = {0, SIZE_MAX};
    size_t done = 0;
    for (;;) {
        size_t begin, end;
        bool found;
        VLM_TRY(vlm_regex_next(regex, sp->s->regex, text, &walk, &begin, &end, &found, err));
        if (!found) break;
        if (done != begin)
            VLM_TRY(split_event(sp, word.begin + done, word.begin + begin, false, err));
        VLM_TRY(split_event(sp, word.begin + begin, word.begin + end, true, err));
        done = end;
    }
    return done < text.len ? split_event(sp, word.begin + done, word.end, false, err) : VLM_OK;
}

static vlm_status split_fast(splitter *sp, vlm_match_kind kind, vlm_bytes text, vlm_span word,
                             vlm_error *err)
{
    const vlm_bytes part = {text.ptr + word.begin, word.end - word.begin};
    for (size_t i = 0; i < part.len;) {
        const size_t end = vlm_pretok_fast_end(kind, part, i);
        VLM_TRY(split_event(sp, word.begin + i, word.begin + end, true, err));
        i = end;
    }
    return VLM_OK;
}

static vlm_status split_word(splitter *sp, const vlm_pretok_step *step, vlm_bytes text,
                             vlm_bytes patched, vlm_span word, vlm_error *err)
{
    switch (step->match) {
    case VLM_MATCH_REGEX: return split_by_regex(sp, step->regex, patched, word, err);
    case VLM_MATCH_STRING: return split_by_string(sp, vlm_buf_bytes(&step->put), text, word, err);
    case VLM_MATCH_GPT2:
    case VLM_MATCH_LLAMA3:
    case VLM_MATCH_QWEN2: return split_fast(sp, step->match, text, word, err);
    case VLM_MATCH_TRAILING_SPACE: return split_trailing(sp, text, word, err);
    case VLM_MATCH_WORD_OR_OTHER: return split_by_word(sp, text, word, err);
    case VLM_MATCH_NUMBER:
    case VLM_MATCH_PUNCTUATION:
    case VLM_MATCH_SPACE: return split_by_char(sp, step->match, text, word, err);
    }
    return VLM_OK;
}

static vlm_status run_split(const vlm_pretok_step *step, vlm_pretok_scratch *s, vlm_bytes text,
                            vlm_error *err)
{
    vlm_bytes patched = text;
    if (step->match == VLM_MATCH_REGEX) {
        if (s->regex == NULL) VLM_TRY(vlm_regex_scratch_new(&s->regex, err));
        VLM_TRY(vlm_regex_view(s->regex, text, &patched, err));
    }
    splitter sp = {.s = s, .behavior = step->behavior, .invert = step->invert};
    const unsigned side = s->side_spans;
    for (size_t i = 0; i < s->n_spans[side]; i++) {
        sp.held_is_match = false;
        VLM_TRY(split_word(&sp, step, text, patched, s->spans[side][i], err));
        VLM_TRY(split_flush(&sp, err));
    }
    return VLM_OK;
}

static vlm_status run_fixed_length(const vlm_pretok_step *step, vlm_pretok_scratch *s,
                                   vlm_bytes text, vlm_error *err)
{
    const unsigned side = s->side_spans;
    for (size_t i = 0; i < s->n_spans[side]; i++) {
        const vlm_span word = s->spans[side][i];
        size_t begin = word.begin, n = 0;
        for (size_t k = word.begin; k < word.end; k++) {
            if (((unsigned char)text.ptr[k] & 0xC0) == 0x80 || n++ < step->n_chars) continue;
            VLM_TRY(put_span(s, begin, k, err));
            begin = k;
            n = 1;
        }
        VLM_TRY(put_span(s, begin, word.end, err));
    }
    return VLM_OK;
}

/* Steps that write a new text, word by word. */

static vlm_status rewrite_metaspace(const vlm_pretok_step *step, vlm_bytes word, bool is_first,
                                    vlm_buf *out, vlm_error *err)
{
    const vlm_bytes put = vlm_buf_bytes(&step->put);
    const bool starts = word.ptr[0] == ' ' || vlm_bytes_starts(word, put);
    if (!starts &&
        (step->prefix == VLM_PREFIX_ALWAYS || (step->prefix == VLM_PREFIX_FIRST && is_first)))
        VLM_TRY(vlm_buf_append(out, put.ptr, put.len, err));
    for (size_t i = 0; i < word.len;) {
        const char *space = memchr(word.ptr + i, ' ', word.len - i);
        const size_t end = space == NULL ? word.len : (size_t)(space - word.ptr);
        VLM_TRY(vlm_buf_append(out, word.ptr + i, end - i, err));
        if (space != NULL) VLM_TRY(vlm_buf_append(out, put.ptr, put.len, err));
        i = end + 1;
    }
    return VLM_OK;
}

static vlm_status run_rewrite(const vlm_pretok_step *step, vlm_pretok_scratch *s, vlm_bytes *text,
                              bool at_start, vlm_error *err)
{
    vlm_buf *out = &s->text[s->side_text];
    s->side_text ^= 1;
    vlm_buf_clear(out);
    const unsigned side = s->side_spans;
    for (size_t i = 0; i < s->n_spans[side]; i++) {
        const vlm_span span = s->spans[side][i];
        const vlm_bytes word = {text->ptr + span.begin, span.end - span.begin};
        const size_t begin = out->len;
        if (step->kind == VLM_PRETOK_METASPACE) {
            VLM_TRY(rewrite_metaspace(step, word, at_start && span.begin == 0, out, err));
        } else if (step->kind == VLM_PRETOK_BYTES) {
            VLM_TRY(vlm_standin_append(out, word, err));
        } else {
            if (word.ptr[0] != ' ') VLM_TRY(vlm_buf_append_char(out, ' ', err));
            VLM_TRY(vlm_buf_append(out, word.ptr, word.len, err));
        }
        VLM_TRY(put_span(s, begin, out->len, err));
    }
    *text = vlm_buf_bytes(out);
    return VLM_OK;
}

vlm_status vlm_pretok_run(const vlm_pretok *pretok, vlm_pretok_scratch *s, vlm_bytes text,
                          bool at_start, vlm_words *words, vlm_error *err)
{
    *words = (vlm_words){.text = text};
    s->n_spans[s->side_spans ^ 1] = 0;
    VLM_TRY(put_span(s, 0, text.len, err));
    s->side_spans ^= 1;
    for (size_t i = 0; i < pretok->n; i++) {
        const vlm_pretok_step *step = &pretok->steps[i];
        if (step->kind == VLM_PRETOK_BYTES && i + 1 == pretok->n) {
            words->as_bytes = true;
            break;
        }
        s->n_spans[s->side_spans ^ 1] = 0;
        if (step->kind == VLM_PRETOK_SPLIT)
            VLM_TRY(run_split(step, s, words->text, err));
        else if (step->kind == VLM_PRETOK_FIXED_LENGTH)
            VLM_TRY(run_fixed_length(step, s, words->text, err));
        else
            VLM_TRY(run_rewrite(step, s, &words->text, at_start, err));
        s->side_spans ^= 1;
    }
    words->spans = s->spans[s->side_spans];
    words->n = s->n_spans[s->side_spans];
    return VLM_OK;
}
