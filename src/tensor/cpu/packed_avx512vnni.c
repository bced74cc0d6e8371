/* packed_avx512vnni.c - products of rows in 8 bits with Q8 and Q4, whose blocks of 32 columns are
 * summed up as whole numbers by vpdpbusd, 16 outputs in the lanes. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/packed_avx512.h"

#if defined(__AVX512VNNI__)

/* sum + the products of 4 columns, weights unsigned and rows signed. */
VLM_INLINE __m512i dot4(__m512i sum, __m512i w, __m512i x)
{
    return _mm512_dpbusd_epi32(sum, w, x);
}

VLM_PACKED_KERNEL(packed_q8_avx512vnni, vlm_q8_chunk, VLM_DTYPE_Q8, false, dot4)
VLM_PACKED_KERNEL(packed_q4_avx512vnni, vlm_q4_chunk, VLM_DTYPE_Q4, false, dot4)

void vlm_cpu_kernels_fill_avx512vnni(vlm_cpu_kernels *kernels)
{
    kernels->packed[VLM_DTYPE_Q8] = packed_q8_avx512vnni;
    kernels->packed[VLM_DTYPE_Q4] = packed_q4_avx512vnni;
}

#endif
