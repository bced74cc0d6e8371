#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX2__)

/* The weights of one row are asked for this far ahead. */
enum { AHEAD_BYTES = 2048, AT_ONCE_BYTES = 128 };

typedef float sums_of_row[VLM_LINEAR_OUTS_MAX][8];

/* y[0..n-1] = sum (+ bias) (+ y), n <= 4 a constant: masked stores are slow on some CPUs. */
VLM_INLINE void store_outs(float *y, __m128 sum, const size_t n, const float *bias, bool add)
{
    if (n == 4) {
        if (bias != NULL) sum = _mm_add_ps(sum, _mm_loadu_ps(bias));
        if (add) sum = _mm_add_ps(_mm_loadu_ps(y), sum);
        _mm_storeu_ps(y, sum);
        return;
    }
    const __m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32((int)n), _mm_setr_epi32(0, 1, 2, 3));
    if (bias != NULL) sum = _mm_add_ps(sum, _mm_maskload_ps(bias, mask));
    if (add) sum = _mm_add_ps(_mm_maskload_ps(y, mask), sum);
    _mm_maskstore_ps(y, mask, sum);
}

/* One row: the weights come straight from where they lie, VLM_TILE_OUTS streams at a time. */
VLM_INLINE void row_outs(const vlm_dtype dtype, const size_t n_outs, float *y, const float *x,
                         const unsigned char *w, size_t n_k, const float *bias, bool add)
{
    const size_t size = dtype == VLM_DTYPE_F32 ? 4 : 2, step = AT_ONCE_BYTES / size;
    const size_t row_bytes = n_k * size;
    __m256 s[VLM_TILE_OUTS];
    for (size_t o = 0; o < VLM_TILE_OUTS; o++) s[o] = _mm256_setzero_ps();
    size_t k = 0;
    for (; k + step <= n_k; k += step) {
        /* Beyond the end of a row lies the next one, which is in flight already: skip to where the
         * next group of outputs begins. */
        const size_t at = k * size + AHEAD_BYTES;
        const size_t ahead = at < row_bytes ? at : at + (n_outs - 1) * row_bytes;
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes;
            for (size_t i = 0; i < AT_ONCE_BYTES; i += 64)
                _mm_prefetch((const char *)from + ahead + i, _MM_HINT_T0);
            for (size_t i = 0; i < step; i += 8)
                s[o] = _mm256_fmadd_ps(_mm256_loadu_ps(x + k + i),
                                       vlm_load8(dtype, from + (k + i) * size), s[o]);
        }
    }
    for (; k < n_k; k += 8) {
        const size_t n = n_k - k < 8 ? n_k - k : 8;
        const __m256 row = vlm_load_first(x + k, n);
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes + k * size;
            const __m256 out = n == 8 ? vlm_load8(dtype, from) : vlm_load8_first(dtype, from, n);
            s[o] = _mm256_fmadd_ps(row, out, s[o]);
        }
    }
    store_outs(y, vlm_sum_lanes_x4(s[0], s[1], s[2], s[3]), n_outs, bias, add);
}

VLM_INLINE void linear_row(const vlm_dtype dtype, float *y, const float *x, const void *w,
                           size_t n_out, size_t n_k, const float *bias, bool add)
{
    const unsigned char *from = w;
    const size_t row_bytes = n_k * (dtype == VLM_DTYPE_F32 ? 4 : 2);
    size_t o = 0;
    for (; o + VLM_TILE_OUTS <= n_out; o += VLM_TILE_OUTS) {
        row_outs(dtype, VLM_TILE_OUTS, y + o, x, from + o * row_bytes, n_k,
                 bias == NULL ? NULL : bias + o, add);
    }
    for (; o < n_out; o++) {
        row_outs(dtype, 1, y + o, x, from + o * row_bytes, n_k, bias == NULL ? NULL : bias + o,
                 add);
    }
}

/* A few rows: n_rows x n_outs sums (constants, at most FEW_TILE_ROWS x FEW_TILE_OUTS), the weights
 * made float in registers as they come. */
enum { FEW_TILE_ROWS = 6, FEW_TILE_OUTS = 2, FEW_ROWS_MAX = 30 };

typedef struct few {
    float *y;
    const float *x, *bias;
    const unsigned char *w;
    size_t y_stride, n_k;
    bool add;
} few;

