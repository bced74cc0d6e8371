/* tokenizer.model: SentencePiece's ModelProto (sentencepiece_model.proto), read without a protobuf
 * library, for the BPE kind that LLaMA and Mistral come with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/tokenizer_parts.h"

/* Protobuf wire format, proto2. */

typedef struct reader {
    const unsigned char *data;
    size_t len, pos;
} reader;

typedef struct field {
    uint32_t number;
    uint64_t value;  /* varint, or the bits of a fixed number */
    vlm_bytes bytes; /* wire type 2 */
} field;

static vlm_status cut_off(const reader *r, vlm_error *err)
{
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, r->pos, "broken protobuf at byte %zu", r->pos);
}

static vlm_status read_varint(reader *r, uint64_t *out, vlm_error *err)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (r->pos == r->len) return cut_off(r, err);
        const unsigned char byte = r->data[r->pos++];
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return VLM_OK;
        }
    }
    return cut_off(r, err);
}

static vlm_status read_fixed(reader *r, size_t n_bytes, uint64_t *out, vlm_error *err)
{
    if (r->len - r->pos < n_bytes) return cut_off(r, err);
    *out = 0;
    for (size_t i = 0; i < n_bytes; i++) *out |= (uint64_t)r->data[r->pos + i] << 8 * i;
    r->pos += n_bytes;
    return VLM_OK;
}

/* The next field; *more false at the end. */
static vlm_status next_field(reader *r, field *f, bool *more, vlm_error *err)
{
    *f = (field){0};
    *more = r->pos < r->len;
    if (!*more) return VLM_OK;
    uint64_t tag = 0, len = 0;
    VLM_TRY(read_varint(r, &tag, err));
    if (tag >> 3 == 0 || tag >> 3 > INT32_MAX) return cut_off(r, err);
    f->number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case 0: return read_varint(r, &f->value, err);
    case 1: return read_fixed(r, 8, &f->value, err);
    case 5: return read_fixed(r, 4, &f->value, err);
    case 2:
        VLM_TRY(read_varint(r, &len, err));
        if (len > r->len - r->pos) return cut_off(r, err);
        f->bytes = (vlm_bytes){(const char *)r->data + r->pos, (size_t)len};
        r->pos += (size_t)len;
        return VLM_OK;
    default: return cut_off(r, err);
    }
}

static reader reader_of(vlm_bytes bytes)
{
    return (reader){.data = (const unsigned char *)bytes.ptr, .len = bytes.len};
}

/* The model. */

typedef enum piece_type {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6,
} piece_type;

enum { MODEL_BPE = 2, PIECE_LEN_MAX = 1024 };

typedef struct piece {
    float score;
    uint32_t type;
    uint32_t rank; /* 0 for the highest score; equal scores share one */
} piece;

typedef struct spm {
    piece *pieces;
    size_t n, cap;
    uint64_t model_type, suffix_space, byte_fallback, bos_id, eos_id;
    uint64_t dummy_prefix, collapse_spaces, escape_spaces;
    bool has_charsmap;
} spm;

static vlm_status read_piece(vlm_tokenizer *tok, spm *m, vlm_bytes bytes, vlm_error *err)
{
    reader r = reader_of(bytes);
    piece p = {.type = PIECE_NORMAL};
    vlm_bytes text = {0};
    for (;;) {
        field f;
        bool more = false;
        VLM_TRY(next_field(&r, &f, &more, err));
        if (!more) break;
        if (f.number == 1) text = f.bytes;
        if (f.number == 2) {
            const uint32_t bits = (uint32_t)f.value;
            memcpy(&p.score, &bits, sizeof p.score);
        }
        if (f.number == 3) p.type = (uint32_t)f.value;
    }
    if (text.len == 0 || text.len > PIECE_LEN_MAX || !vlm_utf8_valid(text.ptr, text.len))
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "piece %zu must be 1 to %d bytes of UTF-8", m->n,
                        PIECE_LEN_MAX);
    if (!isfinite(p.score) || p.type < PIECE_NORMAL || p.type > PIECE_BYTE)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "piece %zu has a bad score or type", m->n);
    if (p.type == PIECE_UNUSED)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "piece %zu: UNUSED pieces are not supported", m->n);
    if (!vlm_grow((void **)&m->pieces, &m->cap, m->n + 1, VLM_TOKEN_ID_MAX, sizeof *m->pieces))
        return vlm_fail_memory(err, "pieces");
    const vlm_status status = vlm_vocab_add(&tok->vocab, text, (uint32_t)m->n, err);
    if (status == VLM_ALREADY_EXISTS)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "piece %zu is there twice", m->n);
    VLM_TRY(status);
    m->pieces[m->n++] = p;
    return VLM_OK;
}

