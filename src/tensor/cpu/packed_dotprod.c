/* packed_dotprod.c - products of rows in 8 bits with Q8 and Q4 by sdot, which sums up 4 columns of
 * each of 4 outputs; the row's columns come from a lane. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed_neon.h"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

/* Columns of lane number `lane` (a constant) of the quarters x16 of rows. */
#define ADD_LANE(lane)                                                                             \
    for (size_t g = 0; g < PACKED_QUARTERS; g++) {                                                 \
        const int8x16_t w = vlm_weights_of(dtype, from, is_unpacked, 4 * part + (lane), g);        \
        for (size_t r = 0; r < n_rows; r++)                                                        \
            products[r][g] = vdotq_laneq_s32(products[r][g], w, x16[r], lane);                     \
    }

VLM_INLINE void products_dotprod(vlm_products *products, const vlm_dtype dtype,
                                 const vlm_block_source *from, const size_t n_rows, const vlm_x8 *x)
{
    const bool is_unpacked = from->unpacked != NULL;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++) products[r][g] = vdupq_n_s32(0);
    for (size_t part = 0; part < 2; part++) {
        int8x16_t x16[PACKED_TILE_ROWS];
        for (size_t r = 0; r < n_rows; r++) x16[r] = vld1q_s8(x[r].q + 16 * part);
        ADD_LANE(0)
        ADD_LANE(1)
        ADD_LANE(2)
        ADD_LANE(3)
    }
}

VLM_PACKED_KERNEL(packed_q8_dotprod, vlm_q8_chunk, VLM_DTYPE_Q8, products_dotprod,
                  vlm_unpack_signed)
VLM_PACKED_KERNEL(packed_q4_dotprod, vlm_q4_chunk, VLM_DTYPE_Q4, products_dotprod,
                  vlm_unpack_signed)

void vlm_cpu_kernels_fill_dotprod(vlm_cpu_kernels *kernels)
{
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_dotprod;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_dotprod;
}

#endif
