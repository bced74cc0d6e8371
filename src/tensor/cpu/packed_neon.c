/* packed_neon.c - rows in 8 bits and in bfloat16, and their products with packed weights on any
 * 64-bit ARM.  Products of 8 bits are added in 16: two of Q8, whose weights are at most 128 and
 * rows 127; four of Q4, whose weights are at most 64. */
#include "tensor/cpu/packed_neon.h"
#include "tensor/cpu/kernels.h"

#if defined(__aarch64__)

/* One block of a row to 8 bits, all finite and below the largest float. */
VLM_INLINE void round_block(vlm_x8 *to, const float32x4_t v[8], float most, int32_t offset)
{
    const float inverse = 127.0f / most;
    int16x8_t pairs[4];
    for (size_t i = 0; i < 4; i++) {
        const int32x4_t lo = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse));
        const int32x4_t hi = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse));
        pairs[i] = vcombine_s16(vmovn_s32(lo), vmovn_s32(hi));
    }
    const int8x16_t low = vcombine_s8(vmovn_s16(pairs[0]), vmovn_s16(pairs[1]));
    const int8x16_t high = vcombine_s8(vmovn_s16(pairs[2]), vmovn_s16(pairs[3]));
    vst1q_s8(to->q, low);
    vst1q_s8(to->q + 16, high);
    to->correction = -offset * (vaddlvq_s8(low) + vaddlvq_s8(high));
}

VLM_INLINE void prepare_block(vlm_x8 *to, const float *x, int32_t offset)
{
    float32x4_t v[8];
    uint32x4_t most = vdupq_n_u32(0);
    for (size_t i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        most = vmaxq_u32(most, vreinterpretq_u32_f32(vabsq_f32(v[i])));
    }
    /* As whole numbers the magnitudes are in the same order, infinity and NaN above all. */
    const uint32_t bits = vmaxvq_u32(most);
    float largest;
    memcpy(&largest, &bits, sizeof largest);
    const bool finite = bits < 0x7f800000u;
    if (finite && largest >= VLM_X8_LEAST) {
        to->scale = largest / 127.0f;
        round_block(to, v, largest, offset);
        return;
    }
    memset(to, 0, sizeof *to);
    to->scale = finite ? 0.0f : __builtin_nanf("");
}

VLM_INLINE void prepare_x8(vlm_x8 *to, size_t stride, const float *x, size_t n_k, int32_t offset)
{
    const size_t n_blocks = 2 * vlm_pack_n_chunks(n_k);
    const size_t n_whole = n_k / VLM_PACK_BLOCK;
    for (size_t b = 0; b < n_blocks; b++, to += stride) {
        if (b < n_whole) {
            prepare_block(to, x + b * VLM_PACK_BLOCK, offset);
            continue;
        }
        float padded[VLM_PACK_BLOCK] = {0};
        const size_t first = b * VLM_PACK_BLOCK;
        if (first < n_k) memcpy(padded, x + first, (n_k - first) * sizeof *x);
        prepare_block(to, padded, offset);
    }
}

static void prepare_q8_neon(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q8_OFFSET);
}

static void prepare_q4_neon(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q4_OFFSET);
}

/* 4 floats to bfloat16, to nearest even, NaN made quiet: vlm_f32_to_bf16. */
VLM_INLINE uint16x4_t narrow_bf16(float32x4_t x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t high = vshrq_n_u32(bits, 16), odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(x, x), vshrq_n_u32(up, 16), quiet));
}

static void prepare_bf16_neon(void *to, size_t stride, const float *x, size_t n_k)
{
    vlm_x16 *block = to;
    const size_t n_cols = vlm_pack_n_chunks(n_k) * VLM_PACK_CHUNK;
    for (size_t first = 0; first < n_cols; first += VLM_PACK_BLOCK, block += stride) {
        float padded[VLM_PACK_BLOCK] = {0};
        const float *from = padded;
        if (first + VLM_PACK_BLOCK <= n_k)
            from = x + first;
        else if (first < n_k)
            memcpy(padded, x + first, (n_k - first) * sizeof *x);
        for (size_t i = 0; i < VLM_PACK_BLOCK; i += 4)
            vst1_u16(block->v + i, narrow_bf16(vld1q_f32(from + i)));
    }
}

