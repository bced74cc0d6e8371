#include "cli/doctor_speed.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/pool.h"
#include "tensor/backend.h"

typedef struct reading {
    const uint64_t *data;
    uint64_t sums[VLM_POOL_THREADS_MAX];
} reading;

enum { READ_GRAIN = 1 << 17 };

static void read_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    reading *r = ctx;
    uint64_t sum = 0;
    for (size_t i = begin; i < end; i++) sum += r->data[i];
    r->sums[thread_idx] += sum;
}

/* By the clock on the wall: what one thread does not read, another can.  Pieces of a millisecond or
 * so, of which some run without neighbours; together they are larger than any cache. */
static double measure_reading(uint32_t n_threads, size_t bytes_max)
{
    enum { BYTES_MAX = 256 << 20, PIECE = 64 << 20, PER_THREAD = 16 << 20, ROUNDS_MIN = 5 };
    const double SECONDS_MIN = 0.15;
    const size_t n_bytes = bytes_max < BYTES_MAX ? bytes_max : BYTES_MAX;
    const size_t n = n_bytes / sizeof(uint64_t);
    size_t piece = n_threads * PER_THREAD > PIECE ? (size_t)n_threads * PER_THREAD : PIECE;
    piece /= sizeof(uint64_t);
    if (piece > n) piece = n;
    uint64_t *data = n == 0 ? NULL : vlm_alloc_aligned(n * sizeof *data);
    vlm_pool *pool = NULL;
    vlm_error error;
    double best = 0.0;
    reading *r = calloc(1, sizeof *r);
    if (data != NULL && r != NULL && vlm_pool_new(n_threads, &pool, &error) == VLM_OK) {
        memset(data, 1, n * sizeof *data);
        const size_t n_pieces = n / piece;
        const uint64_t first = vlm_clock_ns();
        for (size_t i = 0;
             i < ROUNDS_MIN * n_pieces || vlm_clock_seconds(first, vlm_clock_ns()) < SECONDS_MIN;
             i++) {
            r->data = data + i % n_pieces * piece;
            const uint64_t start = vlm_clock_ns();
            vlm_pool_run(pool, piece, READ_GRAIN, read_range, r);
            const double rate =
                (double)(piece * sizeof *data) / vlm_clock_seconds(start, vlm_clock_ns());
            if (rate > best) best = rate;
        }
    }
    vlm_pool_free(pool);
    free(r);
    free(data);
    return best;
}

double vlm_speed_read(uint32_t n_threads, size_t n_bytes, double seconds)
{
    const size_t n = n_bytes / sizeof(uint64_t);
    uint64_t *data = n == 0 ? NULL : vlm_alloc_huge(n * sizeof *data);
    reading *r = calloc(1, sizeof *r);
    vlm_pool *pool = NULL;
    vlm_error error;
    double rate = 0.0;
    if (data != NULL && r != NULL && vlm_pool_new(n_threads, &pool, &error) == VLM_OK) {
        memset(data, 1, n * sizeof *data);
        r->data = data;
        size_t grain = n / n_threads / 8;
        if (grain > READ_GRAIN) grain = READ_GRAIN;
        if (grain == 0) grain = 1;
        vlm_pool_run(pool, n, grain, read_range, r);
        double n_read = 0.0;
        const uint64_t start = vlm_clock_ns();
        uint64_t now;
        do {
            vlm_pool_run(pool, n, grain, read_range, r);
            n_read += (double)(n * sizeof *data);
            now = vlm_clock_ns();
        } while (vlm_clock_seconds(start, now) < seconds);
        rate = n_read / vlm_clock_seconds(start, now);
    }
    vlm_pool_free(pool);
    free(r);
    free(data);
    return rate;
}

static void do_nothing(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)ctx, (void)begin, (void)end, (void)thread_idx;
}

