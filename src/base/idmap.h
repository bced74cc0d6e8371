/* idmap.h - a table from numbers to pointers, sized by what is in it.
 * Ownership: the pointers are the caller's.  Threads: one at a time. */
#ifndef VLM_BASE_IDMAP_H
#define VLM_BASE_IDMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct vlm_idmap_slot {
    uint64_t id;
    void *value; /* NULL: free */
} vlm_idmap_slot;

typedef struct vlm_idmap {
    vlm_idmap_slot *slots;
    size_t n, cap; /* cap is 0 or a power of two */
} vlm_idmap;

/* {0} is an empty table. */
void vlm_idmap_fini(vlm_idmap *map);
/* value must not be NULL, id not be in the table.  RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_idmap_add(vlm_idmap *map, uint64_t id, void *value, vlm_error *err);
/* NULL when it is not there. */
void *vlm_idmap_find(const vlm_idmap *map, uint64_t id);
/* What was there, or NULL. */
void *vlm_idmap_remove(vlm_idmap *map, uint64_t id);

#endif
