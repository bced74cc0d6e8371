#include "text/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/standin.h"

void vlm_decoder_state_init(vlm_decoder_state *state, const vlm_decoder *decoder)
{
    *state = (vlm_decoder_state){.decoder = decoder};
    for (size_t i = 0; i < VLM_DECODE_STEPS_MAX; i++) {
        vlm_buf_init(&state->steps[i].held, SIZE_MAX / 4);
        vlm_buf_init(&state->steps[i].spare, SIZE_MAX / 4);
        vlm_buf_init(&state->work[i], SIZE_MAX / 4);
    }
    vlm_decoder_state_reset(state);
}

void vlm_decoder_state_fini(vlm_decoder_state *state)
{
    for (size_t i = 0; i < VLM_DECODE_STEPS_MAX; i++) {
        vlm_buf_fini(&state->steps[i].held);
        vlm_buf_fini(&state->steps[i].spare);
        vlm_buf_fini(&state->work[i]);
    }
    vlm_regex_scratch_free(state->regex);
    *state = (vlm_decoder_state){0};
}

vlm_status vlm_decoder_state_reserve(vlm_decoder_state *state, size_t n_bytes, vlm_error *err)
{
    for (size_t i = 0; i < state->decoder->n; i++) {
        VLM_TRY(vlm_buf_reserve(&state->steps[i].held, n_bytes, err));
        VLM_TRY(vlm_buf_reserve(&state->work[i], n_bytes, err));
        if (state->decoder->steps[i].collects)
            VLM_TRY(vlm_buf_reserve(&state->steps[i].spare, n_bytes, err));
        if (state->decoder->steps[i].regex != NULL && state->regex == NULL)
            VLM_TRY(vlm_regex_scratch_new(&state->regex, err));
    }
    return VLM_OK;
}

void vlm_decoder_state_reset(vlm_decoder_state *state)
{
    state->n_tokens = 0;
    for (size_t i = 0; i < state->decoder->n; i++) {
        vlm_decode_step_state *s = &state->steps[i];
        vlm_buf_clear(&s->held);
        vlm_buf_clear(&s->spare);
        s->n_tokens = s->n_held = 0;
        s->n_start = state->decoder->steps[i].n_start;
        s->has_held = s->has_put = false;
    }
}

static vlm_status feed(vlm_decoder_state *state, size_t i, vlm_bytes text, bool begins,
                       vlm_buf *out, vlm_error *err);

/* Pass text on from step i; begins: it starts a new token. */
static vlm_status pass(vlm_decoder_state *state, size_t i, vlm_bytes text, bool begins,
                       vlm_buf *out, vlm_error *err)
{
    return feed(state, i + 1, text, begins, out, err);
}

/* Pass on a part of the one token that step i makes of all. */
static vlm_status pass_part(vlm_decoder_state *state, size_t i, vlm_bytes text, vlm_buf *out,
                            vlm_error *err)
{
    const bool begins = !state->steps[i].has_put;
    if (text.len == 0) return VLM_OK;
    state->steps[i].has_put = true;
    return pass(state, i, text, begins, out, err);
}

/* REPLACE and METASPACE: every place of find in text becomes put. */
static vlm_status replace_all(vlm_decoder_state *state, const vlm_decode_step *step, vlm_bytes text,
                              vlm_bytes put, vlm_buf *to, vlm_error *err)
{
    vlm_bytes view = text;
    if (step->regex != NULL && state->regex == NULL)
        VLM_TRY(vlm_regex_scratch_new(&state->regex, err));
    if (step->regex != NULL) VLM_TRY(vlm_regex_view(state->regex, text, &view, err));
    vlm_regex_walk walk = {0, SIZE_MAX};
    size_t done = 0;
    for (;;) {
        size_t begin = 0, end = 0;
        bool found = false;
        if (step->regex != NULL) {
            VLM_TRY(
                vlm_regex_next(step->regex, state->regex, view, &walk, &begin, &end, &found, err));
        } else if (step->find.len > 0 && done < text.len) {
            const char *at =
                memmem(text.ptr + done, text.len - done, step->find.data, step->find.len);
            found = at != NULL;
            begin = found ? (size_t)(at - text.ptr) : 0;
            end = begin + step->find.len;
        }
        if (!found) break;
        VLM_TRY(vlm_buf_append(to, text.ptr + done, begin - done, err));
        VLM_TRY(vlm_buf_append(to, put.ptr, put.len, err));
        done = end;
    }
    return vlm_buf_append(to, text.ptr + done, text.len - done, err);
}

