#include "base/noalloc.h"

#ifdef VLM_DEBUG

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Debug builds have a sanitizer, whose allocator tells of each allocation. */
int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
                                              void (*free_hook)(const volatile void *));

static _Thread_local bool forbidden;
static bool installed;

static void on_malloc(const volatile void *ptr, size_t n_bytes)
{
    static const char text[] = "memory was taken where that is forbidden\n";
    (void)ptr;
    (void)n_bytes;
    if (!forbidden) return;
    forbidden = false;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    abort();
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
