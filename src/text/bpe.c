#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/standin.h"

enum { N_CHAR_IDS = 0x10000 };

void vlm_bpe_fini(vlm_bpe *bpe)
{
    free(bpe->word_prefix);
    free(bpe->word_suffix);
    free(bpe->pairs);
    free(bpe->joins);
    free(bpe->char_ids);
    *bpe = (vlm_bpe){0};
}

static size_t pair_slot(uint64_t key, size_t n_slots)
{
    const uint64_t hash = (key ^ key >> 29) * UINT64_C(0x9E3779B97F4A7C15);
    return (size_t)(hash >> 20) & (n_slots - 1);
}

/* The slot that holds key, or the empty one where it belongs. */
static vlm_bpe_pair *find_slot(vlm_bpe_pair *pairs, size_t n_slots, uint64_t key)
{
    size_t i = pair_slot(key, n_slots);
    while (pairs[i].rank != VLM_VOCAB_NONE && pairs[i].key != key) i = (i + 1) & (n_slots - 1);
    return &pairs[i];
}

const vlm_bpe_pair *vlm_bpe_find_pair(const vlm_bpe *bpe, uint32_t left, uint32_t right)
{
    if (bpe->n_slots == 0) return NULL;
    const vlm_bpe_pair *pair = find_slot(bpe->pairs, bpe->n_slots, (uint64_t)left << 32 | right);
    return pair->rank == VLM_VOCAB_NONE ? NULL : pair;
}

static vlm_status grow_pairs(vlm_bpe *bpe, vlm_error *err)
{
    const size_t n_slots = bpe->n_slots == 0 ? 64 : bpe->n_slots * 2;
    vlm_bpe_pair *pairs = vlm_calloc(n_slots, sizeof *pairs);
    if (pairs == NULL) return vlm_fail_memory(err, "merges");
    for (size_t i = 0; i < n_slots; i++) pairs[i].rank = VLM_VOCAB_NONE;
    for (size_t i = 0; i < bpe->n_slots; i++)
        if (bpe->pairs[i].rank != VLM_VOCAB_NONE)
            *find_slot(pairs, n_slots, bpe->pairs[i].key) = bpe->pairs[i];
    free(bpe->pairs);
    bpe->pairs = pairs;
    bpe->n_slots = n_slots;
    return VLM_OK;
}

vlm_status vlm_bpe_add_merge(vlm_bpe *bpe, uint32_t left, uint32_t right, uint32_t rank,
                             uint32_t new_id, vlm_error *err)
{
    if (bpe->n_pairs >= bpe->n_slots / 2) VLM_TRY(grow_pairs(bpe, err));
    const uint64_t key = (uint64_t)left << 32 | right;
    vlm_bpe_pair *pair = find_slot(bpe->pairs, bpe->n_slots, key);
    if (pair->rank == VLM_VOCAB_NONE) bpe->n_pairs++;
    *pair = (vlm_bpe_pair){key, rank, new_id};
    return VLM_OK;
}

uint32_t vlm_bpe_find_char(const vlm_bpe *bpe, vlm_bytes text)
{
    const uint32_t id = vlm_vocab_find(bpe->vocab, text);
    return id != VLM_VOCAB_NONE || bpe->extra == NULL ? id : vlm_vocab_find(bpe->extra, text);
}

/* Symbols of the first and last character of a token; of an extra, itself. */
static void end_symbols(const vlm_bpe *bpe, uint32_t id, uint32_t *first, uint32_t *last)
{
    const vlm_bytes token = vlm_vocab_token(bpe->vocab, id);
    *first = *last = id;
    if (token.len == 0) return;
    uint32_t cp;
    bool is_bad = false;
    const size_t n_first = vlm_utf8_decode(token.ptr, token.len, &cp, &is_bad);
    size_t begin = token.len - 1;
    while (begin > 0 && ((unsigned char)token.ptr[begin] & 0xC0) == 0x80) begin--;
    *first = vlm_bpe_find_char(bpe, (vlm_bytes){token.ptr, n_first});
    *last = vlm_bpe_find_char(bpe, (vlm_bytes){token.ptr + begin, token.len - begin});
}

