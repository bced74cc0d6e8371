#include "tensor/cpu/attn.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Work below which a range is not worth handing to another thread: some microseconds. */
enum { GRAIN_PRODUCTS = 1 << 17, GRAIN_ELEMS = 1 << 15 };
enum { PAGES = VLM_ATTN_KEYS_MAX / VLM_ATTN_PAGE };
_Static_assert((int)VLM_KV_BLOCK_TOKENS == (int)VLM_ATTN_PAGE, "a block of the cache is a page");

/* Rows of one head of one sequence, or heads of one token that share a kv head. */
typedef struct attn_tile {
    float *out;
    const float *q;
    size_t row_stride, n_rows, head_dim;
    size_t pos;      /* of row 0 */
    size_t pos_step; /* 1: rows are tokens; 0: heads of one token */
    size_t n_keys;   /* 0: causal; else every row sees keys 0..n_keys-1 */
    size_t window;
    float scale;
} attn_tile;

/* Point keys at those of one block of VLM_ATTN_KEYS_MAX, for one kv head, of which first is the
 * first and end - 1 the last that is seen, be it in a later block. */
typedef void find_keys_fn(const void *ctx, size_t block, size_t first, size_t end,
                          vlm_attn_keys *keys);

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The keys first..end-1 that row r of the tile sees. */
static void seen_keys(const attn_tile *tile, size_t r, size_t *first, size_t *end)
{
    *first = 0;
    *end = tile->n_keys;
    if (tile->n_keys != 0) return;
    *end = tile->pos + r * tile->pos_step + 1;
    if (tile->window != 0 && *end > tile->window) *first = *end - tile->window;
}

/* Which keys of a block the rows see; false: none of them any. */
static bool seen_of_block(const attn_tile *tile, size_t block, uint8_t *first, uint8_t *end)
{
    bool any = false;
    for (size_t r = 0; r < tile->n_rows; r++) {
        size_t from, to;
        seen_keys(tile, r, &from, &to);
        if (from < block) from = block;
        to = size_min(to, block + VLM_ATTN_KEYS_MAX);
        first[r] = end[r] = 0;
        if (from >= to) continue;
        first[r] = (uint8_t)(from - block);
        end[r] = (uint8_t)(to - block);
        any = true;
    }
    return any;
}

static void attn_tile_run(vlm_attn_block_kernel *attn_block, const attn_tile *tile,
                          find_keys_fn *find_keys, const void *ctx, float *scratch)
{
    float row_max[VLM_ATTN_ROWS_MAX], row_sum[VLM_ATTN_ROWS_MAX];
    uint8_t key_first[VLM_ATTN_ROWS_MAX], key_end[VLM_ATTN_ROWS_MAX];
    const vlm_attn_rows rows = {.acc = tile->out,
                                .max = row_max,
                                .sum = row_sum,
                                .q = tile->q,
                                .first = key_first,
                                .end = key_end,
                                .n = tile->n_rows,
                                .acc_stride = tile->row_stride,
                                .q_stride = tile->row_stride};
    for (size_t r = 0; r < tile->n_rows; r++) {
        row_max[r] = -INFINITY;
        row_sum[r] = 0.0f;
        memset(tile->out + r * tile->row_stride, 0, tile->head_dim * sizeof(float));
    }
    size_t first, end, unused;
    seen_keys(tile, 0, &first, &unused);
    seen_keys(tile, tile->n_rows - 1, &unused, &end);
    for (size_t block = first / VLM_ATTN_KEYS_MAX * VLM_ATTN_KEYS_MAX; block < end;
         block += VLM_ATTN_KEYS_MAX) {
        vlm_attn_keys keys = {0};
        if (!seen_of_block(tile, block, key_first, key_end)) continue;
        find_keys(ctx, block, first > block ? first : block, end, &keys);
        attn_block(&rows, &keys, tile->head_dim, tile->scale, scratch);
    }
    for (size_t r = 0; r < tile->n_rows; r++) {
        float *out = tile->out + r * tile->row_stride;
        const float inv = 1.0f / row_sum[r];
        for (size_t i = 0; i < tile->head_dim; i++) out[i] *= inv;
    }
}

