/* bpe.h - byte-pair encoding of one word: symbols, merged pair by pair, lowest rank first and
 * leftmost on ties (Sennrich et al. 2016, as in the `tokenizers` library's BPE model).
 * Takes time n log n for a word of n symbols, whatever it holds.
 * Not: where words begin and end (pretok.h), nor normalisation.
 * Ownership: a model borrows its vocabulary.  Threads: a model is built by one, then read by many;
 * a scratch belongs to one. */
#ifndef VLM_TEXT_BPE_H
#define VLM_TEXT_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

enum { VLM_BPE_EXTRA_FROM = 1 << 30 };

typedef struct vlm_bpe_pair {
    uint64_t key; /* left id << 32 | right id */
    uint32_t rank, new_id;
} vlm_bpe_pair;

/* Zero-initialise before use; the fields up to the line are then set by the loader. */
typedef struct vlm_bpe {
    const vlm_vocab *vocab;
    bool byte_fallback, fuse_unk, ignore_merges;
    uint32_t unk_id;   /* VLM_VOCAB_NONE: a character without a token is dropped */
    bool unk_missing;  /* an unk token is named that is not in the vocabulary */
    char *word_prefix; /* continuing_subword_prefix, before every symbol but the first */
    char *word_suffix; /* end_of_word_suffix, behind the last symbol; NULL: none */
    /* Characters that only occur inside tokens: symbols that merge, but what is left of them is
     * unknown.  Their ids count from VLM_BPE_EXTRA_FROM.  NULL: there are none. */
    const vlm_vocab *extra;

    vlm_bpe_pair *pairs; /* hash table; rank VLM_VOCAB_NONE marks an empty slot */
    size_t n_pairs, n_slots;
    uint8_t *joins; /* one bit for a hash of two neighbouring first symbols: may merge */
    size_t joins_mask;
    uint32_t *char_ids;         /* id of each code point below 0x10000 */
    uint32_t byte_ids[256];     /* id of the stand-in of each byte */
    uint32_t fallback_ids[256]; /* id of "<0x00>"... */
} vlm_bpe;

void vlm_bpe_fini(vlm_bpe *bpe);
/* left and right become new_id.  A pair that is already there gets the new rank and id.
 * Ranks are below VLM_VOCAB_NONE. */
VLM_MUST_USE vlm_status vlm_bpe_add_merge(vlm_bpe *bpe, uint32_t left, uint32_t right,
                                          uint32_t rank, uint32_t new_id, vlm_error *err);
/* NULL when the two do not merge. */
const vlm_bpe_pair *vlm_bpe_find_pair(const vlm_bpe *bpe, uint32_t left, uint32_t right);
/* The symbol of one character; VLM_VOCAB_NONE if there is none. */
uint32_t vlm_bpe_find_char(const vlm_bpe *bpe, vlm_bytes text);
/* The bit of joins for two neighbouring symbols; joins is NULL when any two may merge. */
size_t vlm_bpe_join_bit(const vlm_bpe *bpe, uint32_t left, uint32_t right);
/* After the last merge: tables for characters and bytes. */
VLM_MUST_USE vlm_status vlm_bpe_finish(vlm_bpe *bpe, vlm_error *err);

/* A symbol of a word in a linked list, and the merge with its right neighbour. */
typedef struct vlm_bpe_symbol {
    uint32_t id; /* VLM_VOCAB_NONE once it is merged away */
    uint32_t prev, next;
    uint32_t rank, new_id;
} vlm_bpe_symbol;

/* Pending merges, rank << 32 | position, least first: a sorted run and a heap. */
typedef struct vlm_bpe_queue {
    uint64_t *run, *heap;
    size_t run_pos, run_len, run_cap;
    size_t heap_len, heap_cap;
    bool heap_is_sorted;
} vlm_bpe_queue;

typedef struct vlm_bpe_scratch {
    uint32_t *ids; /* the symbols of a word before and after merging */
    size_t n_ids, cap_ids;
    vlm_bpe_symbol *symbols;
    size_t cap_symbols;
    vlm_bpe_queue queue;
    vlm_buf word;
} vlm_bpe_scratch;
void vlm_bpe_scratch_init(vlm_bpe_scratch *scratch);
void vlm_bpe_scratch_fini(vlm_bpe_scratch *scratch);

/* Append the ids of a word, not empty, UTF-8.  as_bytes: its bytes are the symbols, each through
 * its stand-in; otherwise its characters are.
 * INVALID_ARGUMENT for a character that has no token where the unk token is missing. */
VLM_MUST_USE vlm_status vlm_bpe_encode(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes word,
                                       bool as_bytes, vlm_ids *out, vlm_error *err);

#endif
