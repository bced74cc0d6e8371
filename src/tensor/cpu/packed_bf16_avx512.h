/* packed_bf16_avx512.h - the loops of the BF16_DOT kernels in 512-bit vectors, 16 outputs in the
 * lanes, for any way to add the products of 2 columns: in one instruction, or in floats.
 * Not: an interface; for packed_avx512bf16.c and packed_bf16_avx512.c.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_PACKED_BF16_AVX512_H
#define VLM_TENSOR_CPU_PACKED_BF16_AVX512_H

#include "tensor/cpu/packed.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512F__)

enum {
    BF16_TILE_ROWS = 6, /* 24 sums, 4 vectors of weights and a pair of a row in flight */
    BF16_TILE_GROUPS = VLM_PACKED_OUTS_MAX / VLM_PACK_OUTS,
    /* Up to so many rows go over all of k at once; more share blocks of the weights. */
    BF16_FEW_ROWS_MAX = BF16_TILE_ROWS,
    BF16_BLOCK_CHUNKS = 2, /* 16 KiB of weights, so that they stay in the first cache */
    BF16_TILES_MAX = VLM_PACKED_ROWS_MAX / BF16_TILE_ROWS,
    BF16_BLOCK_BYTES = BF16_BLOCK_CHUNKS * sizeof(vlm_bf16_chunk),
};

/* sum + the products of 2 columns for 16 outputs, x the same pair in all lanes. */
typedef __m512 vlm_dot2(__m512 sum, __m512i w, __m512i x);

/* What all tiles of a call share, and the chunks in hand. */
typedef struct vlm_bf16_call {
    float *y;
    const vlm_x16 *x;
    const unsigned char *w;
    const float *bias;
    size_t y_stride, n, n_out, n_chunks, chunk, chunk_end;
    size_t n_asks; /* groups of the next block that a tile asks for, 1 or 2 */
    float (*sums)[BF16_TILE_ROWS][BF16_TILE_GROUPS][VLM_PACK_OUTS];
    bool add;
} vlm_bf16_call;

VLM_INLINE void vlm_bf16_store(const vlm_bf16_call *c, size_t row, size_t out, __m512 sum)
{
    if (out >= c->n_out) return;
    const __mmask16 mask = vlm_mask16(c->n_out - out);
    float *y = c->y + row * c->y_stride + out;
    if (c->bias != NULL) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c->bias + out));
    if (c->add) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
    _mm512_mask_storeu_ps(y, mask, sum);
}

/* s[r][g] += half a chunk's columns, of the rows from x on and the groups from w on.  Weights are
 * asked for at `ask`: of n_asks groups (a constant), and ask_another: of one more. */
VLM_INLINE void vlm_bf16_half(vlm_dot2 *dot2, const size_t n_rows, const size_t n_groups,
                              __m512 s[BF16_TILE_ROWS][BF16_TILE_GROUPS], const vlm_x16 *x,
                              const unsigned char *w, size_t group_bytes, const char *ask,
                              const size_t n_asks, bool ask_another)
{
    for (size_t i = 0; i < VLM_PACK_BLOCK / 2; i++) {
        __m512i weight[BF16_TILE_GROUPS];
        VLM_UNROLL
        for (size_t g = 0; g < n_groups; g++)
            weight[g] = _mm512_loadu_si512(w + g * group_bytes + i * 64);
        for (size_t a = 0; a < n_asks; a++)
            _mm_prefetch(ask + a * group_bytes + i * 64, _MM_HINT_T0);
        if (ask_another) _mm_prefetch(ask + group_bytes + i * 64, _MM_HINT_T0);
        VLM_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            int32_t pair;
            memcpy(&pair, x[r].v + 2 * i, sizeof pair);
            const __m512i two = _mm512_set1_epi32(pair);
            VLM_UNROLL
            for (size_t g = 0; g < n_groups; g++) s[r][g] = dot2(s[r][g], weight[g], two);
        }
    }
}

/* n_rows x n_groups (constants) over the chunks in hand.  All of them (few): the weights are asked
 * for as they come.  A block: the tiles ask for the groups of the next block by turns, one each, or
 * two where there are fewer tiles than groups. */
