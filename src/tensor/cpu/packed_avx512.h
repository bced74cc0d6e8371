/* packed_avx512.h - the loops of the Q8 and Q4 kernels in 512-bit vectors, for any instructions
 * that sum up the products of 4 columns: with VNNI and without.
 * Not: an interface; for packed_avx512*.c.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_PACKED_AVX512_H
#define VLM_TENSOR_CPU_PACKED_AVX512_H

#include "tensor/cpu/packed.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512F__)

enum {
    /* Up to so many rows keep their sums in registers. */
    PACKED_FEW_ROWS = 4,
    PACKED_GROUPS = 2, /* of 16 outputs share what is loaded of a row */
    /* So few rows read one group at a time, in a line: they wait for memory, not for products. */
    PACKED_LINE_ROWS = 2,
    /* The weights are asked for so far ahead, by all groups together. */
    PACKED_AHEAD_BYTES = 8192,
};

/* sum + the products of 4 columns for 16 outputs, x signed; w unsigned and with its offset, or
 * signed where the kernels are told so. */
typedef __m512i vlm_dot4(__m512i sum, __m512i w, __m512i x);

/* A block of 32 columns of 16 outputs, 4 columns to a vector. */
typedef struct vlm_packed_block {
    __m512i w[8];
    __m512 scale;
} vlm_packed_block;

/* How products are made: constants at the call. */
typedef struct vlm_packed_way {
    vlm_dtype dtype;
    bool is_signed; /* weights without their offset */
    vlm_dot4 *dot4;
} vlm_packed_way;

VLM_INLINE void vlm_load_block(vlm_packed_block *to, const vlm_packed_way way, const void *chunks,
                               size_t block)
{
    if (way.dtype == VLM_DTYPE_Q8) {
        const vlm_q8_chunk *chunk = (const vlm_q8_chunk *)chunks + block / 2;
        const __m512i offset = _mm512_set1_epi8(-VLM_Q8_OFFSET);
        for (size_t i = 0; i < 8; i++) {
            const __m512i w = _mm512_loadu_si512(chunk->q[block % 2][i]);
            to->w[i] = way.is_signed ? _mm512_xor_si512(w, offset) : w;
        }
        to->scale = vlm_load16(VLM_DTYPE_F16, chunk->scale[block % 2]);
        return;
    }
    const vlm_q4_chunk *chunk = (const vlm_q4_chunk *)chunks + block / 2;
    const __m512i levels =
        _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)vlm_q4_levels));
    const __m512i low = _mm512_set1_epi8(15);
    for (size_t i = 0; i < 4; i++) {
        const __m512i q = _mm512_loadu_si512(chunk->q[block % 2][i]);
        to->w[i] = _mm512_shuffle_epi8(levels, _mm512_and_si512(q, low));
        to->w[i + 4] = _mm512_shuffle_epi8(levels, _mm512_and_si512(_mm512_srli_epi16(q, 4), low));
    }
    to->scale = vlm_load16(VLM_DTYPE_F16, chunk->scale[block % 2]);
}

/* sums[g] += a block of one row times the same block of n_groups groups (a constant). */
VLM_INLINE void vlm_add_block(__m512 *sums, const size_t n_groups, const vlm_packed_block *w,
                              const vlm_x8 *x, const vlm_packed_way way)
{
    __m512i products[PACKED_GROUPS];
    for (size_t g = 0; g < n_groups; g++)
        products[g] = way.is_signed ? _mm512_setzero_si512() : _mm512_set1_epi32(x->correction);
    for (size_t i = 0; i < 8; i++) {
        int32_t columns;
        memcpy(&columns, x->q + 4 * i, sizeof columns);
        const __m512i four = _mm512_set1_epi32(columns);
        for (size_t g = 0; g < n_groups; g++) products[g] = way.dot4(products[g], w[g].w[i], four);
    }
    const __m512 scale = _mm512_set1_ps(x->scale);
    for (size_t g = 0; g < n_groups; g++)
        sums[g] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[g]), _mm512_mul_ps(w[g].scale, scale),
                                  sums[g]);
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

VLM_INLINE void vlm_packed_store(const vlm_packed_call *c, size_t row, size_t out, __m512 sum)
{
    const __mmask16 mask = vlm_mask16(c->n_out - out);
    float *y = c->y + row * c->y_stride + out;
    if (c->bias != NULL) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c->bias + out));
    if (c->add) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum);
    _mm512_mask_storeu_ps(y, mask, sum);
}

VLM_INLINE const unsigned char *vlm_group_at(const vlm_packed_call *c, size_t out)
{
    return c->w + out / VLM_PACK_OUTS * c->n_chunks * c->chunk_bytes;
}

/* What is read after a block of one of n_groups groups side by side, so far ahead: behind their end
 * the next such groups follow. */
