/* limits.c - what this machine can do at most: memory read, fp32 multiply-add, bf16 and int8 dot
 * products, with 1, 2, 4, ... threads; what speeds are compared with.
 *     bench_limits [--json] [--isa avx2|avx512] [--threads N]
 * Each kind with the best instructions that the CPU has, or the best of the given family.  Best of
 * REPEATS, since neighbours on the machine only ever slow it. */
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    N_ACC = 12, /* independent accumulators: enough to hide the latency */
    REPEATS = 4,
    THREADS_MAX = 256
};
static const size_t buf_bytes = (size_t)2 << 30;
static const long n_rounds = 40000000;

/* Work of one thread: bytes read or operations done. */
typedef double kernel_fn(const char *part, size_t n_bytes, double *sink);

/* A family of instructions: a machine has all up to its best. */
typedef enum family { PLAIN, AVX2, AVX512 } family;

typedef struct limit {
    const char *kind, *name, *unit, *isa;
    family family;
    bool (*has)(void);
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

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool has_plain(void)
{
    return true;
}

static double read_plain(const char *part, size_t n_bytes, double *sink)
{
    const uint64_t *words = (const void *)part;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i < n_bytes / sizeof *words; i += 8)
        for (size_t k = 0; k < 8; k++) sums[k] += words[i + k];
    for (size_t k = 0; k < 8; k++) *sink += (double)sums[k];
    return (double)n_bytes;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

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

#endif

/* Of each kind the better ones first. */
static const limit limits[] = {
#if defined(__x86_64__)
    {"read", "memory read", "GB/s", "avx512", AVX512, has_avx512, read_avx512},
    {"read", "memory read", "GB/s", "avx2", AVX2, has_avx2, read_avx2},
#endif
    {"read", "memory read", "GB/s", "plain", PLAIN, has_plain, read_plain},
#if defined(__x86_64__)
    {"f32", "f32 multiply-add", "Gop/s", "avx512", AVX512, has_avx512, f32_avx512},
    {"f32", "f32 multiply-add", "Gop/s", "avx2", AVX2, has_avx2, f32_avx2},
    {"bf16", "bf16 dot product", "Gop/s", "avx512bf16", AVX512, has_avx512bf16, bf16_avx512},
    {"i8", "int8 dot product", "Gop/s", "avx512vnni", AVX512, has_avx512vnni, i8_vnni},
    {"i8", "int8 dot product", "Gop/s", "avx512", AVX512, has_avx512, i8_avx512},
    {"i8", "int8 dot product", "Gop/s", "avx2", AVX2, has_avx2, i8_avx2},
#endif
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
        const double start = now_s();
        j->work = j->what->run(j->part, j->n_bytes, &j->sink);
        (void)pthread_barrier_wait(j->together);
        j->seconds[i] = now_s() - start;
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

static void measure_all(family best, int n_max, bool json, const char *buf, const cpu_set_t *set)
{
    const char *kind = "", *before = "";
    if (json) (void)printf("{\"limits\":[");
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        const limit *l = &limits[i];
        if (strcmp(kind, l->kind) == 0 || l->family > best || !l->has()) continue;
        kind = l->kind;
        for (int n = 1; n <= n_max; n = n < n_max && n * 2 > n_max ? n_max : n * 2) {
            const double value = measure(l, n, buf, set);
            if (json)
                (void)printf("%s\n{\"kind\":\"%s\",\"isa\":\"%s\",\"threads\":%d,"
                             "\"value\":%.6g,\"unit\":\"%s\"}",
                             before, l->kind, l->isa, n, value, l->unit);
            else
                (void)printf("%-18s %-10s %3d thread%s %9.1f %s\n", l->name, l->isa, n,
                             n == 1 ? " " : "s", value, l->unit);
            before = ",";
            (void)fflush(stdout);
        }
    }
    if (json) (void)printf("\n]}\n");
}

typedef struct options {
    bool json;
    family best;
    long n_threads;
} options;

static bool parse(int argc, char **argv, options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
            continue;
        }
        if (strcmp(argv[i], "--threads") == 0)
            o->n_threads = strtol(value, NULL, 10);
        else if (strcmp(argv[i], "--isa") == 0 && strcmp(value, "avx2") == 0)
            o->best = AVX2;
        else if (strcmp(argv[i], "--isa") != 0 || strcmp(value, "avx512") != 0)
            return false;
        i++;
    }
    return o->n_threads >= 1 && o->n_threads <= THREADS_MAX;
}

int main(int argc, char **argv)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_SET(0, &set);
    options o = {.best = AVX512, .n_threads = CPU_COUNT(&set)};
    if (!parse(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: limits [--json] [--isa avx2|avx512] [--threads N]\n");
        return 2;
    }
    char *buf = mmap(NULL, buf_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buf == MAP_FAILED) {
        perror("limits: 2 GiB of memory");
        return 1;
    }
    (void)madvise(buf, buf_bytes, MADV_HUGEPAGE);
    memset(buf, 1, buf_bytes);
    measure_all(o.best, (int)o.n_threads, o.json, buf, &set);
    return 0;
}
