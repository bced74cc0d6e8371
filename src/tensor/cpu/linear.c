#include "tensor/cpu/linear.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    /* Blocks of rows are multiples of this, the heights of the levels' register tiles. */
    ROW_TILE = 12,
    PACKED_ROW_TILE = 4,
    /* Rows that are made ready for packed weights at a time. */
    PREPARED_ROWS_MAX = 8 * VLM_PACKED_ROWS_MAX,
};

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t div_up(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static size_t grain_of(size_t item_work)
{
    return item_work >= VLM_GRAIN_PRODUCTS ? 1 : div_up(VLM_GRAIN_PRODUCTS, item_work + 1);
}

static const void *weight_at(const vlm_weight *w, size_t row, size_t col)
{
    const unsigned char *data = w->data;
    return data + (row * w->n_cols + col) * vlm_dtype_size(w->dtype);
}

typedef struct linear_job {
    const vlm_cpu_linear *cpu;
    float *y;
    const float *x;
    const vlm_weight *w, *bias; /* bias NULL: none */
    size_t n, block_rows, panel_outs, n_panels;
    bool add;
} linear_job;

/* The bias of n outputs from `out` on as float, or NULL. */
static const float *bias_of(const linear_job *job, float *panel, size_t out, size_t n)
{
    if (job->bias == NULL) return NULL;
    job->cpu->kernels->widen[job->bias->dtype](panel, weight_at(job->bias, 0, out), n);
    return panel;
}

/* An item is a block of rows times a panel of outputs; the panels of one block follow each other,
 * so that threads share the block's rows in cache. */
static void linear_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    const linear_job *job = ctx;
    const vlm_weight *w = job->w;
    float *scratch = job->cpu->scratch + (size_t)thread_idx * VLM_LINEAR_SCRATCH_LEN;
    float bias[VLM_LINEAR_OUTS_MAX];
    for (size_t item = begin; item < end; item++) {
        const size_t row = item / job->n_panels * job->block_rows;
        const size_t out = item % job->n_panels * VLM_LINEAR_OUTS_MAX;
        const size_t n_out = size_min(VLM_LINEAR_OUTS_MAX, w->n_rows - out);
        job->cpu->kernels->linear[w->dtype](
            job->y + row * w->n_rows + out, w->n_rows, job->x + row * w->n_cols,
            size_min(job->block_rows, job->n - row), weight_at(w, out, 0), n_out, w->n_cols,
            bias_of(job, bias, out, n_out), job->add, scratch);
    }
}

static void linear_as_stored(linear_job *job)
{
    /* Blocks of about equal height, in whole register tiles. */
    const size_t n_blocks = div_up(job->n, VLM_LINEAR_ROWS_MAX);
    job->block_rows = div_up(div_up(job->n, n_blocks), ROW_TILE) * ROW_TILE;
    job->n_panels = div_up(job->w->n_rows, VLM_LINEAR_OUTS_MAX);
    const size_t item_work =
        size_min(job->n, job->block_rows) * VLM_LINEAR_OUTS_MAX * job->w->n_cols;
    const size_t n_items = job->n_panels * div_up(job->n, job->block_rows);
    vlm_pool_run_tapered(job->cpu->pool, n_items, grain_of(item_work), linear_range, job);
}

static size_t prepared_block_bytes(vlm_dtype dtype)
{
    return dtype == VLM_DTYPE_BF16_DOT ? sizeof(vlm_x16) : sizeof(vlm_x8);
}

/* Where block 0 of a row lies among those made ready; the rows of a block of rows are neighbours.
 */
static unsigned char *prepared_at(const linear_job *job, size_t row, size_t *stride)
{
    const size_t first = row / job->block_rows * job->block_rows;
    const size_t n_blocks = 2 * vlm_pack_n_chunks(job->w->n_cols);
    *stride = size_min(job->block_rows, job->n - first);
    return (unsigned char *)job->cpu->prepared +
           (first * n_blocks + row - first) * prepared_block_bytes(job->w->dtype);
}

static void prepare_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const linear_job *job = ctx;
    for (size_t row = begin; row < end; row++) {
        size_t stride;
        void *to = prepared_at(job, row, &stride);
        job->cpu->kernels->prepare[job->w->dtype](to, stride, job->x + row * job->w->n_cols,
                                                  job->w->n_cols);
    }
}

static void packed_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const linear_job *job = ctx;
    const vlm_weight *w = job->w;
    const size_t n_chunks = vlm_pack_n_chunks(w->n_cols);
    const size_t out_bytes = n_chunks * vlm_pack_chunk_bytes(w->dtype) / VLM_PACK_OUTS;
    float bias[VLM_PACKED_OUTS_MAX];
    for (size_t item = begin; item < end; item++) {
        const size_t row = item / job->n_panels * job->block_rows;
        const size_t out = item % job->n_panels * job->panel_outs;
        const size_t n_out = size_min(job->panel_outs, w->n_rows - out);
        size_t n_rows;
        const void *x = prepared_at(job, row, &n_rows);
        job->cpu->kernels->packed[w->dtype](job->y + row * w->n_rows + out, w->n_rows, x, n_rows,
                                            (const unsigned char *)w->data + out * out_bytes, n_out,
                                            n_chunks, bias_of(job, bias, out, n_out), job->add);
    }
}

/* Rows for which a block's rows, made ready, take at most half of the cache.  The kernels of
 * BF16_DOT go by blocks of k as well and need not care. */