VLM_INLINE void vlm_bf16_tile(vlm_dot2 *dot2, const size_t n_rows, const size_t n_groups,
                              const bool few, const vlm_bf16_call *c, size_t row, size_t out)
{
    const size_t group_bytes = c->n_chunks * sizeof(vlm_bf16_chunk);
    const unsigned char *w = c->w + out / VLM_PACK_OUTS * group_bytes;
    float(*sums)[BF16_TILE_GROUPS][VLM_PACK_OUTS] = few ? NULL : c->sums[row / BF16_TILE_ROWS];
    const size_t ask_group = few ? 0 : row / BF16_TILE_ROWS * c->n_asks % n_groups;
    __m512 s[BF16_TILE_ROWS][BF16_TILE_GROUPS];
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t g = 0; g < n_groups; g++)
            s[r][g] = c->chunk == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(sums[r][g]);
    }
    for (size_t half = 2 * c->chunk; half < 2 * c->chunk_end; half++) {
        const size_t at = half * sizeof(vlm_bf16_chunk) / 2;
        /* Beyond a group's end lies the next one, which is in hand: skip to the next call's. */
        size_t ask = ask_group * group_bytes + at + BF16_BLOCK_BYTES;
        if (at + BF16_BLOCK_BYTES >= group_bytes) ask += (n_groups - 1) * group_bytes;
        vlm_bf16_half(dot2, n_rows, n_groups, s, c->x + half * c->n + row, w + at, group_bytes,
                      (const char *)w + ask, few ? n_groups : 1, !few && c->n_asks > 1);
    }
    const bool last = c->chunk_end == c->n_chunks;
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t g = 0; g < n_groups; g++) {
            if (last)
                vlm_bf16_store(c, row + r, out + g * VLM_PACK_OUTS, s[r][g]);
            else
                _mm512_storeu_ps(sums[r][g], s[r][g]);
        }
    }
}

VLM_INLINE void vlm_bf16_rows(vlm_dot2 *dot2, const size_t n_groups, const bool few,
                              const vlm_bf16_call *c, size_t out)
{
    size_t r = 0;
    for (; r + BF16_TILE_ROWS <= c->n; r += BF16_TILE_ROWS)
        vlm_bf16_tile(dot2, BF16_TILE_ROWS, n_groups, few, c, r, out);
    switch (c->n - r) {
    case 1: vlm_bf16_tile(dot2, 1, n_groups, few, c, r, out); break;
    case 2: vlm_bf16_tile(dot2, 2, n_groups, few, c, r, out); break;
    case 3: vlm_bf16_tile(dot2, 3, n_groups, few, c, r, out); break;
    case 4: vlm_bf16_tile(dot2, 4, n_groups, few, c, r, out); break;
    case 5: vlm_bf16_tile(dot2, 5, n_groups, few, c, r, out); break;
    default: break;
    }
}

VLM_INLINE void vlm_bf16_groups(vlm_dot2 *dot2, const size_t n_groups, vlm_bf16_call *c, size_t out)
{
    c->chunk = 0;
    if (c->n <= BF16_FEW_ROWS_MAX) {
        c->chunk_end = c->n_chunks;
        vlm_bf16_rows(dot2, n_groups, true, c, out);
        return;
    }
    const size_t n_tiles = (c->n + BF16_TILE_ROWS - 1) / BF16_TILE_ROWS;
    c->n_asks = (n_groups + n_tiles - 1) / n_tiles;
    do {
        const size_t left = c->n_chunks - c->chunk;
        c->chunk_end = c->chunk + (left < BF16_BLOCK_CHUNKS ? left : BF16_BLOCK_CHUNKS);
        vlm_bf16_rows(dot2, n_groups, false, c, out);
        c->chunk = c->chunk_end;
    } while (c->chunk < c->n_chunks);
}

VLM_INLINE void vlm_bf16_run(vlm_dot2 *dot2, vlm_bf16_call *c)
{
    size_t out = 0;
    for (; out + 3 * VLM_PACK_OUTS < c->n_out; out += 4 * VLM_PACK_OUTS)
        vlm_bf16_groups(dot2, 4, c, out);
    for (; out + VLM_PACK_OUTS < c->n_out; out += 2 * VLM_PACK_OUTS)
        vlm_bf16_groups(dot2, 2, c, out);
    if (out < c->n_out) vlm_bf16_groups(dot2, 1, c, out);
}

#define VLM_BF16_KERNEL(name, dot2)                                                                \
    static void name(float *y, size_t y_stride, const void *x, size_t n, const void *w,            \
                     size_t n_out, size_t n_chunks, const float *bias, bool add)                   \
    {                                                                                              \
        float sums[BF16_TILES_MAX][BF16_TILE_ROWS][BF16_TILE_GROUPS][VLM_PACK_OUTS];               \
        vlm_bf16_call c = {.y = y,                                                                 \
                           .x = x,                                                                 \
                           .w = w,                                                                 \
                           .bias = bias,                                                           \
                           .y_stride = y_stride,                                                   \
                           .n = n,                                                                 \
                           .n_out = n_out,                                                         \
                           .n_chunks = n_chunks,                                                   \
                           .sums = sums,                                                           \
                           .add = add};                                                            \
        vlm_bf16_run(dot2, &c);                                                                    \
    }

#endif
#endif
