/* packed_avx2.c - rows in 8 bits, and their products with Q8 and Q4 by vpmaddubsw, which takes
 * unsigned times signed and adds pairs in 16 bits.  Two such products fit when one factor has 7
 * bits: the levels of Q4 have, and of Q8 the row's value goes in without its sign, which the weight
 * gets instead. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed.h"
#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX2__)

enum {
    TILE_ROWS = 4,
    HALVES = 2, /* vectors of 8 outputs in a group */
    AHEAD_BYTES = 8192,
};

/* One block of a row to 8 bits, all finite and below the largest float. */
VLM_INLINE void round_block(vlm_x8 *to, const __m256 v[4], float most, int32_t offset)
{
    /* The packs below interleave halves of 128 bits. */
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256 inverse = _mm256_set1_ps(127.0f / most);
    __m256i whole[4];
    for (size_t i = 0; i < 4; i++) whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse));
    const __m256i pair0 = _mm256_packs_epi32(whole[0], whole[1]);
    const __m256i pair1 = _mm256_packs_epi32(whole[2], whole[3]);
    const __m256i q = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pair0, pair1), order);
    _mm256_storeu_si256((__m256i *)(void *)to->q, q);
    const __m256i sums =
        _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), q), _mm256_set1_epi16(1));
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    to->correction = -offset * _mm_cvtsi128_si32(sum);
}

VLM_INLINE void prepare_block(vlm_x8 *to, const float *x, int32_t offset)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256 v[4];
    __m256i most = _mm256_setzero_si256();
    for (size_t i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(x + 8 * i);
        most = _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    /* As whole numbers the magnitudes are in the same order, infinity and NaN above all. */
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
    const float largest = _mm_cvtss_f32(_mm_castsi128_ps(half));
    const bool finite = _mm_cvtsi128_si32(half) < 0x7f800000;
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

static void prepare_q8_avx2(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q8_OFFSET);
}

static void prepare_q4_avx2(void *to, size_t stride, const float *x, size_t n_k)
{
    prepare_x8(to, stride, x, n_k, VLM_Q4_OFFSET);
}

/* A block of 32 columns of 16 outputs as it goes into products: of Q8 signed, of Q4 levels. */
typedef struct unpacked {
    __m256i w[8][HALVES];
    __m256 scale[HALVES];
} unpacked;

VLM_INLINE __m256i load32(const uint8_t *data)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)data);
}

VLM_INLINE void unpack(unpacked *to, const vlm_dtype dtype, const unsigned char *chunk, size_t half)
{
    const uint16_t *scale;
    if (dtype == VLM_DTYPE_Q8) {
        const vlm_q8_chunk *q8 = (const void *)chunk;
        const __m256i sign = _mm256_set1_epi8(-128);
        for (size_t i = 0; i < 8; i++)
            for (size_t h = 0; h < HALVES; h++)
                to->w[i][h] = _mm256_xor_si256(load32(q8->q[half][i][8 * h]), sign);
        scale = q8->scale[half];
    } else {
        const vlm_q4_chunk *q4 = (const void *)chunk;
        const __m256i levels = _mm256_broadcastsi128_si256(
            _mm_loadu_si128((const __m128i *)(const void *)vlm_q4_levels));
        const __m256i low = _mm256_set1_epi8(15);
        for (size_t i = 0; i < 4; i++) {
            for (size_t h = 0; h < HALVES; h++) {
                const __m256i q = load32(q4->q[half][i][8 * h]);
                const __m256i high = _mm256_and_si256(_mm256_srli_epi16(q, 4), low);
                to->w[i][h] = _mm256_shuffle_epi8(levels, _mm256_and_si256(q, low));
                to->w[i + 4][h] = _mm256_shuffle_epi8(levels, high);
            }
        }
        scale = q4->scale[half];
    }
    for (size_t h = 0; h < HALVES; h++) to->scale[h] = vlm_load8(VLM_DTYPE_F16, scale + 8 * h);
}

VLM_INLINE __m256i four_columns(const int8_t *x)
{
    int32_t columns;
    memcpy(&columns, x, sizeof columns);
    return _mm256_set1_epi32(columns);
}

