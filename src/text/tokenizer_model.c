#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_parts.h"

int vlm_tokenizer_shown_len(vlm_bytes text)
{
    return text.len < 64 ? (int)text.len : 64;
}

static vlm_status load_vocab(vlm_tokenizer *tok, const vlm_json *vocab, vlm_error *err)
{
    if (vlm_json_typeof(vocab) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "model.vocab must be an object");
    for (vlm_json_iter it = vlm_json_iter_begin(vocab); vlm_json_iter_next(&it);) {
        const vlm_bytes token = vlm_bytes_of(it.key);
        if (vlm_json_typeof(it.value) != VLM_JSON_INT || !vlm_json_int_fits(it.value) ||
            vlm_json_int(it.value) < 0 || vlm_json_int(it.value) > VLM_TOKEN_ID_MAX)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "model.vocab: the id of \"%.*s\" must be an integer from 0 to %d",
                            vlm_tokenizer_shown_len(token), token.ptr, VLM_TOKEN_ID_MAX);
        VLM_TRY(vlm_vocab_add(&tok->vocab, token, (uint32_t)vlm_json_int(it.value), err));
    }
    const vlm_status status = vlm_vocab_index(&tok->vocab, err);
    return status == VLM_OK ? VLM_OK : vlm_fail_prefix(err, status, "model.vocab");
}

/* "a b" or ["a", "b"]. */
static vlm_status read_merge(const vlm_json *item, size_t idx, vlm_bytes *a, vlm_bytes *b,
                             vlm_error *err)
{
    if (vlm_json_typeof(item) == VLM_JSON_ARRAY && vlm_json_array_len(item) == 2 &&
        vlm_json_typeof(vlm_json_at(item, 0)) == VLM_JSON_STRING &&
        vlm_json_typeof(vlm_json_at(item, 1)) == VLM_JSON_STRING) {
        *a = vlm_json_string(vlm_json_at(item, 0));
        *b = vlm_json_string(vlm_json_at(item, 1));
        return VLM_OK;
    }
    if (vlm_json_typeof(item) == VLM_JSON_STRING) {
        const vlm_bytes text = vlm_json_string(item);
        const char *space = text.len > 0 ? memchr(text.ptr, ' ', text.len) : NULL;
        const size_t n = space == NULL ? 0 : (size_t)(space - text.ptr);
        *a = (vlm_bytes){text.ptr, n};
        *b = (vlm_bytes){text.ptr + n + 1, space == NULL ? 0 : text.len - n - 1};
        if (space != NULL && (b->len == 0 || memchr(b->ptr, ' ', b->len) == NULL)) return VLM_OK;
    }
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, idx,
                       "model.merges[%zu] must be two tokens, \"a b\" or [\"a\", \"b\"]", idx);
}

static vlm_status not_in_vocab(size_t idx, vlm_bytes token, vlm_error *err)
{
    return vlm_fail_at(err, VLM_INVALID_ARGUMENT, idx,
                       "model.merges[%zu]: \"%.*s\" is not in the vocabulary", idx,
                       vlm_tokenizer_shown_len(token), token.ptr);
}

