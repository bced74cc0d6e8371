/* limits.c - what this machine can do at most: memory read, fp32 FMA, bf16 and int8 dot products,
 * with 1, 2, 4, ... threads; what speeds are compared with. bench_limits [--json] [THREADS] Each
 * figure for every level of instructions that the CPU has: a kernel is judged by those it uses.
 * Best of REPEATS, since neighbours on the machine only ever slow it. */
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/cpu.h"

enum {
    N_ACC = 12, /* independent accumulators: enough to hide the latency */
    REPEATS = 4,
    THREADS_MAX = 256
};
static const size_t buf_bytes = (size_t)2 << 30;
static const long n_rounds = 40000000;

/* Work of one thread: bytes read or operations done. */
typedef double kernel_fn(const char *part, size_t n_bytes, double *sink);

typedef struct limit {
    const char *kind, *unit;
    vlm_cpu_level level;
    kernel_fn *run;
} limit;

typedef struct job {
    const limit *what;
    const char *part;
    size_t n_bytes;
    int cpu;
    pthread_barrier_t *together;
    double seconds[REPEATS], work, sink;
} job;

#define TARGET(list) __attribute__((target(list), noinline))
/* Repeat STEP for each accumulator; PIN keeps the compiler from folding the rounds into one. */
#define ALL(STEP)                                                                                  \
    STEP(0)                                                                                        \
    STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8) STEP(9) STEP(10) STEP(11)
#define PIN(r)                                                                                     \
    __asm__ volatile(""                                                                            \
                     : "+v"((r)[0]), "+v"((r)[1]), "+v"((r)[2]), "+v"((r)[3]), "+v"((r)[4]),       \
                       "+v"((r)[5]), "+v"((r)[6]), "+v"((r)[7]), "+v"((r)[8]), "+v"((r)[9]),       \
                       "+v"((r)[10]), "+v"((r)[11]))

static double first_float(const void *v)
{
    float f;
    memcpy(&f, v, sizeof f);
    return (double)f;
}

TARGET("avx2")
static double read_avx2(const char *part, size_t n_bytes, double *sink)
{
    __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
    for (size_t i = 0; i < n_bytes; i += 128) {
        a = _mm256_add_epi64(a, _mm256_load_si256((const void *)(part + i)));
        b = _mm256_add_epi64(b, _mm256_load_si256((const void *)(part + i + 32)));
        c = _mm256_add_epi64(c, _mm256_load_si256((const void *)(part + i + 64)));
        d = _mm256_add_epi64(d, _mm256_load_si256((const void *)(part + i + 96)));
    }
    a = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
    *sink += first_float(&a);
    return (double)n_bytes;
}

TARGET("avx512f")
static double read_avx512(const char *part, size_t n_bytes, double *sink)
{
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (size_t i = 0; i < n_bytes; i += 256) {
        a = _mm512_add_epi64(a, _mm512_load_si512((const void *)(part + i)));
        b = _mm512_add_epi64(b, _mm512_load_si512((const void *)(part + i + 64)));
        c = _mm512_add_epi64(c, _mm512_load_si512((const void *)(part + i + 128)));
        d = _mm512_add_epi64(d, _mm512_load_si512((const void *)(part + i + 192)));
    }
    a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
    *sink += first_float(&a);
    return (double)n_bytes;
}

TARGET("avx2,fma")
static double f32_avx2(const char *part, size_t n_bytes, double *sink)
{
    __m256 r[N_ACC];
    const __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-9f);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm256_set1_ps((float)i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i) r[i] = _mm256_fmadd_ps(r[i], x, y);
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 8 * 2;
}

TARGET("avx512f")
static double f32_avx512(const char *part, size_t n_bytes, double *sink)
{
    __m512 r[N_ACC];
    const __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-9f);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm512_set1_ps((float)i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i) r[i] = _mm512_fmadd_ps(r[i], x, y);
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 16 * 2;
}

TARGET("avx512f,avx512bw,avx512vl,avx512bf16")
static double bf16_avx512(const char *part, size_t n_bytes, double *sink)
{
    __m512 r[N_ACC];
    const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f003f00);
    const __m512bh y = (__m512bh)_mm512_set1_epi32(0x10001000);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm512_set1_ps((float)i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i) r[i] = _mm512_dpbf16_ps(r[i], x, y);
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 32 * 2;
}

/* u8 x s8 -> s32 without an instruction for it: three that have one.  x is pinned between the
 * steps, or one product would serve them all. */
TARGET("avx2")
static double i8_avx2(const char *part, size_t n_bytes, double *sink)
{
    __m256i r[N_ACC], x = _mm256_set1_epi8(3);
    const __m256i y = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm256_set1_epi32(i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i)                                                                                    \
    r[i] = _mm256_add_epi32(r[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), ones));            \
    __asm__ volatile("" : "+v"(x));
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 32 * 2;
}

TARGET("avx512f,avx512bw")
static double i8_avx512(const char *part, size_t n_bytes, double *sink)
{
    __m512i r[N_ACC], x = _mm512_set1_epi8(3);
    const __m512i y = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm512_set1_epi32(i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i)                                                                                    \
    r[i] = _mm512_add_epi32(r[i], _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), ones));            \
    __asm__ volatile("" : "+v"(x));
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 64 * 2;
}

