#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "tensor/backend.h"
#include "tensor/cpu/attn.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/linear.h"

/* Work below which a range is not worth handing to another thread: some microseconds. */
enum { GRAIN_ELEMS = 1 << 15, GRAIN_MATH_ELEMS = 1 << 13 };
/* Weights of a norm are made float in pieces of this many on the stack. */
enum { NORM_CHUNK = 512 };

typedef struct cpu_backend {
    vlm_backend base; /* first, so that a vlm_backend * is a cpu_backend * */
    vlm_cpu_kernels kernels;
    vlm_pool *pool;
    float *scratch; /* [n_threads, VLM_LINEAR_SCRATCH_LEN] */
    vlm_cpu_linear linear;
} cpu_backend;

static cpu_backend *cpu_of(vlm_backend *b)
{
    return (cpu_backend *)b;
}

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t div_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* How many items of item_work make a range worth min_work, at least 1. */
static size_t grain_of(size_t item_work, size_t min_work)
{
    return item_work >= min_work ? 1 : div_up(min_work, item_work == 0 ? 1 : item_work);
}

static const void *weight_at(const vlm_weight *w, size_t row, size_t col)
{
    const unsigned char *data = w->data;
    return data + (row * w->n_cols + col) * vlm_dtype_size(w->dtype);
}

static vlm_status cpu_alloc(vlm_backend *b, size_t n_bytes, void **out, vlm_error *err)
{
    (void)b;
    *out = vlm_alloc_huge(n_bytes);
    return *out == NULL ? vlm_fail_memory(err, "tensor") : VLM_OK;
}

static void cpu_free(vlm_backend *b, void *ptr)
{
    (void)b;
    free(ptr);
}

static void cpu_populate(vlm_backend *b, void *ptr, size_t n_bytes)
{
    (void)b;
    vlm_populate(ptr, n_bytes);
}

static void cpu_copy(vlm_backend *b, void *dst, const void *src, size_t n_bytes)
{
    (void)b;
    if (n_bytes > 0) memmove(dst, src, n_bytes);
}

static vlm_status cpu_weight(vlm_backend *b, const void *host_data, size_t n_bytes,
                             const void **out, vlm_error *err)
{
    (void)b, (void)n_bytes, (void)err;
    *out = host_data;
    return VLM_OK;
}

static void cpu_sync(vlm_backend *b)
{
    (void)b;
}

static void cpu_linear(vlm_backend *b, float *y, const float *x, uint32_t n, const vlm_weight *w,
                       const vlm_weight *bias, bool add)
{
    vlm_cpu_linear_run(&cpu_of(b)->linear, y, x, n, w, bias, add);
}

static size_t cpu_packed_bytes(vlm_backend *b, vlm_dtype dtype, uint32_t n_rows, uint32_t n_cols)
{
    (void)b;
    return vlm_cpu_packed_bytes(dtype, n_rows, n_cols);
}

static void cpu_pack(vlm_backend *b, void *dst, vlm_dtype dtype, const vlm_weight *src)
{
    vlm_cpu_pack(&cpu_of(b)->linear, dst, dtype, src);
}

static vlm_status cpu_reserve(vlm_backend *b, uint32_t n_cols, vlm_error *err)
{
    return vlm_cpu_reserve(&cpu_of(b)->linear, n_cols, err);
}

static void cpu_embed(vlm_backend *b, float *y, const uint32_t *ids, uint32_t n,
                      const vlm_weight *w)
{
    const vlm_cpu_kernels *kernels = &cpu_of(b)->kernels;
    for (size_t i = 0; i < n; i++) {
        assert(ids[i] < w->n_rows);
        kernels->widen[w->dtype](y + i * w->n_cols, weight_at(w, ids[i], 0), w->n_cols);
    }
}

typedef struct norm_job {
    const vlm_cpu_kernels *kernels;
    float *y;
    const float *x;
    const vlm_weight *w, *bias; /* bias NULL for RMSNorm, which has no mean either */
    float eps;
} norm_job;

static void norm_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const norm_job *job = ctx;
    const vlm_cpu_kernels *kernels = job->kernels;
    const vlm_weight *w = job->w, *bias = job->bias;
    const size_t dim = w->n_cols;
    float w_chunk[NORM_CHUNK], bias_chunk[NORM_CHUNK];
    for (size_t r = begin; r < end; r++) {
        const float *x = job->x + r * dim;
        float mean = 0.0f, var;
        if (bias != NULL)
            kernels->mean_var(x, dim, &mean, &var);
        else
            var = kernels->sum_squares(x, dim) / (float)dim;
        const float inv = 1.0f / sqrtf(var + job->eps);
        for (size_t i = 0; i < dim; i += NORM_CHUNK) {
            const size_t len = size_min(NORM_CHUNK, dim - i);
            const bool has_bias = bias != NULL && bias->data != NULL;
            kernels->widen[w->dtype](w_chunk, weight_at(w, 0, i), len);
            if (has_bias) kernels->widen[bias->dtype](bias_chunk, weight_at(bias, 0, i), len);
            kernels->norm_apply(job->y + r * dim + i, x + i, len, mean, inv, w_chunk,
                                has_bias ? bias_chunk : NULL);
        }
    }
}

