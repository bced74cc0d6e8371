/* linear_avx512.c - matrix products in 16 lanes.  One row reads the weights once, as they come; a
 * few rows make them float in registers for 6 rows at a time; many rows make them float once, in a
 * panel that stays in the cache.  Which way is taken changes no bit: an output's 16 partial sums
 * are added up in the same order by all. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512F__)

enum {
    LANES = 16,
    TILE_ROWS = 6, /* 24 sums, 4 outputs and a row in flight of 32 registers */
    TILE_OUTS = 4,
    FEW_ROWS_MAX = 36,
    AHEAD_BYTES = 8192, /* the weights are asked for so far ahead */
    K_BLOCK = 512,      /* of longer rows than VLM_LINEAR_K_BLOCK: tile and panel stay in L1 */
};

_Static_assert(VLM_LINEAR_SCRATCH_LEN >= VLM_LINEAR_OUTS_MAX * VLM_LINEAR_K_BLOCK +
                                             VLM_LINEAR_ROWS_MAX * VLM_LINEAR_OUTS_MAX * LANES,
               "a panel and the sums of all rows");

VLM_INLINE size_t size_of(const vlm_dtype dtype)
{
    return dtype == VLM_DTYPE_F32 ? 4 : 2;
}

/* y[0..n-1] = sum (+ bias) (+ y), at most 4 of them. */
VLM_INLINE void store_outs(float *y, __m128 sum, size_t n, const float *bias, bool add)
{
    const __mmask8 mask = (__mmask8)(n >= 4 ? 15u : (1u << n) - 1u);
    if (bias != NULL) sum = _mm_add_ps(sum, _mm_maskz_loadu_ps(mask, bias));
    if (add) sum = _mm_add_ps(_mm_maskz_loadu_ps(mask, y), sum);
    if (n >= 4)
        _mm_storeu_ps(y, sum);
    else
        _mm_mask_storeu_ps(y, mask, sum);
}

/* What all tiles of a call share. */
typedef struct call {
    float *y;
    const float *x, *bias;
    const unsigned char *w;
    size_t y_stride, n_k;
    bool add;
} call;

/* Where the weights lie that are asked for when an output is at column k: beyond the end of a row
 * lies the next one, which is in flight already, so skip to where the next group begins. */
VLM_INLINE size_t ahead_of(const size_t n_outs, size_t at, size_t row_bytes)
{
    at += AHEAD_BYTES / n_outs;
    return at < row_bytes ? at : at + (n_outs - 1) * row_bytes;
}

/* s += one row over pairs of lines: an output's follow each other, as the memory likes it.  How
 * many columns that were. */
VLM_INLINE size_t one_row(const vlm_dtype dtype, const size_t n_outs, __m512 s[TILE_OUTS],
                          const float *x, const unsigned char *w, size_t n_k)
{
    const size_t size = size_of(dtype), step = 2 * 64 / size, row_bytes = n_k * size;
    size_t k = 0;
    for (; k + step <= n_k; k += step) {
        const size_t ahead = ahead_of(n_outs, k * size, row_bytes);
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes;
            for (size_t i = 0; i < step * size; i += 64)
                _mm_prefetch((const char *)from + ahead + i, _MM_HINT_T0);
            for (size_t i = 0; i < step; i += LANES)
                s[o] = _mm512_fmadd_ps(_mm512_loadu_ps(x + k + i),
                                       vlm_load16(dtype, from + (k + i) * size), s[o]);
        }
    }
    return k;
}