/* Varint fields of a message into places named by number. */
static vlm_status read_settings(vlm_bytes bytes, const uint32_t *numbers, uint64_t *const *places,
                                size_t n, vlm_error *err)
{
    reader r = reader_of(bytes);
    for (;;) {
        field f;
        bool more = false;
        VLM_TRY(next_field(&r, &f, &more, err));
        if (!more) return VLM_OK;
        for (size_t i = 0; i < n; i++)
            if (f.number == numbers[i]) *places[i] = f.bytes.ptr != NULL ? f.bytes.len : f.value;
    }
}

static vlm_status read_model(vlm_tokenizer *tok, spm *m, vlm_bytes bytes, vlm_error *err)
{
    static const uint32_t trainer_numbers[] = {3, 24, 35, 41, 42};
    uint64_t *const trainer[] = {&m->model_type, &m->suffix_space, &m->byte_fallback, &m->bos_id,
                                 &m->eos_id};
    static const uint32_t normalizer_numbers[] = {2, 3, 4, 5};
    uint64_t charsmap_len = 0;
    uint64_t *const normalizer[] = {&charsmap_len, &m->dummy_prefix, &m->collapse_spaces,
                                    &m->escape_spaces};
    reader r = reader_of(bytes);
    for (;;) {
        field f;
        bool more = false;
        VLM_TRY(next_field(&r, &f, &more, err));
        if (!more) break;
        if (f.number >= 1 && f.number <= 3 && f.bytes.ptr == NULL) return cut_off(&r, err);
        if (f.number == 1) VLM_TRY(read_piece(tok, m, f.bytes, err));
        if (f.number == 2) VLM_TRY(read_settings(f.bytes, trainer_numbers, trainer, 5, err));
        if (f.number == 3) VLM_TRY(read_settings(f.bytes, normalizer_numbers, normalizer, 4, err));
    }
    m->has_charsmap = charsmap_len > 0;
    return VLM_OK;
}

static vlm_status check_model(const spm *m, vlm_error *err)
{
    if (m->n == 0) return vlm_fail(err, VLM_INVALID_ARGUMENT, "no pieces");
    if (m->model_type != MODEL_BPE)
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "SentencePiece model type %llu (%s) is not "
                        "supported, only BPE is",
                        (unsigned long long)m->model_type,
                        m->model_type == 1 ? "unigram" : "other");
    if (m->has_charsmap)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "a precompiled character map is not supported");
    if (m->suffix_space != 0)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "treat_whitespace_as_suffix is not supported");
    return VLM_OK;
}

static int compare_scores(const void *a, const void *b)
{
    const float x = (*(piece *const *)a)->score, y = (*(piece *const *)b)->score;
    return x > y ? -1 : x < y;
}

static vlm_status rank_pieces(spm *m, vlm_error *err)
{
    piece **order = vlm_calloc(m->n, sizeof *order);
    if (order == NULL) return vlm_fail_memory(err, "pieces");
    for (size_t i = 0; i < m->n; i++) order[i] = &m->pieces[i];
    qsort(order, m->n, sizeof *order, compare_scores);
    for (size_t i = 1; i < m->n; i++)
        order[i]->rank = order[i - 1]->rank + (order[i]->score < order[i - 1]->score);
    free(order);
    return VLM_OK;
}

static bool merges_to(const spm *m, uint32_t id)
{
    return m->pieces[id].type == PIECE_NORMAL || m->pieces[id].type == PIECE_USER_DEFINED;
}

/* The symbol that a part of a piece can be: a piece, or a character that is none. */
static vlm_status part_symbol(vlm_tokenizer *tok, const spm *m, vlm_bytes part, uint32_t *out,
                              vlm_error *err)
{
    *out = vlm_vocab_find(&tok->vocab, part);
    if (*out != VLM_VOCAB_NONE && merges_to(m, *out)) return VLM_OK;
    uint32_t cp;
    bool is_bad = false;
    *out = VLM_VOCAB_NONE;
    if (vlm_utf8_decode(part.ptr, part.len, &cp, &is_bad) != part.len) return VLM_OK;
    *out = vlm_vocab_find(&tok->extra, part);
    if (*out != VLM_VOCAB_NONE) return VLM_OK;
    *out = VLM_BPE_EXTRA_FROM + (uint32_t)tok->extra.n;
    return vlm_vocab_add(&tok->extra, part, *out, err);
}

/* SentencePiece merges two symbols when their joined string is a piece, highest score first: every
 * way to cut a piece in two is a merge. */
