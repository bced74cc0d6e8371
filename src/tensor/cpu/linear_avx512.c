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
    AHEAD_BYTES = 2048, /* the weights are asked for so far ahead */
};

typedef float sums_of_row[VLM_LINEAR_OUTS_MAX][LANES];
_Static_assert(VLM_LINEAR_SCRATCH_LEN >= VLM_LINEAR_OUTS_MAX * VLM_LINEAR_K_BLOCK +
                                             VLM_LINEAR_ROWS_MAX * VLM_LINEAR_OUTS_MAX * LANES,
               "a panel and the sums of all rows");

VLM_INLINE size_t size_of(const vlm_dtype dtype)
{
    return dtype == VLM_DTYPE_F32 ? 4 : 2;
}

/* y[0..n-1] = sum (+ bias) (+ y), n <= 4 a constant. */
VLM_INLINE void store_outs(float *y, __m128 sum, const size_t n, const float *bias, bool add)
{
    const __mmask8 mask = (__mmask8)((1u << n) - 1u);
    if (bias != NULL) sum = _mm_add_ps(sum, _mm_maskz_loadu_ps(mask, bias));
    if (add) sum = _mm_add_ps(_mm_maskz_loadu_ps(mask, y), sum);
    if (n == 4)
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

/* n_rows x n_outs sums (constants) over all of k, the weights as they lie in memory. */
VLM_INLINE void direct_tile(const vlm_dtype dtype, const size_t n_rows, const size_t n_outs,
                            const call *c, size_t row, size_t out)
{
    const size_t size = size_of(dtype), n_k = c->n_k, row_bytes = n_k * size;
    const size_t line = 64 / size;
    const unsigned char *w = c->w + out * row_bytes;
    const float *x = c->x + row * n_k;
    __m512 s[TILE_ROWS][TILE_OUTS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < TILE_OUTS; o++) s[r][o] = _mm512_setzero_ps();
    size_t k = 0;
    for (; k + line <= n_k; k += line) {
        /* Beyond the end of a row lies the next one, which is in flight already: skip to where the
         * next group of outputs begins. */
        const size_t at = k * size + AHEAD_BYTES;
        const size_t ahead = at < row_bytes ? at : at + (n_outs - 1) * row_bytes;
        for (size_t o = 0; o < n_outs; o++)
            _mm_prefetch((const char *)w + o * row_bytes + ahead, _MM_HINT_T0);
        for (size_t i = 0; i < line; i += LANES) {
            __m512 weight[TILE_OUTS];
            for (size_t o = 0; o < n_outs; o++)
                weight[o] = vlm_load16(dtype, w + o * row_bytes + (k + i) * size);
            for (size_t r = 0; r < n_rows; r++) {
                const __m512 value = _mm512_loadu_ps(x + r * n_k + k + i);
                for (size_t o = 0; o < n_outs; o++)
                    s[r][o] = _mm512_fmadd_ps(value, weight[o], s[r][o]);
            }
        }
    }
    for (; k < n_k; k += LANES) {
        const size_t n = n_k - k < LANES ? n_k - k : LANES;
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes + k * size;
            const __m512 weight =
                n == LANES ? vlm_load16(dtype, from) : vlm_load16_first(dtype, from, n);
            for (size_t r = 0; r < n_rows; r++) {
                const __m512 value = _mm512_maskz_loadu_ps(vlm_mask16(n), x + r * n_k + k);
                s[r][o] = _mm512_fmadd_ps(value, weight, s[r][o]);
            }
        }
    }
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
    const float *x, *panel;
    sums_of_row *sums; /* [rows], carried from block to block */
    size_t len;
    bool first, last;
} block;

