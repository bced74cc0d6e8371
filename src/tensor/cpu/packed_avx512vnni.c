#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512VNNI__)

void vlm_cpu_kernels_fill_avx512vnni(vlm_cpu_kernels *kernels)
{
    (void)kernels;
}

#endif
