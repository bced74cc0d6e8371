/* added.h - the added tokens of a tokenizer, and finding them in a text: leftmost, then longest.
 * Time is linear in the text with a factor of the longest token, which is bounded.
 * Not: what happens to the text between them.
 * Ownership: copies the strings.  Threads: built by one, then read by many. */
#ifndef VLM_TEXT_ADDED_H
#define VLM_TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/vocab.h"

enum { VLM_ADDED_LEN_MAX = 1024 }; /* bytes of an added token */

typedef struct vlm_added_token {
    uint32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
    bool is_blank; /* white space alone, counting U+2581 */
} vlm_added_token;

/* A trie of byte strings.  Zero-initialise before use. */
typedef struct vlm_trie_node {
    uint32_t first_child, next_sibling; /* node indices, 0: none */
    uint32_t value;                     /* VLM_VOCAB_NONE: no string ends here */
    uint8_t byte;
} vlm_trie_node;
typedef struct vlm_trie {
    vlm_trie_node *nodes; /* nodes[0] is the root */
    size_t n, cap;
    uint32_t roots[256]; /* child of the root by byte, 0: none */
} vlm_trie;
void vlm_trie_fini(vlm_trie *trie);
/* The first value given for a string stays.  text must not be empty. */
VLM_MUST_USE vlm_status vlm_trie_add(vlm_trie *trie, vlm_bytes text, uint32_t value,
                                     vlm_error *err);
/* The child of a node for a byte, 0 if there is none. */
uint32_t vlm_trie_child(const vlm_trie *trie, uint32_t node, uint8_t byte);

/* Zero-initialise before use. */
typedef struct vlm_added {
    vlm_vocab strings; /* id there: index into tokens */
    vlm_added_token *tokens;
    size_t n, cap;
    vlm_trie raw, normalized; /* value: index into tokens */
    bool has_raw, has_normalized;
} vlm_added;
void vlm_added_fini(vlm_added *added);
/* ALREADY_EXISTS without a text when the string is there; INVALID_ARGUMENT when it is too long. */
VLM_MUST_USE vlm_status vlm_added_add(vlm_added *added, vlm_bytes text,
                                      const vlm_added_token *token, vlm_error *err);
/* NULL when there is none. */
const vlm_added_token *vlm_added_find(const vlm_added *added, vlm_bytes text);
vlm_bytes vlm_added_text(const vlm_added *added, size_t idx);

/* A stretch of text: an added token, or what lies between two (token NULL). */
typedef struct vlm_added_piece {
    size_t begin, end;
    const vlm_added_token *token;
} vlm_added_piece;

/* Walks over a text piece by piece.  user: one byte for each byte of text, not 0 where a user wrote
 * it; NULL: nowhere. */
typedef struct vlm_added_scan {
    const vlm_added *added;
    const vlm_trie *trie;
    vlm_bytes text;
    const uint8_t *user;
    bool skip_special;
    size_t pos;                    /* where the search goes on */
    size_t done;                   /* end of the last piece */
    size_t space_begin, space_end; /* a run of white space that was measured */
    bool has_pending;
    vlm_added_piece pending;
} vlm_added_scan;
vlm_added_scan vlm_added_scan_begin(const vlm_added *added, bool normalized, vlm_bytes text,
                                    const uint8_t *user, bool skip_special);
bool vlm_added_scan_next(vlm_added_scan *scan, vlm_added_piece *piece);

#endif
