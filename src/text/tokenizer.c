#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/tokenizer_parts.h"

enum { STRINGS_LEN_MAX = 64 << 20 };

void vlm_ids_fini(vlm_ids *ids)
{
    free(ids->data);
    *ids = (vlm_ids){0};
}

vlm_status vlm_ids_append(vlm_ids *ids, uint32_t id, vlm_error *err)
{
    if (ids->len == ids->cap &&
        !vlm_grow((void **)&ids->data, &ids->cap, ids->len + 1, SIZE_MAX, sizeof *ids->data))
        return vlm_fail_memory(err, "token ids");
    ids->data[ids->len++] = id;
    return VLM_OK;
}

uint32_t vlm_tokenizer_id(const vlm_tokenizer *tok, vlm_bytes text)
{
    const vlm_added_token *added = vlm_added_find(&tok->added, text);
    return added != NULL ? added->id : vlm_vocab_find(&tok->vocab, text);
}

/* The library gives an added token the id of the same string in the vocabulary, else the next free
 * one, whatever tokenizer.json says. */
static uint32_t next_added_id(const vlm_tokenizer *tok)
{
    const uint32_t id = (uint32_t)tok->vocab.n;
    return tok->next_added_id > id ? tok->next_added_id : id;
}

vlm_status vlm_tokenizer_add_token(vlm_tokenizer *tok, vlm_bytes text, const vlm_added_token *token,
                                   uint32_t given_id, vlm_error *err)
{
    if (vlm_added_find(&tok->added, text) != NULL) return VLM_OK;
    vlm_added_token fresh = *token;
    const uint32_t known = vlm_vocab_find(&tok->vocab, text);
    if (known != VLM_VOCAB_NONE)
        fresh.id = known;
    else
        fresh.id = tok->source == VLM_TOKENIZER_JSON ? next_added_id(tok) : given_id;
    if (fresh.id >= tok->next_added_id) tok->next_added_id = fresh.id + 1;
    return vlm_added_add(&tok->added, text, &fresh, err);
}

/* Put the added tokens into their tries: as they are, or as the normalizer leaves them. */
static vlm_status build_tries(vlm_tokenizer *tok, vlm_error *err)
{
    vlm_norm_scratch scratch;
    vlm_norm_scratch_init(&scratch);
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < tok->added.n && status == VLM_OK; i++) {
        const vlm_added_token *token = &tok->added.tokens[i];
        vlm_bytes text = vlm_added_text(&tok->added, i);
        /* Of two tokens with one id the later one is found, as in the library. */
        if (tok->tokens[token->id].text.ptr != text.ptr) continue;
        if (!token->normalized) {
            tok->added.has_raw = true;
            status = vlm_trie_add(&tok->added.raw, text, (uint32_t)i, err);
            continue;
        }
        const uint8_t *user = NULL;
        status = vlm_normalizer_run(&tok->norm, &scratch, &text, &user, err);
        if (status != VLM_OK) continue;
        if (text.len == 0) {
            tok->tokens[token->id].text = (vlm_bytes){.ptr = ""};
            continue;
        }
        tok->added.has_normalized = true;
        status = vlm_trie_add(&tok->added.normalized, text, (uint32_t)i, err);
        /* The library writes such a token as the normalizer leaves it. */
        const char *copy = vlm_arena_strndup(&tok->arena, text.ptr, text.len);
        if (status == VLM_OK && copy == NULL) status = vlm_fail_memory(err, "added tokens");
        tok->tokens[token->id].text = (vlm_bytes){copy, text.len};
    }
    vlm_norm_scratch_fini(&scratch);
    return status;
}

static vlm_status build_tokens(vlm_tokenizer *tok, vlm_error *err)
{
    size_t n = tok->vocab.n_ids;
    for (size_t i = 0; i < tok->added.n; i++)
        if (tok->added.tokens[i].id >= n) n = (size_t)tok->added.tokens[i].id + 1;
    if (n > VLM_TOKEN_ID_MAX || n > tok->vocab.n_ids + tok->added.n + (1 << 20))
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "tokenizer: an added token has the id %zu, far above the others", n - 1);
    tok->tokens = vlm_calloc(n, sizeof *tok->tokens);
    if (tok->tokens == NULL) return vlm_fail_memory(err, "tokenizer");
    tok->n_tokens = n;
    for (size_t i = 0; i < tok->vocab.n_ids; i++)
        tok->tokens[i].text = vlm_vocab_token(&tok->vocab, (uint32_t)i);
    for (size_t i = 0; i < tok->added.n; i++)
        tok->tokens[tok->added.tokens[i].id] =
            (vlm_token){vlm_added_text(&tok->added, i), tok->added.tokens[i].special};
    return VLM_OK;
}

/* An id below the highest may be without a token: the model may know it all the same. */
static vlm_status check_ids(const vlm_tokenizer *tok, const vlm_ids *ids, vlm_error *err)
{
    for (size_t i = 0; i < ids->len; i++)
        if (ids->data[i] >= tok->n_tokens)
            return vlm_fail(err, VLM_INVALID_ARGUMENT,
                            "tokenizer: the post_processor adds the id %u of %zu", ids->data[i],
                            tok->n_tokens);
    return VLM_OK;
}

