/* bench_kernels - speed of the CPU backend's operations, per level and dtype, packed ones included.
 * usage: bench_kernels [THREADS [NAME]]   NAME: only lines whose "LEVEL NAME" holds it
 * Each figure is the best of several runs, since neighbours on the machine only ever slow it;
 * with one thread it is time on the CPU, which a neighbour's share does not count towards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "tensor/backend.h"

enum {
    RUNS_MIN = 5,
    /* Floats in the activations: 1154 rows of 4096, two pictures of CLIP-L/336. */
    N_ACT_ELEMS = 1154 * 4096,
};
static const double seconds_min = 0.4;

typedef struct bench {
    vlm_backend *backend;
    const char *level, *filter;
    uint32_t n_threads;
    float *x, *y;
    unsigned char *weights, *packed;
    size_t n_weight_bytes; /* of each */
} bench;

static double now_s(uint32_t n_threads)
{
    struct timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef void op_fn(const bench *b, const void *shape);

static bool is_wanted(const bench *b, const char *name)
{
    char line[96];
    snprintf(line, sizeof line, "%s %s", b->level, name);
    return b->filter == NULL || strstr(line, b->filter) != NULL;
}

static void report(const bench *b, const char *name, op_fn *op, const void *shape, double flop,
                   double n_bytes)
{
    if (!is_wanted(b, name)) return;
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

/* Matrices that lie behind each other and are taken in turn, so that no cache holds the next. */
typedef struct packed_shape {
    uint32_t n;
    vlm_weight w;
    size_t n_bytes, n_copies;
    size_t *turn;
} packed_shape;

static void run_packed(const bench *b, const void *shape)
{
    const packed_shape *s = shape;
    vlm_weight w = s->w;
    w.data = b->packed + (*s->turn)++ % s->n_copies * s->n_bytes;
    b->backend->ops->linear(b->backend, b->y, b->x, s->n, &w, NULL, false);
}

static void bench_packed(const bench *b, uint32_t n, uint32_t n_in, uint32_t n_out)
{
    const vlm_backend_ops *ops = b->backend->ops;
    const vlm_weight from = {
        .data = b->weights, .dtype = VLM_DTYPE_F32, .n_rows = n_out, .n_cols = n_in};
    for (int i = VLM_N_DTYPES; i < VLM_N_WEIGHT_DTYPES; i++) {
        const vlm_dtype dtype = (vlm_dtype)i;
        char name[64];
        snprintf(name, sizeof name, "packed %s %u x %u -> %u", vlm_dtype_name(dtype), n, n_in,
                 n_out);
        if (!is_wanted(b, name)) continue;
        size_t turn = 0;
        const size_t n_bytes = ops->packed_bytes(b->backend, dtype, n_out, n_in);
        const packed_shape s = {.n = n,
                                .w = {.dtype = dtype, .n_rows = n_out, .n_cols = n_in},
                                .n_bytes = n_bytes,
                                .n_copies = b->n_weight_bytes / n_bytes,
                                .turn = &turn};
        ops->pack(b->backend, b->packed, dtype, &from);
        for (size_t copy = 1; copy < s.n_copies; copy++)
            memcpy(b->packed + copy * n_bytes, b->packed, n_bytes);
        report(b, name, run_packed, &s, 2.0 * n * n_in * n_out, (double)n_bytes);
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
    bench_attn_paged(b, "attn_paged 1024 at 0, 32 x 128", VLM_DTYPE_F32, 32, 1024, 0,
                     2.0 * 1024 * 1024 * 4096, 0);
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
    static const uint32_t shapes[][3] = {
        {1, 4096, 11008},   {1, 4096, 4096},   {1, 256, 704},     {2, 4096, 4096},
        {16, 4096, 4096},   {96, 4096, 4096},  {96, 4096, 11008}, {96, 11008, 4096},
        {577, 1024, 1024},  {577, 1024, 4096}, {577, 4096, 1024}, {1154, 1024, 4096},
        {1024, 4096, 4096},
    };
    vlm_error err;
    vlm_status status = vlm_backend_cpu_open(b->n_threads, level, &b->backend, &err);
    if (status == VLM_OK) status = b->backend->ops->reserve(b->backend, 11008, &err);
    if (status != VLM_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.msg);
        if (b->backend != NULL) b->backend->ops->close(b->backend);
        return false;
    }
    b->level = vlm_cpu_level_name(level);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        bench_linear(b, shapes[i][0], shapes[i][1], shapes[i][2]);
        bench_packed(b, shapes[i][0], shapes[i][1], shapes[i][2]);
    }
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
    b.packed = vlm_alloc_aligned(b.n_weight_bytes);
    b.x = vlm_alloc_aligned(sizeof(float) * N_ACT_ELEMS);
    b.y = vlm_alloc_aligned(sizeof(float) * N_ACT_ELEMS);
    int status = EXIT_FAILURE;
    if (b.weights == NULL || b.packed == NULL || b.x == NULL || b.y == NULL) {
        fprintf(stderr, "bench_kernels: out of memory\n");
        goto done;
    }
    /* Small normal random numbers in every dtype. */
    uint32_t random = 1;
    for (size_t i = 0; i < b.n_weight_bytes; i++) {
        random = random * 1664525u + 1013904223u;
        b.weights[i] = (unsigned char)(i % 2 == 1 ? 0x3c | (random >> 24 & 0x80) : random >> 24);
    }
    for (size_t i = 0; i < N_ACT_ELEMS; i++) b.x[i] = (float)(i * 7919 % 2001) * 1e-3f - 1.0f;
    for (int level = (int)vlm_cpu_level_best(); level >= 0; level--) {
        if (!bench_level(&b, (vlm_cpu_level)level)) goto done;
    }
    status = EXIT_SUCCESS;
done:
    free(b.weights);
    free(b.packed);
    free(b.x);
    free(b.y);
    return status;
}