/* n_rows x n_outs sums (constants) over all of k, the weights as they lie in memory. */
VLM_INLINE void direct_tile(const vlm_dtype dtype, const size_t n_rows, const size_t n_outs,
                            const call *c, size_t row, size_t out)
{
    const size_t size = size_of(dtype), n_k = c->n_k, row_bytes = n_k * size;
    const size_t line = 64 / size;
    const unsigned char *w = c->w + out * row_bytes;
    const float *x = c->x + row * n_k;
    __m512 s[TILE_ROWS][TILE_OUTS];
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) VLM_UNROLL
    for (size_t o = 0; o < TILE_OUTS; o++) s[r][o] = _mm512_setzero_ps();
    size_t k = n_rows == 1 ? one_row(dtype, n_outs, s[0], x, w, n_k) : 0;
    for (; k + line <= n_k; k += line) {
        const size_t ahead = ahead_of(n_outs, k * size, row_bytes);
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++)
            _mm_prefetch((const char *)w + o * row_bytes + ahead, _MM_HINT_T0);
        for (size_t i = 0; i < line; i += LANES) {
            __m512 weight[TILE_OUTS];
            VLM_UNROLL
            for (size_t o = 0; o < n_outs; o++)
                weight[o] = vlm_load16(dtype, w + o * row_bytes + (k + i) * size);
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                const __m512 value = _mm512_loadu_ps(x + r * n_k + k + i);
                VLM_UNROLL
                for (size_t o = 0; o < n_outs; o++)
                    s[r][o] = _mm512_fmadd_ps(value, weight[o], s[r][o]);
            }
        }
    }
    for (; k < n_k; k += LANES) {
        const size_t n = n_k - k < LANES ? n_k - k : LANES;
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes + k * size;
            const __m512 weight =
                n == LANES ? vlm_load16(dtype, from) : vlm_load16_first(dtype, from, n);
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                const __m512 value = _mm512_maskz_loadu_ps(vlm_mask16(n), x + r * n_k + k);
                s[r][o] = _mm512_fmadd_ps(value, weight, s[r][o]);
            }
        }
    }
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        store_outs(c->y + (row + r) * c->y_stride + out,
                   vlm_sum_16_lanes_x4(s[r][0], s[r][1], s[r][2], s[r][3]), n_outs,
                   c->bias == NULL ? NULL : c->bias + out, c->add);
}

VLM_INLINE void direct_rows(const vlm_dtype dtype, const size_t n_outs, const call *c, size_t n,
                            size_t out)
{
    size_t r = 0;
    for (; r + TILE_ROWS <= n; r += TILE_ROWS) direct_tile(dtype, TILE_ROWS, n_outs, c, r, out);
    switch (n - r) {
    case 1: direct_tile(dtype, 1, n_outs, c, r, out); break;
    case 2: direct_tile(dtype, 2, n_outs, c, r, out); break;
    case 3: direct_tile(dtype, 3, n_outs, c, r, out); break;
    case 4: direct_tile(dtype, 4, n_outs, c, r, out); break;
    case 5: direct_tile(dtype, 5, n_outs, c, r, out); break;
    default: break;
    }
}

VLM_INLINE void linear_direct(const vlm_dtype dtype, const call *c, size_t n, size_t n_out)
{
    size_t o = 0;
    for (; o + TILE_OUTS <= n_out; o += TILE_OUTS) direct_rows(dtype, TILE_OUTS, c, n, o);
    for (; o < n_out; o++) direct_rows(dtype, 1, c, n, o);
}

/* What all tiles of one block of k share. */
typedef struct block {
    float *panel; /* [groups of TILE_OUTS][vectors of k][TILE_OUTS][LANES] */
    float *sums;  /* [tiles of rows][groups][TILE_ROWS][TILE_OUTS][LANES] */
    size_t k, len, group_len, n_rows, n_out, n_groups;
    const unsigned char *ask; /* an output's weights in the next block */
    size_t asked_bytes, n_asked;
} block;

enum {
    TILE_SUMS = TILE_ROWS * TILE_OUTS * LANES,
    PANEL_AHEAD = 8 * TILE_OUTS * LANES,
};

/* Ask for a quarter of the next block of an output's weights, so that all tiles ask for all. */
VLM_INLINE void ask_for_block(const vlm_dtype dtype, const call *c, block *b)
{
    const size_t n_bytes = b->group_len / TILE_OUTS * size_of(dtype);
    if (b->n_asked == b->n_out) return;
    for (size_t i = 0; i < n_bytes / 4; i += 64)
        _mm_prefetch((const char *)b->ask + b->asked_bytes + i, _MM_HINT_T1);
    b->asked_bytes += n_bytes / 4;
    if (b->asked_bytes < n_bytes) return;
    b->asked_bytes = 0;
    b->ask += c->n_k * size_of(dtype);
    b->n_asked++;
}

