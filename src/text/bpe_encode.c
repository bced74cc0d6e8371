#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/bpe.h"
#include "text/standin.h"

/* Up to this many symbols the quadratic search is faster than a heap. */
enum { SHORT_LEN_MAX = 32, N_CHAR_IDS = 0x10000, HEAP_ARITY = 4 };

void vlm_bpe_scratch_init(vlm_bpe_scratch *scratch)
{
    *scratch = (vlm_bpe_scratch){0};
    vlm_buf_init(&scratch->word, SIZE_MAX / 4);
}

void vlm_bpe_scratch_fini(vlm_bpe_scratch *scratch)
{
    free(scratch->ids);
    free(scratch->symbols);
    free(scratch->queue.run);
    free(scratch->queue.heap);
    vlm_buf_fini(&scratch->word);
    *scratch = (vlm_bpe_scratch){0};
}

/* Merges. */

/* The least entry of a short word, by rank and then position, until none is left. */
static size_t merge_short(const vlm_bpe *bpe, uint32_t *ids, size_t n)
{
    uint32_t rank[SHORT_LEN_MAX], new_id[SHORT_LEN_MAX];
    for (size_t i = 0; i + 1 < n; i++) {
        const vlm_bpe_pair *pair = vlm_bpe_find_pair(bpe, ids[i], ids[i + 1]);
        rank[i] = pair == NULL ? VLM_VOCAB_NONE : pair->rank;
        new_id[i] = pair == NULL ? 0 : pair->new_id;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == VLM_VOCAB_NONE) break;
        ids[best] = new_id[best];
        const size_t n_behind = n - best - 2;
        memmove(ids + best + 1, ids + best + 2, n_behind * sizeof *ids);
        if (n_behind > 0) {
            memmove(rank + best, rank + best + 1, n_behind * sizeof *rank);
            memmove(new_id + best, new_id + best + 1, n_behind * sizeof *new_id);
        }
        n--;
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const vlm_bpe_pair *pair = vlm_bpe_find_pair(bpe, ids[i], ids[i + 1]);
            rank[i] = pair == NULL ? VLM_VOCAB_NONE : pair->rank;
            new_id[i] = pair == NULL ? 0 : pair->new_id;
        }
    }
    return n;
}

static vlm_status queue_push(vlm_bpe_queue *q, uint64_t key, vlm_error *err)
{
    if (q->heap_len == q->heap_cap &&
        !vlm_grow((void **)&q->heap, &q->heap_cap, q->heap_len + 1, SIZE_MAX, sizeof *q->heap))
        return vlm_fail_memory(err, "merges of a long word");
    size_t i = q->heap_len++;
    if (q->heap_is_sorted && (i == 0 || q->heap[i - 1] <= key)) {
        q->heap[i] = key;
        return VLM_OK;
    }
    q->heap_is_sorted = false;
    while (i > 0 && q->heap[(i - 1) / HEAP_ARITY] > key) {
        q->heap[i] = q->heap[(i - 1) / HEAP_ARITY];
        i = (i - 1) / HEAP_ARITY;
    }
    q->heap[i] = key;
    return VLM_OK;
}

static uint64_t heap_pop(vlm_bpe_queue *q)
{
    const uint64_t top = q->heap[0];
    const size_t len = --q->heap_len;
    const uint64_t key = q->heap[len];
    size_t i = 0;
    for (;;) {
        const size_t first = i * HEAP_ARITY + 1;
        if (first >= len) break;
        const size_t end = first + HEAP_ARITY < len ? first + HEAP_ARITY : len;
        size_t least = first;
        for (size_t k = first + 1; k < end; k++)
            if (q->heap[k] < q->heap[least]) least = k;
        if (q->heap[least] >= key) break;
        q->heap[i] = q->heap[least];
        i = least;
    }
    q->heap[i] = key;
    return top;
}

/* A heap whose keys came in order is a sorted array: it becomes the next run, which pops in
 * constant time.  So a word of one repeated character never pays for the heap. */
