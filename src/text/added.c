#include "text/added.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode.h"

void vlm_trie_fini(vlm_trie *trie)
{
    free(trie->nodes);
    *trie = (vlm_trie){0};
}

uint32_t vlm_trie_child(const vlm_trie *trie, uint32_t node, uint8_t byte)
{
    if (node == 0) return trie->roots[byte];
    uint32_t child = trie->nodes[node].first_child;
    while (child != 0 && trie->nodes[child].byte != byte) child = trie->nodes[child].next_sibling;
    return child;
}

static vlm_status new_node(vlm_trie *trie, uint32_t parent, uint8_t byte, uint32_t *out,
                           vlm_error *err)
{
    const size_t n_min = trie->n == 0 ? 2 : trie->n + 1;
    if (!vlm_grow((void **)&trie->nodes, &trie->cap, n_min, UINT32_MAX, sizeof *trie->nodes))
        return vlm_fail_memory(err, "trie of tokens");
    if (trie->n == 0) {
        trie->nodes[0] = (vlm_trie_node){.value = VLM_VOCAB_NONE};
        trie->n = 1;
    }
    const uint32_t node = (uint32_t)trie->n++;
    trie->nodes[node] = (vlm_trie_node){.value = VLM_VOCAB_NONE, .byte = byte};
    if (parent == 0) {
        trie->roots[byte] = node;
    } else {
        trie->nodes[node].next_sibling = trie->nodes[parent].first_child;
        trie->nodes[parent].first_child = node;
    }
    *out = node;
    return VLM_OK;
}

vlm_status vlm_trie_add(vlm_trie *trie, vlm_bytes text, uint32_t value, vlm_error *err)
{
    uint32_t node = 0;
    for (size_t i = 0; i < text.len; i++) {
        const uint8_t byte = (uint8_t)text.ptr[i];
        uint32_t child = vlm_trie_child(trie, node, byte);
        if (child == 0) VLM_TRY(new_node(trie, node, byte, &child, err));
        node = child;
    }
    if (trie->nodes[node].value == VLM_VOCAB_NONE) trie->nodes[node].value = value;
    return VLM_OK;
}

void vlm_added_fini(vlm_added *added)
{
    vlm_vocab_fini(&added->strings);
    free(added->tokens);
    vlm_trie_fini(&added->raw);
    vlm_trie_fini(&added->normalized);
    *added = (vlm_added){0};
}

static bool is_blank(vlm_bytes text)
{
    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        bool is_bad = false;
        i += vlm_utf8_decode(text.ptr + i, text.len - i, &cp, &is_bad);
        if (!vlm_unicode_is_space(cp) && cp != 0x2581) return false;
    }
    return true;
}

vlm_status vlm_added_add(vlm_added *added, vlm_bytes text, const vlm_added_token *token,
                         vlm_error *err)
{
    if (text.len == 0 || text.len > VLM_ADDED_LEN_MAX)
        return vlm_fail(err, VLM_INVALID_ARGUMENT, "an added token of %zu bytes (1 to %d allowed)",
                        text.len, VLM_ADDED_LEN_MAX);
    if (!vlm_grow((void **)&added->tokens, &added->cap, added->n + 1, UINT32_MAX / 2,
                  sizeof *added->tokens))
        return vlm_fail_memory(err, "added tokens");
    VLM_TRY(vlm_vocab_add(&added->strings, text, (uint32_t)added->n, err));
    added->tokens[added->n] = *token;
    added->tokens[added->n].is_blank = is_blank(text);
    added->n++;
    return VLM_OK;
}

const vlm_added_token *vlm_added_find(const vlm_added *added, vlm_bytes text)
{
    const uint32_t idx = vlm_vocab_find(&added->strings, text);
    return idx == VLM_VOCAB_NONE ? NULL : &added->tokens[idx];
}

vlm_bytes vlm_added_text(const vlm_added *added, size_t idx)
{
    const vlm_vocab_entry *e = &added->strings.entries[idx];
    return (vlm_bytes){added->strings.text + e->off, e->len};
}

