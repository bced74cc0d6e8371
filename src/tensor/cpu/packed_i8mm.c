/* packed_i8mm.c - products of rows in 8 bits with Q8 and Q4.  A few rows: usdot and sdot, of Q8
 * unsigned with the row's correction.  More: usmmla and smmla, which multiply 8 columns of 2
 * outputs with those of 2 rows, twice the work of a dot product; a block of weights is put into
 * pairs of outputs once for all rows. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed_neon.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8)

/* Outputs 4 g and 4 g + 1, then 4 g + 2 and 4 g + 3; columns 8 c..8 c + 7 of both. */
VLM_INLINE void unpack_pairs(vlm_packed_block *to, const vlm_dtype dtype,
                             const vlm_block_source *from)
{
    for (size_t c = 0; c < 4; c++) {
        for (size_t g = 0; g < PACKED_QUARTERS; g++) {
            int32x4_t w[2];
            for (size_t i = 0; i < 2; i++)
                w[i] = dtype == VLM_DTYPE_Q8
                           ? vreinterpretq_s32_u8(vlm_q8_bytes(from, 2 * c + i, g))
                           : vreinterpretq_s32_s8(vlm_signed_weights(dtype, from, 2 * c + i, g));
            to->w[2 * c][g] = vreinterpretq_s8_s32(vzip1q_s32(w[0], w[1]));
            to->w[2 * c + 1][g] = vreinterpretq_s8_s32(vzip2q_s32(w[0], w[1]));
        }
    }
}

VLM_INLINE int32x4_t multiply_pairs(const vlm_dtype dtype, int32x4_t sum, int8x16_t w, int8x16_t x)
{
    return dtype == VLM_DTYPE_Q8 ? vusmmlaq_s32(sum, vreinterpretq_u8_s8(w), x)
                                 : vmmlaq_s32(sum, w, x);
}

/* n_rows <= PACKED_TILE_ROWS (a constant); of an odd number the last row is multiplied twice. */
VLM_INLINE void products_of_pairs(vlm_products *products, const vlm_dtype dtype,
                                  const vlm_packed_block *block, const size_t n_rows,
                                  const vlm_x8 *x)
{
    enum { PAIRS_MAX = PACKED_TILE_ROWS / 2 };
    const size_t n_pairs = (n_rows + 1) / 2;
    /* By outputs, then rows: 00 01 10 11. */
    int32x4_t sums[PAIRS_MAX][2][PACKED_QUARTERS];
    for (size_t p = 0; p < n_pairs; p++) {
        const vlm_x8 *a = &x[2 * p], *b = 2 * p + 1 < n_rows ? a + 1 : a;
        const int32_t corrections[4] = {a->correction, b->correction, a->correction, b->correction};
        const int32x4_t first = dtype == VLM_DTYPE_Q8 ? vld1q_s32(corrections) : vdupq_n_s32(0);
        for (size_t g = 0; g < PACKED_QUARTERS; g++) sums[p][0][g] = sums[p][1][g] = first;
    }
    for (size_t c = 0; c < 4; c++) {
        int8x16_t columns[PAIRS_MAX];
        for (size_t p = 0; p < n_pairs; p++) {
            const vlm_x8 *a = &x[2 * p], *b = 2 * p + 1 < n_rows ? a + 1 : a;
            columns[p] = vcombine_s8(vld1_s8(a->q + 8 * c), vld1_s8(b->q + 8 * c));
        }
        for (size_t half = 0; half < 2; half++) {
            for (size_t g = 0; g < PACKED_QUARTERS; g++) {
                const int8x16_t w = block->w[2 * c + half][g];
                for (size_t p = 0; p < n_pairs; p++)
                    sums[p][half][g] = multiply_pairs(dtype, sums[p][half][g], w, columns[p]);
            }
        }
    }
    for (size_t p = 0; p < n_pairs; p++) {
        for (size_t g = 0; g < PACKED_QUARTERS; g++) {
            products[2 * p][g] = vuzp1q_s32(sums[p][0][g], sums[p][1][g]);
            if (2 * p + 1 < n_rows)
                products[2 * p + 1][g] = vuzp2q_s32(sums[p][0][g], sums[p][1][g]);
        }
    }
}

/* Columns of lane number `lane` (a constant) of the halves x16 of rows. */
#define ADD_LANE(lane)                                                                             \
    for (size_t g = 0; g < PACKED_QUARTERS; g++) {                                                 \
        if (dtype == VLM_DTYPE_Q8) {                                                               \
            const uint8x16_t w = vlm_q8_bytes(from, 4 * part + (lane), g);                         \
            for (size_t r = 0; r < n_rows; r++)                                                    \
                products[r][g] = vusdotq_laneq_s32(products[r][g], w, x16[r], lane);               \
        } else {                                                                                   \
            const int8x16_t w = vlm_signed_weights(dtype, from, 4 * part + (lane), g);             \
            for (size_t r = 0; r < n_rows; r++)                                                    \
                products[r][g] = vdotq_laneq_s32(products[r][g], w, x16[r], lane);                 \
        }                                                                                          \
    }

VLM_INLINE void products_i8mm(vlm_products *products, const vlm_dtype dtype,
                              const vlm_block_source *from, const size_t n_rows, const vlm_x8 *x)
{
    if (from->unpacked != NULL) {
        products_of_pairs(products, dtype, from->unpacked, n_rows, x);
        return;
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++)
            products[r][g] = vdupq_n_s32(dtype == VLM_DTYPE_Q8 ? x[r].correction : 0);
    for (size_t part = 0; part < 2; part++) {
        int8x16_t x16[PACKED_TILE_ROWS];
        for (size_t r = 0; r < n_rows; r++) x16[r] = vld1q_s8(x[r].q + 16 * part);
        ADD_LANE(0)
        ADD_LANE(1)
        ADD_LANE(2)
        ADD_LANE(3)
    }
}

VLM_PACKED_KERNEL(packed_q8_i8mm, vlm_q8_chunk, VLM_DTYPE_Q8, products_i8mm, unpack_pairs)
VLM_PACKED_KERNEL(packed_q4_i8mm, vlm_q4_chunk, VLM_DTYPE_Q4, products_i8mm, unpack_pairs)

void vlm_cpu_kernels_fill_i8mm(vlm_cpu_kernels *kernels)
{
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_i8mm;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_i8mm;
}

#endif
