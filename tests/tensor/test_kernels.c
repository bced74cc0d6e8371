#include "checkkernels.h"

#include "tensor/backend.h"
#include "tensor/cpu/kernels.h"

static const size_t sizes[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 61, 64, 127, 1023, 1031, 2053};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };
static const vlm_dtype dtypes[] = {VLM_DTYPE_F32, VLM_DTYPE_F16, VLM_DTYPE_BF16};

static float *scratch_new(void)
{
    float *scratch = aligned_alloc(64, sizeof(float) * VLM_LINEAR_SCRATCH_LEN);
    assert_non_null(scratch);
    /* Left-overs of an earlier call must not matter. */
    memset(scratch, 0xff, sizeof(float) * VLM_LINEAR_SCRATCH_LEN);
    return scratch;
}

static void widen_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    for (size_t d = 1; d < 3; d++) {
        /* Every bit pattern; exact, NaN included. */
        check_input in = check_input_new(0x10000 * 2);
        uint16_t *bits = in.data;
        for (uint32_t i = 0; i < 0x10000; i++) bits[i] = (uint16_t)i;
        check_output out = check_output_new(0x10000);
        kernels.widen[dtypes[d]](out.data, bits, 0x10000);
        for (uint32_t i = 0; i < 0x10000; i++) {
            const float expected = dtypes[d] == VLM_DTYPE_F16 ? vlm_f16_to_f32((uint16_t)i)
                                                              : vlm_bf16_to_f32((uint16_t)i);
            assert_memory_equal(&out.data[i], &expected, sizeof expected);
        }
        check_output_free(&out);
        check_input_free(&in);
    }
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    for (size_t d = 0; d < 3; d++) {
        for (size_t i = 0; i < N_SIZES; i++) {
            check_input in = check_weights(dtypes[d], sizes[i]);
            check_output a = check_output_new(sizes[i]), b = check_output_new(sizes[i]);
            kernels.widen[dtypes[d]](a.data, in.data, sizes[i]);
            reference.widen[dtypes[d]](b.data, in.data, sizes[i]);
            assert_memory_equal(a.data, b.data, sizes[i] * sizeof(float));
            check_output_free(&a);
            check_output_free(&b);
            check_input_free(&in);
        }
    }
}

/* Products of numbers below 1, n_k of them in 8 sums: each of the two orders is off by at most
 * (n_k/8 + 4) roundings of a sum below n_k; random signs keep it near sqrt(n_k), so this bound,
 * linear in n_k with 2^-24 each, is loose but still catches a product left out. */
static float sum_tolerance(size_t n_k)
{
    return 4e-7f * (1.0f + (float)n_k / 16.0f);
}

static void linear_case(const vlm_cpu_kernels *kernels, vlm_dtype dtype, size_t n, size_t n_out,
                        size_t n_k, bool has_bias, bool add, float *scratch)
{
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    const size_t y_stride = n_out + 3;
    check_input x = check_floats(n * n_k), w = check_weights(dtype, n_out * n_k);
    check_input bias = check_floats(n_out);
    const float *bias_data = has_bias ? bias.data : NULL;
    check_output a = check_output_new(n * y_stride), b = check_output_new(n * y_stride);
    kernels->linear[dtype](a.data, y_stride, x.data, n, w.data, n_out, n_k, bias_data, add,
                           scratch);
    reference.linear[dtype](b.data, y_stride, x.data, n, w.data, n_out, n_k, bias_data, add,
                            scratch);
    /* The canary pattern below y is of the size of 1000: its rounding comes on top. */
    const float tolerance = sum_tolerance(n_k) + (add ? 2e-3f : 0.0f);
    for (size_t i = 0; i < n * y_stride; i++) {
        const bool between = i % y_stride >= n_out;
        /* The last roundings are of the sum itself, which may be above 1: 4 halves of a unit. */
        const float of_sum = 2.4e-7f * fabsf(b.data[i]);
        check_near(a.data[i], b.data[i], between ? 0.0f : tolerance + of_sum,
                   "linear %s n %zu n_out %zu n_k %zu at %zu", vlm_dtype_name(dtype), n, n_out, n_k,
                   i);
        if (between) assert_true(a.data[i] == check_canary(CHECK_CANARY_LEN + i));
    }
    check_output_free(&a);
    check_output_free(&b);
    check_input_free(&x);
    check_input_free(&w);
    check_input_free(&bias);
}