/* Where the keys and values of one head of one sequence are. */
typedef struct paged_keys {
    const vlm_kv_layer *kv;
    const uint32_t *blocks;
    size_t kv_head;
    vlm_widen_kernel *widen; /* NULL: the kernel reads the cache's dtype */
    float *scratch;          /* for widened keys and values */
} paged_keys;

static void find_paged(const void *ctx, size_t block, size_t first, size_t end, vlm_attn_keys *keys)
{
    const paged_keys *from = ctx;
    const vlm_kv_layer *kv = from->kv;
    const size_t page_len = (size_t)VLM_KV_BLOCK_TOKENS * kv->head_dim;
    const size_t size = vlm_dtype_size(kv->dtype);
    keys->stride = kv->head_dim;
    keys->pages_are_whole = true;
    for (size_t page = (first - block) / VLM_ATTN_PAGE;
         page < 2 * PAGES && block + page * VLM_ATTN_PAGE < end; page++) {
        const size_t id = from->blocks[block / VLM_ATTN_PAGE + page];
        const size_t at = (id * kv->n_kv_heads + from->kv_head) * page_len * size;
        const unsigned char *k = (const unsigned char *)kv->k + at;
        const unsigned char *v = (const unsigned char *)kv->v + at;
        if (page >= PAGES) {
            keys->next_k[page - PAGES] = k;
            continue;
        }
        keys->k[page] = k;
        keys->v[page] = v;
        if (from->widen == NULL) continue;
        /* Rows of the last page that hold no token yet are not made float: they may be anything. */
        const size_t n = size_min(VLM_ATTN_PAGE, end - block - page * VLM_ATTN_PAGE);
        float *wide_k = from->scratch + page * page_len, *wide_v = wide_k + PAGES * page_len;
        from->widen(wide_k, k, n * kv->head_dim);
        from->widen(wide_v, v, n * kv->head_dim);
        keys->k[page] = wide_k;
        keys->v[page] = wide_v;
    }
}

typedef struct paged_job {
    const vlm_cpu_attn *cpu;
    const vlm_attn_args *args;
    size_t group; /* heads that share a kv head */
} paged_job;

/* A sequence of one new token takes its heads group by group, others one head at a time. */
static bool has_tiles_of_heads(const paged_job *job, const vlm_seq_rows *seq)
{
    return seq->n_rows == 1 && job->group > 1;
}

static size_t tiles_per_head(const paged_job *job, const vlm_seq_rows *seq)
{
    const size_t n_rows = has_tiles_of_heads(job, seq) ? job->group : seq->n_rows;
    return (n_rows + VLM_ATTN_ROWS_MAX - 1) / VLM_ATTN_ROWS_MAX;
}

static size_t n_tiles(const paged_job *job, const vlm_seq_rows *seq)
{
    const size_t n_heads =
        has_tiles_of_heads(job, seq) ? job->args->kv->n_kv_heads : job->args->n_heads;
    return n_heads * tiles_per_head(job, seq);
}

static void run_paged_tile(const paged_job *job, const vlm_seq_rows *seq, size_t item,
                           uint32_t thread_idx)
{
    const vlm_attn_args *args = job->args;
    const vlm_cpu_attn *cpu = job->cpu;
    const size_t dim = args->kv->head_dim, per_head = tiles_per_head(job, seq);
    const size_t first = item % per_head * VLM_ATTN_ROWS_MAX;
    size_t head = item / per_head;
    attn_tile tile = {.head_dim = dim, .window = args->window, .scale = args->scale};
    size_t at = seq->row * args->n_heads * dim;
    tile.pos = seq->n_past;
    if (has_tiles_of_heads(job, seq)) {
        head = head * job->group + first;
        tile.row_stride = dim;
        tile.n_rows = size_min(VLM_ATTN_ROWS_MAX, job->group - first);
    } else {
        tile.row_stride = args->n_heads * dim;
        at += first * tile.row_stride;
        tile.n_rows = size_min(VLM_ATTN_ROWS_MAX, seq->n_rows - first);
        tile.pos += first;
        tile.pos_step = 1;
    }
    tile.out = args->out + at + head * dim;
    tile.q = args->q + at + head * dim;
    float *scratch = cpu->scratch + thread_idx * cpu->scratch_len;
    const vlm_dtype dtype = args->kv->dtype;
    const bool widens = cpu->kernels->attn_block[dtype] == NULL;
    const paged_keys keys = {.kv = args->kv,
                             .blocks = seq->blocks,
                             .kv_head = head / job->group,
                             .widen = widens ? cpu->kernels->widen[dtype] : NULL,
                             .scratch = scratch + VLM_ATTN_SCRATCH_LEN};
    attn_tile_run(cpu->kernels->attn_block[widens ? VLM_DTYPE_F32 : dtype], &tile, find_paged,
                  &keys, scratch);
}