/* The last n < LANES columns of a tile. */
VLM_INLINE void panel_tail(const size_t n_rows, const call *c, __m512 s[TILE_ROWS][TILE_OUTS],
                           const float *x, const float *w, size_t n)
{
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        const __m512 value = _mm512_maskz_loadu_ps(vlm_mask16(n), x + r * c->n_k);
        VLM_UNROLL
        for (size_t o = 0; o < TILE_OUTS; o++)
            s[r][o] = _mm512_fmadd_ps(value, _mm512_load_ps(w + o * LANES), s[r][o]);
    }
}

/* n_rows (a constant) x TILE_OUTS over one block of k.  The first rows fill the panel. */
VLM_INLINE void panel_tile(const vlm_dtype dtype, const size_t n_rows, const bool fills,
                           const call *c, const block *b, size_t row, size_t group)
{
    const size_t row_bytes = c->n_k * size_of(dtype), out = group * TILE_OUTS;
    const float *x = c->x + row * c->n_k + b->k;
    float *w = b->panel + group * b->group_len;
    float *sums = b->sums + (row / TILE_ROWS * b->n_groups + group) * TILE_SUMS;
    /* Asked for on the way: the panel, the next group's sums, and a row of the next rows. */
    const float *ahead_x = row + n_rows < b->n_rows ? x + n_rows * c->n_k : x + b->len;
    if (group < TILE_ROWS) ahead_x += group * c->n_k;
    const unsigned char *from[TILE_OUTS];
    for (size_t o = 0; o < TILE_OUTS; o++)
        from[o] = c->w + (out + o < b->n_out ? out + o : out) * row_bytes;
    __m512 s[TILE_ROWS][TILE_OUTS];
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t o = 0; o < TILE_OUTS; o++)
            s[r][o] = b->k == 0 ? _mm512_setzero_ps()
                                : _mm512_load_ps(sums + (r * TILE_OUTS + o) * LANES);
    }
    size_t k = 0;
    for (; k + LANES <= b->len; k += LANES, w += TILE_OUTS * LANES) {
        __m512 weight[TILE_OUTS];
        VLM_UNROLL
        for (size_t o = 0; o < TILE_OUTS; o++) {
            if (fills) {
                const unsigned char *at = from[o] + (b->k + k) * size_of(dtype);
                _mm_prefetch((const char *)at + TILE_OUTS * row_bytes, _MM_HINT_T0);
                weight[o] = vlm_load16(dtype, at);
                _mm512_store_ps(w + o * LANES, weight[o]);
            } else {
                weight[o] = _mm512_load_ps(w + o * LANES);
            }
            _mm_prefetch((const char *)(w + o * LANES + PANEL_AHEAD), _MM_HINT_T0);
        }
        _mm_prefetch((const char *)(sums + TILE_SUMS + k), _MM_HINT_T0);
        _mm_prefetch((const char *)(ahead_x + k), _MM_HINT_T0);
        VLM_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            const __m512 value = _mm512_loadu_ps(x + r * c->n_k + k);
            VLM_UNROLL
            for (size_t o = 0; o < TILE_OUTS; o++)
                s[r][o] = _mm512_fmadd_ps(value, weight[o], s[r][o]);
        }
    }
    if (k < b->len) {
        for (size_t o = 0; o < TILE_OUTS && fills; o++)
            _mm512_store_ps(
                w + o * LANES,
                vlm_load16_first(dtype, from[o] + (b->k + k) * size_of(dtype), b->len - k));
        panel_tail(n_rows, c, s, x + k, w, b->len - k);
    }
    if (b->k + b->len == c->n_k) {
        VLM_UNROLL
        for (size_t r = 0; r < n_rows; r++)
            store_outs(c->y + (row + r) * c->y_stride + out,
                       vlm_sum_16_lanes_x4(s[r][0], s[r][1], s[r][2], s[r][3]), b->n_out - out,
                       c->bias == NULL ? NULL : c->bias + out, c->add);
        return;
    }
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++) {
        VLM_UNROLL
        for (size_t o = 0; o < TILE_OUTS; o++)
            _mm512_store_ps(sums + (r * TILE_OUTS + o) * LANES, s[r][o]);
    }
}