static vlm_status add_merges(vlm_tokenizer *tok, const spm *m, vlm_error *err)
{
    for (uint32_t id = 0; id < m->n; id++) {
        if (!merges_to(m, id)) continue;
        const vlm_bytes text = vlm_vocab_token(&tok->vocab, id);
        for (size_t i = 1; i < text.len; i++) {
            if (((unsigned char)text.ptr[i] & 0xC0) == 0x80) continue;
            uint32_t left = 0, right = 0;
            VLM_TRY(part_symbol(tok, m, (vlm_bytes){text.ptr, i}, &left, err));
            VLM_TRY(part_symbol(tok, m, (vlm_bytes){text.ptr + i, text.len - i}, &right, err));
            if (left != VLM_VOCAB_NONE && right != VLM_VOCAB_NONE)
                VLM_TRY(vlm_bpe_add_merge(&tok->bpe, left, right, m->pieces[id].rank, id, err));
        }
    }
    return VLM_OK;
}

/* Pieces that are found before anything is merged: user-defined ones in the normalized text,
 * control and unknown ones, as Transformers does, in the raw text. */
static vlm_status add_tokens(vlm_tokenizer *tok, const spm *m, vlm_error *err)
{
    for (uint32_t id = 0; id < m->n; id++) {
        const uint32_t type = m->pieces[id].type;
        if (type == PIECE_UNKNOWN) tok->unk_id = tok->bpe.unk_id = id;
        if (type == PIECE_NORMAL || type == PIECE_BYTE) continue;
        const vlm_added_token token = {.special = type != PIECE_USER_DEFINED,
                                       .normalized = type == PIECE_USER_DEFINED};
        VLM_TRY(vlm_tokenizer_add_token(tok, vlm_vocab_token(&tok->vocab, id), &token, id, err));
    }
    return VLM_OK;
}

static vlm_status add_chains(vlm_tokenizer *tok, const spm *m, vlm_error *err)
{
    const vlm_bytes none = {0}, space = vlm_bytes_of(" "), mark = vlm_bytes_of("\xE2\x96\x81");
    const vlm_bytes escaped = m->escape_spaces != 0 ? mark : space;
    if (m->collapse_spaces != 0)
        VLM_TRY(vlm_normalizer_add(&tok->norm, VLM_NORM_COLLAPSE_SPACES, none, none, err));
    if (m->dummy_prefix != 0)
        VLM_TRY(vlm_normalizer_add(&tok->norm, VLM_NORM_PREPEND, none, escaped, err));
    if (m->escape_spaces != 0)
        VLM_TRY(vlm_normalizer_add(&tok->norm, VLM_NORM_REPLACE, space, mark, err));
    if (m->escape_spaces != 0)
        VLM_TRY(vlm_decoder_add(&tok->decoder, VLM_DECODE_REPLACE, "\xE2\x96\x81", " ", err));
    if (m->dummy_prefix != 0) {
        VLM_TRY(vlm_decoder_add(&tok->decoder, VLM_DECODE_STRIP, " ", "", err));
        tok->decoder.steps[tok->decoder.n - 1].n_start = 1;
        tok->decoder.steps[tok->decoder.n - 1].first_only = true;
    }
    VLM_TRY(vlm_decoder_add(&tok->decoder, VLM_DECODE_BYTE_FALLBACK, "", "", err));
    tok->decoder.steps[tok->decoder.n - 1].by_char = true;
    return vlm_decoder_add(&tok->decoder, VLM_DECODE_FUSE, "", "", err);
}

static vlm_status load(vlm_tokenizer *tok, spm *m, vlm_bytes text, vlm_error *err)
{
    VLM_TRY(read_model(tok, m, text, err));
    VLM_TRY(check_model(m, err));
    VLM_TRY(vlm_vocab_index(&tok->vocab, err));
    VLM_TRY(rank_pieces(m, err));
    tok->bpe.byte_fallback = m->byte_fallback != 0;
    tok->bpe.fuse_unk = true;
    VLM_TRY(add_tokens(tok, m, err));
    VLM_TRY(add_merges(tok, m, err));
    if (tok->extra.n > 0) tok->bpe.extra = &tok->extra;
    VLM_TRY(vlm_bpe_finish(&tok->bpe, err));
    VLM_TRY(add_chains(tok, m, err));
    if (m->bos_id < m->n) tok->bos_id = (uint32_t)m->bos_id;
    if (m->eos_id < m->n) tok->eos_id = (uint32_t)m->eos_id;
    return tok->bos_id == VLM_VOCAB_NONE ? VLM_OK : vlm_ids_append(&tok->prefix, tok->bos_id, err);
}

vlm_status vlm_tokenizer_load_spm(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err)
{
    /* The proto's defaults. */
    spm m = {.model_type = 1,
             .bos_id = 1,
             .eos_id = 2,
             .dummy_prefix = 1,
             .collapse_spaces = 1,
             .escape_spaces = 1};
    const vlm_status status = load(tok, &m, text, err);
    free(m.pieces);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "tokenizer.model");
}
