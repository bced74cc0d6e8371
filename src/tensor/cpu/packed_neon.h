/* packed_neon.h - the loops of the Q8 and Q4 kernels in 128-bit vectors, for any instructions that
 * sum up a block's products: with dotprod, with i8mm, without.
 * Not: an interface; for packed_neon.c, packed_dotprod.c and packed_i8mm.c.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_PACKED_NEON_H
#define VLM_TENSOR_CPU_PACKED_NEON_H

#include <stdbool.h>

#include "tensor/cpu/packed.h"
#include "tensor/cpu/simd_neon.h"

#if defined(__aarch64__)

enum {
    PACKED_QUARTERS = 4, /* vectors of 4 outputs in a group */
    /* Rows of a tile.  Fewer take the weights from where they lie, more from a block that was
     * unpacked once. */
    PACKED_TILE_ROWS = 4,
    PACKED_AHEAD_BYTES = 2048,
};

typedef int32x4_t vlm_products[PACKED_QUARTERS];
typedef float32x4_t vlm_group_sums[PACKED_QUARTERS];

/* A block of 32 columns of 16 outputs as it goes into products, in the order that the level likes.
 */
typedef struct vlm_packed_block {
    int8x16_t w[8][PACKED_QUARTERS];
} vlm_packed_block;

/* Where a block's weights are: half a chunk, and the same unpacked or NULL. */
typedef struct vlm_block_source {
    const void *chunk;
    size_t half;
    const vlm_packed_block *unpacked;
} vlm_block_source;

/* products[r][g] = the block's products, x[r] times outputs 4 g..4 g + 3, for n_rows <=
 * PACKED_TILE_ROWS rows (a constant). */
typedef void vlm_products_fn(vlm_products *products, const vlm_dtype dtype,
                             const vlm_block_source *from, const size_t n_rows, const vlm_x8 *x);
typedef void vlm_unpack_fn(vlm_packed_block *to, const vlm_dtype dtype,
                           const vlm_block_source *from);

/* How products are made: constants at the call. */
typedef struct vlm_packed_way {
    vlm_dtype dtype;
    vlm_products_fn *products;
    vlm_unpack_fn *unpack;
} vlm_packed_way;

/* Columns 4 i..4 i + 3 of outputs 4 g..4 g + 3 as they lie: Q8 unsigned, with its offset. */
VLM_INLINE uint8x16_t vlm_q8_bytes(const vlm_block_source *from, size_t i, size_t g)
{
    const vlm_q8_chunk *chunk = from->chunk;
    return vld1q_u8(chunk->q[from->half][i][4 * g]);
}

/* The same as signed numbers without an offset, Q8 or Q4. */
VLM_INLINE int8x16_t vlm_signed_weights(const vlm_dtype dtype, const vlm_block_source *from,
                                        size_t i, size_t g)
{
    if (dtype == VLM_DTYPE_Q8) {
        const uint8x16_t offset = vdupq_n_u8(VLM_Q8_OFFSET);
        return vreinterpretq_s8_u8(veorq_u8(vlm_q8_bytes(from, i, g), offset));
    }
    const vlm_q4_chunk *chunk = from->chunk;
    const uint8x16_t levels = vsubq_u8(vld1q_u8(vlm_q4_levels), vdupq_n_u8(VLM_Q4_OFFSET));
    const uint8x16_t q = vld1q_u8(chunk->q[from->half][i % 4][4 * g]);
    const uint8x16_t index = i < 4 ? vandq_u8(q, vdupq_n_u8(15)) : vshrq_n_u8(q, 4);
    return vreinterpretq_s8_u8(vqtbl1q_u8(levels, index));
}

VLM_INLINE void vlm_unpack_signed(vlm_packed_block *to, const vlm_dtype dtype,
                                  const vlm_block_source *from)
{
    for (size_t i = 0; i < 8; i++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++)
            to->w[i][g] = vlm_signed_weights(dtype, from, i, g);
}

/* Signed weights, unpacked or not. */
VLM_INLINE int8x16_t vlm_weights_of(const vlm_dtype dtype, const vlm_block_source *from,
                                    const bool is_unpacked, size_t i, size_t g)
{
    return is_unpacked ? from->unpacked->w[i][g] : vlm_signed_weights(dtype, from, i, g);
}

/* sums[r] += a block of rows x[0..n_rows-1] (a constant). */
VLM_INLINE void vlm_add_rows(vlm_group_sums *sums, const vlm_packed_way way,
                             const vlm_block_source *from, const size_t n_rows,
                             const float32x4_t scale[PACKED_QUARTERS], const vlm_x8 *x)
{
    vlm_products products[PACKED_TILE_ROWS];
    way.products(products, way.dtype, from, n_rows, x);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++)
            sums[r][g] = vfmaq_f32(sums[r][g], vcvtq_f32_s32(products[r][g]),
                                   vmulq_n_f32(scale[g], x[r].scale));
}

/* What all groups of a call share. */
typedef struct vlm_packed_call {
    float *y;
    const vlm_x8 *x;
    const unsigned char *w;
    const float *bias;
    size_t y_stride, n, n_out, n_chunks, chunk_bytes;
    bool add;
} vlm_packed_call;