VLM_INLINE void few_tile(const vlm_dtype dtype, const size_t n_rows, const size_t n_outs,
                         const few *f, size_t row, size_t out)
{
    const size_t size = dtype == VLM_DTYPE_F32 ? 4 : 2, n_k = f->n_k, row_bytes = n_k * size;
    const unsigned char *w = f->w + out * row_bytes;
    const float *x = f->x + row * n_k;
    const __m256 zero = _mm256_setzero_ps();
    __m256 s[FEW_TILE_ROWS][FEW_TILE_OUTS];
    VLM_UNROLL
    for (size_t r = 0; r < FEW_TILE_ROWS; r++) s[r][0] = s[r][1] = zero;
    const size_t line = 64 / size;
    size_t k = 0;
    for (; k + line <= n_k; k += line) {
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++)
            _mm_prefetch((const char *)w + (o + n_outs) * row_bytes + k * size, _MM_HINT_T0);
        VLM_UNROLL
        for (size_t i = 0; i < line; i += 8) {
            __m256 weight[FEW_TILE_OUTS];
            VLM_UNROLL
            for (size_t o = 0; o < n_outs; o++)
                weight[o] = vlm_load8(dtype, w + o * row_bytes + (k + i) * size);
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++) {
                const __m256 value = _mm256_loadu_ps(x + r * n_k + k + i);
                VLM_UNROLL
                for (size_t o = 0; o < n_outs; o++)
                    s[r][o] = _mm256_fmadd_ps(value, weight[o], s[r][o]);
            }
        }
    }
    for (; k < n_k; k += 8) {
        const size_t n = n_k - k < 8 ? n_k - k : 8;
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++) {
            const unsigned char *from = w + o * row_bytes + k * size;
            const __m256 weight = n == 8 ? vlm_load8(dtype, from) : vlm_load8_first(dtype, from, n);
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++)
                s[r][o] = _mm256_fmadd_ps(vlm_load_first(x + r * n_k + k, n), weight, s[r][o]);
        }
    }
    VLM_UNROLL
    for (size_t r = 0; r < n_rows; r++)
        store_outs(f->y + (row + r) * f->y_stride + out,
                   vlm_sum_lanes_x4(s[r][0], n_outs > 1 ? s[r][1] : zero, zero, zero), n_outs,
                   f->bias == NULL ? NULL : f->bias + out, f->add);
}

VLM_INLINE void few_rows(const vlm_dtype dtype, const size_t n_outs, const few *f, size_t n,
                         size_t out)
{
    size_t r = 0;
    for (; r + FEW_TILE_ROWS <= n; r += FEW_TILE_ROWS)
        few_tile(dtype, FEW_TILE_ROWS, n_outs, f, r, out);
    switch (n - r) {
    case 1: few_tile(dtype, 1, n_outs, f, r, out); break;
    case 2: few_tile(dtype, 2, n_outs, f, r, out); break;
    case 3: few_tile(dtype, 3, n_outs, f, r, out); break;
    case 4: few_tile(dtype, 4, n_outs, f, r, out); break;
    case 5: few_tile(dtype, 5, n_outs, f, r, out); break;
    default: break;
    }
}

VLM_INLINE void linear_few(const vlm_dtype dtype, const few *f, size_t n, size_t n_out)
{
    size_t o = 0;
    for (; o + FEW_TILE_OUTS <= n_out; o += FEW_TILE_OUTS) few_rows(dtype, FEW_TILE_OUTS, f, n, o);
    if (o < n_out) few_rows(dtype, 1, f, n, o);
}

/* What all tiles of one block of k share. */
typedef struct block {
    const float *x, *panel, *bias;
    sums_of_row *sums; /* [rows], carried from block to block */
    float *y;
    size_t x_stride, y_stride, len;
    bool first, last, add;
    const unsigned char *ask; /* an output's weights in the next block */
    size_t row_bytes, block_bytes, asked_bytes, n_to_ask;
} block;

/* Ask for an eighth of the next block of an output's weights, so that all tiles ask for all. */
VLM_INLINE void ask_for_block(block *b)
{
    if (b->n_to_ask == 0) return;
    for (size_t i = 0; i < b->block_bytes / 8; i += 64)
        _mm_prefetch((const char *)b->ask + b->asked_bytes + i, _MM_HINT_T1);
    b->asked_bytes += b->block_bytes / 8;
    if (b->asked_bytes < b->block_bytes) return;
    b->asked_bytes = 0;
    b->ask += b->row_bytes;
    b->n_to_ask--;
}

/* The tile at row r, output o, over one block of k. */
VLM_INLINE void tile(const size_t n_rows, const size_t n_outs, const block *b, size_t r, size_t o)
{
    __m256 s[VLM_TILE_ROWS][VLM_TILE_OUTS];
    VLM_UNROLL
    for (size_t i = 0; i < n_rows; i++) {
        VLM_UNROLL
        for (size_t j = 0; j < VLM_TILE_OUTS; j++) {
            s[i][j] = b->first || j >= n_outs ? _mm256_setzero_ps()
                                              : _mm256_load_ps(b->sums[r + i][o + j]);
        }
    }
    vlm_dot_tile(n_rows, n_outs, s, b->x + r * b->x_stride, b->x_stride,
                 b->panel + o * VLM_LINEAR_K_BLOCK, VLM_LINEAR_K_BLOCK, b->len);
    VLM_UNROLL
    for (size_t i = 0; i < n_rows; i++) {
        if (b->last) {
            store_outs(b->y + (r + i) * b->y_stride + o,
                       vlm_sum_lanes_x4(s[i][0], s[i][1], s[i][2], s[i][3]), n_outs,
                       b->bias == NULL ? NULL : b->bias + o, b->add);
        } else {
            VLM_UNROLL
            for (size_t j = 0; j < n_outs; j++) _mm256_store_ps(b->sums[r + i][o + j], s[i][j]);
        }
    }
}