static void cpu_rms_norm(vlm_backend *b, float *y, const float *x, uint32_t n, const vlm_weight *w,
                         float eps)
{
    norm_job job = {.kernels = &cpu_of(b)->kernels, .y = y, .x = x, .w = w, .eps = eps};
    vlm_pool_run(cpu_of(b)->pool, n, grain_of(w->n_cols, GRAIN_ELEMS), norm_range, &job);
}

static void cpu_layer_norm(vlm_backend *b, float *y, const float *x, uint32_t n,
                           const vlm_weight *w, const vlm_weight *bias, float eps)
{
    static const vlm_weight no_bias = {0};
    norm_job job = {
        .kernels = &cpu_of(b)->kernels,
        .y = y,
        .x = x,
        .w = w,
        .bias = bias == NULL ? &no_bias : bias,
        .eps = eps,
    };
    vlm_pool_run(cpu_of(b)->pool, n, grain_of(w->n_cols, GRAIN_ELEMS), norm_range, &job);
}

typedef struct rope_job {
    const vlm_cpu_kernels *kernels;
    float *x;
    const uint32_t *positions;
    const float *cos_sin;
    size_t n_heads, half;
} rope_job;

static void rope_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const rope_job *job = ctx;
    for (size_t r = begin; r < end; r++) {
        job->kernels->rope(job->x + r * job->n_heads * 2 * job->half, job->n_heads, job->half,
                           job->cos_sin + (size_t)job->positions[r] * 2 * job->half);
    }
}

static void cpu_rope(vlm_backend *b, float *x, uint32_t n, uint32_t n_heads, uint32_t head_dim,
                     const uint32_t *positions, const float *cos_sin)
{
    assert(head_dim % 2 == 0);
    rope_job job = {
        .kernels = &cpu_of(b)->kernels,
        .x = x,
        .positions = positions,
        .cos_sin = cos_sin,
        .n_heads = n_heads,
        .half = head_dim / 2,
    };
    vlm_pool_run(cpu_of(b)->pool, n, grain_of((size_t)n_heads * head_dim, GRAIN_ELEMS), rope_range,
                 &job);
}

/* Operations on attention share the threads' scratch with linear. */
static vlm_cpu_attn attn_of(vlm_backend *b)
{
    const cpu_backend *cpu = cpu_of(b);
    return (vlm_cpu_attn){.kernels = &cpu->kernels,
                          .pool = cpu->pool,
                          .scratch = cpu->scratch,
                          .scratch_len = VLM_LINEAR_SCRATCH_LEN};
}

static void cpu_kv_write(vlm_backend *b, const vlm_kv_layer *kv, const vlm_seq_rows *seqs,
                         uint32_t n_seqs, const float *k, const float *v)
{
    const vlm_cpu_attn attn = attn_of(b);
    vlm_cpu_kv_write(&attn, kv, seqs, n_seqs, k, v);
}

static void cpu_attn_paged(vlm_backend *b, const vlm_attn_args *args)
{
    const vlm_cpu_attn attn = attn_of(b);
    vlm_cpu_attn_paged(&attn, args);
}

static void cpu_attn_full(vlm_backend *b, float *out, const float *q, const float *k,
                          const float *v, uint32_t n_batch, uint32_t n_tokens, uint32_t n_heads,
                          uint32_t head_dim, float scale)
{
    const vlm_cpu_attn attn = attn_of(b);
    vlm_cpu_attn_full(&attn, out, q, k, v, n_batch, n_tokens, n_heads, head_dim, scale);
}

typedef struct elems_job {
    void (*in_place)(float *x, size_t n);                   /* or NULL */
    void (*with_other)(float *x, const float *y, size_t n); /* or NULL */
    float *x;
    const float *y;
} elems_job;

static void elems_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const elems_job *job = ctx;
    if (job->in_place != NULL) job->in_place(job->x + begin, end - begin);
    if (job->with_other != NULL) job->with_other(job->x + begin, job->y + begin, end - begin);
}

static void cpu_act(vlm_backend *b, float *x, size_t n_elems, vlm_act act)
{
    elems_job job = {.in_place = cpu_of(b)->kernels.act[act], .x = x};
    vlm_pool_run(cpu_of(b)->pool, n_elems, GRAIN_MATH_ELEMS, elems_range, &job);
}

