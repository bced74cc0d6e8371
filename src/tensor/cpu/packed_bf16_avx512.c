/* packed_bf16_avx512.c - rows in bfloat16, and their products with BF16_DOT on CPUs that multiply
 * floats alone: a bfloat16 is the upper half of a float. */
#include "tensor/cpu/packed_bf16_avx512.h"
#include "tensor/cpu/kernels.h"

#if defined(__AVX512F__)

VLM_INLINE __m512 first_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

VLM_INLINE __m512 second_of(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000u)));
}

VLM_INLINE __m512 dot2(__m512 sum, __m512i w, __m512i x)
{
    sum = _mm512_fmadd_ps(second_of(x), second_of(w), sum);
    return _mm512_fmadd_ps(first_of(x), first_of(w), sum);
}

VLM_BF16_KERNEL(packed_bf16_avx512, dot2)

/* 16 floats to nearest even; a NaN becomes a quiet one. */
VLM_INLINE __m256i round16(__m512 v)
{
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i to = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    to = _mm512_mask_or_epi32(to, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), bits,
                              _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(to, 16));
}

static void prepare_bf16_avx512(void *to, size_t stride, const float *x, size_t n_k)
{
    vlm_x16 *block = to;
    for (size_t k = 0; k < vlm_pack_n_chunks(n_k) * VLM_PACK_CHUNK; k += VLM_PACK_BLOCK) {
        for (size_t i = 0; i < VLM_PACK_BLOCK; i += 16) {
            const size_t left = n_k > k + i ? n_k - k - i : 0;
            const __m512 v = _mm512_maskz_loadu_ps(vlm_mask16(left), x + k + i);
            _mm256_storeu_si256((__m256i *)(void *)(block->v + i), round16(v));
        }
        block += stride;
    }
}

void vlm_cpu_fill_packed_bf16_avx512(vlm_cpu_kernels *kernels)
{
    kernels->prepare[VLM_DTYPE_BF16_DOT] = prepare_bf16_avx512;
    kernels->packed[VLM_DTYPE_BF16_DOT] = packed_bf16_avx512;
}

#endif
