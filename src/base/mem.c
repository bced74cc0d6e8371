#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool vlm_size_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool vlm_size_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool vlm_u64_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

bool vlm_u64_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

void *vlm_calloc(size_t n, size_t elem_size)
{
    size_t n_bytes;
    if (!vlm_size_mul(n, elem_size, &n_bytes)) return NULL;
    return calloc(1, n_bytes > 0 ? n_bytes : 1);
}

bool vlm_grow(void **ptr, size_t *cap, size_t n_min, size_t n_max, size_t elem_size)
{
    if (n_min <= *cap) return true;
    if (n_min > n_max) return false;
    size_t n = *cap + *cap / 2 + 16;
    if (n < n_min) n = n_min;
    if (n > n_max) n = n_max;
    size_t n_bytes;
    if (!vlm_size_mul(n, elem_size, &n_bytes)) return false;
    void *grown = realloc(*ptr, n_bytes);
    if (grown == NULL) return false;
    *ptr = grown;
    *cap = n;
    return true;
}

void *vlm_alloc_aligned(size_t n_bytes)
{
    size_t rounded;
    if (!vlm_size_add(n_bytes, 63, &rounded)) return NULL;
    rounded &= ~(size_t)63;
    return aligned_alloc(64, rounded == 0 ? 64 : rounded);
}

void *vlm_alloc_huge(size_t n_bytes)
{
    enum { HUGE_BYTES = 2 << 20 };
    size_t rounded;
    if (n_bytes < 2 * HUGE_BYTES || !vlm_size_add(n_bytes, HUGE_BYTES - 1, &rounded))
        return vlm_alloc_aligned(n_bytes);
    rounded -= rounded % HUGE_BYTES;
    void *ptr = aligned_alloc(HUGE_BYTES, rounded);
#if defined(MADV_HUGEPAGE)
    if (ptr != NULL) (void)madvise(ptr, rounded, MADV_HUGEPAGE);
#endif
    return ptr;
}

void vlm_populate(void *ptr, size_t n_bytes)
{
#if defined(MADV_POPULATE_WRITE)
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)ptr + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)ptr + n_bytes) & ~(page - 1);
    if (end > begin) (void)madvise((void *)begin, end - begin, MADV_POPULATE_WRITE);
#else
    (void)ptr, (void)n_bytes;
#endif
}

/* Blocks double from the first to the largest: thousands of small arenas stay small. */
enum { ARENA_FIRST_BYTES = 1024, ARENA_BLOCK_BYTES = 64 * 1024, ARENA_ALIGN = 16 };

struct vlm_arena_block {
    vlm_arena_block *next;
    size_t used_bytes, size_bytes;
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

void vlm_arena_init(vlm_arena *arena, size_t limit_bytes)
{
    *arena = (vlm_arena){.limit_bytes = limit_bytes};
}

void vlm_arena_fini(vlm_arena *arena)
{
    vlm_arena_block *block = arena->head;
    while (block != NULL) {
        vlm_arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (vlm_arena){0};
}

void *vlm_arena_alloc(vlm_arena *arena, size_t n_bytes)
{
    size_t rounded, used;
    if (!vlm_size_add(n_bytes, ARENA_ALIGN - 1, &rounded)) return NULL;
    rounded &= ~(size_t)(ARENA_ALIGN - 1);
    if (rounded == 0) rounded = ARENA_ALIGN;
    if (!vlm_size_add(arena->used_bytes, rounded, &used) || used > arena->limit_bytes) return NULL;

    vlm_arena_block *block = arena->head;
    if (block == NULL || block->size_bytes - block->used_bytes < rounded) {
        size_t size = block == NULL ? ARENA_FIRST_BYTES : 2 * block->size_bytes;
        if (size > ARENA_BLOCK_BYTES) size = ARENA_BLOCK_BYTES;
        if (size < rounded) size = rounded;
        size_t total;
        if (!vlm_size_add(size, sizeof *block, &total)) return NULL;
        vlm_arena_block *fresh = calloc(1, total);
        if (fresh == NULL) return NULL;
        fresh->size_bytes = size;
        fresh->next = block;
        arena->head = block = fresh;
    }
    void *ptr = block->data + block->used_bytes;
    block->used_bytes += rounded;
    arena->used_bytes = used;
    return ptr;
}

void *vlm_arena_array(vlm_arena *arena, size_t n, size_t elem_size)
{
    size_t n_bytes;
    if (!vlm_size_mul(n, elem_size, &n_bytes)) return NULL;
    return vlm_arena_alloc(arena, n_bytes);
}

char *vlm_arena_strndup(vlm_arena *arena, const char *text, size_t len)
{
    size_t n_bytes;
    if (!vlm_size_add(len, 1, &n_bytes)) return NULL;
    char *copy = vlm_arena_alloc(arena, n_bytes);
    if (copy == NULL) return NULL;
    if (len > 0) memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}
