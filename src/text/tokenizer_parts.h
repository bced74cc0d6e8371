/* tokenizer_parts.h - what a tokenizer is made of; for the files tokenizer*.c alone. */
#ifndef VLM_TEXT_TOKENIZER_PARTS_H
#define VLM_TEXT_TOKENIZER_PARTS_H

#include "base/json.h"
#include "base/mem.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

typedef enum vlm_tokenizer_source {
    VLM_TOKENIZER_JSON,
    VLM_TOKENIZER_SENTENCEPIECE,
    VLM_TOKENIZER_TEKKEN,
    VLM_TOKENIZER_TIKTOKEN,
} vlm_tokenizer_source;

/* A token by its id. */
typedef struct vlm_token {
    vlm_bytes text; /* as it is decoded; ptr NULL: no token has this id */
    bool special;
} vlm_token;

typedef struct vlm_named_token {
    vlm_bytes name, text;
} vlm_named_token;

struct vlm_tokenizer {
    vlm_tokenizer_source source;
    vlm_vocab vocab, extra;
    vlm_bpe bpe;
    vlm_added added;
    vlm_normalizer norm;
    vlm_pretok pretok;
    vlm_decoder decoder;
    vlm_ids prefix, suffix; /* what add_special puts around a text */
    vlm_token *tokens;      /* by id */
    size_t n_tokens;        /* highest id + 1 */
    vlm_arena arena;        /* strings of named, normalized added tokens */
    vlm_named_token *named;
    size_t n_named, cap_named;
    uint32_t bos_id, eos_id, unk_id; /* where the model file itself names them, else NONE */
    uint32_t next_added_id;          /* one above the highest of added tokens */
    bool byte_level;
};

enum { VLM_TOKEN_ID_MAX = 1 << 24 }; /* of an id written in a file */

/* tokenizer_json.c */
VLM_MUST_USE vlm_status vlm_tokenizer_load_json(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err);
/* tokenizer_model.c: vocabulary and merges of the "model" object. */
VLM_MUST_USE vlm_status vlm_tokenizer_load_model(vlm_tokenizer *tok, const vlm_json *model,
                                                 vlm_error *err);
/* tokenizer_spm.c */
VLM_MUST_USE vlm_status vlm_tokenizer_load_spm(vlm_tokenizer *tok, vlm_bytes text, vlm_error *err);
/* tokenizer_tiktoken.c */
VLM_MUST_USE vlm_status vlm_tokenizer_load_tekken(vlm_tokenizer *tok, vlm_bytes text,
                                                  vlm_error *err);
VLM_MUST_USE vlm_status vlm_tokenizer_load_tiktoken(vlm_tokenizer *tok, vlm_bytes text,
                                                    vlm_error *err);
/* "BASE64 RANK" in its first line: Llama 3's tokenizer.model is such a file. */
bool vlm_tokenizer_looks_like_tiktoken(vlm_bytes text);
/* tokenizer_config.c: names of tokens, added tokens, BOS and EOS. */
VLM_MUST_USE vlm_status vlm_tokenizer_load_config(vlm_tokenizer *tok,
                                                  const vlm_tokenizer_files *files, vlm_error *err);

/* Add a token that is not there yet.  given_id: what the file says; tokenizer.json's ids follow the
 * library, which counts them itself. */
VLM_MUST_USE vlm_status vlm_tokenizer_add_token(vlm_tokenizer *tok, vlm_bytes text,
                                                const vlm_added_token *token, uint32_t given_id,
                                                vlm_error *err);
/* The id of a token of the vocabulary or an added one; VLM_VOCAB_NONE if there is none. */
uint32_t vlm_tokenizer_id(const vlm_tokenizer *tok, vlm_bytes text);
/* For messages: at most 64 bytes of a text, as printf's "%.*s" takes them. */
int vlm_tokenizer_shown_len(vlm_bytes text);

#endif