/* Columns 4 i..4 i + 3 of a row, for each of 4 outputs. */
VLM_INLINE int8x16_t four_columns(const vlm_x8 *x, size_t i)
{
    int32_t columns;
    memcpy(&columns, x->q + 4 * i, sizeof columns);
    return vreinterpretq_s8_s32(vdupq_n_s32(columns));
}

/* n_rows <= 2, a constant; `deep` vectors of columns are added in 16 bits. */
VLM_INLINE void products_of_pair(vlm_products *products, const vlm_dtype dtype,
                                 const vlm_block_source *from, const bool is_unpacked,
                                 const size_t n_rows, const vlm_x8 *x)
{
    const size_t deep = dtype == VLM_DTYPE_Q8 ? 2 : 4;
    int32x4_t lo[2][PACKED_QUARTERS], hi[2][PACKED_QUARTERS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++) lo[r][g] = hi[r][g] = vdupq_n_s32(0);
    for (size_t i = 0; i < 8; i += deep) {
        int8x16_t columns[2][4];
        for (size_t r = 0; r < n_rows; r++)
            for (size_t d = 0; d < deep; d++) columns[r][d] = four_columns(&x[r], i + d);
        for (size_t g = 0; g < PACKED_QUARTERS; g++) {
            int16x8_t low[2], high[2];
            for (size_t d = 0; d < deep; d++) {
                const int8x16_t w = vlm_weights_of(dtype, from, is_unpacked, i + d, g);
                for (size_t r = 0; r < n_rows; r++) {
                    const int8x8_t w8 = vget_low_s8(w), c8 = vget_low_s8(columns[r][d]);
                    low[r] = d == 0 ? vmull_s8(w8, c8) : vmlal_s8(low[r], w8, c8);
                    high[r] = d == 0 ? vmull_high_s8(w, columns[r][d])
                                     : vmlal_high_s8(high[r], w, columns[r][d]);
                }
            }
            for (size_t r = 0; r < n_rows; r++) {
                lo[r][g] = vpadalq_s16(lo[r][g], low[r]);
                hi[r][g] = vpadalq_s16(hi[r][g], high[r]);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++)
            products[r][g] = vpaddq_s32(lo[r][g], hi[r][g]);
}

VLM_INLINE void products_neon(vlm_products *products, const vlm_dtype dtype,
                              const vlm_block_source *from, const size_t n_rows, const vlm_x8 *x)
{
    const bool is_unpacked = from->unpacked != NULL;
    size_t r = 0;
    for (; r + 2 <= n_rows; r += 2)
        products_of_pair(products + r, dtype, from, is_unpacked, 2, x + r);
    if (r < n_rows) products_of_pair(products + r, dtype, from, is_unpacked, 1, x + r);
}

VLM_PACKED_KERNEL(packed_q8_neon, vlm_q8_chunk, VLM_DTYPE_Q8, products_neon, vlm_unpack_signed)
VLM_PACKED_KERNEL(packed_q4_neon, vlm_q4_chunk, VLM_DTYPE_Q4, products_neon, vlm_unpack_signed)

/* The two bfloat16 of each 32 bits as float. */
VLM_INLINE float32x4_t first_of_pair(uint16x8_t pairs)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u16(pairs), 16));
}

VLM_INLINE float32x4_t second_of_pair(uint16x8_t pairs)
{
    const uint32x4_t bits = vreinterpretq_u32_u16(pairs);
    return vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff0000u)));
}