VLM_INLINE void tile_row(const size_t n_rows, block *b, size_t r, size_t n_out)
{
    size_t o = 0;
    for (; o + VLM_TILE_OUTS <= n_out; o += VLM_TILE_OUTS) {
        ask_for_block(b);
        tile(n_rows, VLM_TILE_OUTS, b, r, o);
    }
    for (; o < n_out; o++) tile(n_rows, 1, b, r, o);
}

static void block_run(block *b, size_t n, size_t n_out)
{
    size_t r = 0;
    for (; r + VLM_TILE_ROWS <= n; r += VLM_TILE_ROWS) tile_row(VLM_TILE_ROWS, b, r, n_out);
    if (n - r == 2)
        tile_row(2, b, r, n_out);
    else if (n - r == 1)
        tile_row(1, b, r, n_out);
}

VLM_INLINE void linear_rows(const vlm_dtype dtype, vlm_widen_kernel *widen, float *y,
                            size_t y_stride, const float *x, size_t n, const void *w, size_t n_out,
                            size_t n_k, const float *bias, bool add, float *scratch)
{
    if (n == 1) {
        linear_row(dtype, y, x, w, n_out, n_k, bias, add);
        return;
    }
    if (n <= FEW_ROWS_MAX) {
        const few f = {
            .y = y, .x = x, .bias = bias, .w = w, .y_stride = y_stride, .n_k = n_k, .add = add};
        linear_few(dtype, &f, n, n_out);
        return;
    }
    const size_t size = dtype == VLM_DTYPE_F32 ? 4 : 2;
    const unsigned char *from = w;
    float *panel = scratch + sizeof(sums_of_row) / sizeof(float) * VLM_LINEAR_ROWS_MAX;
    block b = {
        .panel = panel,
        .bias = bias,
        .sums = (sums_of_row *)scratch,
        .y = y,
        .x_stride = n_k,
        .y_stride = y_stride,
        .add = add,
        .row_bytes = n_k * size,
        .block_bytes = VLM_LINEAR_K_BLOCK * size,
    };
    for (size_t k = 0; k == 0 || k < n_k; k += VLM_LINEAR_K_BLOCK) {
        b.len = n_k - k < VLM_LINEAR_K_BLOCK ? n_k - k : VLM_LINEAR_K_BLOCK;
        b.x = x + k;
        b.first = k == 0;
        b.last = k + b.len == n_k;
        b.ask = from + (b.last ? n_out * n_k : k + b.len) * size;
        b.asked_bytes = 0;
        b.n_to_ask = n_out;
        for (size_t o = 0; o < n_out; o++)
            widen(panel + o * VLM_LINEAR_K_BLOCK, from + (o * n_k + k) * size, b.len);
        block_run(&b, n, n_out);
    }
}

#define KERNELS_OF(dtype, enum_name)                                                               \
    static void widen_##dtype##_avx2(float *dst, const void *src, size_t n)                        \
    {                                                                                              \
        const size_t size = enum_name == VLM_DTYPE_F32 ? 4 : 2;                                    \
        const unsigned char *from = src;                                                           \
        size_t i = 0;                                                                              \
        for (; i + 8 <= n; i += 8)                                                                 \
            _mm256_storeu_ps(dst + i, vlm_load8(enum_name, from + i * size));                      \
        if (i == n) return;                                                                        \
        _mm256_maskstore_ps(dst + i, vlm_mask8(n - i),                                             \
                            vlm_load8_first(enum_name, from + i * size, n - i));                   \
    }                                                                                              \
    static void linear_##dtype##_avx2(float *y, size_t y_stride, const float *x, size_t n,         \
                                      const void *w, size_t n_out, size_t n_k, const float *bias,  \
                                      bool add, float *scratch)                                    \
    {                                                                                              \
        linear_rows(enum_name, widen_##dtype##_avx2, y, y_stride, x, n, w, n_out, n_k, bias, add,  \
                    scratch);                                                                      \
    }
KERNELS_OF(f32, VLM_DTYPE_F32)
KERNELS_OF(f16, VLM_DTYPE_F16)
KERNELS_OF(bf16, VLM_DTYPE_BF16)

static void narrow_f16_avx2(void *dst, const float *src, size_t n)
{
    uint16_t *to = dst;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(to + i), half);
    }
    if (i < n) vlm_cpu_narrow_f16(to + i, src + i, n - i);
}

void vlm_cpu_fill_linear_avx2(vlm_cpu_kernels *kernels)
{
    kernels->narrow_f16 = narrow_f16_avx2;
    kernels->widen[VLM_DTYPE_F32] = widen_f32_avx2;
    kernels->widen[VLM_DTYPE_F16] = widen_f16_avx2;
    kernels->widen[VLM_DTYPE_BF16] = widen_bf16_avx2;
    kernels->linear[VLM_DTYPE_F32] = linear_f32_avx2;
    kernels->linear[VLM_DTYPE_F16] = linear_f16_avx2;
    kernels->linear[VLM_DTYPE_BF16] = linear_bf16_avx2;
}

#endif