static void paged_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    const paged_job *job = ctx;
    size_t before = 0;
    for (uint32_t s = 0; s < job->args->n_seqs && before < end; s++) {
        const vlm_seq_rows *seq = &job->args->seqs[s];
        const size_t n = n_tiles(job, seq);
        const size_t from = begin > before ? begin - before : 0;
        for (size_t i = from; i < n && before + i < end; i++)
            run_paged_tile(job, seq, i, thread_idx);
        before += n;
    }
}

void vlm_cpu_attn_paged(const vlm_cpu_attn *cpu, const vlm_attn_args *args)
{
    const vlm_kv_layer *kv = args->kv;
    assert(kv->n_kv_heads > 0 && args->n_heads % kv->n_kv_heads == 0);
    assert(kv->dtype == VLM_DTYPE_F32 || kv->dtype == VLM_DTYPE_F16);
    assert(kv->dtype == VLM_DTYPE_F32 || kv->head_dim <= VLM_ATTN_WIDEN_HEAD_MAX);
    assert(cpu->scratch_len >= VLM_CPU_ATTN_SCRATCH_LEN);
    paged_job job = {.cpu = cpu, .args = args, .group = args->n_heads / kv->n_kv_heads};
    size_t n_items = 0, n_products = 0;
    for (uint32_t s = 0; s < args->n_seqs; s++) {
        const vlm_seq_rows *seq = &args->seqs[s];
        n_items += n_tiles(&job, seq);
        n_products +=
            (size_t)seq->n_rows * (seq->n_past + seq->n_rows) * args->n_heads * kv->head_dim;
    }
    if (n_items == 0) return;
    const size_t grain = 1 + (size_t)GRAIN_PRODUCTS * n_items / (n_products + 1);
    vlm_pool_run(cpu->pool, n_items, grain, paged_range, &job);
}

typedef struct write_job {
    const vlm_cpu_attn *cpu;
    const vlm_kv_layer *kv;
    const vlm_seq_rows *seqs;
    const float *k, *v;
    uint32_t n_seqs;
} write_job;

/* One row's heads, of keys or of values, to their place: to is that of head 0. */
static void write_row(const write_job *job, void *cache, size_t to, const float *from)
{
    const vlm_kv_layer *kv = job->kv;
    const size_t dim = kv->head_dim, head_len = VLM_KV_BLOCK_TOKENS * dim;
    for (size_t h = 0; h < kv->n_kv_heads; h++) {
        if (kv->dtype == VLM_DTYPE_F32)
            memcpy((float *)cache + to + h * head_len, from + h * dim, dim * sizeof *from);
        else
            job->cpu->kernels->narrow_f16((uint16_t *)cache + to + h * head_len, from + h * dim,
                                          dim);
    }
}

static void write_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    (void)thread_idx;
    const write_job *job = ctx;
    const vlm_kv_layer *kv = job->kv;
    const size_t width = (size_t)kv->n_kv_heads * kv->head_dim;
    for (uint32_t s = 0; s < job->n_seqs; s++) {
        const vlm_seq_rows *seq = &job->seqs[s];
        const size_t seq_end = size_min(end, (size_t)seq->row + seq->n_rows);
        for (size_t row = begin > seq->row ? begin : seq->row; row < seq_end; row++) {
            const size_t token = seq->n_past + row - seq->row;
            const size_t block = seq->blocks[token / VLM_KV_BLOCK_TOKENS];
            const size_t to =
                block * VLM_KV_BLOCK_TOKENS * width + token % VLM_KV_BLOCK_TOKENS * kv->head_dim;
            write_row(job, kv->k, to, job->k + row * width);
            write_row(job, kv->v, to, job->v + row * width);
        }
    }
}

