#include "engine/block_key.h"

#include <string.h>

#include "base/sha256.h"

_Static_assert(sizeof(vlm_slot_key) == VLM_SHA256_LEN, "a key is a digest");

void vlm_block_key_first(vlm_bytes salt, vlm_slot_key *out)
{
    /* Twice, or a salt could be the text of a block: whoever chose it would find, and make, blocks
     * of others' prompts. */
    vlm_sha256(salt.ptr == NULL ? "" : salt.ptr, salt.len, out->bytes);
    vlm_sha256(out->bytes, sizeof out->bytes, out->bytes);
}

static void put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> 8 * i);
}

void vlm_block_key_next(const vlm_slot_key *before, const uint32_t *ids, uint32_t first_token,
                        const vlm_block_pictures *pictures, vlm_slot_key *out)
{
    enum {
        PICTURE_LEN = VLM_SHA256_LEN + 8,
        TOKENS_LEN = 4 * VLM_KV_BLOCK_TOKENS,
        LEN_MAX = VLM_SHA256_LEN + TOKENS_LEN + VLM_KV_BLOCK_TOKENS * PICTURE_LEN
    };
    uint8_t text[LEN_MAX];
    size_t len = VLM_SHA256_LEN;
    memcpy(text, before->bytes, VLM_SHA256_LEN);
    for (size_t i = 0; i < VLM_KV_BLOCK_TOKENS; i++, len += 4) put_u32(text + len, ids[i]);
    const uint32_t end = first_token + VLM_KV_BLOCK_TOKENS;
    for (uint32_t i = 0; i < pictures->n; i++) {
        const uint32_t start = pictures->starts[i], stop = start + pictures->n_rows;
        if (start >= end) break;
        if (stop <= first_token) continue;
        memcpy(text + len, pictures->keys[i].bytes, VLM_SHA256_LEN);
        /* Where the picture begins in the block, or which of its rows comes first. */
        put_u32(text + len + VLM_SHA256_LEN, start > first_token ? start - first_token : 0);
        put_u32(text + len + VLM_SHA256_LEN + 4, start > first_token ? 0 : first_token - start);
        len += PICTURE_LEN;
    }
    vlm_sha256(text, len, out->bytes);
}
