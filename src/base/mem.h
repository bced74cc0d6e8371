/* mem.h - checked size arithmetic, array allocation, and an arena.
 * No size that came from outside is added or multiplied without these helpers.
 * Not: a pool or a garbage collector; an arena only grows and is freed as a whole.
 * Threads: an arena belongs to one thread at a time; the rest is pure. */
#ifndef VLM_BASE_MEM_H
#define VLM_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* *out = a + b, a * b.  False, with *out unchanged, when the result does not fit. */
VLM_MUST_USE bool vlm_size_add(size_t a, size_t b, size_t *out);
VLM_MUST_USE bool vlm_size_mul(size_t a, size_t b, size_t *out);
VLM_MUST_USE bool vlm_u64_add(uint64_t a, uint64_t b, uint64_t *out);
VLM_MUST_USE bool vlm_u64_mul(uint64_t a, uint64_t b, uint64_t *out);

/* n * elem_size zeroed bytes, freed by free(); NULL when out of memory or the product overflows.
 * Never NULL for n == 0 otherwise. */
VLM_MUST_USE void *vlm_calloc(size_t n, size_t elem_size);

/* Resize an array so that it holds at least n_min elements, growing by half again.  *ptr and *cap
 * (in elements) are unchanged on failure.  False when out of memory or above n_max. */
VLM_MUST_USE bool vlm_grow(void **ptr, size_t *cap, size_t n_min, size_t n_max, size_t elem_size);

/* Memory aligned to 64 bytes, freed by free(); NULL when out of memory. */
VLM_MUST_USE void *vlm_alloc_aligned(size_t n_bytes);
/* The same for what is read over and over: in huge pages where it is large and the system has
 * them. */
VLM_MUST_USE void *vlm_alloc_huge(size_t n_bytes);

/* Let the system back these bytes with memory now, not at their first use; what they hold stays.
 * Only whole pages within them; nothing happens where the system cannot (Linux before 5.14). */
void vlm_populate(void *ptr, size_t n_bytes);

/* Blocks of memory freed together. */
typedef struct vlm_arena_block vlm_arena_block;
typedef struct vlm_arena {
    vlm_arena_block *head;
    size_t used_bytes;  /* handed out so far, over all blocks */
    size_t limit_bytes; /* a request beyond it fails */
} vlm_arena;

/* No memory is taken before the first allocation. */
void vlm_arena_init(vlm_arena *arena, size_t limit_bytes);
void vlm_arena_fini(vlm_arena *arena);

/* n_bytes of zeroed memory aligned to 16 bytes, valid until fini.  NULL when the limit or the
 * memory is exhausted. */
VLM_MUST_USE void *vlm_arena_alloc(vlm_arena *arena, size_t n_bytes);
VLM_MUST_USE void *vlm_arena_array(vlm_arena *arena, size_t n, size_t elem_size);

/* Copy of len bytes with a NUL added. */
VLM_MUST_USE char *vlm_arena_strndup(vlm_arena *arena, const char *text, size_t len);

#endif