static vlm_status feed_replace(vlm_decoder_state *state, size_t i, vlm_bytes text, bool begins,
                               vlm_buf *out, vlm_error *err)
{
    const vlm_decode_step *step = &state->decoder->steps[i];
    const bool drop = step->drops_first && state->steps[i].n_tokens <= 1;
    vlm_buf_clear(&state->work[i]);
    VLM_TRY(replace_all(state, step, text, drop ? (vlm_bytes){0} : vlm_buf_bytes(&step->put),
                        &state->work[i], err));
    return pass(state, i, vlm_buf_bytes(&state->work[i]), begins, out, err);
}

/* "<0xE2>" -> 0xE2, else -1.  Like Rust's from_str_radix, "+A" is a number too. */
static int byte_token(vlm_bytes token)
{
    if (token.len != 6 || memcmp(token.ptr, "<0x", 3) != 0 || token.ptr[5] != '>') return -1;
    int value = 0;
    for (size_t i = 3; i < 5; i++) {
        const char c = token.ptr[i];
        int digit;
        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (c | 0x20) - 'a' + 10;
        else if (c == '+' && i == 3)
            digit = 0;
        else
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* SentencePiece's way: the good characters of a run, U+FFFD for each other byte.  Bytes that may
 * yet become a character wait unless the run is over. */
static vlm_status pass_run_by_char(vlm_decoder_state *state, size_t i, bool is_over, vlm_buf *out,
                                   vlm_error *err)
{
    vlm_buf *held = &state->steps[i].held;
    size_t done = 0;
    while (done < held->len) {
        const size_t left = held->len - done;
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(held->data + done, left, &cp, &is_bad);
        if (is_bad && !is_over && vlm_utf8_incomplete_tail(held->data + done, left) == left) break;
        const vlm_bytes good = {held->data + done, len};
        VLM_TRY(pass(state, i, is_bad ? vlm_bytes_of("\xEF\xBF\xBD") : good, true, out, err));
        done += is_bad ? 1 : len;
    }
    memmove(held->data, held->data + done, held->len - done);
    held->len -= done;
    return VLM_OK;
}

/* A run of byte tokens is over: its text, or U+FFFD for each byte when it is not UTF-8. */
static vlm_status end_byte_run(vlm_decoder_state *state, size_t i, vlm_buf *out, vlm_error *err)
{
    const vlm_bytes run = vlm_buf_bytes(&state->steps[i].held);
    if (run.len == 0) return VLM_OK;
    if (state->decoder->steps[i].by_char) return pass_run_by_char(state, i, true, out, err);
    if (vlm_utf8_valid(run.ptr, run.len)) {
        VLM_TRY(pass(state, i, run, true, out, err));
    } else {
        for (size_t k = 0; k < run.len; k++)
            VLM_TRY(pass(state, i, vlm_bytes_of("\xEF\xBF\xBD"), true, out, err));
    }
    vlm_buf_clear(&state->steps[i].held);
    return VLM_OK;
}

static vlm_status feed_byte_fallback(vlm_decoder_state *state, size_t i, vlm_bytes text,
                                     vlm_buf *out, vlm_error *err)
{
    const int byte = byte_token(text);
    if (byte >= 0) {
        VLM_TRY(vlm_buf_append_char(&state->steps[i].held, (char)byte, err));
        if (!state->decoder->steps[i].by_char) return VLM_OK;
        return pass_run_by_char(state, i, false, out, err);
    }
    VLM_TRY(end_byte_run(state, i, out, err));
    return pass(state, i, text, true, out, err);
}

static vlm_status strip_token(vlm_decoder_state *state, size_t i, vlm_bytes text, vlm_buf *out,
                              vlm_error *err)
{
    const vlm_decode_step *step = &state->decoder->steps[i];
    const vlm_bytes cut = vlm_buf_bytes(&step->find);
    if (step->first_only && state->steps[i].n_tokens > 1)
        return pass(state, i, text, true, out, err);
    for (size_t n = 0; n < step->n_start && vlm_bytes_starts(text, cut); n++)
        text = (vlm_bytes){text.ptr + cut.len, text.len - cut.len};
    for (size_t n = 0; n < step->n_end && text.len >= cut.len; n++) {
        if (memcmp(text.ptr + text.len - cut.len, cut.ptr, cut.len) != 0) break;
        text.len -= cut.len;
    }
    return pass(state, i, text, true, out, err);
}

/* The same for a token that comes in parts: what may be its end is held back. */
static vlm_status strip_part(vlm_decoder_state *state, size_t i, vlm_bytes text, vlm_buf *out,
                             vlm_error *err)
{
    const vlm_decode_step *step = &state->decoder->steps[i];
    vlm_decode_step_state *s = &state->steps[i];
    const vlm_bytes cut = vlm_buf_bytes(&step->find);
    while (s->n_start > 0 && text.len > 0) {
        if (!vlm_bytes_starts(text, cut)) {
            s->n_start = 0;
            break;
        }
        s->n_start--;
        text = (vlm_bytes){text.ptr + cut.len, text.len - cut.len};
    }
    size_t n_tail = 0;
    while (text.len >= cut.len * (n_tail + 1) &&
           memcmp(text.ptr + text.len - cut.len * (n_tail + 1), cut.ptr, cut.len) == 0)
        n_tail++;
    const vlm_bytes body = {text.ptr, text.len - n_tail * cut.len};
    if (body.len > 0) {
        for (; s->n_held > 0; s->n_held--) VLM_TRY(pass_part(state, i, cut, out, err));
        VLM_TRY(pass_part(state, i, body, out, err));
    }
    s->n_held += n_tail;
    for (; s->n_held > step->n_end; s->n_held--) VLM_TRY(pass_part(state, i, cut, out, err));
    return VLM_OK;
}

static bool append_as_bytes(vlm_buf *buf, vlm_bytes token, vlm_status *status, vlm_error *err)
{
    const size_t len = buf->len;
    for (size_t i = 0; i < token.len;) {
        uint32_t cp;
        bool is_bad = false;
        i += vlm_utf8_decode(token.ptr + i, token.len - i, &cp, &is_bad);
        const int byte = vlm_standin_to_byte(cp);
        if (byte < 0) {
            buf->len = len;
            return false;
        }
        *status = vlm_buf_append_char(buf, (char)byte, err);
        if (*status != VLM_OK) return true;
    }
    return true;
}

/* Pass on the first n held bytes, U+FFFD for each maximal bad part. */
static vlm_status pass_bytes(vlm_decoder_state *state, size_t i, size_t n, vlm_buf *out,
                             vlm_error *err)
{
    vlm_buf *held = &state->steps[i].held;
    vlm_buf *work = &state->work[i];
    vlm_buf_clear(work);
    for (size_t k = 0; k < n;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(held->data + k, n - k, &cp, &is_bad);
        if (is_bad)
            VLM_TRY(vlm_buf_append_str(work, "\xEF\xBF\xBD", err));
        else
            VLM_TRY(vlm_buf_append(work, held->data + k, len, err));
        k += len;
    }
    memmove(held->data, held->data + n, held->len - n);
    held->len -= n;
    return pass_part(state, i, vlm_buf_bytes(work), out, err);
}

static vlm_status feed_byte_level(vlm_decoder_state *state, size_t i, vlm_bytes text, vlm_buf *out,
                                  vlm_error *err)
{
    vlm_buf *held = &state->steps[i].held;
    vlm_status status = VLM_OK;
    /* A token with any other character is text as it stands. */
    if (!append_as_bytes(held, text, &status, err))
        status = vlm_buf_append(held, text.ptr, text.len, err);
    if (status != VLM_OK || held->len == 0) return status;
    const size_t n_tail = vlm_utf8_incomplete_tail(held->data, held->len);
    return n_tail == held->len ? VLM_OK : pass_bytes(state, i, held->len - n_tail, out, err);
}

/* The last token's suffix vanishes, the others' become spaces: one token is held back. */
static vlm_status feed_suffix(vlm_decoder_state *state, size_t i, vlm_bytes text, vlm_buf *out,
                              vlm_error *err)
{
    const vlm_decode_step *step = &state->decoder->steps[i];
    vlm_decode_step_state *s = &state->steps[i];
    if (s->has_held) {
        vlm_buf_clear(&state->work[i]);
        VLM_TRY(replace_all(state, step, vlm_buf_bytes(&s->held), vlm_bytes_of(" "),
                            &state->work[i], err));
        VLM_TRY(pass(state, i, vlm_buf_bytes(&state->work[i]), true, out, err));
    }
    vlm_buf_clear(&s->held);
    s->has_held = true;
    return vlm_buf_append(&s->held, text.ptr, text.len, err);
}

static vlm_status run_step(vlm_decoder_state *state, size_t i, vlm_bytes text, bool begins,
                           vlm_buf *out, vlm_error *err)
{
    if (begins) state->steps[i].n_tokens++;
    switch (state->decoder->steps[i].kind) {
    case VLM_DECODE_REPLACE:
    case VLM_DECODE_METASPACE: return feed_replace(state, i, text, begins, out, err);
    case VLM_DECODE_BYTE_FALLBACK: return feed_byte_fallback(state, i, text, out, err);
    case VLM_DECODE_FUSE: return pass_part(state, i, text, out, err);
    case VLM_DECODE_STRIP:
        if (state->decoder->steps[i].in_parts) return strip_part(state, i, text, out, err);
        return strip_token(state, i, text, out, err);
    case VLM_DECODE_BYTE_LEVEL: return feed_byte_level(state, i, text, out, err);
    case VLM_DECODE_SUFFIX: return feed_suffix(state, i, text, out, err);
    }
    return VLM_OK;
}

/* Text arrives at step i.  The recursion is as deep as the chain, VLM_DECODE_STEPS_MAX at most. */
static vlm_status feed(vlm_decoder_state *state, size_t i, vlm_bytes text, bool begins,
                       vlm_buf *out, vlm_error *err)
{
    if (i == state->decoder->n) {
        if (begins && state->n_tokens++ > 0 && state->decoder->joins_with_space)
            VLM_TRY(vlm_buf_append_char(out, ' ', err));
        return vlm_buf_append(out, text.ptr, text.len, err);
    }
    if (state->decoder->steps[i].collects)
        return vlm_buf_append(&state->steps[i].held, text.ptr, text.len, err);
    return run_step(state, i, text, begins, out, err);
}

vlm_status vlm_decoder_push(vlm_decoder_state *state, vlm_bytes token, vlm_buf *out, vlm_error *err)
{
    return feed(state, 0, token, true, out, err);
}

/* A collecting step gets its one token: what it held, while it holds something else. */
static vlm_status run_collected(vlm_decoder_state *state, size_t i, vlm_buf *out, vlm_error *err)
{
    vlm_decode_step_state *s = &state->steps[i];
    vlm_buf whole = s->held;
    s->held = s->spare;
    vlm_buf_init(&s->spare, SIZE_MAX / 4);
    const vlm_status status = run_step(state, i, vlm_buf_bytes(&whole), true, out, err);
    vlm_buf_clear(&whole);
    s->spare = whole;
    return status;
}

vlm_status vlm_decoder_flush(vlm_decoder_state *state, vlm_buf *out, vlm_error *err)
{
    for (size_t i = 0; i < state->decoder->n; i++) {
        const vlm_decode_step *step = &state->decoder->steps[i];
        vlm_decode_step_state *s = &state->steps[i];
        if (step->collects && s->held.len > 0) VLM_TRY(run_collected(state, i, out, err));
        if (step->kind == VLM_DECODE_BYTE_FALLBACK) VLM_TRY(end_byte_run(state, i, out, err));
        if (step->kind == VLM_DECODE_BYTE_LEVEL && s->held.len > 0)
            VLM_TRY(pass_bytes(state, i, s->held.len, out, err));
        if (step->kind == VLM_DECODE_SUFFIX && s->has_held) {
            vlm_buf_clear(&state->work[i]);
            VLM_TRY(replace_all(state, step, vlm_buf_bytes(&s->held), (vlm_bytes){0},
                                &state->work[i], err));
            VLM_TRY(pass(state, i, vlm_buf_bytes(&state->work[i]), true, out, err));
        }
    }
    return VLM_OK;
}

static vlm_status token_step(vlm_decoder_state *state, size_t i, vlm_bytes *text, bool *is_byte,
                             vlm_error *err)
{
    const vlm_decode_step *step = &state->decoder->steps[i];
    vlm_buf *to = &state->work[i];
    vlm_status status = VLM_OK;
    vlm_buf_clear(to);
    switch (step->kind) {
    case VLM_DECODE_REPLACE:
    case VLM_DECODE_METASPACE:
        status = replace_all(state, step, *text, vlm_buf_bytes(&step->put), to, err);
        break;
    case VLM_DECODE_SUFFIX:
        status = replace_all(state, step, *text, vlm_bytes_of(" "), to, err);
        break;
    case VLM_DECODE_BYTE_FALLBACK: {
        const int byte = byte_token(*text);
        *is_byte = byte >= 0;
        if (!*is_byte) return VLM_OK;
        status = vlm_buf_append_char(to, (char)byte, err);
        break;
    }
    case VLM_DECODE_BYTE_LEVEL:
        if (!append_as_bytes(to, *text, &status, err)) return VLM_OK;
        break;
    case VLM_DECODE_FUSE:
    case VLM_DECODE_STRIP: return VLM_OK;
    }
    *text = vlm_buf_bytes(to);
    return status;
}

vlm_status vlm_decoder_token_bytes(vlm_decoder_state *state, vlm_bytes token, vlm_buf *out,
                                   vlm_error *err)
{
    const vlm_decoder *decoder = state->decoder;
    vlm_bytes text = token;
    vlm_status status = VLM_OK;
    bool is_byte = false;
    for (size_t i = 0; i < decoder->n && status == VLM_OK && !is_byte; i++)
        status = token_step(state, i, &text, &is_byte, err);
    return status == VLM_OK ? vlm_buf_append(out, text.ptr, text.len, err) : status;
}