/* y[0..n-1] = sums (+ bias) (+ y), n <= VLM_PACK_OUTS. */
VLM_INLINE void vlm_store_group(float *y, const float32x4_t sums[PACKED_QUARTERS], size_t n,
                                const float *bias, bool add)
{
    if (n >= VLM_PACK_OUTS) {
        for (size_t g = 0; g < PACKED_QUARTERS; g++) {
            float32x4_t sum = sums[g];
            if (bias != NULL) sum = vaddq_f32(sum, vld1q_f32(bias + 4 * g));
            if (add) sum = vaddq_f32(vld1q_f32(y + 4 * g), sum);
            vst1q_f32(y + 4 * g, sum);
        }
        return;
    }
    float all[VLM_PACK_OUTS];
    for (size_t g = 0; g < PACKED_QUARTERS; g++) vst1q_f32(all + 4 * g, sums[g]);
    for (size_t o = 0; o < n; o++) {
        if (bias != NULL) all[o] += bias[o];
        y[o] = add ? y[o] + all[o] : all[o];
    }
}

VLM_INLINE void vlm_store_rows(const vlm_packed_call *c, vlm_group_sums *sums, size_t n_rows,
                               size_t out)
{
    for (size_t r = 0; r < n_rows; r++)
        vlm_store_group(c->y + r * c->y_stride + out, sums[r], c->n_out - out,
                        c->bias == NULL ? NULL : c->bias + out, c->add);
}

/* The block's weights and scales, which both kinds of chunk begin with; the next ones are asked
 * for. */
VLM_INLINE vlm_block_source vlm_block_at(const vlm_packed_call *c, size_t out, size_t block,
                                         float32x4_t scale[PACKED_QUARTERS])
{
    const unsigned char *chunk =
        c->w + (out / VLM_PACK_OUTS * c->n_chunks + block / 2) * c->chunk_bytes;
    if (block % 2 == 0)
        for (size_t i = 0; i < c->chunk_bytes; i += 64)
            __builtin_prefetch(chunk + PACKED_AHEAD_BYTES + i);
    const uint16_t *bits = (const uint16_t *)(const void *)chunk + block % 2 * VLM_PACK_OUTS;
    for (size_t g = 0; g < PACKED_QUARTERS; g++) scale[g] = vlm_load4(VLM_DTYPE_F16, bits + 4 * g);
    return (vlm_block_source){.chunk = chunk, .half = block % 2};
}

/* All rows of a call, n_rows of them (a constant), times one group. */
VLM_INLINE void vlm_packed_few(const vlm_packed_way way, const size_t n_rows,
                               const vlm_packed_call *c, size_t out)
{
    vlm_group_sums sums[PACKED_TILE_ROWS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++) sums[r][g] = vdupq_n_f32(0.0f);
    const vlm_x8 *x = c->x;
    for (size_t b = 0; b < 2 * c->n_chunks; b++, x += n_rows) {
        float32x4_t scale[PACKED_QUARTERS];
        const vlm_block_source from = vlm_block_at(c, out, b, scale);
        vlm_add_rows(sums, way, &from, n_rows, scale, x);
    }
    vlm_store_rows(c, sums, n_rows, out);
}

/* All rows times one group, a block of which is unpacked once. */
VLM_INLINE void vlm_packed_many(const vlm_packed_way way, const vlm_packed_call *c, size_t out)
{
    vlm_group_sums sums[VLM_PACKED_ROWS_MAX];
    for (size_t r = 0; r < c->n; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++) sums[r][g] = vdupq_n_f32(0.0f);
    const vlm_x8 *x = c->x;
    for (size_t b = 0; b < 2 * c->n_chunks; b++, x += c->n) {
        float32x4_t scale[PACKED_QUARTERS];
        vlm_packed_block unpacked;
        vlm_block_source from = vlm_block_at(c, out, b, scale);
        way.unpack(&unpacked, way.dtype, &from);
        from.unpacked = &unpacked;
        size_t r = 0;
        for (; r + PACKED_TILE_ROWS <= c->n; r += PACKED_TILE_ROWS)
            vlm_add_rows(sums + r, way, &from, PACKED_TILE_ROWS, scale, x + r);
        switch (c->n - r) {
        case 1: vlm_add_rows(sums + r, way, &from, 1, scale, x + r); break;
        case 2: vlm_add_rows(sums + r, way, &from, 2, scale, x + r); break;
        case 3: vlm_add_rows(sums + r, way, &from, 3, scale, x + r); break;
        default: break;
        }
    }
    vlm_store_rows(c, sums, c->n, out);
}

VLM_INLINE void vlm_packed_run(const vlm_packed_way way, const vlm_packed_call *c)
{
    for (size_t out = 0; out < c->n_out; out += VLM_PACK_OUTS) {
        switch (c->n) {
        case 1: vlm_packed_few(way, 1, c, out); break;
        case 2: vlm_packed_few(way, 2, c, out); break;
        case 3: vlm_packed_few(way, 3, c, out); break;
        default: vlm_packed_many(way, c, out); break;
        }
    }
}

#define VLM_PACKED_KERNEL(name, chunk, ...)                                                        \
    static void name(float *y, size_t y_stride, const void *x, size_t n, const void *w,            \
                     size_t n_out, size_t n_chunks, const float *bias, bool add)                   \
    {                                                                                              \
        const vlm_packed_call c = {.y = y,                                                         \
                                   .x = x,                                                         \
                                   .w = w,                                                         \
                                   .bias = bias,                                                   \
                                   .y_stride = y_stride,                                           \
                                   .n = n,                                                         \
                                   .n_out = n_out,                                                 \
                                   .n_chunks = n_chunks,                                           \
                                   .chunk_bytes = sizeof(chunk),                                   \
                                   .add = add};                                                    \
        const vlm_packed_way way = {__VA_ARGS__};                                                  \
        vlm_packed_run(way, &c);                                                                   \
    }

#endif
#endif