static vlm_status load_files(vlm_tokenizer *tok, const vlm_tokenizer_files *files, vlm_error *err)
{
    if (files->tokenizer_json.ptr != NULL) {
        tok->source = VLM_TOKENIZER_JSON;
        return vlm_tokenizer_load_json(tok, files->tokenizer_json, err);
    }
    if (files->tekken_json.ptr != NULL) {
        tok->source = VLM_TOKENIZER_TEKKEN;
        return vlm_tokenizer_load_tekken(tok, files->tekken_json, err);
    }
    if (files->tokenizer_model.ptr != NULL &&
        !vlm_tokenizer_looks_like_tiktoken(files->tokenizer_model)) {
        tok->source = VLM_TOKENIZER_SENTENCEPIECE;
        return vlm_tokenizer_load_spm(tok, files->tokenizer_model, err);
    }
    const vlm_bytes lines =
        files->tokenizer_model.ptr != NULL ? files->tokenizer_model : files->tiktoken;
    if (lines.ptr != NULL) {
        tok->source = VLM_TOKENIZER_TIKTOKEN;
        return vlm_tokenizer_load_tiktoken(tok, lines, err);
    }
    return vlm_fail(
        err, VLM_NOT_FOUND,
        "no tokenizer: none of tokenizer.json, tekken.json, tokenizer.model, *.tiktoken");
}

static vlm_status load(vlm_tokenizer *tok, const vlm_tokenizer_files *files, vlm_error *err)
{
    VLM_TRY(load_files(tok, files, err));
    VLM_TRY(vlm_tokenizer_load_config(tok, files, err));
    VLM_TRY(build_tokens(tok, err));
    VLM_TRY(build_tries(tok, err));
    VLM_TRY(check_ids(tok, &tok->prefix, err));
    return check_ids(tok, &tok->suffix, err);
}

vlm_status vlm_tokenizer_new(const vlm_tokenizer_files *files, vlm_tokenizer **out, vlm_error *err)
{
    *out = NULL;
    vlm_tokenizer *tok = calloc(1, sizeof *tok);
    if (tok == NULL) return vlm_fail_memory(err, "tokenizer");
    tok->bpe.vocab = &tok->vocab;
    tok->bpe.unk_id = VLM_VOCAB_NONE;
    tok->bos_id = tok->eos_id = tok->unk_id = VLM_VOCAB_NONE;
    vlm_arena_init(&tok->arena, STRINGS_LEN_MAX);
    const vlm_status status = load(tok, files, err);
    if (status != VLM_OK) {
        vlm_tokenizer_free(tok);
        return status;
    }
    *out = tok;
    return VLM_OK;
}

void vlm_tokenizer_free(vlm_tokenizer *tok)
{
    if (tok == NULL) return;
    vlm_bpe_fini(&tok->bpe);
    vlm_vocab_fini(&tok->vocab);
    vlm_vocab_fini(&tok->extra);
    vlm_added_fini(&tok->added);
    vlm_normalizer_fini(&tok->norm);
    vlm_pretok_fini(&tok->pretok);
    vlm_decoder_fini(&tok->decoder);
    vlm_ids_fini(&tok->prefix);
    vlm_ids_fini(&tok->suffix);
    free(tok->tokens);
    free(tok->named);
    vlm_arena_fini(&tok->arena);
    free(tok);
}

uint32_t vlm_tokenizer_n_vocab(const vlm_tokenizer *tok)
{
    return (uint32_t)tok->n_tokens;
}

bool vlm_tokenizer_find(const vlm_tokenizer *tok, vlm_bytes token, uint32_t *id)
{
    const uint32_t found = vlm_tokenizer_id(tok, token);
    if (found == VLM_VOCAB_NONE) return false;
    *id = found;
    return true;
}

bool vlm_tokenizer_is_special(const vlm_tokenizer *tok, uint32_t id)
{
    return id < tok->n_tokens && tok->tokens[id].special;
}

bool vlm_tokenizer_text_has_bos(const vlm_tokenizer *tok, vlm_bytes text)
{
    if (tok->prefix.len == 0) return false;
    vlm_bytes bos = tok->tokens[tok->prefix.data[0]].text;
    if (bos.len == 0) bos = vlm_tokenizer_special(tok, "bos_token");
    return bos.len > 0 && vlm_bytes_starts(text, bos);
}

vlm_bytes vlm_tokenizer_special(const vlm_tokenizer *tok, const char *name)
{
    for (size_t i = 0; i < tok->n_named; i++)
        if (vlm_bytes_eq_str(tok->named[i].name, name)) return tok->named[i].text;
    return (vlm_bytes){.ptr = ""};
}

size_t vlm_tokenizer_n_specials(const vlm_tokenizer *tok)
{
    return tok->n_named;
}

void vlm_tokenizer_special_at(const vlm_tokenizer *tok, size_t idx, vlm_bytes *name,
                              vlm_bytes *text)
{
    *name = tok->named[idx].name;
    *text = tok->named[idx].text;
}

const char *vlm_tokenizer_kind(const vlm_tokenizer *tok)
{
    switch (tok->source) {
    case VLM_TOKENIZER_SENTENCEPIECE:
        return tok->bpe.byte_fallback ? "BPE (SentencePiece model, byte fallback)"
                                      : "BPE (SentencePiece model)";
    case VLM_TOKENIZER_TEKKEN: return "BPE (byte-level, tekken)";
    case VLM_TOKENIZER_TIKTOKEN: return "BPE (byte-level, tiktoken)";
    case VLM_TOKENIZER_JSON: break;
    }
    if (tok->byte_level) return "BPE (byte-level)";
    return tok->bpe.byte_fallback ? "BPE (SentencePiece, byte fallback)" : "BPE (characters)";
}