/* Products of 4 columns of 8 outputs, summed up; size: of Q8 the columns without their signs. */
VLM_INLINE __m256i dot4(const vlm_dtype dtype, __m256i w, const int8_t *x, const int8_t *size)
{
    const __m256i columns = four_columns(x);
    const __m256i pairs = dtype == VLM_DTYPE_Q8 ? _mm256_maddubs_epi16(four_columns(size),
                                                                       _mm256_sign_epi8(w, columns))
                                                : _mm256_maddubs_epi16(w, columns);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* sums[r] += block times rows x[0..n_rows-1] (a constant). */
VLM_INLINE void add_rows(__m256 sums[][HALVES], const vlm_dtype dtype, const size_t n_rows,
                         const unpacked *block, const vlm_x8 *x)
{
    __m256i products[TILE_ROWS][HALVES];
    _Alignas(32) int8_t size[TILE_ROWS][VLM_PACK_BLOCK];
    for (size_t r = 0; r < n_rows; r++) {
        const __m256i first = _mm256_set1_epi32(dtype == VLM_DTYPE_Q8 ? 0 : x[r].correction);
        for (size_t h = 0; h < HALVES; h++) products[r][h] = first;
        if (dtype == VLM_DTYPE_Q8)
            _mm256_store_si256((__m256i *)(void *)size[r],
                               _mm256_abs_epi8(load32((const uint8_t *)x[r].q)));
    }
    for (size_t i = 0; i < 8; i++) {
        for (size_t r = 0; r < n_rows; r++) {
            for (size_t h = 0; h < HALVES; h++)
                products[r][h] = _mm256_add_epi32(
                    products[r][h], dot4(dtype, block->w[i][h], x[r].q + 4 * i, size[r] + 4 * i));
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        const __m256 scale = _mm256_set1_ps(x[r].scale);
        for (size_t h = 0; h < HALVES; h++)
            sums[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[r][h]),
                                         _mm256_mul_ps(block->scale[h], scale), sums[r][h]);
    }
}

/* sums += block `half` of a chunk times one row: weights go from their bytes into products, by no
 * way through memory. */
VLM_INLINE void add_row(__m256 sums[HALVES], const vlm_dtype dtype, const unsigned char *chunk,
                        const size_t half, const vlm_x8 *x)
{
    const __m256i sign = _mm256_set1_epi8(-128), low = _mm256_set1_epi8(15);
    const __m256i levels =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)vlm_q4_levels));
    const vlm_q8_chunk *q8 = (const void *)chunk;
    const vlm_q4_chunk *q4 = (const void *)chunk;
    const uint16_t *scale = dtype == VLM_DTYPE_Q8 ? q8->scale[half] : q4->scale[half];
    _Alignas(32) int8_t size[VLM_PACK_BLOCK];
    if (dtype == VLM_DTYPE_Q8)
        _mm256_store_si256((__m256i *)(void *)size, _mm256_abs_epi8(load32((const uint8_t *)x->q)));
    for (size_t h = 0; h < HALVES; h++) {
        __m256i products[2] = {_mm256_set1_epi32(dtype == VLM_DTYPE_Q8 ? 0 : x->correction),
                               _mm256_setzero_si256()};
        for (size_t i = 0; i < 4; i++) {
            __m256i w[2];
            if (dtype == VLM_DTYPE_Q8) {
                w[0] = _mm256_xor_si256(load32(q8->q[half][i][8 * h]), sign);
                w[1] = _mm256_xor_si256(load32(q8->q[half][i + 4][8 * h]), sign);
            } else {
                const __m256i q = load32(q4->q[half][i][8 * h]);
                w[0] = _mm256_shuffle_epi8(levels, _mm256_and_si256(q, low));
                w[1] = _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16(q, 4), low));
            }
            for (size_t k = 0; k < 2; k++)
                products[k] = _mm256_add_epi32(
                    products[k], dot4(dtype, w[k], x->q + 4 * (i + 4 * k), size + 4 * (i + 4 * k)));
        }
        const __m256 scales =
            _mm256_mul_ps(vlm_load8(VLM_DTYPE_F16, scale + 8 * h), _mm256_set1_ps(x->scale));
        sums[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(products[0], products[1])),
                                  scales, sums[h]);
    }
}

