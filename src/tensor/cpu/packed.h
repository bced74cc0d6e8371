/* packed.h - packed weights of the CPU backend: how they lie in memory, how the rows that meet them
 * are rounded, and the kernels' types.  One order serves every level, so that packed bytes may be
 * kept in a file and mapped on any CPU.
 *
 * A matrix [n_rows, n_cols] is cut into groups of VLM_PACK_OUTS rows (the outputs of linear), a
 * group into chunks of VLM_PACK_CHUNK columns (k); what lacks is filled up with zeros.  Groups
 * follow each other, in a group its chunks.  In a chunk the same columns of all 16 outputs lie side
 * by side, as a vector of products wants them: 4 (or, of bfloat16, 2) columns for each output in
 * turn.
 *
 * Not: who packs and when (model/weights.h).  Threads: pure. */
#ifndef VLM_TENSOR_CPU_PACKED_H
#define VLM_TENSOR_CPU_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "tensor/backend.h"

enum {
    VLM_PACK_OUTS = 16,
    VLM_PACK_BLOCK = 32, /* columns that share a scale */
    VLM_PACK_CHUNK = 64,
    /* Most rows and outputs of one call of a kernel. */
    VLM_PACKED_ROWS_MAX = 96,
    VLM_PACKED_OUTS_MAX = 64,
    VLM_Q8_OFFSET = 128,
    VLM_Q4_OFFSET = 64,
};

/* Change it when a packed byte would change. */
#define VLM_PACK_LAYOUT "16x64-2"

/* weight = f16 scale[block][out] * (q - VLM_Q8_OFFSET), q of column 32 block + 4 i + j at
 * q[block][i][out][j]. */
typedef struct vlm_q8_chunk {
    uint16_t scale[2][VLM_PACK_OUTS];
    uint8_t q[2][8][VLM_PACK_OUTS][4];
} vlm_q8_chunk;

/* weight = f16 scale[block][out] * (vlm_q4_levels[index] - VLM_Q4_OFFSET); the index of column
 * 32 block + 4 i + j is in the low half of q[block][i][out][j], that of 16 columns further in its
 * high half. */
typedef struct vlm_q4_chunk {
    uint16_t scale[2][VLM_PACK_OUTS];
    uint8_t q[2][4][VLM_PACK_OUTS][4];
} vlm_q4_chunk;

/* bfloat16 of column 2 i + j at w[i][out][j]. */
typedef struct vlm_bf16_chunk {
    uint16_t w[VLM_PACK_CHUNK / 2][VLM_PACK_OUTS][2];
} vlm_bf16_chunk;

/* Rising, 0..127, so that the sum of two products with 8 bits fits into 16 (packed_avx2.c). */
extern const uint8_t vlm_q4_levels[16];

static inline size_t vlm_pack_n_chunks(size_t n_cols)
{
    return (n_cols + VLM_PACK_CHUNK - 1) / VLM_PACK_CHUNK;
}

size_t vlm_pack_chunk_bytes(vlm_dtype dtype);

/* 32 values of a row that meets Q8 or Q4: scale = max |x| / 127, q = x / scale to nearest even.
 * Where a value is not finite, scale is NaN and q 0.
 * correction = -offset * sum of q: what the offset of the weights adds to a sum of products. */
typedef struct vlm_x8 {
    float scale;
    int32_t correction;
    int8_t q[VLM_PACK_BLOCK];
} vlm_x8;

/* Rows that are smaller count as zeros: 127 / max |x| must not be infinite. */
#define VLM_X8_LEAST 1e-30f

/* 32 values of a row that meets BF16_DOT, to nearest even. */
typedef struct vlm_x16 {
    uint16_t v[VLM_PACK_BLOCK];
} vlm_x16;

/* A row x [n_k] as blocks of 32, filled up with zeros to whole chunks: block b at
 * to[b * stride], a vlm_x8 or vlm_x16. */
typedef void vlm_prepare_kernel(void *to, size_t stride, const float *x, size_t n_k);

/* y[r * y_stride + o] = (bias[o] +) x_r . w_o, or with add that is added to y.  n rows <=
 * VLM_PACKED_ROWS_MAX, prepared: block b of row r is number b * n + r of x.  n_out <=
 * VLM_PACKED_OUTS_MAX; w at the first of their groups; bias [n_out] or NULL.
 * Order of Q8 and Q4: the products of a block as whole numbers, which are exact; then for each
 * block in a row sum = fma(products, weight scale * x scale, sum).  Hence all levels give the same
 * bits.  Order of BF16_DOT: one sum; for each pair of columns in a row the second
 * product, then the first, each fused with the sum.  All levels have this order; AVX512BF16 takes
 * subnormal numbers for zeros, hence its bits may be others. */
typedef void vlm_packed_kernel(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                               size_t n_out, size_t n_chunks, const float *bias, bool add);

/* One chunk of w [VLM_PACK_OUTS, VLM_PACK_CHUNK].  A block with a weight that is not finite gets
 * the scale NaN.  All levels give the same bytes. */
typedef void vlm_pack_kernel(void *chunk, const float *w);

#endif
