/* populate.h - a thread that has the system back the first blocks of a key/value cache with memory
 * while nobody waits for it yet: the first prompts then clear no pages, some 4% of their time.
 * It gives way to all other threads.
 * Not: who gets which block (slots.h gives away the first ones first).
 * Ownership: the pool must outlive the thread.  Threads: beside everything else. */
#ifndef VLM_ENGINE_POPULATE_H
#define VLM_ENGINE_POPULATE_H

#include "model/kv_pool.h"

typedef struct vlm_populate_thread vlm_populate_thread;

/* For n_tokens, or all that the pool holds.  NULL when no thread can be had: nothing is lost then
 * but time. */
vlm_populate_thread *vlm_populate_thread_start(const vlm_kv_pool *pool, uint32_t n_tokens);
/* False for NULL, and when all is done. */
bool vlm_populate_thread_runs(const vlm_populate_thread *t);
/* Wherever it is; NULL is legal. */
void vlm_populate_thread_stop(vlm_populate_thread *t);

#endif
