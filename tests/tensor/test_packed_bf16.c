/* BF16_DOT: rows rounded to the reference's bytes at every level; products with the reference's
 * bits where floats are multiplied, near the exact ones where vdpbf16ps does it. */
#include "base/mem.h"
#include "checkkernels.h"
#include "tensor/cpu/kernels.h"

static const size_t columns[] = {1, 2, 31, 33, 64, 65, 100, 128, 129, 200, 257, 577, 1100};
enum { N_COLUMNS = sizeof columns / sizeof columns[0], GAP = 3 };

static size_t n_chunks_of(size_t n_k)
{
    return vlm_pack_n_chunks(n_k);
}

/* The rows of x as every level must round them, in front of an unreadable page. */
static check_input prepare(const vlm_cpu_kernels *kernels, const float *x, size_t n, size_t n_k)
{
    check_input to = check_input_new(2 * n_chunks_of(n_k) * n * sizeof(vlm_x16));
    memset(to.data, 0xa5, 2 * n_chunks_of(n_k) * n * sizeof(vlm_x16));
    for (size_t r = 0; r < n; r++)
        kernels->prepare[VLM_DTYPE_BF16_DOT]((vlm_x16 *)to.data + r, n, x + r * n_k, n_k);
    return to;
}

static check_input pack(const float *w, size_t n_out, size_t n_k)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    const size_t n_chunks = n_chunks_of(n_k);
    const size_t n_groups = (n_out + VLM_PACK_OUTS - 1) / VLM_PACK_OUTS;
    check_input to = check_input_new(n_groups * n_chunks * sizeof(vlm_bf16_chunk));
    for (size_t i = 0; i < n_groups * n_chunks; i++) {
        float tile[VLM_PACK_OUTS][VLM_PACK_CHUNK] = {{0}};
        for (size_t o = 0; o < VLM_PACK_OUTS; o++) {
            for (size_t k = 0; k < VLM_PACK_CHUNK; k++) {
                const size_t row = i / n_chunks * VLM_PACK_OUTS + o;
                const size_t col = i % n_chunks * VLM_PACK_CHUNK + k;
                if (row < n_out && col < n_k) tile[o][k] = w[row * n_k + col];
            }
        }
        kernels.pack[VLM_DTYPE_BF16_DOT]((vlm_bf16_chunk *)to.data + i, tile[0]);
    }
    return to;
}

typedef struct product_case {
    vlm_cpu_level level;
    size_t n, n_out, n_k;
    bool has_bias, add;
} product_case;

static float rounded(float value)
{
    return vlm_bf16_to_f32(vlm_f32_to_bf16(value));
}

/* What an output must be, and how far it may be off: each sum is rounded to 24 bits. */
static double exact(const product_case *c, const float *x, const float *w, const float *bias,
                    size_t r, size_t o, double *tolerance)
{
    double sum = 0.0, size = 0.0;
    for (size_t k = 0; k < c->n_k; k++) {
        const double product =
            (double)rounded(x[r * c->n_k + k]) * (double)rounded(w[o * c->n_k + k]);
        sum += product;
        size += fabs(product);
    }
    if (c->has_bias) sum += (double)bias[o];
    if (c->add) sum += (double)check_canary(CHECK_CANARY_LEN + r * (c->n_out + GAP) + o);
    size += fabs(sum) + (c->has_bias ? fabs((double)bias[o]) : 0.0);
    *tolerance = size * (double)(c->n_k + 4) * 0x1p-24 + 1e-30;
    return sum;
}

static void check_product(const product_case *c, const float *x, const float *w)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(c->level);
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    const size_t y_stride = c->n_out + GAP, len = (c->n - 1) * y_stride + c->n_out;
    check_input bias = check_floats(c->n_out), packed = pack(w, c->n_out, c->n_k);
    check_input rows = prepare(&kernels, x, c->n, c->n_k);
    check_input want_rows = prepare(&reference, x, c->n, c->n_k);
    assert_memory_equal(rows.data, want_rows.data,
                        2 * n_chunks_of(c->n_k) * c->n * sizeof(vlm_x16));
    check_output y = check_output_new(len), want = check_output_new(len);
    const float *bias_data = c->has_bias ? bias.data : NULL;
    kernels.packed[VLM_DTYPE_BF16_DOT](y.data, y_stride, rows.data, c->n, packed.data, c->n_out,
                                       n_chunks_of(c->n_k), bias_data, c->add);
    reference.packed[VLM_DTYPE_BF16_DOT](want.data, y_stride, rows.data, c->n, packed.data,
                                         c->n_out, n_chunks_of(c->n_k), bias_data, c->add);
    for (size_t i = 0; i < len; i++) {
        const size_t r = i / y_stride, o = i % y_stride;
        double tolerance = 0.0;
        if (o >= c->n_out) {
            assert_true(y.data[i] == check_canary(CHECK_CANARY_LEN + i));
            continue;
        }
        const double sum = exact(c, x, w, bias.data, r, o, &tolerance);
        if (c->level != VLM_CPU_AVX512BF16)
            check_near(y.data[i], want.data[i], 0.0f, "n %zu outs %zu k %zu: %zu, %zu", c->n,
                       c->n_out, c->n_k, r, o);
        if (!isfinite(sum)) {
            check_near(y.data[i], want.data[i], 0.0f, "not finite: %zu, %zu", r, o);
            continue;
        }
        check_near(y.data[i], (float)sum, (float)tolerance, "n %zu outs %zu k %zu: %zu, %zu", c->n,
                   c->n_out, c->n_k, r, o);
    }
    check_output_free(&y);
    check_output_free(&want);
    check_input_free(&bias);
    check_input_free(&packed);
    check_input_free(&rows);
    check_input_free(&want_rows);
}