VLM_INLINE void panel_rows(const vlm_dtype dtype, const size_t n_rows, const bool fills,
                           const call *c, block *b, size_t row)
{
    for (size_t group = 0; group < b->n_groups; group++) {
        ask_for_block(dtype, c, b);
        panel_tile(dtype, n_rows, fills, c, b, row, group);
    }
}

VLM_INLINE void panel_block(const vlm_dtype dtype, const call *c, block *b)
{
    panel_rows(dtype, TILE_ROWS, true, c, b, 0);
    size_t r = TILE_ROWS;
    for (; r + TILE_ROWS <= b->n_rows; r += TILE_ROWS) panel_rows(dtype, TILE_ROWS, false, c, b, r);
    switch (b->n_rows - r) {
    case 1: panel_rows(dtype, 1, false, c, b, r); break;
    case 2: panel_rows(dtype, 2, false, c, b, r); break;
    case 3: panel_rows(dtype, 3, false, c, b, r); break;
    case 4: panel_rows(dtype, 4, false, c, b, r); break;
    case 5: panel_rows(dtype, 5, false, c, b, r); break;
    default: break;
    }
}

VLM_INLINE void linear_panel(const vlm_dtype dtype, const call *c, size_t n, size_t n_out,
                             float *scratch)
{
    block b = {.panel = scratch,
               .sums = scratch + VLM_LINEAR_OUTS_MAX * VLM_LINEAR_K_BLOCK,
               .n_rows = n,
               .n_out = n_out,
               .n_groups = (n_out + TILE_OUTS - 1) / TILE_OUTS};
    const size_t k_block = c->n_k <= VLM_LINEAR_K_BLOCK ? VLM_LINEAR_K_BLOCK : K_BLOCK;
    b.group_len = TILE_OUTS * k_block;
    for (; b.k < c->n_k; b.k += k_block) {
        b.len = c->n_k - b.k < k_block ? c->n_k - b.k : k_block;
        b.ask = c->w + (b.k + b.len < c->n_k ? b.k + b.len : c->n_k * n_out) * size_of(dtype);
        b.asked_bytes = b.n_asked = 0;
        panel_block(dtype, c, &b);
    }
}

#define KERNEL_OF(dtype, enum_name)                                                                \
    static void linear_##dtype##_avx512(float *y, size_t y_stride, const float *x, size_t n,       \
                                        const void *w, size_t n_out, size_t n_k,                   \
                                        const float *bias, bool add, float *scratch)               \
    {                                                                                              \
        const call c = {                                                                           \
            .y = y, .x = x, .bias = bias, .w = w, .y_stride = y_stride, .n_k = n_k, .add = add};   \
        if (n <= FEW_ROWS_MAX || n_k == 0)                                                         \
            linear_direct(enum_name, &c, n, n_out);                                                \
        else                                                                                       \
            linear_panel(enum_name, &c, n, n_out, scratch);                                        \
    }
KERNEL_OF(f32, VLM_DTYPE_F32)
KERNEL_OF(f16, VLM_DTYPE_F16)
KERNEL_OF(bf16, VLM_DTYPE_BF16)

void vlm_cpu_kernels_fill_avx512(vlm_cpu_kernels *kernels)
{
    kernels->linear[VLM_DTYPE_F32] = linear_f32_avx512;
    kernels->linear[VLM_DTYPE_F16] = linear_f16_avx512;
    kernels->linear[VLM_DTYPE_BF16] = linear_bf16_avx512;
    vlm_cpu_fill_pack_avx512(kernels);
    vlm_cpu_fill_packed_avx512(kernels);
    vlm_cpu_fill_attn_avx512(kernels);
    vlm_cpu_fill_rows_avx512(kernels);
    vlm_cpu_fill_packed_bf16_avx512(kernels);
}

#endif
