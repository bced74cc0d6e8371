#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* How many ids may be holes: real vocabularies have hardly any, a hostile id of 2^31 must not
 * allocate gigabytes. */
enum { HOLES_MAX = 1 << 20 };

/* Two strings hashed one after the other give the hash of both together. */
static uint64_t hash_more(uint64_t hash, vlm_bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.ptr[i]) * UINT64_C(0x100000001B3);
    return hash;
}

static uint32_t hash_end(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    return (uint32_t)(hash >> 32);
}

static uint64_t hash_begin(void)
{
    return UINT64_C(0xCBF29CE484222325);
}

void vlm_vocab_fini(vlm_vocab *vocab)
{
    free(vocab->text);
    free(vocab->entries);
    free(vocab->slots);
    free(vocab->entry_of_id);
    *vocab = (vlm_vocab){0};
}

static void put_slot(uint32_t *slots, size_t n_slots, uint32_t hash, uint32_t entry)
{
    size_t i = hash & (n_slots - 1);
    while (slots[i] != 0) i = (i + 1) & (n_slots - 1);
    slots[i] = entry + 1;
}

static vlm_status grow_slots(vlm_vocab *vocab, vlm_error *err)
{
    const size_t n_slots = vocab->n_slots == 0 ? 64 : vocab->n_slots * 2;
    uint32_t *slots = vlm_calloc(n_slots, sizeof *slots);
    if (slots == NULL) return vlm_fail_memory(err, "vocabulary");
    for (size_t i = 0; i < vocab->n; i++)
        put_slot(slots, n_slots, vocab->entries[i].hash, (uint32_t)i);
    free(vocab->slots);
    vocab->slots = slots;
    vocab->n_slots = n_slots;
    return VLM_OK;
}

/* The entry of a string that is a followed by b, or VLM_VOCAB_NONE. */
static uint32_t find_entry(const vlm_vocab *vocab, uint32_t hash, vlm_bytes a, vlm_bytes b)
{
    if (vocab->n_slots == 0) return VLM_VOCAB_NONE;
    for (size_t i = hash & (vocab->n_slots - 1); vocab->slots[i] != 0;
         i = (i + 1) & (vocab->n_slots - 1)) {
        const vlm_vocab_entry *e = &vocab->entries[vocab->slots[i] - 1];
        if (e->hash != hash || e->len != a.len + b.len) continue;
        const char *text = vocab->text + e->off;
        if (a.len > 0 && memcmp(text, a.ptr, a.len) != 0) continue;
        if (b.len > 0 && memcmp(text + a.len, b.ptr, b.len) != 0) continue;
        return vocab->slots[i] - 1;
    }
    return VLM_VOCAB_NONE;
}

vlm_status vlm_vocab_add(vlm_vocab *vocab, vlm_bytes token, uint32_t id, vlm_error *err)
{
    const uint32_t hash = hash_end(hash_more(hash_begin(), token));
    if (find_entry(vocab, hash, token, (vlm_bytes){0}) != VLM_VOCAB_NONE) return VLM_ALREADY_EXISTS;
    if (vocab->n >= vocab->n_slots / 2) VLM_TRY(grow_slots(vocab, err));
    size_t text_len;
    if (!vlm_size_add(vocab->text_len, token.len, &text_len) ||
        !vlm_grow((void **)&vocab->text, &vocab->text_cap, text_len + 1, UINT32_MAX, 1) ||
        !vlm_grow((void **)&vocab->entries, &vocab->cap, vocab->n + 1, UINT32_MAX / 4,
                  sizeof(vlm_vocab_entry)))
        return vlm_fail_memory(err, "vocabulary");
    if (token.len > 0) memcpy(vocab->text + vocab->text_len, token.ptr, token.len);
    vocab->entries[vocab->n] =
        (vlm_vocab_entry){(uint32_t)vocab->text_len, (uint32_t)token.len, id, hash};
    put_slot(vocab->slots, vocab->n_slots, hash, (uint32_t)vocab->n);
    vocab->n++;
    vocab->text_len = text_len;
    return VLM_OK;
}

vlm_status vlm_vocab_index(vlm_vocab *vocab, vlm_error *err)
{
    uint32_t highest = 0;
    for (size_t i = 0; i < vocab->n; i++)
        if (vocab->entries[i].id > highest) highest = vocab->entries[i].id;
    if (highest > vocab->n + HOLES_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "id %u in a vocabulary of %zu tokens", highest,
                        vocab->n);
    const size_t n_ids = vocab->n == 0 ? 0 : (size_t)highest + 1;
    uint32_t *entry_of_id = vlm_calloc(n_ids, sizeof *entry_of_id);
    if (entry_of_id == NULL) return vlm_fail_memory(err, "vocabulary");
    for (size_t i = 0; i < vocab->n; i++) {
        const uint32_t id = vocab->entries[i].id;
        if (entry_of_id[id] != 0) {
            free(entry_of_id);
            return vlm_fail(err, VLM_INVALID_ARGUMENT, "two tokens have the id %u", id);
        }
        entry_of_id[id] = (uint32_t)i + 1;
    }
    free(vocab->entry_of_id);
    vocab->entry_of_id = entry_of_id;
    vocab->n_ids = n_ids;
    return VLM_OK;
}

uint32_t vlm_vocab_find_joined(const vlm_vocab *vocab, vlm_bytes a, vlm_bytes b)
{
    const uint32_t hash = hash_end(hash_more(hash_more(hash_begin(), a), b));
    const uint32_t entry = find_entry(vocab, hash, a, b);
    return entry == VLM_VOCAB_NONE ? VLM_VOCAB_NONE : vocab->entries[entry].id;
}

uint32_t vlm_vocab_find(const vlm_vocab *vocab, vlm_bytes token)
{
    return vlm_vocab_find_joined(vocab, token, (vlm_bytes){0});
}

vlm_bytes vlm_vocab_token(const vlm_vocab *vocab, uint32_t id)
{
    if (id >= vocab->n_ids || vocab->entry_of_id[id] == 0) return (vlm_bytes){0};
    const vlm_vocab_entry *e = &vocab->entries[vocab->entry_of_id[id] - 1];
    return (vlm_bytes){vocab->text + e->off, e->len};
}