void vlm_cpu_kv_write(const vlm_cpu_attn *cpu, const vlm_kv_layer *kv, const vlm_seq_rows *seqs,
                      uint32_t n_seqs, const float *k, const float *v)
{
    if (n_seqs == 0) return;
    write_job job = {.cpu = cpu, .kv = kv, .seqs = seqs, .k = k, .v = v, .n_seqs = n_seqs};
    const vlm_seq_rows *last = &seqs[n_seqs - 1];
    const size_t grain = 1 + GRAIN_ELEMS / ((size_t)kv->n_kv_heads * kv->head_dim);
    vlm_pool_run(cpu->pool, (size_t)last->row + last->n_rows, grain, write_range, &job);
}

typedef struct full_job {
    const vlm_cpu_attn *cpu;
    float *out;
    const float *q, *k, *v;
    size_t n_tokens, n_heads, head_dim, per_head;
    float scale;
} full_job;

typedef struct dense_keys {
    const float *k, *v; /* of key 0 */
    size_t stride;
} dense_keys;

static void find_dense(const void *ctx, size_t block, size_t first, size_t end, vlm_attn_keys *keys)
{
    const dense_keys *from = ctx;
    (void)first;
    keys->stride = from->stride;
    for (size_t page = 0; page < PAGES && block + page * VLM_ATTN_PAGE < end; page++) {
        keys->k[page] = from->k + (block + page * VLM_ATTN_PAGE) * from->stride;
        keys->v[page] = from->v + (block + page * VLM_ATTN_PAGE) * from->stride;
    }
}

static void full_range(void *ctx, size_t begin, size_t end, uint32_t thread_idx)
{
    const full_job *job = ctx;
    float *scratch = job->cpu->scratch + thread_idx * job->cpu->scratch_len;
    const size_t stride = job->n_heads * job->head_dim;
    for (size_t item = begin; item < end; item++) {
        const size_t first = item % job->per_head * VLM_ATTN_ROWS_MAX;
        const size_t head = item / job->per_head % job->n_heads;
        const size_t batch = item / job->per_head / job->n_heads * job->n_tokens * stride;
        const size_t at = batch + first * stride + head * job->head_dim;
        const attn_tile tile = {.out = job->out + at,
                                .q = job->q + at,
                                .row_stride = stride,
                                .n_rows = size_min(VLM_ATTN_ROWS_MAX, job->n_tokens - first),
                                .head_dim = job->head_dim,
                                .n_keys = job->n_tokens,
                                .scale = job->scale};
        const size_t kv_at = batch + head * job->head_dim;
        const dense_keys keys = {.k = job->k + kv_at, .v = job->v + kv_at, .stride = stride};
        attn_tile_run(job->cpu->kernels->attn_block[VLM_DTYPE_F32], &tile, find_dense, &keys,
                      scratch);
    }
}

void vlm_cpu_attn_full(const vlm_cpu_attn *cpu, float *out, const float *q, const float *k,
                       const float *v, uint32_t n_batch, uint32_t n_tokens, uint32_t n_heads,
                       uint32_t head_dim, float scale)
{
    if (n_tokens == 0) return;
    assert(cpu->scratch_len >= VLM_CPU_ATTN_SCRATCH_LEN);
    full_job job = {.cpu = cpu,
                    .out = out,
                    .q = q,
                    .k = k,
                    .v = v,
                    .n_tokens = n_tokens,
                    .n_heads = n_heads,
                    .head_dim = head_dim,
                    .per_head = (n_tokens + VLM_ATTN_ROWS_MAX - 1) / VLM_ATTN_ROWS_MAX,
                    .scale = scale};
    const size_t item_work = size_min(VLM_ATTN_ROWS_MAX, n_tokens) * n_tokens * head_dim;
    vlm_pool_run(cpu->pool, n_batch * n_heads * job.per_head, 1 + GRAIN_PRODUCTS / (item_work + 1),
                 full_range, &job);
}
