/* pretok.h - cuts a normalized piece of text into the words that the model sees.
 * A chain of the `tokenizers` library's pre-tokenizers; Sequences are flattened, and each member
 * cuts the words it gets.
 * Not: added tokens, normalisation.
 * Ownership: a chain copies its strings.  Threads: built by one, then read by many; a scratch
 * belongs to one. */
#ifndef VLM_TEXT_PRETOK_H
#define VLM_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/status.h"
#include "text/regex.h"
#include "text/span.h"

/* What a step finds in a word. */
typedef enum vlm_match_kind {
    VLM_MATCH_REGEX,
    VLM_MATCH_STRING,
    VLM_MATCH_GPT2, /* the hand-written equals of three patterns (pretok_fast.c) */
    VLM_MATCH_LLAMA3,
    VLM_MATCH_QWEN2,
    VLM_MATCH_TRAILING_SPACE, /* \s+$ */
    VLM_MATCH_NUMBER,         /* one character of category N */
    VLM_MATCH_PUNCTUATION,
    VLM_MATCH_SPACE,
    VLM_MATCH_WORD_OR_OTHER, /* \w+|[^\w\s]+ */
} vlm_match_kind;

/* What becomes of the matches. */
typedef enum vlm_split_behavior {
    VLM_SPLIT_ISOLATED,
    VLM_SPLIT_REMOVED,
    VLM_SPLIT_CONTIGUOUS,
    VLM_SPLIT_MERGED_WITH_PREVIOUS,
    VLM_SPLIT_MERGED_WITH_NEXT,
} vlm_split_behavior;

typedef enum vlm_pretok_kind {
    VLM_PRETOK_SPLIT,
    VLM_PRETOK_METASPACE,    /* spaces become `put`, which is also put in front */
    VLM_PRETOK_PREFIX_SPACE, /* ByteLevel's add_prefix_space */
    VLM_PRETOK_BYTES,        /* ByteLevel: bytes become their stand-ins */
    VLM_PRETOK_FIXED_LENGTH,
} vlm_pretok_kind;

typedef enum vlm_prefix_scheme {
    VLM_PREFIX_FIRST,
    VLM_PREFIX_ALWAYS,
    VLM_PREFIX_NEVER,
} vlm_prefix_scheme;

typedef struct vlm_pretok_step {
    vlm_pretok_kind kind;
    vlm_match_kind match;
    vlm_split_behavior behavior;
    bool invert; /* the gaps are the matches */
    vlm_prefix_scheme prefix;
    vlm_regex *regex;
    vlm_buf put;    /* METASPACE; STRING's needle */
    size_t n_chars; /* FIXED_LENGTH */
} vlm_pretok_step;

enum { VLM_PRETOK_STEPS_MAX = 64 };

/* Zero-initialise before use. */
typedef struct vlm_pretok {
    vlm_pretok_step *steps;
    size_t n, cap;
} vlm_pretok;
void vlm_pretok_fini(vlm_pretok *pretok);
/* pretok_json.c: the steps of a "pre_tokenizer" object, or none for null. */
VLM_MUST_USE vlm_status vlm_pretok_add_json(vlm_pretok *pretok, const vlm_json *node,
                                            vlm_error *err);
/* A Split by a pattern, matches and gaps both kept. */
VLM_MUST_USE vlm_status vlm_pretok_add_pattern(vlm_pretok *pretok, vlm_bytes pattern,
                                               vlm_error *err);
/* A step with defaults: SPLIT ISOLATED. */
VLM_MUST_USE vlm_status vlm_pretok_add_step(vlm_pretok *pretok, vlm_pretok_kind kind,
                                            vlm_pretok_step **step, vlm_error *err);

typedef struct vlm_pretok_scratch {
    vlm_buf text[2];
    vlm_span *spans[2];
    size_t n_spans[2], cap_spans[2];
    unsigned side_text, side_spans;
    vlm_regex_scratch *regex;
} vlm_pretok_scratch;
void vlm_pretok_scratch_init(vlm_pretok_scratch *scratch);
void vlm_pretok_scratch_fini(vlm_pretok_scratch *scratch);

/* The words of one piece: ranges of text, which lies where the caller's did or in scratch.
 * as_bytes: the words are bytes to be read through their stand-ins. */
typedef struct vlm_words {
    vlm_bytes text;
    const vlm_span *spans;
    size_t n;
    bool as_bytes;
} vlm_words;
/* text is well-formed UTF-8; at_start: it begins the whole text. */
VLM_MUST_USE vlm_status vlm_pretok_run(const vlm_pretok *pretok, vlm_pretok_scratch *scratch,
                                       vlm_bytes text, bool at_start, vlm_words *words,
                                       vlm_error *err);

/* pretok_fast.c: the end of the match of GPT2, LLAMA3 or QWEN2 that starts at pos < text.len; these
 * patterns leave no gaps. */
size_t vlm_pretok_fast_end(vlm_match_kind kind, vlm_bytes text, size_t pos);
/* The kind for a pattern; REGEX when no hand-written matcher equals it. */
vlm_match_kind vlm_pretok_fast_kind(vlm_bytes pattern);

#endif
