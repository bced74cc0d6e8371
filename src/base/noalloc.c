#include "base/noalloc.h"

#ifdef VLM_DEBUG

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

/* Debug builds have a sanitizer, whose allocator tells of each allocation. */
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
                                              void (*free_hook)(const volatile void *));

static _Thread_local bool forbidden;
static bool installed;

static void on_malloc(const volatile void *ptr, size_t n_bytes)
{
    (void)ptr;
    (void)n_bytes;
    const bool is_wrong = forbidden;
    forbidden = false; /* what tells about it takes memory too */
    assert(!is_wrong && "memory is taken where that is forbidden");
}

static void on_free(const volatile void *ptr)
{
    (void)ptr;
}

void vlm_noalloc_begin(void)
{
    if (!__atomic_exchange_n(&installed, true, __ATOMIC_SEQ_CST))
        (void)__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    forbidden = true;
}

void vlm_noalloc_end(void)
{
    forbidden = false;
}

#endif
