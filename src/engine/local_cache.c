/* local_cache.c - the blocks of a sequence: found, taken, shared, copied before they are written,
 * and let go. */
#include <assert.h>

#include "engine/local.h"

enum { BLOCK = VLM_KV_BLOCK_TOKENS };

uint32_t vlm_seq_n_tokens(const vlm_seq *seq)
{
    return (uint32_t)seq->job->prompt.ids.len + seq->n_answer;
}

uint32_t vlm_seq_token(const vlm_seq *seq, uint32_t position)
{
    const vlm_ids *prompt = &seq->job->prompt.ids;
    return position < prompt->len ? prompt->data[position] : seq->answer[position - prompt->len];
}

static uint32_t blocks_for(uint32_t n_tokens)
{
    return (n_tokens + BLOCK - 1) / BLOCK;
}

/* The key of a full block, found out in order. */
static const vlm_slot_key *key_of(vlm_seq *seq, uint32_t block)
{
    const vlm_local_job *j = seq->job;
    if (block < j->n_prompt_keys) return &j->prompt_keys[block];
    const vlm_block_pictures pictures = vlm_local_block_pictures(j);
    if (seq->n_keys < j->n_prompt_keys) seq->n_keys = j->n_prompt_keys;
    for (; seq->n_keys <= block; seq->n_keys++) {
        const uint32_t at = seq->n_keys - j->n_prompt_keys;
        uint32_t ids[BLOCK];
        for (uint32_t i = 0; i < BLOCK; i++) ids[i] = vlm_seq_token(seq, seq->n_keys * BLOCK + i);
        const vlm_slot_key *before = at > 0                 ? &seq->keys[at - 1]
                                     : j->n_prompt_keys > 0 ? &j->prompt_keys[seq->n_keys - 1]
                                                            : &j->first_key;
        vlm_block_key_next(before, ids, seq->n_keys * BLOCK, &pictures, &seq->keys[at]);
    }
    return &seq->keys[block - j->n_prompt_keys];
}

/* Tokens begin..end-1 need not be computed. */
static void note_found(vlm_local *l, vlm_local_job *j, uint32_t begin, uint32_t end)
{
    const uint32_t n_prompt = (uint32_t)j->prompt.ids.len;
    if (end > n_prompt) end = n_prompt;
    if (begin < j->n_seen) begin = j->n_seen;
    if (end <= begin) return;
    j->n_seen = end;
    j->n_cached += end - begin;
    l->stats.n_prefix_hits += end - begin;
}

/* Whether one block more, which must not be the last token's, has been computed by others. */
static bool find_next(vlm_local *l, vlm_seq *seq, uint32_t block, uint32_t *slot)
{
    if (l->no_prefix_cache || (block + 1) * BLOCK >= vlm_seq_n_tokens(seq)) return false;
    return vlm_slots_find(l->blocks, key_of(seq, block), slot);
}

void vlm_seq_release(vlm_local *l, vlm_seq *seq)
{
    /* The end of a sequence is forgotten before its beginning, which others may share. */
    while (seq->n_blocks > 0) vlm_slots_drop(l->blocks, seq->blocks[--seq->n_blocks]);
    seq->n_computed = seq->n_published = 0;
}

bool vlm_seq_start(vlm_local *l, vlm_seq *seq, uint32_t n_spare)
{
    assert(seq->n_blocks == 0 && seq->n_computed == 0);
    const uint32_t n_needed = blocks_for(vlm_seq_n_tokens(seq));
    uint32_t slot;
    while (find_next(l, seq, seq->n_blocks, &slot)) seq->blocks[seq->n_blocks++] = slot;
    const uint32_t n_found = seq->n_blocks;
    if (vlm_slots_n_free(l->blocks) < n_needed - n_found + n_spare) {
        vlm_seq_release(l, seq);
        return false;
    }
    while (seq->n_blocks < n_needed && vlm_slots_take(l->blocks, &slot))
        seq->blocks[seq->n_blocks++] = slot;
    assert(seq->n_blocks == n_needed);
    seq->n_computed = n_found * BLOCK;
    seq->n_published = n_found;
    seq->state = VLM_SEQ_RUNS;
    note_found(l, seq->job, 0, seq->n_computed);
    return true;
}

bool vlm_seq_make_room(vlm_local *l, vlm_seq *seq)
{
    const uint32_t block = seq->n_computed / BLOCK;
    uint32_t slot;
    if (block == seq->n_blocks) {
        if (!vlm_slots_take(l->blocks, &slot)) return false;
        seq->blocks[seq->n_blocks++] = slot;
        return true;
    }
    if (!vlm_slots_is_shared(l->blocks, seq->blocks[block])) return true;
    if (!vlm_slots_take(l->blocks, &slot)) return false;
    vlm_kv_pool_copy(&l->kv, slot, seq->blocks[block]);
    vlm_slots_drop(l->blocks, seq->blocks[block]);
    seq->blocks[block] = slot;
    return true;
}

void vlm_seq_find_more(vlm_local *l, vlm_seq *seq)
{
    uint32_t slot;
    while (seq->n_computed % BLOCK == 0 && find_next(l, seq, seq->n_computed / BLOCK, &slot)) {
        const uint32_t block = seq->n_computed / BLOCK;
        vlm_slots_drop(l->blocks, seq->blocks[block]);
        seq->blocks[block] = slot;
        note_found(l, seq->job, seq->n_computed, seq->n_computed + BLOCK);
        seq->n_computed += BLOCK;
        seq->n_published = block + 1;
    }
}

/* A block that somebody else has published meanwhile is given up for theirs: the bytes are the
 * same. */
void vlm_seq_publish(vlm_local *l, vlm_seq *seq)
{
    if (l->no_prefix_cache) return;
    for (; seq->n_published < seq->n_computed / BLOCK; seq->n_published++) {
        uint32_t *block = &seq->blocks[seq->n_published], other;
        const vlm_slot_key *key = key_of(seq, seq->n_published);
        if (vlm_slots_publish(l->blocks, *block, key)) continue;
        if (!vlm_slots_find(l->blocks, key, &other)) continue;
        vlm_slots_drop(l->blocks, *block);
        *block = other;
    }
}

void vlm_seq_fork(vlm_local *l, vlm_seq *seq, const vlm_seq *from)
{
    for (uint32_t i = 0; i < from->n_blocks; i++) {
        vlm_slots_ref(l->blocks, from->blocks[i]);
        seq->blocks[i] = from->blocks[i];
    }
    seq->n_blocks = from->n_blocks;
    seq->n_computed = from->n_computed;
    seq->n_published = from->n_published;
    seq->state = VLM_SEQ_RUNS;
}

void vlm_local_check(const vlm_local *l)
{
    uint64_t n_refs = 0, n_pictures = l->encode.n;
    for (const vlm_local_job *j = l->running.first; j != NULL; j = j->next) {
        for (uint32_t c = 0; c < j->n_choices; c++) n_refs += j->seqs[c].n_blocks;
        for (uint32_t i = 0; i < j->prompt.n_images; i++)
            n_pictures += j->image_slots[i] != VLM_SLOT_NONE;
    }
    vlm_slots_check(l->blocks);
    vlm_slots_check(l->encoded);
    assert(n_refs == vlm_slots_n_refs(l->blocks));
    assert(n_pictures == vlm_slots_n_refs(l->encoded));
}
