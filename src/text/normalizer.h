/* normalizer.h - what a tokenizer does to a piece of text before it is cut into words.
 * A chain of the `tokenizers` library's steps; Sequences are flattened.
 * Not: SentencePiece's precompiled character maps.
 * Ownership: a chain copies its strings.  Threads: built by one, then read by many; a scratch
 * belongs to one. */
#ifndef VLM_TEXT_NORMALIZER_H
#define VLM_TEXT_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"
#include "text/regex.h"

typedef enum vlm_norm_kind {
    VLM_NORM_NFC,
    VLM_NORM_NFD,
    VLM_NORM_NFKC,
    VLM_NORM_NFKD,
    VLM_NORM_LOWERCASE,
    VLM_NORM_STRIP,
    VLM_NORM_STRIP_ACCENTS,
    VLM_NORM_PREPEND,
    VLM_NORM_REPLACE,
    VLM_NORM_BYTE_LEVEL,
    VLM_NORM_COLLAPSE_SPACES, /* SentencePiece's remove_extra_whitespaces */
} vlm_norm_kind;

typedef struct vlm_norm_step {
    vlm_norm_kind kind;
    bool left, right;  /* STRIP */
    vlm_regex *regex;  /* REPLACE by a pattern; NULL: by find */
    vlm_buf find, put; /* REPLACE; put also PREPEND */
} vlm_norm_step;

enum { VLM_NORM_STEPS_MAX = 64 };

/* Zero-initialise before use. */
typedef struct vlm_normalizer {
    vlm_norm_step *steps;
    size_t n, cap;
} vlm_normalizer;
void vlm_normalizer_fini(vlm_normalizer *norm);
/* Add the steps of a "normalizer" object of tokenizer.json, or none for null.  UNIMPLEMENTED names
 * a type that is not supported. */
VLM_MUST_USE vlm_status vlm_normalizer_add_json(vlm_normalizer *norm, const vlm_json *node,
                                                vlm_error *err);
/* Steps of other files.  find and put are used by PREPEND (put) and REPLACE. */
VLM_MUST_USE vlm_status vlm_normalizer_add(vlm_normalizer *norm, vlm_norm_kind kind, vlm_bytes find,
                                           vlm_bytes put, vlm_error *err);

/* Two texts that steps write to by turns, and one byte for each of theirs: not 0 where a user wrote
 * what it came from. */
typedef struct vlm_norm_scratch {
    vlm_buf text[2], user[2];
    int32_t *chars;
    size_t cap_chars;
    int32_t *sorted;
    size_t cap_sorted;
    vlm_regex_scratch *regex; /* made when first needed */
    bool lost_start;          /* the text's first character is gone, after vlm_normalizer_run */
} vlm_norm_scratch;
void vlm_norm_scratch_init(vlm_norm_scratch *scratch);
void vlm_norm_scratch_fini(vlm_norm_scratch *scratch);

/* text is well-formed UTF-8; user has one byte for each of its bytes, or is NULL.  The results are
 * the same pointers or lie in scratch until its next use. */
VLM_MUST_USE vlm_status vlm_normalizer_run(const vlm_normalizer *norm, vlm_norm_scratch *scratch,
                                           vlm_bytes *text, const uint8_t **user, vlm_error *err);

/* nfc.c: Unicode normalisation (UAX #15) of kind NFC..NFKD into scratch's text[side]. */
VLM_MUST_USE vlm_status vlm_norm_unicode(vlm_norm_scratch *scratch, unsigned side,
                                         vlm_norm_kind kind, vlm_bytes text, const uint8_t *user,
                                         vlm_error *err);
/* Append len bytes, all with one mark, to scratch's text[side] and, unless user is NULL, user. */
VLM_MUST_USE vlm_status vlm_norm_put(vlm_norm_scratch *scratch, unsigned side, const char *text,
                                     size_t len, const uint8_t *user, uint8_t mark, vlm_error *err);

#endif