static void linear_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    static const size_t outs[] = {1, 2, 3, 4, 5, 7, 8, 13, 47, 48};
    float *scratch = scratch_new();
    for (size_t d = 0; d < 3; d++) {
        for (size_t i = 0; i < N_SIZES; i++) {
            for (size_t o = 0; o < sizeof outs / sizeof outs[0]; o++) {
                const size_t n = 1 + (i * 7 + o * 5) % 17;
                linear_case(&kernels, dtypes[d], n, outs[o], sizes[i], o % 2 == 0, i % 2 == 0,
                            scratch);
                linear_case(&kernels, dtypes[d], 1, outs[o], sizes[i], o % 2 == 1, i % 2 == 1,
                            scratch);
            }
        }
        for (size_t n = 1; n <= 17; n++)
            linear_case(&kernels, dtypes[d], n, 11, 77, true, false, scratch);
        linear_case(&kernels, dtypes[d], VLM_LINEAR_ROWS_MAX, VLM_LINEAR_OUTS_MAX, 2065, true, true,
                    scratch);
    }
    free(scratch);
}

/* One level, one row: alone and among so many that each way through the kernels is taken, the same
 * bits. */
static void linear_rows_alone(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    static const size_t ks[] = {1, 7, 8, 15, 16, 17, 64, 75, 1024, 1025, 2100};
    enum { N = VLM_LINEAR_ROWS_MAX, N_OUT = 15 };
    static const size_t ns[] = {2, 5, 6, 17, 30, 31, 36, 37, 41, N};
    float *scratch = scratch_new();
    for (size_t d = 0; d < 3; d++) {
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            check_input x = check_floats(N * ks[i]), w = check_weights(dtypes[d], N_OUT * ks[i]);
            /* One row that is not finite must not touch its neighbours. */
            ((float *)x.data)[3 * ks[i]] = NAN;
            ((float *)x.data)[4 * ks[i]] = INFINITY;
            float all[N * N_OUT], some[N * N_OUT], one[N_OUT], part[N_OUT];
            kernels.linear[dtypes[d]](all, N_OUT, x.data, N, w.data, N_OUT, ks[i], NULL, false,
                                      scratch);
            for (size_t k = 0; k < sizeof ns / sizeof ns[0]; k++) {
                /* The last rows, which end where nothing can be read. */
                const size_t first = N - ns[k];
                kernels.linear[dtypes[d]](some, N_OUT, (const float *)x.data + first * ks[i], ns[k],
                                          w.data, N_OUT, ks[i], NULL, false, scratch);
                assert_memory_equal(some, all + first * N_OUT, ns[k] * N_OUT * sizeof some[0]);
            }
            for (size_t r = 0; r < N; r++) {
                const float *row = (const float *)x.data + r * ks[i];
                kernels.linear[dtypes[d]](one, N_OUT, row, 1, w.data, N_OUT, ks[i], NULL, false,
                                          scratch);
                assert_memory_equal(one, all + r * N_OUT, sizeof one);
                /* Outputs one by one: their tiles do not matter either. */
                for (size_t o = 0; o < N_OUT; o++) {
                    const unsigned char *from = w.data;
                    from += o * ks[i] * vlm_dtype_size(dtypes[d]);
                    kernels.linear[dtypes[d]](part + o, 1, row, 1, from, 1, ks[i], NULL, false,
                                              scratch);
                }
                assert_memory_equal(part, one, sizeof one);
                assert_int_equal(isfinite(one[0]) == 0, r == 3 || r == 4);
            }
            check_input_free(&x);
            check_input_free(&w);
        }
    }
    free(scratch);
}

static void rows_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    for (size_t i = 0; i < N_SIZES; i++) {
        const size_t n = sizes[i];
        check_input x = check_floats(n), w = check_floats(n), bias = check_floats(n);
        /* Nothing but positive numbers: each of up to n/8 roundings is of a sum that only grows. */
        const float squares = reference.sum_squares(x.data, n);
        check_near(kernels.sum_squares(x.data, n), squares, 1e-6f * squares, "sum_squares %zu", n);
        check_output a = check_output_new(n), b = check_output_new(n);
        for (int has_bias = 0; has_bias < 2; has_bias++) {
            const float *bias_data = has_bias ? bias.data : NULL;
            kernels.norm_apply(a.data, x.data, n, 0.25f, 1.5f, w.data, bias_data);
            reference.norm_apply(b.data, x.data, n, 0.25f, 1.5f, w.data, bias_data);
            /* One fused rounding of a number below 2. */
            for (size_t j = 0; j < n; j++)
                check_near(a.data[j], b.data[j], 3e-7f, "norm_apply %zu at %zu", n, j);
        }
        memcpy(a.data, x.data, n * sizeof(float));
        memcpy(b.data, x.data, n * sizeof(float));
        kernels.add(a.data, w.data, n);
        reference.add(b.data, w.data, n);
        assert_memory_equal(a.data, b.data, n * sizeof(float));
        kernels.mul(a.data, w.data, n);
        reference.mul(b.data, w.data, n);
        assert_memory_equal(a.data, b.data, n * sizeof(float));
        check_output_free(&a);
        check_output_free(&b);
        if (n > 0) {
            float mean_a, var_a, mean_b, var_b;
            kernels.mean_var(x.data, n, &mean_a, &var_a);
            reference.mean_var(x.data, n, &mean_b, &var_b);
            check_near(mean_a, mean_b, 1e-6f, "mean %zu", n);
            check_near(var_a, var_b, 1e-6f, "var %zu", n);
        }
        check_input_free(&x);
        check_input_free(&w);
        check_input_free(&bias);
    }
}