double vlm_speed_handover(uint32_t n_threads)
{
    enum { ROUNDS = 2000 };
    vlm_pool *pool;
    vlm_error error;
    if (vlm_pool_new(n_threads, &pool, &error) != VLM_OK) return 0.0;
    vlm_pool_run(pool, n_threads, 1, do_nothing, NULL);
    const uint64_t start = vlm_clock_ns();
    for (int i = 0; i < ROUNDS; i++) vlm_pool_run(pool, n_threads, 1, do_nothing, NULL);
    const double took = vlm_clock_seconds(start, vlm_clock_ns());
    vlm_pool_free(pool);
    return took / ROUNDS;
}

/* A product x W^T with LLaVA 7B's number of columns. */
enum { COLS = 4096, OUTS = 512, PROMPT_ROWS = 192 };

/* Each thread computes the whole product with a backend of its own and measures the time that it
 * spends on its CPU: so neighbours, who may hold one thread up, do not count, but what all CPUs
 * share does. */
typedef struct products {
    vlm_cpu_level level;
    const float *x; /* [PROMPT_ROWS, COLS] */
    float *y;       /* of each thread [PROMPT_ROWS, OUTS] */
    vlm_weight w;
    double prompt_flop_s[VLM_POOL_THREADS_MAX], answer_flop_s[VLM_POOL_THREADS_MAX];
} products;

