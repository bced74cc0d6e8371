/* bench_stream - products of a few rows with weights that come from memory, beside what memory
 * gives. usage: bench_stream [THREADS [ROWS [LEVEL]]] The matrices of a 7B's layers lie behind each
 * other in 1 GiB.  Each round reads all of it and then multiplies all of it, since the speed of a
 * shared machine's memory changes from second to second: a round's share says more than either
 * figure alone.  Of the rounds the bests, and the median of the shares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/pool.h"
#include "tensor/backend.h"

enum {
    ROUNDS = 15,
    ROWS_MAX = 256,
    COLS_MAX = 11008,
    N_SHAPES = 7,
    MATRICES_MAX = 1024,
    READ_BYTES = 1 << 20
};
static const size_t total_bytes = (size_t)1 << 30;
static const uint32_t shapes[N_SHAPES][2] = {{4096, 4096}, {4096, 4096},  {4096, 4096},
                                             {4096, 4096}, {4096, 11008}, {4096, 11008},
                                             {11008, 4096}}; /* [in, out] */

typedef struct bench {
    vlm_backend *backend;
    vlm_pool *pool;
    float *x, *y, *source;
    unsigned char *weights;
    size_t at[MATRICES_MAX], n_matrices, n_bytes;
    uint64_t sums[VLM_POOL_THREADS_MAX];
} bench;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    bench *b = ctx;
    const uint64_t *words = (const void *)(b->weights + begin * READ_BYTES);
    const size_t n = (end - begin) * READ_BYTES / sizeof *words;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < n; i += 8) {
        __builtin_prefetch(words + i + 1024);
        for (size_t k = 0; k < 8; k++) sums[k] += words[i + k];
    }
    for (size_t k = 0; k < 8; k++) b->sums[thread_idx] += sums[k];
}

static size_t bytes_of(const bench *b, vlm_dtype dtype, const uint32_t *shape)
{
    return vlm_dtype_is_packed(dtype)
               ? b->backend->ops->packed_bytes(b->backend, dtype, shape[1], shape[0])
               : (size_t)shape[0] * shape[1] * vlm_dtype_size(dtype);
}

static void fill(bench *b, vlm_dtype dtype)
{
    b->n_matrices = b->n_bytes = 0;
    memset(b->weights, 0x21, total_bytes); /* small numbers in every format */
    for (; b->n_matrices < MATRICES_MAX; b->n_matrices++) {
        const uint32_t *shape = shapes[b->n_matrices % N_SHAPES];
        const size_t n = bytes_of(b, dtype, shape);
        if (b->n_bytes + n > total_bytes) return;
        unsigned char *to = b->weights + b->n_bytes;
        const vlm_weight from = {
            .data = b->source, .dtype = VLM_DTYPE_F32, .n_rows = shape[1], .n_cols = shape[0]};
        if (vlm_dtype_is_packed(dtype) && b->n_matrices < N_SHAPES)
            b->backend->ops->pack(b->backend, to, dtype, &from);
        else if (vlm_dtype_is_packed(dtype))
            memcpy(to, b->weights + b->at[b->n_matrices % N_SHAPES], n);
        b->at[b->n_matrices] = b->n_bytes;
        b->n_bytes += n;
    }
}

