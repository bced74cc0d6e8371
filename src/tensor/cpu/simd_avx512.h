/* simd_avx512.h - what the AVX-512 kernel files share: loads of any dtype, sums over 16 lanes.
 * Not: part of any interface; nothing here for other CPUs.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_SIMD_AVX512_H
#define VLM_TENSOR_CPU_SIMD_AVX512_H

#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX512F__)

VLM_INLINE __mmask16 vlm_mask16(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1u);
}

/* 16 elements at data as float. */
VLM_INLINE __m512 vlm_load16(const vlm_dtype dtype, const void *data)
{
    if (dtype == VLM_DTYPE_F32) return _mm512_loadu_ps(data);
    const __m256i half = _mm256_loadu_si256(data);
    if (dtype == VLM_DTYPE_F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The first n < 16 elements at data as float, zeros after them. */
VLM_INLINE __m512 vlm_load16_first(const vlm_dtype dtype, const void *data, size_t n)
{
    const __mmask16 mask = vlm_mask16(n);
    if (dtype == VLM_DTYPE_F32) return _mm512_maskz_loadu_ps(mask, data);
    const __m256i half = _mm256_maskz_loadu_epi16(mask, data);
    if (dtype == VLM_DTYPE_F16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* The first n <= 16 floats, zeros after them. */
VLM_INLINE __m512 vlm_load16_floats(const float *x, size_t n)
{
    return n == 16 ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(vlm_mask16(n), x);
}

VLM_INLINE void vlm_store16_floats(float *x, __m512 v, size_t n)
{
    if (n == 16)
        _mm512_storeu_ps(x, v);
    else
        _mm512_mask_storeu_ps(x, vlm_mask16(n), v);
}

/* Lane i and lane i + 8. */
VLM_INLINE __m256 vlm_fold16(__m512 a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

/* The sums of 4 vectors: folded, then by the tree of lanes.h. */
VLM_INLINE __m128 vlm_sum_16_lanes_x4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    return vlm_sum_lanes_x4(vlm_fold16(a), vlm_fold16(b), vlm_fold16(c), vlm_fold16(d));
}

VLM_INLINE float vlm_sum_16_lanes(__m512 a)
{
    return vlm_sum_lanes_avx2(vlm_fold16(a));
}

/* As vlm_exp_avx2, but for 2^n: one scaling, which rounds once where the result is subnormal. */
VLM_INLINE __m512 vlm_exp_avx512(__m512 x)
{
    /* In this order min and max hand on a NaN in x. */
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), x);
    x = _mm512_max_ps(_mm512_set1_ps(-105.0f), x);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.38144508e-03f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.36878363e-03f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.16683946e-02f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.66665201e-01f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.99999934e-01f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* Rows and columns of 16 x 16 change places. */
VLM_INLINE void vlm_transpose16(__m512 r[16])
{
    __m512 t[16];
    for (size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    /* u[4 i + c], in its part number l of 4 lanes: column 4 l + c of rows 4 i to 4 i + 3. */
    __m512d u[16];
    for (size_t i = 0; i < 16; i += 4) {
        for (size_t half = 0; half < 2; half++) {
            const __m512d low = _mm512_castps_pd(t[i + half]);
            const __m512d high = _mm512_castps_pd(t[i + 2 + half]);
            u[i + 2 * half] = _mm512_unpacklo_pd(low, high);
            u[i + 2 * half + 1] = _mm512_unpackhi_pd(low, high);
        }
    }
    for (size_t c = 0; c < 4; c++) {
        const __m512 a = _mm512_castpd_ps(u[c]), b = _mm512_castpd_ps(u[4 + c]);
        const __m512 d = _mm512_castpd_ps(u[8 + c]), e = _mm512_castpd_ps(u[12 + c]);
        const __m512 ab_even = _mm512_shuffle_f32x4(a, b, 0x88);
        const __m512 ab_odd = _mm512_shuffle_f32x4(a, b, 0xdd);
        const __m512 de_even = _mm512_shuffle_f32x4(d, e, 0x88);
        const __m512 de_odd = _mm512_shuffle_f32x4(d, e, 0xdd);
        r[c] = _mm512_shuffle_f32x4(ab_even, de_even, 0x88);
        r[8 + c] = _mm512_shuffle_f32x4(ab_even, de_even, 0xdd);
        r[4 + c] = _mm512_shuffle_f32x4(ab_odd, de_odd, 0x88);
        r[12 + c] = _mm512_shuffle_f32x4(ab_odd, de_odd, 0xdd);
    }
}

#endif
#endif