static vlm_status load_merges(vlm_tokenizer *tok, const vlm_json *merges, vlm_error *err)
{
    if (vlm_json_typeof(merges) != VLM_JSON_ARRAY)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "model.merges must be an array");
    const size_t n_prefix = tok->bpe.word_prefix == NULL ? 0 : strlen(tok->bpe.word_prefix);
    uint32_t rank = 0;
    for (size_t i = 0; i < vlm_json_array_len(merges); i++) {
        const vlm_json *item = vlm_json_at(merges, i);
        if (i == 0 && vlm_json_typeof(item) == VLM_JSON_STRING &&
            vlm_bytes_starts(vlm_json_string(item), vlm_bytes_of("#version")))
            continue;
        vlm_bytes a, b;
        VLM_TRY(read_merge(item, i, &a, &b, err));
        const uint32_t left = vlm_vocab_find(&tok->vocab, a);
        const uint32_t right = vlm_vocab_find(&tok->vocab, b);
        if (left == VLM_VOCAB_NONE) return not_in_vocab(i, a, err);
        if (right == VLM_VOCAB_NONE) return not_in_vocab(i, b, err);
        if (a.len == 0 || b.len < n_prefix || b.len == 0)
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, i, "model.merges[%zu]: a token is empty",
                               i);
        const vlm_bytes rest = {b.ptr + n_prefix, b.len - n_prefix};
        const uint32_t new_id = vlm_vocab_find_joined(&tok->vocab, a, rest);
        if (new_id == VLM_VOCAB_NONE)
            return vlm_fail_at(err, VLM_INVALID_ARGUMENT, i,
                               "model.merges[%zu]: \"%.*s%.*s\" is not in the vocabulary", i,
                               vlm_tokenizer_shown_len(a), a.ptr, vlm_tokenizer_shown_len(rest),
                               rest.ptr);
        VLM_TRY(vlm_bpe_add_merge(&tok->bpe, left, right, rank++, new_id, err));
    }
    return VLM_OK;
}

/* A string option; NULL when it is absent, null or empty. */
static vlm_status copy_string(const vlm_json *obj, const char *key, char **out, vlm_error *err)
{
    vlm_bytes text = {0};
    VLM_TRY(vlm_json_opt_string(obj, key, &text, err));
    if (text.len == 0) return VLM_OK;
    if (memchr(text.ptr, '\0', text.len) != NULL)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "model.%s holds a NUL", key);
    *out = strndup(text.ptr, text.len);
    return *out == NULL ? vlm_fail_memory(err, "tokenizer") : VLM_OK;
}

vlm_status vlm_tokenizer_load_model(vlm_tokenizer *tok, const vlm_json *model, vlm_error *err)
{
    vlm_bytes type = vlm_bytes_of("BPE"), unk = {0};
    double dropout = 0;
    vlm_bpe *bpe = &tok->bpe;
    if (vlm_json_typeof(model) != VLM_JSON_OBJECT)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "model must be an object");
    VLM_TRY(vlm_json_opt_string(model, "type", &type, err));
    if (!vlm_bytes_eq_str(type, "BPE"))
        return vlm_fail(err, VLM_UNIMPLEMENTED, "model \"%.*s\" is not supported, only BPE is",
                        vlm_tokenizer_shown_len(type), type.ptr);
    VLM_TRY(vlm_json_opt_double(model, "dropout", 0, 1, &dropout, err));
    if (dropout > 0)
        return vlm_fail(err, VLM_UNIMPLEMENTED,
                        "model.dropout is not supported: its ids are random");
    VLM_TRY(vlm_json_opt_bool(model, "byte_fallback", &bpe->byte_fallback, err));
    VLM_TRY(vlm_json_opt_bool(model, "fuse_unk", &bpe->fuse_unk, err));
    VLM_TRY(vlm_json_opt_bool(model, "ignore_merges", &bpe->ignore_merges, err));
    VLM_TRY(vlm_json_opt_string(model, "unk_token", &unk, err));
    VLM_TRY(copy_string(model, "continuing_subword_prefix", &bpe->word_prefix, err));
    VLM_TRY(copy_string(model, "end_of_word_suffix", &bpe->word_suffix, err));
    VLM_TRY(load_vocab(tok, vlm_json_get(model, "vocab"), err));
    if (unk.ptr != NULL) {
        bpe->unk_id = vlm_vocab_find(&tok->vocab, unk);
        bpe->unk_missing = bpe->unk_id == VLM_VOCAB_NONE;
    }
    VLM_TRY(load_merges(tok, vlm_json_get(model, "merges"), err));
    return vlm_bpe_finish(bpe, err);
}
