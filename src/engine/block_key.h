/* block_key.h - the keys of the prefix cache: a full block of a sequence is known by all the tokens
 * up to its end, the pictures among them and the salt of whoever asked.
 * Not: who holds a block (slots.h).  Threads: pure. */
#ifndef VLM_ENGINE_BLOCK_KEY_H
#define VLM_ENGINE_BLOCK_KEY_H

#include "base/buf.h"
#include "engine/slots.h"
#include "tensor/backend.h"

/* The key before the first block; no block has it, whatever the salt. */
void vlm_block_key_first(vlm_bytes salt, vlm_slot_key *out);

/* The pictures of a sequence: the rows of picture i are the n_rows tokens from starts[i] on. */
typedef struct vlm_block_pictures {
    const vlm_slot_key *keys; /* [n] */
    const uint32_t *starts;   /* [n], rising */
    uint32_t n, n_rows;
} vlm_block_pictures;

/* SHA-256 of the key before it, the tokens ids [VLM_KV_BLOCK_TOKENS] and, for each picture that has
 * rows among them, its key and where they lie.  first_token: of the block, in its sequence. */
void vlm_block_key_next(const vlm_slot_key *before, const uint32_t *ids, uint32_t first_token,
                        const vlm_block_pictures *pictures, vlm_slot_key *out);

#endif
