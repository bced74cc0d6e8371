/* failmalloc.h - lets the n-th allocation of a test program fail, those of libraries included.
 * Include it in exactly one file of a test program, then:
 *     for (unsigned n = 1; failmalloc_again(n); n++) { ...; the call under test; ... }
 * failmalloc_again() arms the n-th allocation from now; it returns false once a whole round passed
 * in which fewer than n allocations were made.  failmalloc_off() ends the armed stretch early, so
 * that asserts and clean-up of the test itself are not hit.  failmalloc_n_calls counts allocations,
 * armed or not, of all threads.
 * Under a sanitizer the allocator cannot be replaced: FAILMALLOC_AVAILABLE is 0 and tests say so.
 */
#ifndef VLM_TESTS_FAILMALLOC_H
#define VLM_TESTS_FAILMALLOC_H

#include <stdbool.h>
#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILMALLOC_AVAILABLE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAILMALLOC_AVAILABLE 0
#endif
#endif
#ifndef FAILMALLOC_AVAILABLE
#define FAILMALLOC_AVAILABLE 1
#endif

#if FAILMALLOC_AVAILABLE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static unsigned failmalloc_left; /* 0: off; k: the k-th allocation from now fails */
static bool failmalloc_hit;
static atomic_uint failmalloc_n_calls;

static bool failmalloc_now(void)
{
    atomic_fetch_add_explicit(&failmalloc_n_calls, 1, memory_order_relaxed);
    if (failmalloc_left == 0 || --failmalloc_left > 0) return false;
    failmalloc_hit = true;
    errno = ENOMEM;
    return true;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    return failmalloc_now() ? NULL : __libc_malloc(size);
}
__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
    return failmalloc_now() ? NULL : __libc_calloc(n, size);
}
__attribute__((visibility("default"))) void *realloc(void *ptr, size_t size)
{
    return failmalloc_now() ? NULL : __libc_realloc(ptr, size);
}
__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t size)
{
    return failmalloc_now() ? NULL : __libc_memalign(align, size);
}

static bool failmalloc_again(unsigned n)
{
    const bool go_on = n == 1 || failmalloc_hit;
    failmalloc_hit = false;
    failmalloc_left = go_on ? n : 0;
    return go_on;
}

static void failmalloc_off(void)
{
    failmalloc_left = 0;
}
#endif

#endif