size_t vlm_bpe_join_bit(const vlm_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t hash = ((uint64_t)left << 32 | right) * UINT64_C(0xD6E8FEB86659FD93);
    return (size_t)(hash >> 24) & bpe->joins_mask;
}

/* The unknown token, or a byte's. */
static bool stands_for_unknown(const vlm_bpe *bpe, uint32_t id)
{
    if (id == bpe->unk_id) return true;
    const vlm_bytes token = vlm_vocab_token(bpe->vocab, id);
    return bpe->byte_fallback && token.len == 6 && memcmp(token.ptr, "<0x", 3) == 0;
}

/* A merge ever crosses the border between two first symbols only if some pair's left half ends with
 * the one and its right half begins with the other.  Elsewhere a long word can be cut and the parts
 * merged alone.  That holds while first symbols are characters: a token such as <0x41> or the
 * unknown token that takes part in merges has an end that is not the end of its string. */
static vlm_status find_joins(vlm_bpe *bpe, vlm_error *err)
{
    if (bpe->word_prefix != NULL || bpe->word_suffix != NULL) return VLM_OK;
    for (size_t i = 0; i < bpe->n_slots; i++)
        if (bpe->pairs[i].rank != VLM_VOCAB_NONE &&
            (stands_for_unknown(bpe, (uint32_t)bpe->pairs[i].key) ||
             stands_for_unknown(bpe, (uint32_t)(bpe->pairs[i].key >> 32))))
            return VLM_OK;
    size_t n_bits = 1 << 13;
    while (n_bits < bpe->n_pairs * 8) n_bits *= 2;
    bpe->joins = vlm_calloc(n_bits / 8, 1);
    if (bpe->joins == NULL) return vlm_fail_memory(err, "merges");
    bpe->joins_mask = n_bits - 1;
    for (size_t i = 0; i < bpe->n_slots; i++) {
        if (bpe->pairs[i].rank == VLM_VOCAB_NONE) continue;
        uint32_t unused, left, right;
        end_symbols(bpe, (uint32_t)(bpe->pairs[i].key >> 32), &unused, &left);
        end_symbols(bpe, (uint32_t)bpe->pairs[i].key, &right, &unused);
        const size_t bit = vlm_bpe_join_bit(bpe, left, right);
        bpe->joins[bit / 8] |= (uint8_t)(1u << bit % 8);
    }
    return VLM_OK;
}

static void fill_char_ids(vlm_bpe *bpe, const vlm_vocab *vocab)
{
    for (size_t i = 0; vocab != NULL && i < vocab->n; i++) {
        const vlm_vocab_entry *e = &vocab->entries[i];
        if (e->len == 0 || e->len > 4) continue;
        uint32_t cp;
        bool is_bad = false;
        const size_t n = vlm_utf8_decode(vocab->text + e->off, e->len, &cp, &is_bad);
        if (n == e->len && !is_bad && cp < N_CHAR_IDS) bpe->char_ids[cp] = e->id;
    }
}

vlm_status vlm_bpe_finish(vlm_bpe *bpe, vlm_error *err)
{
    bpe->char_ids = malloc(N_CHAR_IDS * sizeof *bpe->char_ids);
    if (bpe->char_ids == NULL) return vlm_fail_memory(err, "vocabulary");
    for (size_t i = 0; i < N_CHAR_IDS; i++) bpe->char_ids[i] = VLM_VOCAB_NONE;
    fill_char_ids(bpe, bpe->extra);
    fill_char_ids(bpe, bpe->vocab);
    for (unsigned byte = 0; byte < 256; byte++) {
        bpe->byte_ids[byte] = bpe->char_ids[vlm_standin_of_byte((uint8_t)byte)];
        char name[8];
        (void)snprintf(name, sizeof name, "<0x%02X>", byte);
        bpe->fallback_ids[byte] = vlm_vocab_find(bpe->vocab, vlm_bytes_of(name));
    }
    return find_joins(bpe, err);
}