TARGET("avx512f,avx512vnni")
static double i8_vnni(const char *part, size_t n_bytes, double *sink)
{
    __m512i r[N_ACC];
    const __m512i x = _mm512_set1_epi8(3), y = _mm512_set1_epi8(5);
    (void)part, (void)n_bytes;
    for (int i = 0; i < N_ACC; i++) r[i] = _mm512_set1_epi32(i);
    for (long k = 0; k < n_rounds; k++) {
#define STEP(i) r[i] = _mm512_dpbusd_epi32(r[i], x, y);
        ALL(STEP)
#undef STEP
        PIN(r);
    }
    *sink += first_float(r);
    return (double)n_rounds * N_ACC * 64 * 2;
}

static const limit limits[] = {
    {"read", "GB/s", VLM_CPU_AVX2, read_avx2},
    {"read", "GB/s", VLM_CPU_AVX512, read_avx512},
    {"fp32", "GFLOP/s", VLM_CPU_AVX2, f32_avx2},
    {"fp32", "GFLOP/s", VLM_CPU_AVX512, f32_avx512},
    {"bf16", "GFLOP/s", VLM_CPU_AVX512BF16, bf16_avx512},
    {"int8", "GOP/s", VLM_CPU_AVX2, i8_avx2},
    {"int8", "GOP/s", VLM_CPU_AVX512, i8_avx512},
    {"int8", "GOP/s", VLM_CPU_AVX512VNNI, i8_vnni},
};

static void *run(void *arg)
{
    job *j = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)j->cpu, &set);
    (void)sched_setaffinity(0, sizeof set, &set);
    for (int i = 0; i < REPEATS; i++) {
        (void)pthread_barrier_wait(j->together);
        const uint64_t start = vlm_clock_ns();
        j->work = j->what->run(j->part, j->n_bytes, &j->sink);
        (void)pthread_barrier_wait(j->together);
        j->seconds[i] = vlm_clock_seconds(start, vlm_clock_ns());
    }
    return NULL;
}

/* The n-th CPU of those that the process may use. */
static int nth_cpu(const cpu_set_t *set, int n)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((unsigned)cpu, set) && n-- == 0) return cpu;
    return 0;
}

/* Units of 1e9 a second with n threads, 0 when they cannot be had. */
static double measure(const limit *what, int n, const char *buf, const cpu_set_t *set)
{
    static job jobs[THREADS_MAX];
    static pthread_t threads[THREADS_MAX];
    pthread_barrier_t together;
    const size_t part = buf_bytes / (size_t)n & ~(size_t)255;
    double work = 0, best = 1e9;
    if (pthread_barrier_init(&together, NULL, (unsigned)n) != 0) return 0;
    for (int i = 0; i < n; i++) {
        jobs[i] = (job){.what = what,
                        .part = buf + part * (size_t)i,
                        .n_bytes = part,
                        .cpu = nth_cpu(set, i),
                        .together = &together};
        if (pthread_create(&threads[i], NULL, run, &jobs[i]) == 0) continue;
        perror("limits: a thread");
        exit(1); /* the others wait for it for ever */
    }
    for (int i = 0; i < n; i++) {
        (void)pthread_join(threads[i], NULL);
        work += jobs[i].work;
    }
    for (int k = 0; k < REPEATS; k++) {
        double longest = 0;
        for (int i = 0; i < n; i++)
            if (jobs[i].seconds[k] > longest) longest = jobs[i].seconds[k];
        if (longest < best) best = longest;
    }
    (void)pthread_barrier_destroy(&together);
    return work / best * 1e-9;
}

static void measure_all(int n_max, bool json, const char *buf, const cpu_set_t *set)
{
    const char *before = "";
    if (json) (void)printf("{\"results\":[");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const limit *l = &limits[i];
        if (!vlm_cpu_level_has(l->level)) continue;
        for (int n = 1; n <= n_max; n = n < n_max && n * 2 > n_max ? n_max : n * 2) {
            const double value = measure(l, n, buf, set);
            const char *level = vlm_cpu_level_name(l->level);
            if (json)
                (void)printf("%s{\"kind\":\"%s\",\"level\":\"%s\",\"threads\":%d,\"value\":%.6g,"
                             "\"unit\":\"%s\"}",
                             before, l->kind, level, n, value, l->unit);
            else
                (void)printf("%-5s %-11s %3d threads %9.1f %s\n", l->kind, level, n, value,
                             l->unit);
            before = ",";
            (void)fflush(stdout);
        }
    }
    if (json) (void)printf("]}\n");
}

int main(int argc, char **argv)
{
    cpu_set_t set;
    const bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    long n = argc > 1 + json ? strtol(argv[1 + json], NULL, 10) : (long)vlm_cpu_count();
    if (n < 1 || n > THREADS_MAX || argc > 2 + json) {
        (void)fprintf(stderr, "usage: bench_limits [--json] [THREADS]\n");
        return 2;
    }
    CPU_ZERO(&set);
    (void)sched_getaffinity(0, sizeof set, &set);
    char *buf = mmap(NULL, buf_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED) {
        perror("limits: 2 GiB to read");
        return 1;
    }
    (void)madvise(buf, buf_bytes, MADV_HUGEPAGE);
    memset(buf, 1, buf_bytes);
    measure_all((int)n, json, buf, &set);
    return 0;
}
