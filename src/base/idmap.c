#include "base/idmap.h"

#include <stdlib.h>

#include "base/mem.h"

enum { CAP_MIN = 16 };

void vlm_idmap_fini(vlm_idmap *map)
{
    free(map->slots);
    *map = (vlm_idmap){0};
}

/* Where the search for an id begins: the finalizer of MurmurHash3 spreads consecutive ids. */
static size_t home(const vlm_idmap *map, uint64_t id)
{
    id ^= id >> 33;
    id *= 0xff51afd7ed558ccdu;
    id ^= id >> 33;
    return (size_t)id & (map->cap - 1);
}

static void put(vlm_idmap *map, uint64_t id, void *value)
{
    size_t i = home(map, id);
    while (map->slots[i].value != NULL) i = (i + 1) & (map->cap - 1);
    map->slots[i] = (vlm_idmap_slot){.id = id, .value = value};
}

vlm_status vlm_idmap_add(vlm_idmap *map, uint64_t id, void *value, vlm_error *err)
{
    if (2 * (map->n + 1) > map->cap) {
        vlm_idmap larger = {.n = map->n, .cap = map->cap == 0 ? CAP_MIN : 2 * map->cap};
        larger.slots = vlm_calloc(larger.cap, sizeof *larger.slots);
        if (larger.slots == NULL) return vlm_fail_memory(err, "table");
        for (size_t i = 0; i < map->cap; i++)
            if (map->slots[i].value != NULL) put(&larger, map->slots[i].id, map->slots[i].value);
        free(map->slots);
        *map = larger;
    }
    put(map, id, value);
    map->n++;
    return VLM_OK;
}

static size_t find_slot(const vlm_idmap *map, uint64_t id)
{
    if (map->cap == 0) return 0;
    size_t i = home(map, id);
    while (map->slots[i].value != NULL && map->slots[i].id != id) i = (i + 1) & (map->cap - 1);
    return i;
}

void *vlm_idmap_find(const vlm_idmap *map, uint64_t id)
{
    return map->cap == 0 ? NULL : map->slots[find_slot(map, id)].value;
}

void *vlm_idmap_remove(vlm_idmap *map, uint64_t id)
{
    if (map->cap == 0) return NULL;
    size_t hole = find_slot(map, id);
    void *value = map->slots[hole].value;
    if (value == NULL) return NULL;
    map->n--;
    /* Move back what would no longer be found. */
    for (size_t i = (hole + 1) & (map->cap - 1); map->slots[i].value != NULL;
         i = (i + 1) & (map->cap - 1)) {
        const size_t from_home = (i - home(map, map->slots[i].id)) & (map->cap - 1);
        if (from_home < ((i - hole) & (map->cap - 1))) continue;
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole] = (vlm_idmap_slot){0};
    return value;
}