static size_t packed_block_rows(const linear_job *job)
{
    if (job->w->dtype == VLM_DTYPE_BF16_DOT) {
        const size_t rows = div_up(job->n, div_up(job->n, VLM_PACKED_ROWS_MAX));
        return div_up(rows, ROW_TILE) * ROW_TILE;
    }
    const size_t n_blocks = 2 * vlm_pack_n_chunks(job->w->n_cols);
    const size_t fit =
        job->cpu->l2_bytes / 2 / (n_blocks * prepared_block_bytes(job->w->dtype) + 1);
    const size_t most = fit < 24 ? 24 : size_min(fit, VLM_PACKED_ROWS_MAX);
    const size_t rows = div_up(job->n, div_up(job->n, most));
    return size_min(div_up(rows, PACKED_ROW_TILE) * PACKED_ROW_TILE, VLM_PACKED_ROWS_MAX);
}

static void linear_packed(linear_job *job)
{
    const vlm_cpu_linear *cpu = job->cpu;
    const vlm_weight *w = job->w;
    assert(cpu->prepared != NULL && w->n_cols <= cpu->prepared_cols);
    /* Narrow ones where the kernel does not care, so that threads end at about the same time. */
    job->panel_outs =
        w->dtype == VLM_DTYPE_BF16_DOT ? VLM_PACKED_OUTS_MAX : VLM_PACKED_OUTS_MAX / 2;
    job->n_panels = div_up(w->n_rows, job->panel_outs);
    job->block_rows = packed_block_rows(job);
    const size_t n_items = job->n_panels * div_up(job->n, job->block_rows);
    vlm_pool_run(cpu->pool, job->n, grain_of((size_t)w->n_cols * 16), prepare_range, job);
    const size_t least = grain_of(size_min(job->n, job->block_rows) * job->panel_outs * w->n_cols);
    vlm_pool_run_tapered(cpu->pool, n_items, least, packed_range, job);
}

void vlm_cpu_linear_run(const vlm_cpu_linear *cpu, float *y, const float *x, uint32_t n,
                        const vlm_weight *w, const vlm_weight *bias, bool add)
{
    const bool has_bias = bias != NULL && bias->data != NULL;
    assert(!has_bias || bias->n_cols == w->n_rows);
    if (w->n_rows == 0) return;
    const size_t rows_max = vlm_dtype_is_packed(w->dtype) ? PREPARED_ROWS_MAX : n;
    for (size_t row = 0; row < n; row += rows_max) {
        linear_job job = {.cpu = cpu,
                          .y = y + row * w->n_rows,
                          .x = x + row * w->n_cols,
                          .w = w,
                          .bias = has_bias ? bias : NULL,
                          .n = size_min(rows_max, n - row),
                          .add = add};
        if (vlm_dtype_is_packed(w->dtype))
            linear_packed(&job);
        else
            linear_as_stored(&job);
    }
}

typedef struct pack_job {
    const vlm_cpu_kernels *kernels;
    unsigned char *dst;
    const vlm_weight *src;
    vlm_dtype dtype;
} pack_job;

/* An item is a group of outputs. */
static void pack_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const pack_job *job = ctx;
    const vlm_weight *src = job->src;
    const size_t n_chunks = vlm_pack_n_chunks(src->n_cols);
    const size_t chunk_bytes = vlm_pack_chunk_bytes(job->dtype);
    float tile[VLM_PACK_OUTS * VLM_PACK_CHUNK];
    for (size_t group = begin; group < end; group++) {
        for (size_t c = 0; c < n_chunks; c++) {
            const size_t col = c * VLM_PACK_CHUNK;
            const size_t len = size_min(VLM_PACK_CHUNK, src->n_cols - col);
            for (size_t o = 0; o < VLM_PACK_OUTS; o++) {
                const size_t row = group * VLM_PACK_OUTS + o;
                float *to = tile + o * VLM_PACK_CHUNK;
                const size_t n = row < src->n_rows ? len : 0;
                if (n > 0) job->kernels->widen[src->dtype](to, weight_at(src, row, col), n);
                for (size_t i = n; i < VLM_PACK_CHUNK; i++) to[i] = 0.0f;
            }
            job->kernels->pack[job->dtype](job->dst + (group * n_chunks + c) * chunk_bytes, tile);
        }
    }
}

void vlm_cpu_pack(const vlm_cpu_linear *cpu, void *dst, vlm_dtype dtype, const vlm_weight *src)
{
    pack_job job = {.kernels = cpu->kernels, .dst = dst, .src = src, .dtype = dtype};
    vlm_pool_run(cpu->pool, div_up(src->n_rows, VLM_PACK_OUTS), 1, pack_range, &job);
}

size_t vlm_cpu_packed_bytes(vlm_dtype dtype, uint32_t n_rows, uint32_t n_cols)
{
    return div_up(n_rows, VLM_PACK_OUTS) * vlm_pack_n_chunks(n_cols) * vlm_pack_chunk_bytes(dtype);
}

vlm_status vlm_cpu_reserve(vlm_cpu_linear *cpu, uint32_t n_cols, vlm_error *err)
{
    if (cpu->prepared != NULL && n_cols <= cpu->prepared_cols) return VLM_OK;
    size_t n_bytes;
    void *prepared = NULL;
    if (vlm_size_mul(2 * vlm_pack_n_chunks(n_cols) * sizeof(vlm_x16), PREPARED_ROWS_MAX, &n_bytes))
        prepared = vlm_alloc_aligned(n_bytes);
    if (prepared == NULL) return vlm_fail_memory(err, "CPU backend");
    free(cpu->prepared);
    cpu->prepared = prepared;
    cpu->prepared_cols = n_cols;
    return VLM_OK;
}