static bool queue_pop(vlm_bpe_queue *q, uint64_t *key)
{
    if (q->run_pos == q->run_len && q->heap_len > 0 && q->heap_is_sorted) {
        uint64_t *run = q->run;
        const size_t cap = q->run_cap;
        q->run = q->heap;
        q->run_cap = q->heap_cap;
        q->run_len = q->heap_len;
        q->run_pos = 0;
        q->heap = run;
        q->heap_cap = cap;
        q->heap_len = 0;
    }
    if (q->run_pos < q->run_len && (q->heap_len == 0 || q->run[q->run_pos] <= q->heap[0])) {
        *key = q->run[q->run_pos++];
        return true;
    }
    if (q->heap_len == 0) return false;
    *key = heap_pop(q);
    q->heap_is_sorted = q->heap_len <= 1;
    return true;
}

/* Look up the merge of symbol i with its right neighbour and put it into the queue.  rank is that
 * of the merge that just made symbol i, or VLM_VOCAB_NONE.  When the right neighbour is about to
 * merge at that rank too, it will offer symbol i again; nothing that pops before can touch it, so
 * what would be stale then is left out.  A run of one repeated character so gives keys in order and
 * never a heap. */
static vlm_status offer(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, uint32_t i, uint32_t rank,
                        vlm_error *err)
{
    vlm_bpe_symbol *sym = &scratch->symbols[i];
    sym->rank = VLM_VOCAB_NONE;
    if (sym->next == VLM_VOCAB_NONE) return VLM_OK;
    const vlm_bpe_symbol *next = &scratch->symbols[sym->next];
    const vlm_bpe_pair *pair = vlm_bpe_find_pair(bpe, sym->id, next->id);
    if (pair == NULL || (pair->rank > rank && next->rank == rank)) return VLM_OK;
    sym->rank = pair->rank;
    sym->new_id = pair->new_id;
    return queue_push(&scratch->queue, (uint64_t)pair->rank << 32 | i, err);
}

static vlm_status merge_long(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, uint32_t *ids, size_t *n,
                             vlm_error *err)
{
    vlm_bpe_queue *q = &scratch->queue;
    q->run_pos = q->run_len = q->heap_len = 0;
    q->heap_is_sorted = true;
    if (*n >= VLM_VOCAB_NONE)
        return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "a word of %zu symbols is too long", *n);
    if (!vlm_grow((void **)&scratch->symbols, &scratch->cap_symbols, *n, SIZE_MAX,
                  sizeof *scratch->symbols))
        return vlm_fail_memory(err, "symbols of a long word");
    vlm_bpe_symbol *symbols = scratch->symbols;
    const uint32_t len = (uint32_t)*n;
    for (uint32_t i = 0; i < len; i++)
        symbols[i] = (vlm_bpe_symbol){.id = ids[i],
                                      .prev = i == 0 ? VLM_VOCAB_NONE : i - 1,
                                      .next = i + 1 == len ? VLM_VOCAB_NONE : i + 1};
    for (uint32_t i = 0; i < len; i++) VLM_TRY(offer(bpe, scratch, i, VLM_VOCAB_NONE, err));
    for (uint64_t key; queue_pop(q, &key);) {
        vlm_bpe_symbol *left = &symbols[(uint32_t)key];
        if (left->id == VLM_VOCAB_NONE || left->rank != key >> 32) continue;
        vlm_bpe_symbol *right = &symbols[left->next];
        left->id = left->new_id;
        left->next = right->next;
        right->id = VLM_VOCAB_NONE;
        if (left->next != VLM_VOCAB_NONE) symbols[left->next].prev = (uint32_t)key;
        if (left->prev != VLM_VOCAB_NONE)
            VLM_TRY(offer(bpe, scratch, left->prev, VLM_VOCAB_NONE, err));
        VLM_TRY(offer(bpe, scratch, (uint32_t)key, (uint32_t)(key >> 32), err));
    }
    *n = 0;
    for (uint32_t i = 0; i != VLM_VOCAB_NONE; i = symbols[i].next) ids[(*n)++] = symbols[i].id;
    return VLM_OK;
}

/* Cut a long word where no merge can cross, merge the parts, and close the gaps. */
static vlm_status merge_parts(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_error *err)
{
    uint32_t *ids = scratch->ids;
    size_t n_out = 0, begin = 0;
    for (size_t i = 1; i <= scratch->n_ids; i++) {
        if (i < scratch->n_ids) {
            if (bpe->joins == NULL) continue;
            const size_t bit = vlm_bpe_join_bit(bpe, ids[i - 1], ids[i]);
            if ((bpe->joins[bit / 8] >> bit % 8 & 1) != 0) continue;
        }
        size_t n = i - begin;
        if (n <= SHORT_LEN_MAX)
            n = merge_short(bpe, ids + begin, n);
        else
            VLM_TRY(merge_long(bpe, scratch, ids + begin, &n, err));
        memmove(ids + n_out, ids + begin, n * sizeof *ids);
        n_out += n;
        begin = i;
    }
    scratch->n_ids = n_out;
    return VLM_OK;
}

