#include "tensor/cpu/attn.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Work below which a range is not worth handing to another thread: some microseconds. */
enum { GRAIN_PRODUCTS = 1 << 17 };

typedef struct attn_job {
    const vlm_cpu_kernels *kernels;
    const vlm_attn_args *args;
    bool causal;
    /* Rows of a tile are tokens of one head, or heads of one token that share a kv head. */
    bool tile_of_heads;
    size_t tile_rows, n_tiles; /* tiles per head, or per kv head */
} attn_job;

/* Rows of a tile: addresses, and the position of row 0. */
typedef struct attn_tile {
    float *out;
    const float *q, *k, *v;
    size_t row_stride, kv_stride, n_rows, pos;
} attn_tile;

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The keys first..end-1 that row r of the tile sees. */
static void seen_keys(const attn_job *job, const attn_tile *tile, size_t r, size_t *first,
                      size_t *end)
{
    const vlm_attn_args *args = job->args;
    *first = 0;
    *end = args->n_tokens;
    if (!job->causal) return;
    *end = tile->pos + (job->tile_of_heads ? 0 : r) + 1;
    if (args->window != 0 && *end > args->window) *first = *end - args->window;
}

static void attn_tile_run(const attn_job *job, const attn_tile *tile)
{
    const size_t head_dim = job->args->head_dim;
    float row_max[VLM_ATTN_ROWS_MAX], row_sum[VLM_ATTN_ROWS_MAX];
    for (size_t r = 0; r < tile->n_rows; r++) {
        row_max[r] = -INFINITY;
        row_sum[r] = 0.0f;
        memset(tile->out + r * tile->row_stride, 0, head_dim * sizeof(float));
    }
    size_t first, end, unused;
    seen_keys(job, tile, 0, &first, &unused);
    seen_keys(job, tile, tile->n_rows - 1, &unused, &end);
    for (size_t block = first / VLM_ATTN_KEYS_MAX * VLM_ATTN_KEYS_MAX; block < end;
         block += VLM_ATTN_KEYS_MAX) {
        /* Rows that see the same keys of the block go together. */
        size_t n_same;
        for (size_t r = 0; r < tile->n_rows; r += n_same) {
            size_t key = 0, key_end = 0;
            for (n_same = 0; r + n_same < tile->n_rows; n_same++) {
                size_t from, to;
                seen_keys(job, tile, r + n_same, &from, &to);
                if (from < block) from = block;
                to = size_min(to, block + VLM_ATTN_KEYS_MAX);
                if (n_same > 0 && (from != key || to != key_end)) break;
                key = from;
                key_end = to;
            }
            if (key >= key_end) continue;
            const size_t at = r * tile->row_stride;
            job->kernels->attn_block(tile->out + at, tile->row_stride, row_max + r, row_sum + r,
                                     tile->q + at, tile->row_stride, n_same,
                                     tile->k + key * tile->kv_stride,
                                     tile->v + key * tile->kv_stride, tile->kv_stride,
                                     key_end - key, head_dim, job->args->scale);
        }
    }
    for (size_t r = 0; r < tile->n_rows; r++) {
        float *out = tile->out + r * tile->row_stride;
        const float inv = 1.0f / row_sum[r];
        for (size_t i = 0; i < head_dim; i++) out[i] *= inv;
    }
}

static void attn_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const attn_job *job = ctx;
    const vlm_attn_args *args = job->args;
    const size_t dim = args->head_dim, group = args->n_heads / args->n_kv_heads;
    for (size_t item = begin; item < end; item++) {
        const size_t row = item % job->n_tiles * job->tile_rows;
        size_t head = item / job->n_tiles, at;
        attn_tile tile = {.kv_stride = args->n_kv_heads * dim};
        if (job->tile_of_heads) {
            head = head * group + row;
            at = head * dim;
            tile.row_stride = dim;
            tile.n_rows = size_min(job->tile_rows, group - row);
            tile.pos = args->n_past;
        } else {
            tile.row_stride = args->n_heads * dim;
            at = row * tile.row_stride + head * dim;
            tile.n_rows = size_min(job->tile_rows, args->n_tokens - row);
            tile.pos = args->n_past + row;
        }
        tile.out = args->out + at;
        tile.q = args->q + at;
        tile.k = args->k_cache + head / group * dim;
        tile.v = args->v_cache + head / group * dim;
        attn_tile_run(job, &tile);
    }
}

static void attn_run(vlm_pool *pool, attn_job *job)
{
    const vlm_attn_args *args = job->args;
    assert(args->n_kv_heads > 0 && args->n_heads % args->n_kv_heads == 0 && args->head_dim > 0);
    if (args->n_tokens == 0) return;
    const size_t group = args->n_heads / args->n_kv_heads;
    job->tile_of_heads = job->causal && args->n_tokens == 1 && group > 1;
    const size_t n_rows = job->tile_of_heads ? group : args->n_tokens;
    job->tile_rows = size_min(n_rows, VLM_ATTN_ROWS_MAX);
    job->n_tiles = (n_rows + job->tile_rows - 1) / job->tile_rows;
    const size_t n_heads = job->tile_of_heads ? args->n_kv_heads : args->n_heads;
    const size_t n_keys = (job->causal ? (size_t)args->n_past : 0) + args->n_tokens;
    const size_t item_work = job->tile_rows * n_keys * args->head_dim;
    size_t grain = 1;
    while (grain * item_work < GRAIN_PRODUCTS) grain *= 2;
    vlm_pool_run(pool, n_heads * job->n_tiles, grain, attn_range, job);
}

void vlm_cpu_attn_causal(const vlm_cpu_kernels *kernels, vlm_pool *pool, const vlm_attn_args *args)
{
    attn_job job = {.kernels = kernels, .args = args, .causal = true};
    attn_run(pool, &job);
}

void vlm_cpu_attn_full(const vlm_cpu_kernels *kernels, vlm_pool *pool, const vlm_attn_args *args)
{
    attn_job job = {.kernels = kernels, .args = args};
    attn_run(pool, &job);
}
