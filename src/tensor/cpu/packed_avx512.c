/* packed_avx512.c - products of rows in 8 bits with Q8 and Q4 on CPUs without VNNI: by vpmaddubsw,
 * as packed_avx2.c has it. */
#include "tensor/cpu/packed_avx512.h"
#include "tensor/cpu/kernels.h"

#if defined(__AVX512F__)

VLM_INLINE __m512i add_pairs(__m512i sum, __m512i pairs)
{
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

/* The levels of Q4 have 7 bits. */
VLM_INLINE __m512i dot4_levels(__m512i sum, __m512i w, __m512i x)
{
    return add_pairs(sum, _mm512_maddubs_epi16(w, x));
}

/* The weight gets the row's sign. */
VLM_INLINE __m512i dot4_signed(__m512i sum, __m512i w, __m512i x)
{
    const __m512i turned =
        _mm512_mask_sub_epi8(w, _mm512_movepi8_mask(x), _mm512_setzero_si512(), w);
    return add_pairs(sum, _mm512_maddubs_epi16(_mm512_abs_epi8(x), turned));
}

VLM_PACKED_KERNEL(packed_q8_avx512, vlm_q8_chunk, VLM_DTYPE_Q8, true, dot4_signed)
VLM_PACKED_KERNEL(packed_q4_avx512, vlm_q4_chunk, VLM_DTYPE_Q4, false, dot4_levels)

void vlm_cpu_fill_packed_avx512(vlm_cpu_kernels *kernels)
{
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_avx512;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_avx512;
}

#endif