vlm_added_scan vlm_added_scan_begin(const vlm_added *added, bool normalized, vlm_bytes text,
                                    const uint8_t *user, bool skip_special)
{
    return (vlm_added_scan){
        .added = added,
        .trie = (normalized ? added->has_normalized : added->has_raw)
                    ? (normalized ? &added->normalized : &added->raw)
                    : NULL,
        .text = text,
        .user = user,
        .skip_special = skip_special,
    };
}

/* The longest string of the trie that starts at begin, NULL if there is none.  What touches a
 * user's text does not count, so that a shorter one in front of it does. */
static const vlm_added_token *match_at(const vlm_added_scan *scan, size_t begin, size_t *end)
{
    const vlm_added_token *found = NULL;
    bool by_user = false;
    uint32_t node = 0;
    for (size_t i = begin; i < scan->text.len; i++) {
        node = vlm_trie_child(scan->trie, node, (uint8_t)scan->text.ptr[i]);
        if (node == 0) break;
        by_user = by_user || (scan->user != NULL && scan->user[i] != 0);
        const uint32_t value = scan->trie->nodes[node].value;
        if (value == VLM_VOCAB_NONE) continue;
        const vlm_added_token *token = &scan->added->tokens[value];
        if (by_user && (token->special || !token->is_blank)) continue;
        found = token;
        *end = i + 1;
    }
    return found;
}

static bool is_single_word(const vlm_added_scan *scan, size_t begin, size_t end)
{
    uint32_t cp;
    bool is_bad = false;
    if (begin > 0) {
        size_t last = begin - 1;
        while (last > 0 && ((unsigned char)scan->text.ptr[last] & 0xC0) == 0x80) last--;
        (void)vlm_utf8_decode(scan->text.ptr + last, begin - last, &cp, &is_bad);
        if (vlm_unicode_is_word(cp)) return false;
    }
    if (end == scan->text.len) return true;
    (void)vlm_utf8_decode(scan->text.ptr + end, scan->text.len - end, &cp, &is_bad);
    return !vlm_unicode_is_word(cp);
}

/* End of the white space that begins at pos.  A run is measured once, however many tokens of white
 * space match inside it. */
static size_t space_end(vlm_added_scan *scan, size_t pos)
{
    if (pos < scan->space_begin || pos >= scan->space_end) {
        const vlm_bytes rest = {scan->text.ptr + pos, scan->text.len - pos};
        scan->space_begin = pos;
        scan->space_end = pos + vlm_unicode_leading_space(rest);
    }
    return scan->space_end;
}

bool vlm_added_scan_next(vlm_added_scan *scan, vlm_added_piece *piece)
{
    if (scan->has_pending) {
        scan->has_pending = false;
        *piece = scan->pending;
        return true;
    }
    while (scan->trie != NULL && scan->pos < scan->text.len) {
        if (scan->trie->roots[(uint8_t)scan->text.ptr[scan->pos]] == 0) {
            scan->pos++;
            continue;
        }
        size_t begin = scan->pos, end = 0;
        const vlm_added_token *token = match_at(scan, begin, &end);
        if (token == NULL) {
            scan->pos++;
            continue;
        }
        scan->pos = end;
        if (scan->skip_special && token->special) continue;
        if (token->single_word && !is_single_word(scan, begin, end)) continue;
        if (token->lstrip && begin > scan->done)
            begin -= vlm_unicode_trailing_space(
                (vlm_bytes){scan->text.ptr + scan->done, begin - scan->done});
        else if (token->lstrip)
            begin = scan->done;
        if (token->rstrip) end = space_end(scan, end);
        const vlm_added_piece found = {begin, end, token};
        const size_t done = scan->done;
        scan->done = end;
        if (begin >= end) continue; /* lies in the white space that the token before has taken */
        if (done >= begin) {
            *piece = found;
            return true;
        }
        scan->pending = found;
        scan->has_pending = true;
        *piece = (vlm_added_piece){done, begin, NULL};
        return true;
    }
    if (scan->done >= scan->text.len) return false;
    *piece = (vlm_added_piece){scan->done, scan->text.len, NULL};
    scan->done = scan->text.len;
    return true;
}
