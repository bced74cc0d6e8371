/* packed_avx512bf16.c - products of rows in bfloat16 with BF16_DOT by vdpbf16ps, which takes
 * subnormal numbers for zeros. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed_bf16_avx512.h"

#if defined(__AVX512BF16__)

VLM_INLINE __m512 dot2(__m512 sum, __m512i w, __m512i x)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
}

VLM_BF16_KERNEL(packed_bf16_avx512bf16, dot2)

void vlm_cpu_kernels_fill_avx512bf16(vlm_cpu_kernels *kernels)
{
    kernels->packed[VLM_DTYPE_BF16_DOT] = packed_bf16_avx512bf16;
}

#endif
