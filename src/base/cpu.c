#include "base/cpu.h"

#include <sched.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14's __builtin_cpu_supports does not know f16c; it needs the same registers as AVX2. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#endif

vlm_cpu_level vlm_cpu_level_best(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return VLM_CPU_REFERENCE;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return VLM_CPU_AVX512;
    return VLM_CPU_AVX2;
#else
    return VLM_CPU_REFERENCE;
#endif
}

static const char *const level_names[] = {
#define VLM_CPU_LEVEL_TEXT(name, text, needs) text,
    VLM_CPU_LEVEL_LIST(VLM_CPU_LEVEL_TEXT)
#undef VLM_CPU_LEVEL_TEXT
};

const char *vlm_cpu_level_name(vlm_cpu_level level)
{
    return level_names[level];
}

bool vlm_cpu_level_parse(const char *text, vlm_cpu_level *level)
{
    for (int i = 0; i < VLM_CPU_N_LEVELS; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *level = (vlm_cpu_level)i;
        return true;
    }
    return false;
}

uint32_t vlm_cpu_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : (uint32_t)n;
}
