#include <stdlib.h>

#include "text/tokenizer_parts.h"

struct vlm_detok {
    const vlm_tokenizer *tok;
    vlm_decoder_state state;
};

/* Ids without a token are skipped, as the library does. */
static vlm_status push(const vlm_tokenizer *tok, vlm_decoder_state *state, uint32_t id,
                       bool skip_special, vlm_buf *out, vlm_error *err)
{
    if (id >= tok->n_tokens || tok->tokens[id].text.ptr == NULL) return VLM_OK;
    if (skip_special && tok->tokens[id].special) return VLM_OK;
    return vlm_decoder_push(state, tok->tokens[id].text, out, err);
}

vlm_status vlm_tokenizer_decode(const vlm_tokenizer *tok, const uint32_t *ids, size_t n,
                                bool skip_special, vlm_buf *out, vlm_error *err)
{
    const size_t len = out->len;
    vlm_decoder_state state;
    vlm_decoder_state_init(&state, &tok->decoder);
    vlm_status status = VLM_OK;
    for (size_t i = 0; i < n && status == VLM_OK; i++)
        status = push(tok, &state, ids[i], skip_special, out, err);
    if (status == VLM_OK) status = vlm_decoder_flush(&state, out, err);
    vlm_decoder_state_fini(&state);
    if (status != VLM_OK && out->data != NULL) {
        out->len = len;
        out->data[len] = '\0';
    }
    return status;
}

vlm_status vlm_tokenizer_token_bytes(const vlm_tokenizer *tok, uint32_t id, vlm_buf *out,
                                     vlm_error *err)
{
    if (id >= tok->n_tokens || tok->tokens[id].text.ptr == NULL) return VLM_OK;
    vlm_decoder_state state;
    vlm_decoder_state_init(&state, &tok->decoder);
    const vlm_status status = vlm_decoder_token_bytes(&state, tok->tokens[id].text, out, err);
    vlm_decoder_state_fini(&state);
    return status;
}

vlm_status vlm_detok_token_bytes(vlm_detok *detok, uint32_t id, vlm_buf *out, vlm_error *err)
{
    const vlm_tokenizer *tok = detok->tok;
    if (id >= tok->n_tokens || tok->tokens[id].text.ptr == NULL) return VLM_OK;
    vlm_decoder_state_reset(&detok->state);
    return vlm_decoder_token_bytes(&detok->state, tok->tokens[id].text, out, err);
}

size_t vlm_tokenizer_longest(const vlm_tokenizer *tok)
{
    size_t longest = 0;
    for (uint32_t i = 0; i < tok->n_tokens; i++)
        if (tok->tokens[i].text.ptr != NULL && tok->tokens[i].text.len > longest)
            longest = tok->tokens[i].text.len;
    return longest;
}

/* Each step may hold a token and what it was made of, and a byte for each token of a run. */
vlm_status vlm_detok_reserve(vlm_detok *detok, uint32_t n_tokens, vlm_error *err)
{
    return vlm_decoder_state_reserve(&detok->state,
                                     4 * vlm_tokenizer_longest(detok->tok) + n_tokens + 64, err);
}

vlm_status vlm_detok_new(const vlm_tokenizer *tok, vlm_detok **out, vlm_error *err)
{
    vlm_detok *detok = calloc(1, sizeof *detok);
    *out = detok;
    if (detok == NULL) return vlm_fail_memory(err, "detokenizer");
    detok->tok = tok;
    vlm_decoder_state_init(&detok->state, &tok->decoder);
    return VLM_OK;
}

vlm_status vlm_detok_push(vlm_detok *detok, uint32_t id, vlm_buf *out, vlm_error *err)
{
    return push(detok->tok, &detok->state, id, true, out, err);
}

vlm_status vlm_detok_flush(vlm_detok *detok, vlm_buf *out, vlm_error *err)
{
    return vlm_decoder_flush(&detok->state, out, err);
}

void vlm_detok_reset(vlm_detok *detok)
{
    vlm_decoder_state_reset(&detok->state);
}

void vlm_detok_free(vlm_detok *detok)
{
    if (detok == NULL) return;
    vlm_decoder_state_fini(&detok->state);
    free(detok);
}