static double thread_seconds(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Floating-point operations a second with up to that many rows: the best run of those that fit into
 * the time, fewer rows where the CPU is slow. */
static double measure_rows(vlm_backend *backend, const products *p, float *y, uint32_t rows_max,
                           double limit_s)
{
    enum { FIRST_ROWS = 8 };
    const double WALL = 3.0; /* times the limit, beside others */
    const uint64_t start = vlm_clock_ns();
    uint32_t n_rows = rows_max < FIRST_ROWS ? rows_max : FIRST_ROWS;
    double best = 0.0, spent_s = 0.0;
    for (;;) {
        const double start_s = thread_seconds();
        backend->ops->linear(backend, y, p->x, n_rows, &p->w, NULL, false);
        const double took_s = thread_seconds() - start_s + 1e-9;
        const double rate = 2.0 * COLS * OUTS * n_rows / took_s;
        if (rate > best) best = rate;
        spent_s += took_s;
        const double fit = (limit_s - spent_s) * best / (2.0 * COLS * OUTS);
        n_rows = fit < rows_max ? (uint32_t)(fit > 0.0 ? fit : 0.0) : rows_max;
        if (n_rows == 0 || vlm_clock_seconds(start, vlm_clock_ns()) > WALL * limit_s) return best;
    }
}

static void run_products(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    const double PROMPT_S = 0.06, ANSWER_S = 0.02;
    products *p = ctx;
    (void)thread_idx;
    for (size_t i = begin; i < end; i++) {
        float *y = p->y + i * PROMPT_ROWS * OUTS;
        vlm_backend *backend;
        vlm_error err;
        if (vlm_backend_cpu_open(1, p->level, &backend, &err) != VLM_OK) continue;
        if (!vlm_dtype_is_packed(p->w.dtype) ||
            backend->ops->reserve(backend, COLS, &err) == VLM_OK) {
            p->prompt_flop_s[i] = measure_rows(backend, p, y, PROMPT_ROWS, PROMPT_S);
            p->answer_flop_s[i] = measure_rows(backend, p, y, 1, ANSWER_S);
        }
        backend->ops->close(backend);
    }
}

/* Weights as that dtype holds them, into to, which has room for them in f16. */
static bool make_weights(vlm_backend *backend, vlm_dtype dtype, const float *source, void *to,
                         vlm_weight *out)
{
    const size_t n = (size_t)OUTS * COLS;
    *out = (vlm_weight){.data = to, .dtype = dtype, .n_rows = OUTS, .n_cols = COLS};
    if (!vlm_dtype_is_packed(dtype)) {
        uint16_t *halves = to;
        for (size_t i = 0; i < n; i++) halves[i] = vlm_f32_to_f16(source[i]);
        return true;
    }
    const vlm_weight w = {.data = source, .dtype = VLM_DTYPE_F32, .n_rows = OUTS, .n_cols = COLS};
    if (backend->ops->packed_bytes(backend, dtype, OUTS, COLS) > 2 * n) return false;
    backend->ops->pack(backend, to, dtype, &w);
    return true;
}

static void measure_products(uint32_t n_threads, size_t bytes_max, vlm_speed *out)
{
    static const vlm_dtype dtypes[] = {[VLM_SPEED_F16] = VLM_DTYPE_F16,
                                       [VLM_SPEED_Q8] = VLM_DTYPE_Q8,
                                       [VLM_SPEED_Q4] = VLM_DTYPE_Q4};
    const size_t n = (size_t)OUTS * COLS, n_x = (size_t)PROMPT_ROWS * COLS;
    const size_t n_y = (size_t)PROMPT_ROWS * OUTS * n_threads;
    if ((n + n_x + n_y) * sizeof(float) + 2 * n > bytes_max) return;
    vlm_error err;
    vlm_backend *backend = NULL;
    vlm_pool *pool = NULL;
    products *p = calloc(1, sizeof *p);
    float *source = vlm_alloc_aligned(n * sizeof *source);
    float *x = vlm_alloc_aligned(n_x * sizeof *x);
    float *y = vlm_alloc_aligned(n_y * sizeof *y);
    void *weights = vlm_alloc_huge(2 * n);
    const vlm_cpu_level level = vlm_cpu_level_best();
    if (p != NULL && source != NULL && x != NULL && y != NULL && weights != NULL &&
        vlm_pool_new(n_threads, &pool, &err) == VLM_OK &&
        vlm_backend_cpu_open(1, level, &backend, &err) == VLM_OK) {
        for (size_t i = 0; i < n; i++) source[i] = (float)(i * 7919 % 2001) * 1e-5f - 0.01f;
        for (size_t i = 0; i < n_x; i++) x[i] = (float)(i * 104729 % 2003) * 1e-3f - 1.0f;
        for (size_t d = 0; d < VLM_N_SPEED_DTYPES; d++) {
            *p = (products){.level = level, .x = x, .y = y};
            if (!make_weights(backend, dtypes[d], source, weights, &p->w)) continue;
            vlm_pool_run(pool, n_threads, 1, run_products, p);
            for (uint32_t i = 0; i < n_threads; i++) {
                out->prompt_flop_s[d] += p->prompt_flop_s[i];
                out->answer_flop_s[d] += p->answer_flop_s[i];
            }
        }
    }
    if (backend != NULL) backend->ops->close(backend);
    vlm_pool_free(pool);
    free(weights);
    free(y);
    free(x);
    free(source);
    free(p);
}

void vlm_speed_measure(size_t memory_max, vlm_speed *out)
{
    const uint32_t n_cpus = vlm_cpu_count();
    *out = (vlm_speed){.n_threads = n_cpus < VLM_POOL_THREADS_MAX ? n_cpus : VLM_POOL_THREADS_MAX};
    out->read_bytes_s = measure_reading(out->n_threads, memory_max / 8);
    measure_products(out->n_threads, memory_max / 8, out);
}

double vlm_speed_prompt(const vlm_speed *s, vlm_speed_dtype dtype, double n_weights)
{
    return s->prompt_flop_s[dtype] / 2.0 / n_weights;
}

double vlm_speed_answer(const vlm_speed *s, vlm_speed_dtype dtype, double n_weights)
{
    const double by_reading = s->read_bytes_s / (n_weights * vlm_speed_dtype_bits(dtype) / 8.0);
    const double by_kernel = s->answer_flop_s[dtype] / 2.0 / n_weights;
    return by_reading < by_kernel ? by_reading : by_kernel;
}

const char *vlm_speed_dtype_name(vlm_speed_dtype dtype)
{
    static const char *const names[] = {
#define SPEED_NAME(id, text, bits) text,
        VLM_SPEED_DTYPE_LIST(SPEED_NAME)
#undef SPEED_NAME
    };
    return names[dtype];
}

double vlm_speed_dtype_bits(vlm_speed_dtype dtype)
{
    static const double bits_of[] = {
#define SPEED_BITS(id, text, bits) bits,
        VLM_SPEED_DTYPE_LIST(SPEED_BITS)
#undef SPEED_BITS
    };
    return bits_of[dtype];
}
