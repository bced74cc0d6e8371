/* bench_kernels - speed of the CPU backend's operations, per level and dtype.
 * usage: bench_kernels [THREADS [NAME]]   NAME: only lines whose "LEVEL NAME" holds it
 * Each figure is the best of several runs, since neighbours on the machine only ever slow it;
 * with one thread it is time on the CPU, which a neighbour's share does not count towards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "tensor/backend.h"

enum { RUNS_MIN = 5 };
static const double seconds_min = 0.4;

typedef struct bench {
    vlm_backend *backend;
    const char *level, *filter;
    uint32_t n_threads;
    float *x, *y;
    unsigned char *weights;
    size_t n_weight_bytes;
} bench;

static double now_s(uint32_t n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef void op_fn(const bench *b, const void *shape);

static void report(const bench *b, const char *name, op_fn *op, const void *shape, double flop,
                   double n_bytes)
{
    char line[96];
    snprintf(line, sizeof line, "%s %s", b->level, name);
    if (b->filter != NULL && strstr(line, b->filter) == NULL) return;
    double best_s = 1e9;
    const double start_s = now_s(b->n_threads);
    for (int i = 0; i < RUNS_MIN || now_s(b->n_threads) - start_s < seconds_min; i++) {
        const double begin_s = now_s(b->n_threads);
        op(b, shape);
        const double took_s = now_s(b->n_threads) - begin_s;
        if (took_s < best_s) best_s = took_s;
    }
    printf("%-10s %u  %-34s %9.3f ms %8.1f GFLOP/s %7.1f GB/s\n", b->level, b->n_threads, name,
           best_s * 1e3, flop / best_s * 1e-9, n_bytes / best_s * 1e-9);
}

typedef struct linear_shape {
    uint32_t n, n_in, n_out;
    vlm_dtype dtype;
} linear_shape;

static void run_linear(const bench *b, const void *shape)
{
    const linear_shape *s = shape;
    const vlm_weight w = {
        .data = b->weights, .dtype = s->dtype, .n_rows = s->n_out, .n_cols = s->n_in};
    b->backend->ops->linear(b->backend, b->y, b->x, s->n, &w, NULL, false);
}

static void bench_linear(const bench *b, uint32_t n, uint32_t n_in, uint32_t n_out)
{
    for (int dtype = 0; dtype < VLM_N_DTYPES; dtype++) {
        const linear_shape s = {n, n_in, n_out, (vlm_dtype)dtype};
        char name[64];
        snprintf(name, sizeof name, "linear %s %u x %u -> %u", vlm_dtype_name(s.dtype), n, n_in,
                 n_out);
        const double products = (double)n_in * n_out;
        report(b, name, run_linear, &s, 2.0 * n * products,
               products * (double)vlm_dtype_size(s.dtype));
    }
}

static void run_attn_full(const bench *b, const void *shape)
{
    (void)shape;
    b->backend->ops->attn_full(b->backend, b->y, b->x, b->x, b->x, 1, 577, 16, 64, 0.125f);
}

static void run_attn_paged(const bench *b, const void *shape)
{
    b->backend->ops->attn_paged(b->backend, shape);
}

/* n rows after n_past others, over blocks that lie in order. */
static void bench_attn_paged(const bench *b, const char *name, vlm_dtype dtype, uint32_t n_kv_heads,
                             uint32_t n, uint32_t n_past, double flop, double bytes)
{
    enum { N_BLOCKS = 4096 / VLM_KV_BLOCK_TOKENS, DIM = 128 };
    static uint32_t blocks[N_BLOCKS];
    for (uint32_t i = 0; i < N_BLOCKS; i++) blocks[i] = i;
    float *cache = (float *)(uintptr_t)b->weights;
    const vlm_kv_layer kv = {.k = cache,
                             .v = cache + (size_t)4096 * 4096,
                             .dtype = dtype,
                             .n_kv_heads = n_kv_heads,
                             .head_dim = DIM};
    const vlm_seq_rows seq = {.n_rows = n, .n_past = n_past, .blocks = blocks};
    const vlm_attn_args args = {.q = b->x,
                                .out = b->y,
                                .kv = &kv,
                                .seqs = &seq,
                                .n_seqs = 1,
                                .n_heads = 32,
                                .scale = 0.088f};
    report(b, name, run_attn_paged, &args, flop, bytes);
}

static void bench_attn(const bench *b)
{
    const double decode = 4.0 * 4096 * 4096;
    report(b, "attn_full 577 tokens, 16 x 64", run_attn_full, NULL, 4.0 * 577 * 577 * 1024, 0);
    bench_attn_paged(b, "attn_paged 1 at 4095, 32 x 128", VLM_DTYPE_F32, 32, 1, 4095, decode,
                     2.0 * decode);
    bench_attn_paged(b, "attn_paged 1 at 4095, 32/8 x 128", VLM_DTYPE_F32, 8, 1, 4095, decode,
                     0.5 * decode);
    bench_attn_paged(b, "attn_paged 1 at 4095, 32 x 128, f16", VLM_DTYPE_F16, 32, 1, 4095, decode,
                     decode);
    bench_attn_paged(b, "attn_paged 1 at 4095, 32/8 x 128, f16", VLM_DTYPE_F16, 8, 1, 4095, decode,
                     0.25 * decode);
    bench_attn_paged(b, "attn_paged 1024 at 0, 32 x 128", VLM_DTYPE_F32, 32, 1024, 0,
                     2.0 * 1024 * 1024 * 4096, 0);
    bench_attn_paged(b, "attn_paged 96 at 2000, 32 x 128", VLM_DTYPE_F32, 32, 96, 2000,
                     4.0 * 96 * 2048.5 * 4096, 0);
    bench_attn_paged(b, "attn_paged 96 at 2000, 32 x 128, f16", VLM_DTYPE_F16, 32, 96, 2000,
                     4.0 * 96 * 2048.5 * 4096, 0);
}

