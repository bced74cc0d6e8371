#include "tensor/cpu/kernels.h"

typedef void fill_fn(vlm_cpu_kernels *kernels);

/* NULL: the level has no kernels on this processor family. */
static fill_fn *const fills[VLM_CPU_N_LEVELS] = {
    [VLM_CPU_REFERENCE] = vlm_cpu_kernels_fill_reference,
#if defined(__x86_64__)
    [VLM_CPU_AVX2] = vlm_cpu_kernels_fill_avx2,
    [VLM_CPU_AVX512] = vlm_cpu_kernels_fill_avx512,
    [VLM_CPU_AVX512VNNI] = vlm_cpu_kernels_fill_avx512vnni,
    [VLM_CPU_AVX512BF16] = vlm_cpu_kernels_fill_avx512bf16,
#elif defined(__aarch64__)
    [VLM_CPU_NEON] = vlm_cpu_kernels_fill_neon,
    [VLM_CPU_DOTPROD] = vlm_cpu_kernels_fill_dotprod,
    [VLM_CPU_I8MM] = vlm_cpu_kernels_fill_i8mm,
#endif
};

vlm_cpu_kernels vlm_cpu_kernels_get(vlm_cpu_level level)
{
    vlm_cpu_kernels kernels = {0};
    for (int i = 0; i <= (int)level; i++) {
        if (fills[i] != NULL) fills[i](&kernels);
    }
    return kernels;
}
