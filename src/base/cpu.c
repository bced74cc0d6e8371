#include "base/cpu.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14's __builtin_cpu_supports does not know f16c; it needs the same registers as AVX2. */
static bool has_f16c(void)
{
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* Linux, arch/arm64/include/uapi/asm/hwcap.h. */
enum { ARM_HWCAP_DOTPROD = 1 << 20, ARM_HWCAP2_I8MM = 1 << 13 };
#endif

vlm_cpu_level vlm_cpu_level_best(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
        return VLM_CPU_REFERENCE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return VLM_CPU_AVX2;
    if (!__builtin_cpu_supports("avx512vnni")) return VLM_CPU_AVX512;
    return __builtin_cpu_supports("avx512bf16") ? VLM_CPU_AVX512BF16 : VLM_CPU_AVX512VNNI;
#elif defined(__aarch64__)
    const bool has_dotprod = (getauxval(AT_HWCAP) & ARM_HWCAP_DOTPROD) != 0;
    const bool has_i8mm = (getauxval(AT_HWCAP2) & ARM_HWCAP2_I8MM) != 0;
    return !has_dotprod ? VLM_CPU_NEON : has_i8mm ? VLM_CPU_I8MM : VLM_CPU_DOTPROD;
#else
    return VLM_CPU_REFERENCE;
#endif
}

bool vlm_cpu_level_has(vlm_cpu_level level)
{
    if (level == VLM_CPU_REFERENCE) return true;
    const vlm_cpu_level best = vlm_cpu_level_best();
    const bool is_arm = best >= VLM_CPU_NEON;
    return level <= best && (level >= VLM_CPU_NEON) == is_arm;
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

size_t vlm_cpu_l2_bytes(void)
{
    const long n = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return n > 0 ? (size_t)n : (size_t)1 << 20;
}
