#include "engine/populate.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

struct vlm_populate_thread {
    const vlm_kv_pool *pool;
    size_t n_bytes; /* of the keys, or the values, of each layer */
    pthread_t thread;
    atomic_bool stop, done;
};

/* Pages are taken under a lock of the whole process, so a little at a time. */
static void populate(vlm_populate_thread *t, void *ptr)
{
    enum { PIECE_BYTES = 2 << 20 };
    vlm_backend *b = t->pool->backend;
    for (size_t at = 0; at < t->n_bytes && !atomic_load(&t->stop); at += PIECE_BYTES) {
        const size_t left = t->n_bytes - at;
        b->ops->populate(b, (char *)ptr + at, left < PIECE_BYTES ? left : PIECE_BYTES);
    }
}

static void *run(void *arg)
{
    vlm_populate_thread *t = arg;
#if defined(__linux__)
    (void)setpriority(PRIO_PROCESS, 0, 19); /* of this thread alone */
#endif
    for (uint32_t i = 0; i < t->pool->n_layers; i++) {
        populate(t, t->pool->layers[i].k);
        populate(t, t->pool->layers[i].v);
    }
    atomic_store(&t->done, true);
    return NULL;
}

vlm_populate_thread *vlm_populate_thread_start(const vlm_kv_pool *pool, uint32_t n_tokens)
{
    vlm_populate_thread *t = calloc(1, sizeof *t);
    if (t == NULL) return NULL;
    uint32_t n_blocks = n_tokens / VLM_KV_BLOCK_TOKENS;
    if (n_blocks > pool->n_blocks) n_blocks = pool->n_blocks;
    t->pool = pool;
    t->n_bytes = n_blocks * pool->part_bytes;
    /* Signals are for the threads that wait for them. */
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool failed = pthread_create(&t->thread, NULL, run, t) != 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) return t;
    free(t);
    return NULL;
}

bool vlm_populate_thread_runs(const vlm_populate_thread *t)
{
    return t != NULL && !atomic_load(&t->done);
}

void vlm_populate_thread_stop(vlm_populate_thread *t)
{
    if (t == NULL) return;
    atomic_store(&t->stop, true);
    (void)pthread_join(t->thread, NULL);
    free(t);
}