static double multiply_all(bench *b, vlm_dtype dtype, uint32_t n_rows)
{
    double flop = 0;
    for (size_t i = 0; i < b->n_matrices; i++) {
        const uint32_t *shape = shapes[i % N_SHAPES];
        const vlm_weight w = {
            .data = b->weights + b->at[i], .dtype = dtype, .n_rows = shape[1], .n_cols = shape[0]};
        b->backend->ops->linear(b->backend, b->y, b->x, n_rows, &w, NULL, false);
        flop += 2.0 * n_rows * shape[0] * shape[1];
    }
    return flop;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void measure(bench *b, vlm_dtype dtype, uint32_t n_rows)
{
    double shares[ROUNDS], best_read = 0, best = 0, best_flop = 0;
    fill(b, dtype);
    for (int i = 0; i < ROUNDS; i++) {
        const double start_s = now_s();
        vlm_pool_run(b->pool, total_bytes / READ_BYTES, 64, read_range, b);
        const double read_s = now_s();
        const double flop = multiply_all(b, dtype, n_rows), end_s = now_s();
        const double read = (double)total_bytes / (read_s - start_s),
                     got = (double)b->n_bytes / (end_s - read_s);
        shares[i] = got / read;
        if (read > best_read) best_read = read;
        if (got > best) best = got;
        if (flop / (end_s - read_s) > best_flop) best_flop = flop / (end_s - read_s);
    }
    qsort(shares, ROUNDS, sizeof *shares, by_size);
    printf(
        "%-8s %3u rows  read %5.1f GB/s  product %5.1f GB/s %7.1f GFLOP/s  median share %3.0f%%\n",
        vlm_dtype_name(dtype), n_rows, best_read * 1e-9, best * 1e-9, best_flop * 1e-9,
        100 * shares[ROUNDS / 2]);
    fflush(stdout);
}

static vlm_status open_all(bench *b, uint32_t n_threads, vlm_cpu_level level, vlm_error *err)
{
    VLM_TRY(vlm_backend_cpu_open(n_threads, level, &b->backend, err));
    VLM_TRY(b->backend->ops->reserve(b->backend, COLS_MAX, err));
    VLM_TRY(vlm_pool_new(n_threads, &b->pool, err));
    const size_t n_source = (size_t)COLS_MAX * 4096, n_act = (size_t)ROWS_MAX * COLS_MAX;
    b->weights = vlm_alloc_huge(total_bytes);
    b->source = vlm_alloc_huge(n_source * sizeof *b->source);
    b->x = vlm_alloc_aligned(n_act * sizeof *b->x);
    b->y = vlm_alloc_aligned(n_act * sizeof *b->y);
    if (b->weights == NULL || b->source == NULL || b->x == NULL || b->y == NULL)
        return vlm_fail_memory(err, "bench_stream");
    for (size_t i = 0; i < n_source; i++) b->source[i] = (float)(i * 7919 % 4001) * 1e-4f - 0.2f;
    for (size_t i = 0; i < n_act; i++) b->x[i] = (float)(i * 7919 % 2001) * 1e-3f - 1.0f;
    return VLM_OK;
}

int main(int argc, char **argv)
{
    static const vlm_dtype dtypes[] = {VLM_DTYPE_Q4, VLM_DTYPE_Q8, VLM_DTYPE_F16};
    static bench b;
    const unsigned long n_threads = argc > 1 ? strtoul(argv[1], NULL, 10) : vlm_cpu_count();
    const unsigned long n_rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    vlm_cpu_level level = vlm_cpu_level_best();
    if (n_threads < 1 || n_threads > VLM_POOL_THREADS_MAX || n_rows < 1 || n_rows > ROWS_MAX ||
        (argc > 3 && !vlm_cpu_level_parse(argv[3], &level)) || !vlm_cpu_level_has(level)) {
        fprintf(stderr, "usage: bench_stream [THREADS [ROWS [LEVEL]]]\n");
        return 2;
    }
    vlm_error err;
    const vlm_status status = open_all(&b, (uint32_t)n_threads, level, &err);
    if (status != VLM_OK) fprintf(stderr, "bench_stream: %s\n", err.msg);
    for (size_t i = 0; status == VLM_OK && i < sizeof dtypes / sizeof dtypes[0]; i++)
        measure(&b, dtypes[i], (uint32_t)n_rows);
    vlm_pool_free(b.pool);
    if (b.backend != NULL) b.backend->ops->close(b.backend);
    free(b.weights);
    free(b.source);
    free(b.x);
    free(b.y);
    return status == VLM_OK ? 0 : 1;
}