/* First symbols. */

static vlm_status put(vlm_bpe_scratch *scratch, uint32_t id, vlm_error *err)
{
    if (scratch->n_ids == scratch->cap_ids &&
        !vlm_grow((void **)&scratch->ids, &scratch->cap_ids, scratch->n_ids + 1, SIZE_MAX,
                  sizeof *scratch->ids))
        return vlm_fail_memory(err, "symbols of a word");
    scratch->ids[scratch->n_ids++] = id;
    return VLM_OK;
}

/* A character that is no token: its bytes if all have tokens, else the unknown token, which is held
 * back in *unk until the next known symbol (the library does so, so that bytes overtake it). */
static vlm_status put_unknown(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes text,
                              bool *unk, vlm_error *err)
{
    bool all = bpe->byte_fallback;
    for (size_t i = 0; all && i < text.len; i++)
        all = bpe->fallback_ids[(unsigned char)text.ptr[i]] != VLM_VOCAB_NONE;
    if (all) {
        for (size_t i = 0; i < text.len; i++)
            VLM_TRY(put(scratch, bpe->fallback_ids[(unsigned char)text.ptr[i]], err));
        return VLM_OK;
    }
    if (bpe->unk_missing)
        return vlm_fail(err, VLM_INVALID_ARGUMENT,
                        "the vocabulary lacks a character of the text and its own unk_token");
    if (bpe->unk_id == VLM_VOCAB_NONE) return VLM_OK;
    if (*unk && !bpe->fuse_unk) VLM_TRY(put(scratch, bpe->unk_id, err));
    *unk = true;
    return VLM_OK;
}

static vlm_status put_known(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, uint32_t id, bool *unk,
                            vlm_error *err)
{
    if (*unk) VLM_TRY(put(scratch, bpe->unk_id, err));
    *unk = false;
    return put(scratch, id, err);
}

static uint32_t id_of_char(const vlm_bpe *bpe, uint32_t cp, vlm_bytes text)
{
    return cp < N_CHAR_IDS ? bpe->char_ids[cp] : vlm_bpe_find_char(bpe, text);
}

/* A character with what continuing_subword_prefix and end_of_word_suffix add to it. */
static vlm_status decorate(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes *text,
                           bool is_first, bool is_last, vlm_error *err)
{
    vlm_buf_clear(&scratch->word);
    if (!is_first && bpe->word_prefix != NULL)
        VLM_TRY(vlm_buf_append_str(&scratch->word, bpe->word_prefix, err));
    VLM_TRY(vlm_buf_append(&scratch->word, text->ptr, text->len, err));
    if (is_last && bpe->word_suffix != NULL)
        VLM_TRY(vlm_buf_append_str(&scratch->word, bpe->word_suffix, err));
    *text = vlm_buf_bytes(&scratch->word);
    return VLM_OK;
}

static vlm_status put_chars(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes word,
                            vlm_error *err)
{
    const bool plain = bpe->word_prefix == NULL && bpe->word_suffix == NULL;
    bool unk = false;
    for (size_t i = 0; i < word.len;) {
        uint32_t cp = (unsigned char)word.ptr[i];
        bool is_bad = false;
        const size_t len =
            cp < 0x80 ? 1 : vlm_utf8_decode(word.ptr + i, word.len - i, &cp, &is_bad);
        vlm_bytes text = {word.ptr + i, len};
        uint32_t id;
        if (plain) {
            id = id_of_char(bpe, cp, text);
        } else {
            VLM_TRY(decorate(bpe, scratch, &text, i == 0, i + len == word.len, err));
            id = vlm_vocab_find(bpe->vocab, text);
        }
        if (id != VLM_VOCAB_NONE)
            VLM_TRY(put_known(bpe, scratch, id, &unk, err));
        else
            VLM_TRY(put_unknown(bpe, scratch, text, &unk, err));
        i += len;
    }
    return unk ? put(scratch, bpe->unk_id, err) : VLM_OK;
}

