#include "tensor/cpu/kernels.h"

#if defined(__AVX2__)

void vlm_cpu_kernels_fill_avx2(vlm_cpu_kernels *kernels)
{
    (void)kernels;
}

#endif
