/* noalloc.h - a guard for code that must not take memory: in debug builds an allocation by the
 * thread between begin and end stops the program.  Elsewhere it is nothing.
 * Threads: each has its own. */
#ifndef VLM_BASE_NOALLOC_H
#define VLM_BASE_NOALLOC_H

#ifdef VLM_DEBUG
void vlm_noalloc_begin(void);
void vlm_noalloc_end(void);
#else
static inline void vlm_noalloc_begin(void)
{
}
static inline void vlm_noalloc_end(void)
{
}
#endif

#endif
