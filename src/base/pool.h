/* pool.h - a fixed set of threads that run one loop at a time.
 * Not: a task queue; no nesting, no waiting on anything but the loop itself.
 * Threads: one thread calls vlm_pool_run; it takes part in the work. */
#ifndef VLM_BASE_POOL_H
#define VLM_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct vlm_pool vlm_pool;

enum { VLM_POOL_THREADS_MAX = 256 };

/* n_threads in all, the caller included, 1..VLM_POOL_THREADS_MAX.
 * RESOURCE_EXHAUSTED when a thread cannot be started. */
VLM_MUST_USE vlm_status vlm_pool_new(uint32_t n_threads, vlm_pool **out, vlm_error *err);
void vlm_pool_free(vlm_pool *pool);
uint32_t vlm_pool_n_threads(const vlm_pool *pool);

/* Call fn(ctx, begin, end, thread_idx) on disjoint ranges that cover [0, n), each at most grain
 * long (grain >= 1), and return when all are done.  Which thread gets which range is not fixed, so
 * fn's result for an index must not depend on the range it came in.  thread_idx < n_threads. */
typedef void vlm_pool_fn(void *ctx, size_t begin, size_t end, uint32_t thread_idx);
void vlm_pool_run(vlm_pool *pool, size_t n, size_t grain, vlm_pool_fn *fn, void *ctx);

/* The same with ranges that begin long and become shorter, down to grain, the fewer indices are
 * left: for items that are read from memory one behind the other, and threads that end together. */
void vlm_pool_run_tapered(vlm_pool *pool, size_t n, size_t grain, vlm_pool_fn *fn, void *ctx);

#endif
