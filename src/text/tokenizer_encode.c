#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_parts.h"

/* What one call needs for itself. */
typedef struct encoder {
    const vlm_tokenizer *tok;
    bool skip_special;
    vlm_norm_scratch norm;
    vlm_pretok_scratch pretok;
    vlm_bpe_scratch bpe;
    vlm_buf text, user; /* the text as UTF-8, and a mark for each byte of it */
    vlm_ids *out;
} encoder;

static void encoder_init(encoder *e, const vlm_tokenizer *tok, vlm_ids *out)
{
    *e = (encoder){.tok = tok, .out = out};
    vlm_norm_scratch_init(&e->norm);
    vlm_pretok_scratch_init(&e->pretok);
    vlm_bpe_scratch_init(&e->bpe);
    vlm_buf_init(&e->text, SIZE_MAX / 4);
    vlm_buf_init(&e->user, SIZE_MAX / 4);
}

static void encoder_fini(encoder *e)
{
    vlm_norm_scratch_fini(&e->norm);
    vlm_pretok_scratch_fini(&e->pretok);
    vlm_bpe_scratch_fini(&e->bpe);
    vlm_buf_fini(&e->text);
    vlm_buf_fini(&e->user);
}

static vlm_status put_marks(encoder *e, uint8_t mark, size_t n, vlm_error *err)
{
    if (n == 0) return VLM_OK;
    VLM_TRY(vlm_buf_reserve(&e->user, n, err));
    memset(e->user.data + e->user.len, mark, n);
    e->user.len += n;
    return VLM_OK;
}

/* One mark for each byte: 1 where a user wrote it. */
static vlm_status mark_user(encoder *e, size_t len, const vlm_encode_options *opt, vlm_error *err)
{
    size_t pos = 0;
    for (size_t i = 0; i < opt->n_user_spans && pos < len; i++) {
        const size_t begin = opt->user_spans[i].begin < len ? opt->user_spans[i].begin : len;
        const size_t end = opt->user_spans[i].end < len ? opt->user_spans[i].end : len;
        if (begin < pos || end < begin) continue;
        VLM_TRY(put_marks(e, 0, begin - pos, err));
        VLM_TRY(put_marks(e, 1, end - begin, err));
        pos = end;
    }
    return put_marks(e, 0, len - pos, err);
}

/* Copy ill-formed text with U+FFFD for each bad part; marks follow. */
static vlm_status repair(encoder *e, vlm_bytes *text, bool has_marks, vlm_error *err)
{
    vlm_buf marks = e->user;
    vlm_buf_init(&e->user, SIZE_MAX / 4);
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < text->len && status == VLM_OK;) {
        uint32_t cp;
        bool is_bad = false;
        const size_t len = vlm_utf8_decode(text->ptr + i, text->len - i, &cp, &is_bad);
        const size_t n = is_bad ? 3 : len;
        status = vlm_buf_append(&e->text, is_bad ? "\xEF\xBF\xBD" : text->ptr + i, n, err);
        if (status == VLM_OK && has_marks) {
            uint8_t mark = 0;
            for (size_t k = i; k < i + len; k++) mark |= (uint8_t)marks.data[k];
            status = put_marks(e, mark, n, err);
        }
        i += len;
    }
    vlm_buf_fini(&marks);
    *text = vlm_buf_bytes(&e->text);
    return status;
}

/* A stretch without added tokens, already normalized. */
static vlm_status encode_words(encoder *e, vlm_bytes text, bool at_start, vlm_error *err)
{
    vlm_words words;
    VLM_TRY(vlm_pretok_run(&e->tok->pretok, &e->pretok, text, at_start, &words, err));
    for (size_t i = 0; i < words.n; i++) {
        const vlm_span span = words.spans[i];
        const vlm_bytes word = {words.text.ptr + span.begin, span.end - span.begin};
        VLM_TRY(vlm_bpe_encode(&e->tok->bpe, &e->bpe, word, words.as_bytes, e->out, err));
    }
    return VLM_OK;
}

/* A stretch between added tokens that are found in the raw text. */
static vlm_status encode_piece(encoder *e, vlm_bytes text, const uint8_t *user, bool at_start,
                               vlm_error *err)
{
    VLM_TRY(vlm_normalizer_run(&e->tok->norm, &e->norm, &text, &user, err));
    vlm_added_scan scan = vlm_added_scan_begin(&e->tok->added, true, text, user, e->skip_special);
    for (vlm_added_piece piece; vlm_added_scan_next(&scan, &piece);) {
        const vlm_bytes part = {text.ptr + piece.begin, piece.end - piece.begin};
        if (piece.token != NULL)
            VLM_TRY(vlm_ids_append(e->out, piece.token->id, err));
        else
            VLM_TRY(
                encode_words(e, part, at_start && piece.begin == 0 && !e->norm.lost_start, err));
    }
    return VLM_OK;
}

static vlm_status encode_text(encoder *e, vlm_bytes text, const uint8_t *user, vlm_error *err)
{
    vlm_added_scan scan = vlm_added_scan_begin(&e->tok->added, false, text, user, e->skip_special);
    for (vlm_added_piece piece; vlm_added_scan_next(&scan, &piece);) {
        const vlm_bytes part = {text.ptr + piece.begin, piece.end - piece.begin};
        const uint8_t *part_user = user == NULL ? NULL : user + piece.begin;
        if (piece.token != NULL)
            VLM_TRY(vlm_ids_append(e->out, piece.token->id, err));
        else
            VLM_TRY(encode_piece(e, part, part_user, piece.begin == 0, err));
    }
    return VLM_OK;
}

static vlm_status encode(encoder *e, vlm_bytes text, const vlm_encode_options *opt, vlm_error *err)
{
    const vlm_tokenizer *tok = e->tok;
    const bool has_marks = opt->n_user_spans > 0;
    e->skip_special = opt->plain;
    if (has_marks) VLM_TRY(mark_user(e, text.len, opt, err));
    if (text.len > 0 && !vlm_utf8_valid(text.ptr, text.len))
        VLM_TRY(repair(e, &text, has_marks, err));
    if (opt->add_special)
        for (size_t i = 0; i < tok->prefix.len; i++)
            VLM_TRY(vlm_ids_append(e->out, tok->prefix.data[i], err));
    if (text.len > 0)
        VLM_TRY(encode_text(e, text, has_marks ? (const uint8_t *)e->user.data : NULL, err));
    if (opt->add_special)
        for (size_t i = 0; i < tok->suffix.len; i++)
            VLM_TRY(vlm_ids_append(e->out, tok->suffix.data[i], err));
    return VLM_OK;
}

vlm_status vlm_tokenizer_encode(const vlm_tokenizer *tok, vlm_bytes text,
                                const vlm_encode_options *opt, vlm_ids *out, vlm_error *err)
{
    static const vlm_encode_options defaults = {0};
    const size_t len = out->len;
    encoder e;
    encoder_init(&e, tok, out);
    const vlm_status status = encode(&e, text, opt == NULL ? &defaults : opt, err);
    encoder_fini(&e);
    if (status != VLM_OK) out->len = len;
    return status;
}
