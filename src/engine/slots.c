#include "engine/slots.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NONE VLM_SLOT_NONE
#define EMPTY 0u

typedef struct slot {
    vlm_slot_key key;
    uint32_t n_refs;
    uint32_t prev, next; /* in the list of free places */
    bool has_key;
} slot;

struct vlm_slots {
    uint32_t n, n_held;
    uint64_t n_refs;
    slot *slots;          /* [n] */
    uint32_t first, last; /* free places, the next one to give away first */
    uint32_t *table;      /* [table_mask + 1]: 1 + the place with a key that belongs here, or EMPTY;
                             linear probing */
    uint32_t table_mask;
};

vlm_status vlm_slots_new(uint32_t n, vlm_slots **out, vlm_error *err)
{
    assert(n >= 1 && n <= 1u << 30);
    *out = NULL;
    vlm_slots *s = calloc(1, sizeof *s);
    if (s == NULL) return vlm_fail_memory(err, "cache");
    uint32_t table_len = 4;
    while (table_len < 2 * n) table_len *= 2;
    s->n = n;
    s->table_mask = table_len - 1;
    s->slots = vlm_calloc(n, sizeof *s->slots);
    s->table = vlm_calloc(table_len, sizeof *s->table);
    if (s->slots == NULL || s->table == NULL) {
        vlm_slots_free(s);
        return vlm_fail_memory(err, "cache");
    }
    for (uint32_t i = 0; i < n; i++) {
        s->slots[i].prev = i == 0 ? NONE : i - 1;
        s->slots[i].next = i + 1 == n ? NONE : i + 1;
    }
    s->last = n - 1;
    *out = s;
    return VLM_OK;
}

void vlm_slots_free(vlm_slots *s)
{
    if (s == NULL) return;
    free(s->slots);
    free(s->table);
    free(s);
}

static void list_remove(vlm_slots *s, uint32_t at)
{
    slot *p = &s->slots[at];
    if (p->prev == NONE)
        s->first = p->next;
    else
        s->slots[p->prev].next = p->next;
    if (p->next == NONE)
        s->last = p->prev;
    else
        s->slots[p->next].prev = p->prev;
}

static void list_add_first(vlm_slots *s, uint32_t at)
{
    s->slots[at].prev = NONE;
    s->slots[at].next = s->first;
    if (s->first == NONE)
        s->last = at;
    else
        s->slots[s->first].prev = at;
    s->first = at;
}

static void list_add_last(vlm_slots *s, uint32_t at)
{
    s->slots[at].prev = s->last;
    s->slots[at].next = NONE;
    if (s->last == NONE)
        s->first = at;
    else
        s->slots[s->last].next = at;
    s->last = at;
}

/* Keys are digests: any of their bits are a hash. */
static uint32_t home_of(const vlm_slots *s, const vlm_slot_key *key)
{
    uint32_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    return hash & s->table_mask;
}

/* Where in the table the key is, or would be put. */
static uint32_t table_at(const vlm_slots *s, const vlm_slot_key *key)
{
    uint32_t at = home_of(s, key);
    while (s->table[at] != EMPTY &&
           memcmp(s->slots[s->table[at] - 1].key.bytes, key->bytes, sizeof key->bytes) != 0)
        at = (at + 1) & s->table_mask;
    return at;
}

/* Close the gap: what could not lie at home moves up. */
static void table_remove(vlm_slots *s, uint32_t gap)
{
    for (uint32_t at = gap;;) {
        at = (at + 1) & s->table_mask;
        if (s->table[at] == EMPTY) break;
        const uint32_t home = home_of(s, &s->slots[s->table[at] - 1].key);
        if (((at - home) & s->table_mask) < ((at - gap) & s->table_mask)) continue;
        s->table[gap] = s->table[at];
        gap = at;
    }
    s->table[gap] = EMPTY;
}

static void hold(vlm_slots *s, uint32_t at)
{
    if (s->slots[at].n_refs++ == 0) {
        list_remove(s, at);
        s->n_held++;
    }
    s->n_refs++;
}

bool vlm_slots_take(vlm_slots *s, uint32_t *out)
{
    const uint32_t at = s->first;
    if (at == NONE) return false;
    slot *p = &s->slots[at];
    if (p->has_key) table_remove(s, table_at(s, &p->key));
    p->has_key = false;
    hold(s, at);
    *out = at;
    return true;
}

bool vlm_slots_find(vlm_slots *s, const vlm_slot_key *key, uint32_t *out)
{
    const uint32_t found = s->table[table_at(s, key)];
    if (found == EMPTY) return false;
    hold(s, found - 1);
    *out = found - 1;
    return true;
}

bool vlm_slots_has(const vlm_slots *s, const vlm_slot_key *key)
{
    return s->table[table_at(s, key)] != EMPTY;
}

bool vlm_slots_publish(vlm_slots *s, uint32_t at, const vlm_slot_key *key)
{
    slot *p = &s->slots[at];
    assert(at < s->n && p->n_refs > 0 && !p->has_key);
    const uint32_t place = table_at(s, key);
    if (s->table[place] != EMPTY) return false;
    p->key = *key;
    p->has_key = true;
    s->table[place] = at + 1;
    return true;
}

void vlm_slots_ref(vlm_slots *s, uint32_t at)
{
    assert(at < s->n && s->slots[at].n_refs > 0);
    hold(s, at);
}

/* What can be found again is given away last. */
void vlm_slots_drop(vlm_slots *s, uint32_t at)
{
    slot *p = &s->slots[at];
    assert(at < s->n && p->n_refs > 0);
    s->n_refs--;
    if (--p->n_refs > 0) return;
    s->n_held--;
    if (p->has_key)
        list_add_last(s, at);
    else
        list_add_first(s, at);
}

bool vlm_slots_is_shared(const vlm_slots *s, uint32_t at)
{
    return s->slots[at].n_refs > 1;
}

uint32_t vlm_slots_n(const vlm_slots *s)
{
    return s->n;
}

uint32_t vlm_slots_n_free(const vlm_slots *s)
{
    return s->n - s->n_held;
}

uint32_t vlm_slots_n_held(const vlm_slots *s)
{
    return s->n_held;
}

uint64_t vlm_slots_n_refs(const vlm_slots *s)
{
    return s->n_refs;
}

void vlm_slots_check(const vlm_slots *s)
{
    uint32_t n_held = 0, n_keys = 0, n_listed = 0, n_in_table = 0;
    uint64_t n_refs = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const slot *p = &s->slots[i];
        n_refs += p->n_refs;
        n_held += p->n_refs > 0;
        n_keys += p->has_key;
        assert(!p->has_key || s->table[table_at(s, &p->key)] == i + 1);
    }
    for (uint32_t i = s->first, before = NONE; i != NONE; before = i, i = s->slots[i].next) {
        assert(s->slots[i].n_refs == 0 && s->slots[i].prev == before && n_listed < s->n);
        n_listed++;
    }
    for (uint32_t i = 0; i <= s->table_mask; i++) n_in_table += s->table[i] != EMPTY;
    assert(n_refs == s->n_refs && n_held == s->n_held);
    assert(n_listed + n_held == s->n && n_keys == n_in_table);
}
