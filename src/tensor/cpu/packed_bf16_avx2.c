/* packed_bf16_avx2.c - rows in bfloat16, and their products with BF16_DOT in floats, of which a
 * bfloat16 is the upper half; 8 outputs in the lanes. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed.h"
#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX2__)

enum {
    TILE_ROWS = 4,
    HALVES = 2,     /* vectors of 8 outputs in a group */
    GROUPS_MAX = 4, /* rows x groups of a tile are TILE_ROWS at most */
    AHEAD_BYTES = 2048,
    BLOCK_CHUNKS = 4, /* 8 KiB of weights, so that they stay in the first cache */
};

/* What all tiles of some groups share, and the chunks in hand. */
typedef struct run {
    const vlm_x16 *x;
    const vlm_bf16_chunk *chunks;
    float (*sums)[GROUPS_MAX * VLM_PACK_OUTS]; /* [rows] */
    size_t n, n_chunks, chunk, chunk_end;
} run;

VLM_INLINE __m256 first_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

VLM_INLINE __m256 second_of(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000u)));
}

/* n_rows x n_groups (constants) over the chunks in hand. */
VLM_INLINE void tile(const size_t n_rows, const size_t n_groups, const run *g, size_t row)
{
    __m256 s[TILE_ROWS][GROUPS_MAX * HALVES];
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t h = 0; h < n_groups * HALVES; h++)
            s[r][h] = _mm256_loadu_ps(g->sums[row + r] + 8 * h);
    }
    for (size_t half = 2 * g->chunk; half < 2 * g->chunk_end; half++) {
        const vlm_x16 *x = g->x + half * g->n + row;
        const size_t first = half % 2 * (VLM_PACK_BLOCK / 2);
        for (size_t i = 0; i < VLM_PACK_BLOCK / 2; i++) {
            __m256i w[GROUPS_MAX * HALVES];
            VLM_UNROLL
            for (size_t o = 0; o < n_groups; o++) {
                const vlm_bf16_chunk *chunk = g->chunks + o * g->n_chunks + half / 2;
                const __m256i *line = (const __m256i *)(const void *)chunk->w[first + i];
                _mm_prefetch((const char *)line + AHEAD_BYTES, _MM_HINT_T0);
                w[HALVES * o] = _mm256_loadu_si256(line);
                w[HALVES * o + 1] = _mm256_loadu_si256(line + 1);
            }
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                int32_t pair;
                memcpy(&pair, x[r].v + 2 * i, sizeof pair);
                const __m256i two = _mm256_set1_epi32(pair);
                VLM_UNROLL
                for (size_t h = 0; h < n_groups * HALVES; h++) {
                    s[r][h] = _mm256_fmadd_ps(second_of(two), second_of(w[h]), s[r][h]);
                    s[r][h] = _mm256_fmadd_ps(first_of(two), first_of(w[h]), s[r][h]);
                }
            }
        }
    }
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t h = 0; h < n_groups * HALVES; h++)
            _mm256_storeu_ps(g->sums[row + r] + 8 * h, s[r][h]);
    }
}

static void run_block(const run *g, size_t n_groups)
{
    if (n_groups == 4) {
        tile(1, 4, g, 0);
        return;
    }
    if (n_groups == 2) {
        tile(2, 2, g, 0);
        return;
    }
    size_t r = 0;
    for (; r + TILE_ROWS <= g->n; r += TILE_ROWS) tile(TILE_ROWS, 1, g, r);
    switch (g->n - r) {
    case 1: tile(1, 1, g, r); break;
    case 2: tile(2, 1, g, r); break;
    case 3: tile(3, 1, g, r); break;
    default: break;
    }
}

VLM_INLINE void store_outs(float *y, const float *sums, size_t n_groups, size_t n_out,
                           const float *bias, bool add)
{
    for (size_t o = 0; o < n_groups * VLM_PACK_OUTS && o < n_out; o += 8) {
        const size_t n = n_out - o < 8 ? n_out - o : 8;
        __m256 sum = _mm256_loadu_ps(sums + o);
        if (bias != NULL) sum = _mm256_add_ps(sum, vlm_load_first(bias + o, n));
        if (add) sum = _mm256_add_ps(vlm_load_first(y + o, n), sum);
        vlm_store_first(y + o, sum, n);
    }
}

static void packed_bf16_avx2(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                             size_t n_out, size_t n_chunks, const float *bias, bool add)
{
    float sums[VLM_PACKED_ROWS_MAX][GROUPS_MAX * VLM_PACK_OUTS];
    /* One row or two alone would wait for each addition before the next. */
    const size_t groups_max = n == 1 ? 4 : n == 2 ? 2 : 1;
    for (size_t out = 0, n_groups; out < n_out; out += n_groups * VLM_PACK_OUTS) {
        n_groups = out + (groups_max - 1) * VLM_PACK_OUTS < n_out ? groups_max : 1;
        run g = {.x = x,
                 .chunks = (const vlm_bf16_chunk *)w + out / VLM_PACK_OUTS * n_chunks,
                 .sums = sums,
                 .n = n,
                 .n_chunks = n_chunks};
        for (size_t r = 0; r < n; r++) memset(sums[r], 0, n_groups * VLM_PACK_OUTS * sizeof(float));
        for (; g.chunk < n_chunks; g.chunk = g.chunk_end) {
            const size_t left = n_chunks - g.chunk;
            g.chunk_end = g.chunk + (left < BLOCK_CHUNKS ? left : BLOCK_CHUNKS);
            run_block(&g, n_groups);
        }
        for (size_t r = 0; r < n; r++)
            store_outs(y + r * y_stride + out, sums[r], n_groups, n_out - out,
                       bias == NULL ? NULL : bias + out, add);
    }
}

/* 8 floats to nearest even, in the lower halves of the lanes; a NaN becomes a quiet one. */
VLM_INLINE __m256i round8(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i to = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(v, v, _CMP_UNORD_Q);
    return _mm256_srli_epi32(_mm256_castps_si256(_mm256_blendv_ps(
                                 _mm256_castsi256_ps(to), _mm256_castsi256_ps(quiet), is_nan)),
                             16);
}

static void prepare_bf16_avx2(void *to, size_t stride, const float *x, size_t n_k)
{
    vlm_x16 *block = to;
    for (size_t k = 0; k < vlm_pack_n_chunks(n_k) * VLM_PACK_CHUNK; k += VLM_PACK_BLOCK) {
        float padded[VLM_PACK_BLOCK] = {0};
        const float *from = x + k;
        if (k + VLM_PACK_BLOCK > n_k) {
            if (k < n_k) memcpy(padded, from, (n_k - k) * sizeof *x);
            from = padded;
        }
        for (size_t i = 0; i < VLM_PACK_BLOCK; i += 16) {
            /* The pack interleaves halves of 128 bits. */
            const __m256i both = _mm256_packus_epi32(round8(_mm256_loadu_ps(from + i)),
                                                     round8(_mm256_loadu_ps(from + i + 8)));
            _mm256_storeu_si256((__m256i *)(void *)(block->v + i),
                                _mm256_permute4x64_epi64(both, 0xd8));
        }
        block += stride;
    }
}

void vlm_cpu_fill_packed_bf16_avx2(vlm_cpu_kernels *kernels)
{
    kernels->prepare[VLM_DTYPE_BF16_DOT] = prepare_bf16_avx2;
    kernels->packed[VLM_DTYPE_BF16_DOT] = packed_bf16_avx2;
}

#endif
