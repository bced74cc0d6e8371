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

#endif
#endif
