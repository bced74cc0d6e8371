#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512BF16__)

void vlm_cpu_kernels_fill_avx512bf16(vlm_cpu_kernels *kernels)
{
    (void)kernels;
}

#endif