VLM_INLINE const char *vlm_ahead_of(const vlm_packed_call *c, const unsigned char *group,
                                    size_t block, const size_t n_groups)
{
    const size_t group_bytes = c->n_chunks * c->chunk_bytes;
    size_t at = block * c->chunk_bytes / 2 + PACKED_AHEAD_BYTES / n_groups;
    if (at >= group_bytes) at += (n_groups - 1) * group_bytes;
    return (const char *)group + at;
}

/* Ask for the bytes [from, from + n) of the block that comes so far ahead.  Many at once would keep
 * the rows waiting for their place in the queue. */
VLM_INLINE void vlm_ask(const vlm_packed_call *c, const char *ahead, size_t from, size_t n)
{
    for (size_t at = from; at < from + n && at < c->chunk_bytes / 2; at += 64)
        _mm_prefetch(ahead + at, _MM_HINT_T0);
}

/* n_rows x n_groups (constants) over all of k, the sums in registers. */
VLM_INLINE void vlm_packed_few(const vlm_packed_way way, const size_t n_rows, const size_t n_groups,
                               const vlm_packed_call *c, size_t row, size_t out)
{
    __m512 sums[PACKED_FEW_ROWS][PACKED_GROUPS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < n_groups; g++) sums[r][g] = _mm512_setzero_ps();
    const vlm_x8 *x = c->x + row;
    for (size_t b = 0; b < 2 * c->n_chunks; b++, x += c->n) {
        vlm_packed_block w[PACKED_GROUPS];
        for (size_t g = 0; g < n_groups; g++) {
            const unsigned char *group = vlm_group_at(c, out + g * VLM_PACK_OUTS);
            vlm_ask(c, vlm_ahead_of(c, group, b, n_groups), 0, c->chunk_bytes / 2);
            vlm_load_block(&w[g], way, group, b);
        }
        for (size_t r = 0; r < n_rows; r++) vlm_add_block(sums[r], n_groups, w, x + r, way);
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < n_groups; g++)
            vlm_packed_store(c, row + r, out + g * VLM_PACK_OUTS, sums[r][g]);
}

/* All rows x n_groups: the weights of a block stay in registers for all rows, whose sums are in
 * memory. */
VLM_INLINE void vlm_packed_many(const vlm_packed_way way, const size_t n_groups,
                                const vlm_packed_call *c, size_t out)
{
    __m512 sums[VLM_PACKED_ROWS_MAX][PACKED_GROUPS];
    for (size_t r = 0; r < c->n; r++)
        for (size_t g = 0; g < n_groups; g++) sums[r][g] = _mm512_setzero_ps();
    const vlm_x8 *x = c->x;
    for (size_t b = 0; b < 2 * c->n_chunks; b++, x += c->n) {
        vlm_packed_block w[PACKED_GROUPS];
        const char *ahead[PACKED_GROUPS];
        for (size_t g = 0; g < n_groups; g++) {
            const unsigned char *group = vlm_group_at(c, out + g * VLM_PACK_OUTS);
            ahead[g] = vlm_ahead_of(c, group, b, n_groups);
            vlm_load_block(&w[g], way, group, b);
        }
        size_t r = 0;
        for (; r + 2 <= c->n; r += 2) {
            for (size_t g = 0; g < n_groups; g++) vlm_ask(c, ahead[g], 64 * r, 128);
            vlm_add_block(sums[r], n_groups, w, x + r, way);
            vlm_add_block(sums[r + 1], n_groups, w, x + r + 1, way);
        }
        if (r < c->n) vlm_add_block(sums[r], n_groups, w, x + r, way);
    }
    for (size_t r = 0; r < c->n; r++)
        for (size_t g = 0; g < n_groups; g++)
            vlm_packed_store(c, r, out + g * VLM_PACK_OUTS, sums[r][g]);
}

VLM_INLINE void vlm_packed_groups(const vlm_packed_way way, const size_t n_groups,
                                  const vlm_packed_call *c, size_t out)
{
    switch (c->n) {
    case 1: vlm_packed_few(way, 1, n_groups, c, 0, out); break;
    case 2: vlm_packed_few(way, 2, n_groups, c, 0, out); break;
    case 3: vlm_packed_few(way, 3, n_groups, c, 0, out); break;
    case 4: vlm_packed_few(way, 4, n_groups, c, 0, out); break;
    default: vlm_packed_many(way, n_groups, c, out); break;
    }
}

VLM_INLINE void vlm_packed_run(const vlm_packed_way way, const vlm_packed_call *c)
{
    size_t out = 0;
    if (c->n > PACKED_LINE_ROWS) {
        for (; out + VLM_PACK_OUTS < c->n_out; out += PACKED_GROUPS * VLM_PACK_OUTS)
            vlm_packed_groups(way, PACKED_GROUPS, c, out);
    }
    for (; out < c->n_out; out += VLM_PACK_OUTS) vlm_packed_groups(way, 1, c, out);
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
