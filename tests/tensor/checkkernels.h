/* checkkernels.h - compares the kernels of each CPU level with the reference, after the manner of
 * dav1d's checkasm.
 * Outputs lie in guarded buffers: canaries on both sides tell of a write outside, whatever the
 * sanitizer.  Inputs end where an unreadable page begins, so that a read past the end is a fault.
 * Include in one file of a test program.  Not: a test by itself. */
#ifndef VLM_TESTS_CHECKKERNELS_H
#define VLM_TESTS_CHECKKERNELS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cpu.h"
#include "tensor/dtype.h"

/* Counter-based numbers, the same on every machine. */
static uint64_t check_state = 1;

static inline uint32_t check_random(void)
{
    check_state = check_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(check_state >> 33);
}

/* Uniform in [-1, 1). */
static inline float check_uniform(void)
{
    return (float)(check_random() % (1u << 24)) * 0x1p-23f - 1.0f;
}

/* An input of n_bytes that ends right before an unreadable page. */
typedef struct check_input {
    void *map, *data;
    size_t map_bytes;
} check_input;

static inline check_input check_input_new(size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (n_bytes + page - 1) / page * page;
    check_input in = {.map_bytes = body + page};
    in.map = mmap(NULL, in.map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(in.map != MAP_FAILED);
    unsigned char *end = (unsigned char *)in.map + body;
    assert_int_equal(mprotect(end, page, PROT_NONE), 0);
    in.data = end - n_bytes;
    return in;
}

static inline void check_input_free(check_input *in)
{
    munmap(in->map, in->map_bytes);
}

static inline check_input check_floats(size_t n)
{
    check_input in = check_input_new(n * sizeof(float));
    float *x = in.data;
    for (size_t i = 0; i < n; i++) x[i] = check_uniform();
    return in;
}

static inline check_input check_weights(vlm_dtype dtype, size_t n)
{
    check_input in = check_input_new(n * vlm_dtype_size(dtype));
    for (size_t i = 0; i < n; i++) {
        const float value = check_uniform();
        if (dtype == VLM_DTYPE_F32)
            ((float *)in.data)[i] = value;
        else
            ((uint16_t *)in.data)[i] =
                dtype == VLM_DTYPE_F16 ? vlm_f32_to_f16(value) : vlm_f32_to_bf16(value);
    }
    return in;
}

/* An output of n floats between canaries, filled with a pattern of its own. */
enum { CHECK_CANARY_LEN = 16 };
typedef struct check_output {
    float *data, *all;
    size_t n;
} check_output;

static inline float check_canary(size_t i)
{
    return 1000.0f + (float)i;
}

static inline check_output check_output_new(size_t n)
{
    check_output out = {.n = n};
    out.all = malloc((n + 2 * CHECK_CANARY_LEN) * sizeof(float));
    assert_non_null(out.all);
    for (size_t i = 0; i < n + 2 * CHECK_CANARY_LEN; i++) out.all[i] = check_canary(i);
    out.data = out.all + CHECK_CANARY_LEN;
    return out;
}

/* Fails when a canary changed. */
static inline void check_output_free(check_output *out)
{
    for (size_t i = 0; i < CHECK_CANARY_LEN; i++) {
        const size_t after = CHECK_CANARY_LEN + out->n + i;
        assert_true(out->all[i] == check_canary(i));
        assert_true(out->all[after] == check_canary(after));
    }
    free(out->all);
}

/* |a - b| <= tolerance, or both NaN, or equal infinities. */
static inline bool check_close(float a, float b, float tolerance)
{
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (isinf(a) || isinf(b)) return a == b;
    return fabsf(a - b) <= tolerance;
}

#define check_near(a, b, tolerance, ...)                                                           \
    do {                                                                                           \
        const float check_a = (a), check_b = (b), check_t = (tolerance);                           \
        if (!check_close(check_a, check_b, check_t)) {                                             \
            print_error(__VA_ARGS__);                                                              \
            fail_msg(": %.9g and %.9g, %.3g apart at most", (double)check_a, (double)check_b,      \
                     (double)check_t);                                                             \
        }                                                                                          \
    } while (0)

/* Call fn(level) for each level above the reference that this CPU has; print the others. */
static inline void check_each_level(void (*fn)(vlm_cpu_level level), const char *what)
{
    int n_not_run = 0;
    for (int i = VLM_CPU_REFERENCE + 1; i < VLM_CPU_N_LEVELS; i++) {
        const vlm_cpu_level level = (vlm_cpu_level)i;
        if (vlm_cpu_level_has(level)) {
            fn(level);
            continue;
        }
        print_message("%s: level %s not run, this CPU lacks it\n", what, vlm_cpu_level_name(level));
        n_not_run++;
    }
    print_message("%s: %d of %d levels not run\n", what, n_not_run, VLM_CPU_N_LEVELS - 1);
}

#endif