/* The tile at row r, output o, over one block of k; the panel ends with zeros. */
VLM_INLINE void panel_tile(const size_t n_rows, const size_t n_outs, const call *c, const block *b,
                           size_t row, size_t out)
{
    const float *x = b->x + row * c->n_k, *w = b->panel + out * VLM_LINEAR_K_BLOCK;
    __m512 s[TILE_ROWS][TILE_OUTS];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t o = 0; o < TILE_OUTS; o++)
            s[r][o] = b->first || o >= n_outs ? _mm512_setzero_ps()
                                              : _mm512_load_ps(b->sums[row + r][out + o]);
    size_t k = 0;
    for (; k + LANES <= b->len; k += LANES) {
        __m512 weight[TILE_OUTS];
        for (size_t o = 0; o < n_outs; o++)
            weight[o] = _mm512_load_ps(w + o * VLM_LINEAR_K_BLOCK + k);
        for (size_t r = 0; r < n_rows; r++) {
            const __m512 value = _mm512_loadu_ps(x + r * c->n_k + k);
            for (size_t o = 0; o < n_outs; o++)
                s[r][o] = _mm512_fmadd_ps(value, weight[o], s[r][o]);
        }
    }
    for (size_t o = 0; o < n_outs && k < b->len; o++) {
        const __m512 weight = _mm512_load_ps(w + o * VLM_LINEAR_K_BLOCK + k);
        for (size_t r = 0; r < n_rows; r++) {
            const __m512 value = _mm512_maskz_loadu_ps(vlm_mask16(b->len - k), x + r * c->n_k + k);
            s[r][o] = _mm512_fmadd_ps(value, weight, s[r][o]);
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        if (b->last)
            store_outs(c->y + (row + r) * c->y_stride + out,
                       vlm_sum_16_lanes_x4(s[r][0], s[r][1], s[r][2], s[r][3]), n_outs,
                       c->bias == NULL ? NULL : c->bias + out, c->add);
        for (size_t o = 0; o < n_outs && !b->last; o++)
            _mm512_store_ps(b->sums[row + r][out + o], s[r][o]);
    }
}

VLM_INLINE void panel_row(const size_t n_rows, const call *c, const block *b, size_t r,
                          size_t n_out)
{
    size_t o = 0;
    for (; o + TILE_OUTS <= n_out; o += TILE_OUTS) panel_tile(n_rows, TILE_OUTS, c, b, r, o);
    for (; o < n_out; o++) panel_tile(n_rows, 1, c, b, r, o);
}

static void panel_run(const call *c, const block *b, size_t n, size_t n_out)
{
    size_t r = 0;
    for (; r + TILE_ROWS <= n; r += TILE_ROWS) panel_row(TILE_ROWS, c, b, r, n_out);
    switch (n - r) {
    case 1: panel_row(1, c, b, r, n_out); break;
    case 2: panel_row(2, c, b, r, n_out); break;
    case 3: panel_row(3, c, b, r, n_out); break;
    case 4: panel_row(4, c, b, r, n_out); break;
    case 5: panel_row(5, c, b, r, n_out); break;
    default: break;
    }
}

/* One output's weights of a block of k as float, up to a whole vector. */
VLM_INLINE void fill_panel(const vlm_dtype dtype, float *to, const unsigned char *from, size_t len)
{
    size_t k = 0;
    for (; k + LANES <= len; k += LANES)
        _mm512_store_ps(to + k, vlm_load16(dtype, from + k * size_of(dtype)));
    if (k < len)
        _mm512_store_ps(to + k, vlm_load16_first(dtype, from + k * size_of(dtype), len - k));
}

VLM_INLINE void linear_panel(const vlm_dtype dtype, const call *c, size_t n, size_t n_out,
                             float *scratch)
{
    float *panel = scratch + sizeof(sums_of_row) / sizeof(float) * VLM_LINEAR_ROWS_MAX;
    block b = {.panel = panel, .sums = (sums_of_row *)scratch};
    for (size_t k = 0; k < c->n_k; k += VLM_LINEAR_K_BLOCK) {
        b.len = c->n_k - k < VLM_LINEAR_K_BLOCK ? c->n_k - k : VLM_LINEAR_K_BLOCK;
        b.x = c->x + k;
        b.first = k == 0;
        b.last = k + b.len == c->n_k;
        for (size_t o = 0; o < n_out; o++)
            fill_panel(dtype, panel + o * VLM_LINEAR_K_BLOCK,
                       c->w + (o * c->n_k + k) * size_of(dtype), b.len);
        panel_run(c, &b, n, n_out);
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
}

#endif
