/* vocab.h - token strings and their ids: a hash table one way, an array the other.
 * Not: what a string means (stand-ins for bytes, pieces); added tokens have a table of their own.
 * Ownership: copies the strings.  Threads: built by one, then read by many. */
#ifndef VLM_TEXT_VOCAB_H
#define VLM_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define VLM_VOCAB_NONE UINT32_MAX /* no id */

typedef struct vlm_vocab_entry {
    uint32_t off, len; /* in text */
    uint32_t id, hash;
} vlm_vocab_entry;

/* Zero-initialise before use. */
typedef struct vlm_vocab {
    char *text;
    size_t text_len, text_cap;
    vlm_vocab_entry *entries;
    size_t n, cap;
    uint32_t *slots;       /* entry index + 1, 0 for an empty slot */
    size_t n_slots;        /* a power of two */
    uint32_t *entry_of_id; /* entry index + 1, 0 for a hole; after vlm_vocab_index */
    size_t n_ids;          /* highest id + 1; after vlm_vocab_index */
} vlm_vocab;

void vlm_vocab_fini(vlm_vocab *vocab);

/* ALREADY_EXISTS when the string is there, without a text; RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_vocab_add(vlm_vocab *vocab, vlm_bytes token, uint32_t id,
                                      vlm_error *err);
/* Lets ids be looked up.  INVALID_ARGUMENT for two strings with one id, or an id so far above the
 * number of strings that the array would be mostly holes. */
VLM_MUST_USE vlm_status vlm_vocab_index(vlm_vocab *vocab, vlm_error *err);

/* VLM_VOCAB_NONE when it is not there. */
uint32_t vlm_vocab_find(const vlm_vocab *vocab, vlm_bytes token);
/* The same for the string a followed by the string b. */
uint32_t vlm_vocab_find_joined(const vlm_vocab *vocab, vlm_bytes a, vlm_bytes b);
/* Its string; ptr is NULL for an id without one. */
vlm_bytes vlm_vocab_token(const vlm_vocab *vocab, uint32_t id);

#endif