static void check_random_product(product_case c)
{
    check_input x = check_floats(c.n * c.n_k), w = check_floats(c.n_out * c.n_k);
    check_product(&c, x.data, w.data);
    check_input_free(&x);
    check_input_free(&w);
}

static void products_level(vlm_cpu_level level)
{
    for (size_t n = 1; n <= VLM_PACKED_ROWS_MAX; n++)
        check_random_product((product_case){.level = level,
                                            .n = n,
                                            .n_out = 1 + n * 7 % VLM_PACKED_OUTS_MAX,
                                            .n_k = columns[n % 7],
                                            .has_bias = n % 2 == 0,
                                            .add = n % 3 == 0});
    for (size_t n_out = 1; n_out <= VLM_PACKED_OUTS_MAX; n_out++) {
        static const size_t rows[] = {1, 2, 3, 4, 5, 6, 13, 24, 25, 41};
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            check_random_product((product_case){.level = level,
                                                .n = rows[i],
                                                .n_out = n_out,
                                                .n_k = columns[(n_out + i) % 9],
                                                .has_bias = n_out % 3 == 0,
                                                .add = n_out % 2 == 0});
    }
    for (size_t i = 0; i < N_COLUMNS; i++) {
        static const size_t rows[] = {1, 2, 7, 30, VLM_PACKED_ROWS_MAX};
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++)
            check_random_product((product_case){.level = level,
                                                .n = rows[r],
                                                .n_out = i % 2 == 0 ? VLM_PACKED_OUTS_MAX : 37,
                                                .n_k = columns[i],
                                                .has_bias = true,
                                                .add = r % 2 == 0});
    }
}

/* One value that is no ordinary number, in a row or in a weight. */
static void odd_numbers_level(vlm_cpu_level level)
{
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f, 1e-40f, -0.0f, 0x1.01p-9f};
    static const size_t rows[] = {1, 2, 5, 30};
    enum { N_ODD = sizeof odd / sizeof odd[0] };
    for (size_t i = 0; i < N_ODD * 4 * 2; i++) {
        const product_case c = {
            .level = level, .n = rows[i / N_ODD % 4], .n_out = 35, .n_k = 150, .has_bias = true};
        check_input x = check_floats(c.n * c.n_k), w = check_floats(c.n_out * c.n_k);
        if (i / N_ODD / 4 == 0)
            ((float *)x.data)[(c.n - 1) * c.n_k + 101] = odd[i % N_ODD];
        else
            ((float *)w.data)[20 * c.n_k + 140] = odd[i % N_ODD];
        check_product(&c, x.data, w.data);
        check_input_free(&x);
        check_input_free(&w);
    }
}

/* All bits that matter to rounding. */
static void rounding_level(vlm_cpu_level level)
{
    enum { N_K = 1 << 12 };
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    check_input x = check_input_new(N_K * sizeof(float));
    for (uint32_t top = 0; top < 1u << 16; top += N_K / 16) {
        for (uint32_t i = 0; i < N_K; i++) {
            static const uint32_t low[] = {0,      1,      2,      0x7ffe, 0x7fff, 0x8000,
                                           0x8001, 0x8002, 0xfffe, 0xffff, 0x4000, 0xc000,
                                           0x00ff, 0x7f00, 0x80ff, 0x0101};
            const uint32_t bits = (top + i / 16) << 16 | low[i % 16];
            memcpy((float *)x.data + i, &bits, sizeof bits);
        }
        check_input got = prepare(&kernels, x.data, 1, N_K);
        for (size_t i = 0; i < N_K; i++)
            assert_int_equal(((uint16_t *)got.data)[i], vlm_f32_to_bf16(((float *)x.data)[i]));
        check_input_free(&got);
    }
    check_input_free(&x);
}

/* A row alone, with a few others and with many: the same bits. */
static void company_level(vlm_cpu_level level)
{
    enum { N = VLM_PACKED_ROWS_MAX, N_OUT = 59, N_K = 333 };
    static const size_t groups[] = {1, 2, 3, 5, 6, 11, 24, 25, 48};
    static float all[N * N_OUT], some[N * N_OUT];
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    check_input x = check_floats(N * N_K), w = check_floats(N_OUT * N_K);
    check_input packed = pack(w.data, N_OUT, N_K), rows = prepare(&kernels, x.data, N, N_K);
    const size_t n_chunks = n_chunks_of(N_K);
    kernels.packed[VLM_DTYPE_BF16_DOT](all, N_OUT, rows.data, N, packed.data, N_OUT, n_chunks, NULL,
                                       false);
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        for (size_t r = 0; r < N; r += groups[i]) {
            const size_t n = N - r < groups[i] ? N - r : groups[i];
            check_input part = prepare(&kernels, (float *)x.data + r * N_K, n, N_K);
            kernels.packed[VLM_DTYPE_BF16_DOT](some + r * N_OUT, N_OUT, part.data, n, packed.data,
                                               N_OUT, n_chunks, NULL, false);
            check_input_free(&part);
        }
        assert_memory_equal(all, some, sizeof all);
    }
    check_input_free(&x);
    check_input_free(&w);
    check_input_free(&packed);
    check_input_free(&rows);
}

#define LEVEL_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        name##_level(VLM_CPU_REFERENCE);                                                           \
        check_each_level(name##_level, #name);                                                     \
    }
LEVEL_TEST(products)
LEVEL_TEST(odd_numbers)
LEVEL_TEST(rounding)
LEVEL_TEST(company)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_odd_numbers),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