VLM_INLINE void store_group(float *y, const __m256 sums[HALVES], size_t n_out, const float *bias,
                            bool add)
{
    for (size_t h = 0; h < HALVES && 8 * h < n_out; h++) {
        const size_t n = n_out - 8 * h < 8 ? n_out - 8 * h : 8;
        __m256 sum = sums[h];
        if (bias != NULL) sum = _mm256_add_ps(sum, vlm_load_first(bias + 8 * h, n));
        if (add) sum = _mm256_add_ps(vlm_load_first(y + 8 * h, n), sum);
        vlm_store_first(y + 8 * h, sum, n);
    }
}

/* Ask for what comes AHEAD_BYTES after half a chunk. */
VLM_INLINE void ask_ahead(const unsigned char *chunk, size_t chunk_bytes, size_t half)
{
    const char *ahead = (const char *)chunk + half * chunk_bytes / 2 + AHEAD_BYTES;
    for (size_t i = 0; i < chunk_bytes / 2; i += 64) _mm_prefetch(ahead + i, _MM_HINT_T0);
}

/* One row times one group. */
VLM_INLINE void run_row(__m256 to[HALVES], const vlm_dtype dtype, const vlm_x8 *x,
                        const unsigned char *chunk, size_t chunk_bytes, size_t n_chunks)
{
    __m256 sums[HALVES] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (size_t c = 0; c < n_chunks; c++, chunk += chunk_bytes, x += 2) {
        for (size_t half = 0; half < 2; half++) {
            ask_ahead(chunk, chunk_bytes, half);
            add_row(sums, dtype, chunk, half, x + half);
        }
    }
    for (size_t h = 0; h < HALVES; h++) to[h] = sums[h];
}

/* All rows times one group: a block is unpacked once. */
VLM_INLINE void run_group(__m256 sums[][HALVES], const vlm_dtype dtype, const vlm_x8 *x, size_t n,
                          const unsigned char *chunk, size_t chunk_bytes, size_t n_chunks)
{
    for (size_t r = 0; r < n; r++)
        for (size_t h = 0; h < HALVES; h++) sums[r][h] = _mm256_setzero_ps();
    for (size_t c = 0; c < n_chunks; c++, chunk += chunk_bytes) {
        for (size_t half = 0; half < 2; half++, x += n) {
            ask_ahead(chunk, chunk_bytes, half);
            unpacked block;
            unpack(&block, dtype, chunk, half);
            size_t r = 0;
            for (; r + TILE_ROWS <= n; r += TILE_ROWS)
                add_rows(sums + r, dtype, TILE_ROWS, &block, x + r);
            for (; r < n; r++) add_rows(sums + r, dtype, 1, &block, x + r);
        }
    }
}

#define KERNEL_OF(name, dtype, type)                                                               \
    static void packed_##name##_avx2(float *y, size_t y_stride, const void *x, size_t n,           \
                                     const void *w, size_t n_out, size_t n_chunks,                 \
                                     const float *bias, bool add)                                  \
    {                                                                                              \
        __m256 sums[VLM_PACKED_ROWS_MAX][HALVES];                                                  \
        for (size_t out = 0; out < n_out; out += VLM_PACK_OUTS) {                                  \
            const type *group = (const type *)w + out / VLM_PACK_OUTS * n_chunks;                  \
            if (n == 1)                                                                            \
                run_row(sums[0], dtype, x, (const void *)group, sizeof(type), n_chunks);           \
            else                                                                                   \
                run_group(sums, dtype, x, n, (const void *)group, sizeof(type), n_chunks);         \
            for (size_t r = 0; r < n; r++)                                                         \
                store_group(y + r * y_stride + out, sums[r], n_out - out,                          \
                            bias == NULL ? NULL : bias + out, add);                                \
        }                                                                                          \
    }
KERNEL_OF(q8, VLM_DTYPE_Q8, vlm_q8_chunk)
KERNEL_OF(q4, VLM_DTYPE_Q4, vlm_q4_chunk)

void vlm_cpu_fill_packed_avx2(vlm_cpu_kernels *kernels)
{
    kernels->prepare[VLM_DTYPE_Q8] = prepare_q8_avx2;
    kernels->prepare[VLM_DTYPE_Q4] = prepare_q4_avx2;
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_avx2;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_avx2;
}

#endif