static void rope_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    for (size_t half = 1; half <= 70; half++) {
        const size_t n_heads = 1 + half % 4, n = n_heads * 2 * half;
        check_input x = check_floats(n), cos_sin = check_floats(2 * half);
        check_output a = check_output_new(n), b = check_output_new(n);
        memcpy(a.data, x.data, n * sizeof(float));
        memcpy(b.data, x.data, n * sizeof(float));
        kernels.rope(a.data, n_heads, half, cos_sin.data);
        reference.rope(b.data, n_heads, half, cos_sin.data);
        for (size_t i = 0; i < n; i++)
            check_near(a.data[i], b.data[i], 2e-7f, "rope half %zu at %zu", half, i);
        check_output_free(&a);
        check_output_free(&b);
        check_input_free(&x);
        check_input_free(&cos_sin);
    }
}

static void act_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    static const float special[] = {0.0f,   -0.0f,   NAN,   INFINITY, -INFINITY, 1e30f,  -1e30f,
                                    1e-40f, -1e-40f, 88.7f, -88.7f,   104.0f,    -104.0f};
    enum { N = 20011, N_SPECIAL = sizeof special / sizeof special[0] };
    for (int act = 0; act < VLM_N_ACTS; act++) {
        check_output a = check_output_new(N), b = check_output_new(N);
        for (size_t i = 0; i < N; i++) {
            const float even = ((float)i - N / 2.0f) * 2e-3f;
            a.data[i] = b.data[i] = i < N_SPECIAL ? special[i] : even;
        }
        float x[N_SPECIAL];
        memcpy(x, special, sizeof x);
        kernels.act[act](a.data, N);
        reference.act[act](b.data, N);
        for (size_t i = 0; i < N; i++) {
            const float in = i < N_SPECIAL ? x[i] : ((float)i - N / 2.0f) * 2e-3f;
            /* 5 roundings of the factor of x, which is at most 1; libm's tanh and erf lose as much
             * near -1. */
            const float tolerance = isfinite(in) ? 3e-7f * fabsf(in) + 1e-38f : 0.0f;
            check_near(a.data[i], b.data[i], tolerance, "act %s of %g", vlm_act_name((vlm_act)act),
                       (double)in);
        }
        check_output_free(&a);
        check_output_free(&b);
        /* Short calls: the same bits wherever the element lies. */
        for (size_t n = 0; n <= 17; n++) {
            check_output whole = check_output_new(n), single = check_output_new(n);
            for (size_t i = 0; i < n; i++) whole.data[i] = single.data[i] = check_uniform() * 8.0f;
            kernels.act[act](whole.data, n);
            for (size_t i = 0; i < n; i++) kernels.act[act](single.data + i, 1);
            assert_memory_equal(whole.data, single.data, n * sizeof(float));
            check_output_free(&whole);
            check_output_free(&single);
        }
    }
}

#define LEVEL_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        check_each_level(name##_level, #name);                                                     \
    }
LEVEL_TEST(widen)
LEVEL_TEST(linear)
LEVEL_TEST(rows)
LEVEL_TEST(rope)
LEVEL_TEST(act)

static void test_linear_rows_alone(void **state)
{
    (void)state;
    linear_rows_alone(VLM_CPU_REFERENCE);
    check_each_level(linear_rows_alone, "linear_rows_alone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_widen), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_rows),  cmocka_unit_test(test_rope),
        cmocka_unit_test(test_act),   cmocka_unit_test(test_linear_rows_alone),
    };
    return cmocka_run_group_tests_name("tensor/kernels", tests, NULL, NULL);
}