static vlm_status put_bytes(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes word,
                            vlm_error *err)
{
    bool unk = false;
    for (size_t i = 0; i < word.len; i++) {
        const uint8_t byte = (uint8_t)word.ptr[i];
        if (bpe->byte_ids[byte] != VLM_VOCAB_NONE) {
            VLM_TRY(put_known(bpe, scratch, bpe->byte_ids[byte], &unk, err));
            continue;
        }
        char utf8[4];
        const size_t len = vlm_utf8_encode(vlm_standin_of_byte(byte), utf8);
        VLM_TRY(put_unknown(bpe, scratch, (vlm_bytes){utf8, len}, &unk, err));
    }
    return unk ? put(scratch, bpe->unk_id, err) : VLM_OK;
}

/* The id of a whole word, which may come as bytes. */
static vlm_status find_word(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes word,
                            bool as_bytes, uint32_t *id, vlm_error *err)
{
    if (as_bytes) {
        vlm_buf_clear(&scratch->word);
        VLM_TRY(vlm_standin_append(&scratch->word, word, err));
        word = vlm_buf_bytes(&scratch->word);
    }
    *id = vlm_vocab_find(bpe->vocab, word);
    return VLM_OK;
}

static vlm_bytes extra_text(const vlm_bpe *bpe, uint32_t id)
{
    const vlm_vocab_entry *entry = &bpe->extra->entries[id - VLM_BPE_EXTRA_FROM];
    return (vlm_bytes){bpe->extra->text + entry->off, entry->len};
}

/* Put the symbols of a word to out; an extra becomes bytes or the unknown token. */
static vlm_status emit_with_extras(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_ids *out,
                                   vlm_error *err)
{
    const size_t n = scratch->n_ids;
    for (size_t i = 0; i < n; i++) {
        const uint32_t id = scratch->ids[i];
        scratch->n_ids = n; /* what is put now goes behind the symbols */
        bool unk = false;
        if (id < VLM_BPE_EXTRA_FROM)
            VLM_TRY(put(scratch, id, err));
        else
            VLM_TRY(put_unknown(bpe, scratch, extra_text(bpe, id), &unk, err));
        if (unk) VLM_TRY(put(scratch, bpe->unk_id, err));
        for (size_t k = n; k < scratch->n_ids; k++) {
            const bool again = bpe->fuse_unk && scratch->ids[k] == bpe->unk_id && i > 0 &&
                               out->len > 0 && out->data[out->len - 1] == bpe->unk_id;
            if (!again) VLM_TRY(vlm_ids_append(out, scratch->ids[k], err));
        }
    }
    return VLM_OK;
}

static vlm_status emit(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_ids *out, vlm_error *err)
{
    if (bpe->extra != NULL) return emit_with_extras(bpe, scratch, out, err);
    if (scratch->n_ids == 0) return VLM_OK;
    if (out->cap - out->len < scratch->n_ids &&
        !vlm_grow((void **)&out->data, &out->cap, out->len + scratch->n_ids, SIZE_MAX,
                  sizeof *out->data))
        return vlm_fail_memory(err, "token ids");
    memcpy(out->data + out->len, scratch->ids, scratch->n_ids * sizeof *out->data);
    out->len += scratch->n_ids;
    return VLM_OK;
}

vlm_status vlm_bpe_encode(const vlm_bpe *bpe, vlm_bpe_scratch *scratch, vlm_bytes word,
                          bool as_bytes, vlm_ids *out, vlm_error *err)
{
    if (bpe->ignore_merges) {
        uint32_t id;
        VLM_TRY(find_word(bpe, scratch, word, as_bytes, &id, err));
        if (id != VLM_VOCAB_NONE) return vlm_ids_append(out, id, err);
    }
    scratch->n_ids = 0;
    if (scratch->cap_ids < word.len && !vlm_grow((void **)&scratch->ids, &scratch->cap_ids,
                                                 word.len, SIZE_MAX, sizeof *scratch->ids))
        return vlm_fail_memory(err, "symbols of a word");
    if (as_bytes)
        VLM_TRY(put_bytes(bpe, scratch, word, err));
    else
        VLM_TRY(put_chars(bpe, scratch, word, err));
    if (scratch->n_ids <= SHORT_LEN_MAX)
        scratch->n_ids = merge_short(bpe, scratch->ids, scratch->n_ids);
    else
        VLM_TRY(merge_parts(bpe, scratch, err));
    return emit(bpe, scratch, out, err);
}