static void cpu_act_mul(vlm_backend *b, float *gate, const float *up, size_t n_elems, vlm_act act)
{
    const vlm_cpu_kernels *kernels = &cpu_of(b)->kernels;
    elems_job job = {.in_place = kernels->act[act], .with_other = kernels->mul, .x = gate, .y = up};
    vlm_pool_run(cpu_of(b)->pool, n_elems, GRAIN_MATH_ELEMS, elems_range, &job);
}

static void cpu_add(vlm_backend *b, float *x, const float *y, size_t n_elems)
{
    elems_job job = {.with_other = cpu_of(b)->kernels.add, .x = x, .y = y};
    vlm_pool_run(cpu_of(b)->pool, n_elems, GRAIN_ELEMS, elems_range, &job);
}

typedef struct im2col_job {
    float *y;
    const float *pixels;
    size_t channels, height, width, patch;
} im2col_job;

static void im2col_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const im2col_job *job = ctx;
    const size_t patch = job->patch, n_across = job->width / patch;
    for (size_t i = begin; i < end; i++) {
        float *y = job->y + i * job->channels * patch * patch;
        const size_t top = i / n_across * patch, left = i % n_across * patch;
        for (size_t c = 0; c < job->channels; c++) {
            const float *from = job->pixels + (c * job->height + top) * job->width + left;
            for (size_t row = 0; row < patch; row++, y += patch, from += job->width)
                memcpy(y, from, patch * sizeof *y);
        }
    }
}

static void cpu_im2col(vlm_backend *b, float *y, const float *pixels, uint32_t channels,
                       uint32_t height, uint32_t width, uint32_t patch)
{
    assert(patch > 0);
    im2col_job job = {.y = y,
                      .pixels = pixels,
                      .channels = channels,
                      .height = height,
                      .width = width,
                      .patch = patch};
    const size_t row_len = (size_t)channels * patch * patch;
    vlm_pool_run(cpu_of(b)->pool, (size_t)(height / patch) * (width / patch),
                 grain_of(row_len, GRAIN_ELEMS), im2col_range, &job);
}

static uint32_t cpu_argmax(vlm_backend *b, const float *x, uint32_t n)
{
    (void)b;
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (x[i] > x[best] || (isnan(x[best]) && !isnan(x[i]))) best = i;
    }
    return best;
}

static void cpu_close(vlm_backend *b)
{
    if (b == NULL) return;
    cpu_backend *cpu = cpu_of(b);
    vlm_pool_free(cpu->pool);
    free(cpu->scratch);
    free(cpu->linear.prepared);
    free(cpu);
}

static const vlm_backend_ops cpu_ops = {
    .name = "cpu",
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .populate = cpu_populate,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy = cpu_copy,
    .weight = cpu_weight,
    .pack_layout = VLM_PACK_LAYOUT,
    .packed_bytes = cpu_packed_bytes,
    .pack = cpu_pack,
    .reserve = cpu_reserve,
    .linear = cpu_linear,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .layer_norm = cpu_layer_norm,
    .rope = cpu_rope,
    .kv_write = cpu_kv_write,
    .attn_paged = cpu_attn_paged,
    .attn_full = cpu_attn_full,
    .act = cpu_act,
    .act_mul = cpu_act_mul,
    .add = cpu_add,
    .im2col = cpu_im2col,
    .argmax = cpu_argmax,
    .sync = cpu_sync,
};

vlm_status vlm_backend_cpu_open(uint32_t n_threads, vlm_cpu_level level, vlm_backend **out,
                                vlm_error *err)
{
    assert(n_threads >= 1 && n_threads <= VLM_POOL_THREADS_MAX);
    assert(vlm_cpu_level_has(level));
    *out = NULL;
    cpu_backend *cpu = vlm_calloc(1, sizeof *cpu);
    if (cpu == NULL) return vlm_fail_memory(err, "CPU backend");
    vlm_status status = VLM_OK;
    cpu->base.ops = &cpu_ops;
    cpu->kernels = vlm_cpu_kernels_get(level);
    cpu->scratch = vlm_alloc_aligned(n_threads * sizeof(float) * VLM_LINEAR_SCRATCH_LEN);
    if (cpu->scratch == NULL) {
        status = vlm_fail_memory(err, "CPU backend");
        goto done;
    }
    VLM_TRY_GOTO(vlm_pool_new(n_threads, &cpu->pool, err));
    cpu->linear = (vlm_cpu_linear){.kernels = &cpu->kernels,
                                   .pool = cpu->pool,
                                   .scratch = cpu->scratch,
                                   .l2_bytes = vlm_cpu_l2_bytes()};
    *out = &cpu->base;
    return VLM_OK;
done:
    cpu_close(&cpu->base);
    return status;
}
