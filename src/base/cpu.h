/* cpu.h - what instructions this CPU has, as levels that a kernel table fills in order.
 * Not: the kernels (tensor/cpu).  Threads: pure after the first call. */
#ifndef VLM_BASE_CPU_H
#define VLM_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each level includes the ones before it of its processor family and the reference.
 * X(enum, option text, what it needs) */
#define VLM_CPU_LEVEL_LIST(X)                                                                      \
    X(REFERENCE, "reference", "plain C")                                                           \
    X(AVX2, "avx2", "AVX2, FMA, F16C")                                                             \
    X(AVX512, "avx512", "AVX-512 F, BW, VL, DQ")                                                   \
    X(AVX512VNNI, "avx512vnni", "AVX-512 VNNI")                                                    \
    X(AVX512BF16, "avx512bf16", "AVX-512 BF16")                                                    \
    X(NEON, "neon", "64-bit ARM")                                                                  \
    X(DOTPROD, "dotprod", "64-bit ARM with dotprod")                                               \
    X(I8MM, "i8mm", "64-bit ARM with i8mm")

typedef enum vlm_cpu_level {
#define VLM_CPU_LEVEL_ENUM(name, text, needs) VLM_CPU_##name,
    VLM_CPU_LEVEL_LIST(VLM_CPU_LEVEL_ENUM)
#undef VLM_CPU_LEVEL_ENUM
        VLM_CPU_N_LEVELS
} vlm_cpu_level;

/* The best level that this CPU and the system can run. */
vlm_cpu_level vlm_cpu_level_best(void);
/* Whether this CPU can run a level: the reference, or one of its family up to the best. */
bool vlm_cpu_level_has(vlm_cpu_level level);
const char *vlm_cpu_level_name(vlm_cpu_level level);
/* False when the text names no level. */
bool vlm_cpu_level_parse(const char *text, vlm_cpu_level *level);

/* CPUs this process may run on (affinity mask), at least 1. */
uint32_t vlm_cpu_count(void);

/* Bytes of a core's second-level cache; 1 MiB where the system does not tell. */
size_t vlm_cpu_l2_bytes(void);

#endif
