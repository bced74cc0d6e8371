/* tokenizer.h - text to token ids and back, from the tokenizer files of a Hugging Face folder.
 * The reference is the `tokenizers` library reading tokenizer.json as it stands; tokenizer.model
 * alone behaves as SentencePiece, tekken.json and *.tiktoken as tiktoken.
 * Text is bytes: ill-formed UTF-8 is read as U+FFFD for each maximal bad part, as Python and WHATWG
 * decode it.
 * Not: chat templates (chat.h), images (an image is one placeholder token here).
 * Ownership: a tokenizer owns all it needs; the files may be unmapped after vlm_tokenizer_new.
 * Threads: a tokenizer is immutable after new and shared by threads; a vlm_detok belongs to one. */
#ifndef VLM_TEXT_TOKENIZER_H
#define VLM_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/span.h"

typedef struct vlm_tokenizer vlm_tokenizer;

/* Contents of a folder's files; ptr NULL where a file is absent.  The model is taken from the first
 * that is there of tokenizer_json, tekken_json, tokenizer_model, tiktoken. */
typedef struct vlm_tokenizer_files {
    vlm_bytes tokenizer_json;
    vlm_bytes tokenizer_model; /* SentencePiece protobuf, or tiktoken lines under that name */
    vlm_bytes tokenizer_config;
    vlm_bytes special_tokens_map;
    vlm_bytes added_tokens;
    vlm_bytes tekken_json;
    vlm_bytes tiktoken;
} vlm_tokenizer_files;

/* NOT_FOUND when no file holds a model, INVALID_ARGUMENT naming file and field for a broken one,
 * UNIMPLEMENTED naming a component that is not supported, RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_tokenizer_new(const vlm_tokenizer_files *files, vlm_tokenizer **out,
                                          vlm_error *err);
void vlm_tokenizer_free(vlm_tokenizer *tok);

/* Token ids; zero-initialise before use. */
typedef struct vlm_ids {
    uint32_t *data;
    size_t len, cap;
} vlm_ids;
void vlm_ids_fini(vlm_ids *ids);
/* RESOURCE_EXHAUSTED when out of memory; the list is then unchanged. */
VLM_MUST_USE vlm_status vlm_ids_append(vlm_ids *ids, uint32_t id, vlm_error *err);

typedef struct vlm_encode_options {
    bool add_special; /* what the post-processor adds: BOS and such */
    bool plain;       /* strings of special tokens in the text are plain text; others still parse */
    /* Parts of the text that a user wrote, sorted and disjoint.  A match of an added token that
     * touches one is not taken (a shorter one that does not, is), so that a user cannot write a
     * special token.  Only added tokens of white space alone, which carry no control, still parse
     * there. */
    const vlm_span *user_spans;
    size_t n_user_spans;
} vlm_encode_options;

/* Append text's ids to out.  opt may be NULL: nothing added, everything parsed.  On error out keeps
 * what it had.  INVALID_ARGUMENT for a character that the vocabulary cannot say,
 * RESOURCE_EXHAUSTED for memory or a split pattern that exceeds its limits on this text. */
VLM_MUST_USE vlm_status vlm_tokenizer_encode(const vlm_tokenizer *tok, vlm_bytes text,
                                             const vlm_encode_options *opt, vlm_ids *out,
                                             vlm_error *err);

/* Append the text of the ids to out.  Ids without a token are skipped; with skip_special also the
 * special tokens.  Nothing is "cleaned up".  On error out keeps what it had. */
VLM_MUST_USE vlm_status vlm_tokenizer_decode(const vlm_tokenizer *tok, const uint32_t *ids,
                                             size_t n, bool skip_special, vlm_buf *out,
                                             vlm_error *err);

/* Append the bytes that one token stands for wherever it is not at an end of a text: with the space
 * that decoding takes from a first word, and not always whole code points.  Nothing for an id
 * without a token. */
VLM_MUST_USE vlm_status vlm_tokenizer_token_bytes(const vlm_tokenizer *tok, uint32_t id,
                                                  vlm_buf *out, vlm_error *err);

/* True when text starts with the string of the BOS token that add_special would put there: the
 * caller then encodes without add_special, so that there is one BOS. */
bool vlm_tokenizer_text_has_bos(const vlm_tokenizer *tok, vlm_bytes text);

/* Highest id + 1, added tokens included. */
uint32_t vlm_tokenizer_n_vocab(const vlm_tokenizer *tok);
/* The id of the token that is written so in the file. */
bool vlm_tokenizer_find(const vlm_tokenizer *tok, vlm_bytes token, uint32_t *id);
/* An added token with special: true. */
bool vlm_tokenizer_is_special(const vlm_tokenizer *tok, uint32_t id);

/* The string that tokenizer_config.json or special_tokens_map.json gives a name: "bos_token",
 * "eos_token", "unk_token", "pad_token", "image_token", ...; empty when there is none. */
vlm_bytes vlm_tokenizer_special(const vlm_tokenizer *tok, const char *name);
size_t vlm_tokenizer_n_specials(const vlm_tokenizer *tok);
void vlm_tokenizer_special_at(const vlm_tokenizer *tok, size_t idx, vlm_bytes *name,
                              vlm_bytes *text);

/* "BPE (byte-level)", "BPE (SentencePiece, byte fallback)", ... for people. */
const char *vlm_tokenizer_kind(const vlm_tokenizer *tok);

/* Bytes of the longest token as the vocabulary writes it. */
size_t vlm_tokenizer_longest(const vlm_tokenizer *tok);

/* Incremental decoding.  What push and flush append is together what vlm_tokenizer_decode gives for
 * all ids with skip_special; never half a code point; text comes as soon as it is certain. */
typedef struct vlm_detok vlm_detok;
/* tok must outlive the detokenizer. */
VLM_MUST_USE vlm_status vlm_detok_new(const vlm_tokenizer *tok, vlm_detok **out, vlm_error *err);
VLM_MUST_USE vlm_status vlm_detok_push(vlm_detok *detok, uint32_t id, vlm_buf *out, vlm_error *err);
/* End of the text: what was held back.  Then only reset or free. */
VLM_MUST_USE vlm_status vlm_detok_flush(vlm_detok *detok, vlm_buf *out, vlm_error *err);
/* Room for as many tokens, so that neither push nor flush takes memory. */
VLM_MUST_USE vlm_status vlm_detok_reserve(vlm_detok *detok, uint32_t n_tokens, vlm_error *err);
/* As vlm_tokenizer_token_bytes, with the memory of a detokenizer that is used for nothing else. */
VLM_MUST_USE vlm_status vlm_detok_token_bytes(vlm_detok *detok, uint32_t id, vlm_buf *out,
                                              vlm_error *err);
/* As new. */
void vlm_detok_reset(vlm_detok *detok);
void vlm_detok_free(vlm_detok *detok);

#endif