enum { N_ELEMS = 1 << 22, ROW_LEN = 4096 };

static void run_act(const bench *b, const void *shape)
{
    b->backend->ops->act(b->backend, b->y, N_ELEMS, *(const vlm_act *)shape);
}

static void run_rms_norm(const bench *b, const void *shape)
{
    (void)shape;
    const vlm_weight w = {.data = b->x, .dtype = VLM_DTYPE_F32, .n_rows = 1, .n_cols = ROW_LEN};
    b->backend->ops->rms_norm(b->backend, b->y, b->x, N_ELEMS / ROW_LEN, &w, 1e-5f);
}

static void run_layer_norm(const bench *b, const void *shape)
{
    (void)shape;
    const vlm_weight w = {.data = b->x, .dtype = VLM_DTYPE_F32, .n_rows = 1, .n_cols = ROW_LEN};
    b->backend->ops->layer_norm(b->backend, b->y, b->x, N_ELEMS / ROW_LEN, &w, &w, 1e-5f);
}

static void run_rope(const bench *b, const void *shape)
{
    (void)shape;
    static const uint32_t positions[N_ELEMS / ROW_LEN];
    b->backend->ops->rope(b->backend, b->y, N_ELEMS / ROW_LEN, 32, 128, positions, b->x);
}

static void run_add(const bench *b, const void *shape)
{
    (void)shape;
    b->backend->ops->add(b->backend, b->y, b->x, N_ELEMS);
}

static void bench_elems(const bench *b)
{
    const double n = N_ELEMS;
    for (int act = 0; act < VLM_N_ACTS; act++) {
        const vlm_act which = (vlm_act)act;
        char name[64];
        snprintf(name, sizeof name, "act %s 4M", vlm_act_name(which));
        /* From fresh numbers each time, or repeated activations die out to zeros. */
        memcpy(b->y, b->x, N_ELEMS * sizeof *b->y);
        report(b, name, run_act, &which, n, 8 * n);
    }
    report(b, "rms_norm 1024 x 4096", run_rms_norm, NULL, 4 * n, 8 * n);
    report(b, "layer_norm 1024 x 4096", run_layer_norm, NULL, 7 * n, 8 * n);
    report(b, "rope 1024 x 32 x 128", run_rope, NULL, 3 * n, 8 * n);
    report(b, "add 4M", run_add, NULL, n, 12 * n);
}

static bool bench_level(bench *b, vlm_cpu_level level)
{
    vlm_error err;
    if (vlm_backend_cpu_open(b->n_threads, level, &b->backend, &err) != VLM_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.msg);
        return false;
    }
    b->level = vlm_cpu_level_name(level);
    bench_linear(b, 1, 4096, 11008);
    bench_linear(b, 1, 4096, 4096);
    bench_linear(b, 1, 256, 704);
    bench_linear(b, 2, 4096, 4096);
    bench_linear(b, 16, 4096, 4096);
    bench_linear(b, 577, 1024, 4096);
    bench_linear(b, 577, 4096, 1024);
    bench_linear(b, 1024, 4096, 4096);
    bench_attn(b);
    bench_elems(b);
    b->backend->ops->close(b->backend);
    return true;
}

int main(int argc, char **argv)
{
    bench b = {.n_threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : vlm_cpu_count()};
    if (b.n_threads < 1 || b.n_threads > 256) b.n_threads = 1;
    b.filter = argc > 2 ? argv[2] : NULL;
    /* The largest weight, far beyond the last cache, and 4096 x 4096 keys and values. */
    b.n_weight_bytes = (size_t)11008 * 4096 * 4;
    b.weights = vlm_alloc_aligned(b.n_weight_bytes);
    b.x = vlm_alloc_aligned(sizeof(float) * N_ELEMS);
    b.y = vlm_alloc_aligned(sizeof(float) * N_ELEMS);
    int status = EXIT_FAILURE;
    if (b.weights == NULL || b.x == NULL || b.y == NULL) {
        fprintf(stderr, "bench_kernels: out of memory\n");
        goto done;
    }
    /* Small normal numbers in every dtype. */
    for (size_t i = 0; i < b.n_weight_bytes; i++)
        b.weights[i] = i % 2 == 1 ? 0x3c : (unsigned char)(i * 37 % 128);
    for (size_t i = 0; i < N_ELEMS; i++) b.x[i] = (float)(i * 7919 % 2001) * 1e-3f - 1.0f;
    for (int level = (int)vlm_cpu_level_best(); level >= 0; level--) {
        if (!bench_level(&b, (vlm_cpu_level)level)) goto done;
    }
    status = EXIT_SUCCESS;
done:
    free(b.weights);
    free(b.x);
    free(b.y);
    return status;
}
