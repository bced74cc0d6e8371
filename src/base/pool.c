#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* Spins before a worker sleeps: about 50 microseconds, longer than the gap between two kernels of
 * one forward pass, far shorter than the gap between two requests. */
enum { SPIN_MAX = 20000 };
/* A tapered loop's range is this part of a thread's share of what is left. */
enum { TAPER = 4 };

typedef struct worker {
    vlm_pool *pool;
    pthread_t thread;
    uint32_t idx;
} worker;

struct vlm_pool {
    uint32_t n_threads;
    worker *workers; /* [n_threads - 1] */

    /* The loop being run; written by the caller before generation is raised. */
    vlm_pool_fn *fn;
    void *ctx;
    size_t n, grain;
    bool tapered;
    _Alignas(64) atomic_size_t next;
    _Alignas(64) atomic_uint n_busy;
    _Alignas(64) atomic_uint generation;
    atomic_bool stop;
    atomic_uint n_asleep;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* The next range, false when none is left. */
static bool take_range(vlm_pool *pool, size_t *begin, size_t *end)
{
    size_t at, len = pool->grain;
    if (!pool->tapered) {
        at = atomic_fetch_add_explicit(&pool->next, len, memory_order_relaxed);
    } else {
        at = atomic_load_explicit(&pool->next, memory_order_relaxed);
        do {
            const size_t left = at < pool->n ? pool->n - at : 0;
            len = left / (TAPER * pool->n_threads);
            if (len < pool->grain) len = pool->grain;
        } while (!atomic_compare_exchange_weak_explicit(
            &pool->next, &at, at + len, memory_order_relaxed, memory_order_relaxed));
    }
    if (at >= pool->n) return false;
    *begin = at;
    *end = pool->n - at < len ? pool->n : at + len;
    return true;
}

static void work(vlm_pool *pool, uint32_t thread_idx)
{
    size_t begin, end;
    while (take_range(pool, &begin, &end)) pool->fn(pool->ctx, begin, end, thread_idx);
}

/* Returns when the generation differs from seen. */
static void await_generation(vlm_pool *pool, unsigned seen)
{
    for (int i = 0; i < SPIN_MAX; i++) {
        if (atomic_load_explicit(&pool->generation, memory_order_acquire) != seen) return;
        cpu_relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->n_asleep, 1);
    while (atomic_load(&pool->generation) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->n_asleep, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg)
{
    worker *self = arg;
    vlm_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        await_generation(pool, seen);
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        if (atomic_load(&pool->stop)) return NULL;
        work(pool, self->idx);
        atomic_fetch_sub_explicit(&pool->n_busy, 1, memory_order_release);
    }
}

static void start_generation(vlm_pool *pool)
{
    atomic_fetch_add(&pool->generation, 1);
    if (atomic_load(&pool->n_asleep) == 0) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

vlm_status vlm_pool_new(uint32_t n_threads, vlm_pool **out, vlm_error *err)
{
    assert(n_threads >= 1 && n_threads <= VLM_POOL_THREADS_MAX);
    *out = NULL;
    vlm_pool *pool = aligned_alloc(64, (sizeof *pool + 63) / 64 * 64);
    if (pool == NULL) return vlm_fail_memory(err, "thread pool");
    *pool = (vlm_pool){.n_threads = 1};
    pool->workers = calloc(n_threads, sizeof *pool->workers);
    if (pool->workers == NULL) {
        free(pool);
        return vlm_fail_memory(err, "thread pool");
    }
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (uint32_t i = 1; i < n_threads; i++) {
        worker *w = &pool->workers[i - 1];
        *w = (worker){.pool = pool, .idx = i};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            vlm_pool_free(pool);
            return vlm_fail(err, VLM_RESOURCE_EXHAUSTED, "cannot start %u threads", n_threads);
        }
        pool->n_threads++;
    }
    *out = pool;
    return VLM_OK;
}

void vlm_pool_free(vlm_pool *pool)
{
    if (pool == NULL) return;
    atomic_store(&pool->stop, true);
    start_generation(pool);
    for (uint32_t i = 1; i < pool->n_threads; i++) pthread_join(pool->workers[i - 1].thread, NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool);
}

uint32_t vlm_pool_n_threads(const vlm_pool *pool)
{
    return pool->n_threads;
}

static void run(vlm_pool *pool, size_t n, size_t grain, bool tapered, vlm_pool_fn *fn, void *ctx)
{
    assert(grain >= 1);
    if (n == 0) return;
    if (pool->n_threads == 1 || n <= grain) {
        for (size_t begin = 0; begin < n; begin += grain)
            fn(ctx, begin, n - begin < grain ? n : begin + grain, 0);
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    pool->n = n;
    pool->grain = grain;
    pool->tapered = tapered;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->n_busy, pool->n_threads - 1, memory_order_relaxed);
    start_generation(pool);
    work(pool, 0);
    for (int i = 0; atomic_load_explicit(&pool->n_busy, memory_order_acquire) != 0; i++) {
        if (i < SPIN_MAX)
            cpu_relax();
        else
            sched_yield();
    }
}

void vlm_pool_run(vlm_pool *pool, size_t n, size_t grain, vlm_pool_fn *fn, void *ctx)
{
    run(pool, n, grain, false, fn, ctx);
}

void vlm_pool_run_tapered(vlm_pool *pool, size_t n, size_t grain, vlm_pool_fn *fn, void *ctx)
{
    run(pool, n, grain, true, fn, ctx);
}
