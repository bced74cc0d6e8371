/* simd_avx2.h - what the AVX2 kernel files share: loads of any dtype, the tile of dot products,
 * sums over lanes, exp. Not: part of any interface; nothing here for other CPUs.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_SIMD_AVX2_H
#define VLM_TENSOR_CPU_SIMD_AVX2_H

#include <stddef.h>

#include "tensor/dtype.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <string.h>

#define VLM_INLINE static inline __attribute__((always_inline))
/* Only so does gcc keep an array of sums in registers from their first load to the last store. */
#define VLM_UNROLL _Pragma("GCC unroll 8")

/* Tile of dot products: 12 sums, 3 rows and 1 output in flight fill the 16 registers. */
enum { VLM_TILE_ROWS = 3, VLM_TILE_OUTS = 4 };

/* All ones in the first n of 8 lanes, n <= 8. */
VLM_INLINE __m256i vlm_mask8(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

/* The first n <= 8 floats, zeros after them. */
VLM_INLINE __m256 vlm_load_first(const float *x, size_t n)
{
    if (n == 8) return _mm256_loadu_ps(x);
    return _mm256_maskload_ps(x, vlm_mask8(n));
}

/* The first n <= 8 floats to x.  A masked store is slow on some CPUs, so whole vectors go without.
 */
VLM_INLINE void vlm_store_first(float *x, __m256 v, size_t n)
{
    if (n == 8)
        _mm256_storeu_ps(x, v);
    else
        _mm256_maskstore_ps(x, vlm_mask8(n), v);
}

/* 8 elements at data as float. */
VLM_INLINE __m256 vlm_load8(const vlm_dtype dtype, const void *data)
{
    if (dtype == VLM_DTYPE_F32) return _mm256_loadu_ps(data);
    const __m128i half = _mm_loadu_si128(data);
    if (dtype == VLM_DTYPE_F16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* The first n < 8 elements at data as float, zeros after them. */
VLM_INLINE __m256 vlm_load8_first(const vlm_dtype dtype, const void *data, size_t n)
{
    unsigned char padded[32] = {0};
    memcpy(padded, data, n * (dtype == VLM_DTYPE_F32 ? 4 : 2));
    return vlm_load8(dtype, padded);
}

/* The sums of 4 vectors, each by the tree of lanes.h. */
VLM_INLINE __m128 vlm_sum_lanes_x4(__m256 a, __m256 b, __m256 c, __m256 d)
{
    const __m128 a4 = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 b4 = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    const __m128 c4 = _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1));
    const __m128 d4 = _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
    const __m128 ab = _mm_add_ps(_mm_movelh_ps(a4, b4), _mm_movehl_ps(b4, a4));
    const __m128 cd = _mm_add_ps(_mm_movelh_ps(c4, d4), _mm_movehl_ps(d4, c4));
    return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

VLM_INLINE float vlm_sum_lanes_avx2(__m256 a)
{
    return _mm_cvtss_f32(vlm_sum_lanes_x4(a, a, a, a));
}

/* s[r][o] += x[r * x_stride + k] * w[o * w_stride + k], k to lane k % 8, for n_rows x n_outs
 * (constants at the call, so that the sums live in registers). */
VLM_INLINE void vlm_dot_tile(const size_t n_rows, const size_t n_outs,
                             __m256 s[VLM_TILE_ROWS][VLM_TILE_OUTS], const float *x,
                             size_t x_stride, const float *w, size_t w_stride, size_t n_k)
{
    size_t k = 0;
    for (; k + 8 <= n_k; k += 8) {
        __m256 row[VLM_TILE_ROWS];
        VLM_UNROLL
        for (size_t r = 0; r < n_rows; r++) row[r] = _mm256_loadu_ps(x + r * x_stride + k);
        VLM_UNROLL
        for (size_t o = 0; o < n_outs; o++) {
            const __m256 out = _mm256_loadu_ps(w + o * w_stride + k);
            VLM_UNROLL
            for (size_t r = 0; r < n_rows; r++) s[r][o] = _mm256_fmadd_ps(row[r], out, s[r][o]);
        }
    }
    if (k == n_k) return;
    VLM_UNROLL
    for (size_t o = 0; o < n_outs; o++) {
        const __m256 out = vlm_load_first(w + o * w_stride + k, n_k - k);
        VLM_UNROLL
        for (size_t r = 0; r < n_rows; r++) {
            const __m256 row = vlm_load_first(x + r * x_stride + k, n_k - k);
            s[r][o] = _mm256_fmadd_ps(row, out, s[r][o]);
        }
    }
}

/* e^x within 1.5 ulp; NaN stays NaN, overflow is infinity, underflow gradual.
 * x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts; e^r by a polynomial of degree 6 (least
 * squares, error 3e-9); 2^n in two factors, so that neither leaves the range of float. */
VLM_INLINE __m256 vlm_exp_avx2(__m256 x)
{
    /* In this order min and max hand on a NaN in x. */
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), x);
    x = _mm256_max_ps(_mm256_set1_ps(-105.0f), x);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.38144508e-03f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.36878363e-03f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.16683946e-02f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.66665201e-01f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.99999934e-01f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i n1 = _mm256_srai_epi32(whole, 1), n2 = _mm256_sub_epi32(whole, n1);
    const __m256i bias = _mm256_set1_epi32(127);
    const __m256 f1 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n1, bias), 23));
    const __m256 f2 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n2, bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(p, f1), f2);
}

#endif
#endif