/* sums[r] += pair number `lane` (a constant) of 4 pairs of columns of a row, x times w. */
#define BF16_PAIR(lane)                                                                            \
    for (size_t g = 0; g < PACKED_QUARTERS; g++) {                                                 \
        const uint16x8_t pairs = vld1q_u16(w[lane][4 * g]);                                        \
        const float32x4_t w0 = first_of_pair(pairs), w1 = second_of_pair(pairs);                   \
        for (size_t r = 0; r < n_rows; r++) {                                                      \
            sums[r][g] = vfmaq_laneq_f32(sums[r][g], w1, x1[r], lane);                             \
            sums[r][g] = vfmaq_laneq_f32(sums[r][g], w0, x0[r], lane);                             \
        }                                                                                          \
    }

/* n_rows rows from `row` on (a constant, at most PACKED_TILE_ROWS) times a group. */
VLM_INLINE void bf16_tile(vlm_group_sums *sums, const size_t n_rows, const vlm_bf16_chunk *group,
                          size_t n_chunks, const vlm_x16 *x, size_t n)
{
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < PACKED_QUARTERS; g++) sums[r][g] = vdupq_n_f32(0.0f);
    for (size_t b = 0; b < 2 * n_chunks; b++, x += n) {
        for (size_t k = 0; k < VLM_PACK_BLOCK; k += 8) {
            const uint16_t(*w)[VLM_PACK_OUTS][2] =
                &group[b / 2].w[(b % 2 * VLM_PACK_BLOCK + k) / 2];
            __builtin_prefetch(&w[16]);
            __builtin_prefetch(&w[17]);
            __builtin_prefetch(&w[18]);
            __builtin_prefetch(&w[19]);
            float32x4_t x0[PACKED_TILE_ROWS], x1[PACKED_TILE_ROWS];
            for (size_t r = 0; r < n_rows; r++) {
                const uint16x8_t pairs = vld1q_u16(x[r].v + k);
                x0[r] = first_of_pair(pairs);
                x1[r] = second_of_pair(pairs);
            }
            BF16_PAIR(0)
            BF16_PAIR(1)
            BF16_PAIR(2)
            BF16_PAIR(3)
        }
    }
}

static void packed_bf16_neon(float *y, size_t y_stride, const void *x, size_t n, const void *w,
                             size_t n_out, size_t n_chunks, const float *bias, bool add)
{
    const vlm_packed_call c = {.bias = bias, .y_stride = y_stride, .n_out = n_out, .add = add};
    for (size_t out = 0; out < n_out; out += VLM_PACK_OUTS) {
        const vlm_bf16_chunk *group = (const vlm_bf16_chunk *)w + out / VLM_PACK_OUTS * n_chunks;
        for (size_t r = 0, n_rows; r < n; r += n_rows) {
            const vlm_x16 *rows = (const vlm_x16 *)x + r;
            vlm_group_sums sums[PACKED_TILE_ROWS];
            n_rows = n - r < PACKED_TILE_ROWS ? n - r : PACKED_TILE_ROWS;
            switch (n_rows) {
            case 1: bf16_tile(sums, 1, group, n_chunks, rows, n); break;
            case 2: bf16_tile(sums, 2, group, n_chunks, rows, n); break;
            case 3: bf16_tile(sums, 3, group, n_chunks, rows, n); break;
            default: bf16_tile(sums, PACKED_TILE_ROWS, group, n_chunks, rows, n); break;
            }
            vlm_packed_call part = c;
            part.y = y + r * y_stride;
            vlm_store_rows(&part, sums, n_rows, out);
        }
    }
}

void vlm_cpu_fill_packed_neon(vlm_cpu_kernels *kernels)
{
    kernels->prepare[VLM_DTYPE_Q8] = prepare_q8_neon;
    kernels->prepare[VLM_DTYPE_Q4] = prepare_q4_neon;
    kernels->prepare[VLM_DTYPE_BF16_DOT] = prepare_bf16_neon;
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_neon;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_neon;
    kernels->packed[VLM_DTYPE_BF16_DOT] = packed_bf16_neon;
}

#endif
