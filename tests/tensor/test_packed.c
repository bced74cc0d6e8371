/* Packed weights: what pack makes of a matrix, and that every level gives the reference's bits. */
#include <math.h>

#include "base/mem.h"
#include "checkkernels.h"
#include "tensor/backend.h"
#include "tensor/cpu/kernels.h"

static const vlm_dtype int_dtypes[] = {VLM_DTYPE_Q8, VLM_DTYPE_Q4};

static vlm_backend *open_cpu(uint32_t n_threads, vlm_cpu_level level)
{
    vlm_backend *b = NULL;
    vlm_error err;
    assert_int_equal(vlm_backend_cpu_open(n_threads, level, &b, &err), VLM_OK);
    return b;
}

/* Blocks of ordinary numbers, and now and then one of zeros, of tiny ones, or with a NaN or an
 * infinity in it. */
static float *make_values(size_t n_rows, size_t n_cols)
{
    float *x = malloc((n_rows * n_cols + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t k = 0; k < n_cols; k++) {
            const size_t block = r * 7 + k / VLM_PACK_BLOCK;
            float value = check_uniform();
            if (block % 11 == 3) value = 0.0f;
            if (block % 11 == 5) value *= 1e-33f;
            if (block % 23 == 7) value *= 1e4f;
            x[r * n_cols + k] = value;
        }
    }
    return x;
}

static void *pack(vlm_backend *b, vlm_dtype dtype, const float *w, uint32_t n_rows, uint32_t n_cols,
                  size_t *n_bytes)
{
    const vlm_weight weight = {
        .data = w, .dtype = VLM_DTYPE_F32, .n_rows = n_rows, .n_cols = n_cols};
    *n_bytes = b->ops->packed_bytes(b, dtype, n_rows, n_cols);
    assert_int_equal(*n_bytes % 64, 0);
    unsigned char *packed = vlm_alloc_aligned(*n_bytes + 64);
    assert_non_null(packed);
    memset(packed, 0xa5, *n_bytes + 64);
    b->ops->pack(b, packed, dtype, &weight);
    for (size_t i = 0; i < 64; i++) assert_int_equal(packed[*n_bytes + i], 0xa5);
    return packed;
}

static const struct {
    uint32_t n, n_rows, n_cols;
} shapes[] = {
    {1, 1, 1},     {1, 16, 64},   {1, 17, 65},  {2, 33, 31},   {3, 48, 100},
    {4, 31, 257},  {5, 64, 128},  {7, 65, 640}, {12, 80, 96},  {17, 100, 70},
    {96, 130, 64}, {97, 33, 192}, {200, 5, 33}, {1, 500, 512}, {13, 0, 64},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct product {
    float *y;
    size_t n_bytes, n;
    void *packed;
} product;

static product run(vlm_cpu_level level, uint32_t n_threads, vlm_dtype dtype, size_t shape,
                   const float *x, const float *w, bool more)
{
    const uint32_t n = shapes[shape].n, n_rows = shapes[shape].n_rows;
    const uint32_t n_cols = shapes[shape].n_cols;
    vlm_error err;
    vlm_backend *b = open_cpu(n_threads, level);
    product p = {.n = (size_t)n * n_rows};
    p.packed = pack(b, dtype, w, n_rows, n_cols, &p.n_bytes);
    assert_int_equal(b->ops->reserve(b, n_cols, &err), VLM_OK);
    const vlm_weight packed = {
        .data = p.packed, .dtype = dtype, .n_rows = n_rows, .n_cols = n_cols};
    float bias[512];
    for (uint32_t i = 0; i < n_rows; i++) bias[i] = (float)i * 0.25f - 3.0f;
    const vlm_weight bias_weight = {
        .data = bias, .dtype = VLM_DTYPE_F32, .n_rows = 1, .n_cols = n_rows};
    check_output out = check_output_new(p.n);
    p.y = vlm_calloc(p.n + 1, sizeof *p.y);
    assert_non_null(p.y);
    for (size_t i = 0; i < p.n; i++) out.data[i] = (float)(i % 5);
    b->ops->linear(b, out.data, x, n, &packed, more ? &bias_weight : NULL, more);
    memcpy(p.y, out.data, p.n * sizeof *p.y);
    check_output_free(&out);
    b->ops->close(b);
    return p;
}

static void product_free(product *p)
{
    free(p->y);
    free(p->packed);
}

static void same_bits_as_reference(vlm_cpu_level level)
{
    for (size_t d = 0; d < 2; d++) {
        for (size_t s = 0; s < N_SHAPES; s++) {
            float *x = make_values(shapes[s].n, shapes[s].n_cols);
            float *w = make_values(shapes[s].n_rows, shapes[s].n_cols);
            for (int more = 0; more < 2; more++) {
                product want = run(VLM_CPU_REFERENCE, 1, int_dtypes[d], s, x, w, more != 0);
                product got = run(level, 1 + (uint32_t)s % 3, int_dtypes[d], s, x, w, more != 0);
                assert_int_equal(want.n_bytes, got.n_bytes);
                assert_memory_equal(want.packed, got.packed, want.n_bytes);
                for (size_t i = 0; i < want.n; i++)
                    if (memcmp(&want.y[i], &got.y[i], sizeof(float)) != 0)
                        fail_msg("%s %s shape %zu element %zu: %.9g, reference %.9g",
                                 vlm_cpu_level_name(level), vlm_dtype_name(int_dtypes[d]), s, i,
                                 (double)got.y[i], (double)want.y[i]);
                product_free(&want);
                product_free(&got);
            }
            free(x);
            free(w);
        }
    }
}

static void levels_give_the_bits_of_the_reference(void **state)
{
    (void)state;
    check_each_level(same_bits_as_reference, "packed products");
}

/* y near x w^T in double: a weight is half a step of its block off at most, a row's value half a
 * step of its own. */
static void near_the_exact_product(vlm_cpu_level level)
{
    enum { N = 5, ROWS = 40, COLS = 96 };
    static const double steps[] = {[VLM_DTYPE_Q8] = 0.5 / 127, [VLM_DTYPE_Q4] = 0.12};
    float x[N * COLS], w[ROWS * COLS], y[N * ROWS];
    for (size_t i = 0; i < N * COLS; i++) x[i] = check_uniform();
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] = check_uniform();
    vlm_backend *b = open_cpu(2, level);
    vlm_error err;
    for (size_t d = 0; d < 2; d++) {
        size_t n_bytes;
        void *data = pack(b, int_dtypes[d], w, ROWS, COLS, &n_bytes);
        const vlm_weight packed = {
            .data = data, .dtype = int_dtypes[d], .n_rows = ROWS, .n_cols = COLS};
        assert_int_equal(b->ops->reserve(b, COLS, &err), VLM_OK);
        b->ops->linear(b, y, x, N, &packed, NULL, false);
        for (size_t r = 0; r < N; r++) {
            for (size_t o = 0; o < ROWS; o++) {
                double want = 0.0, x_norm = 0.0;
                for (size_t k = 0; k < COLS; k++) {
                    want += (double)x[r * COLS + k] * (double)w[o * COLS + k];
                    x_norm += (double)fabsf(x[r * COLS + k]);
                }
                const double most = x_norm * (steps[int_dtypes[d]] + 0.5 / 127) + 1e-3;
                check_near(y[r * ROWS + o], (float)want, (float)most, "row %zu output %zu", r, o);
            }
        }
        free(data);
    }
    b->ops->close(b);
}

static void products_are_near(void **state)
{
    (void)state;
    near_the_exact_product(VLM_CPU_REFERENCE);
    check_each_level(near_the_exact_product, "packed products near");
}

/* What the levels can hold comes back exactly: one weight of a block at a time. */
static void q8_keeps_whole_numbers(void **state)
{
    (void)state;
    enum { COLS = 64 };
    vlm_backend *b = open_cpu(1, vlm_cpu_level_best());
    vlm_error err;
    float w[COLS], x[COLS], y;
    for (size_t k = 0; k < COLS; k++) w[k] = (float)((int)(k * 37 % 255) - 127);
    w[5] = w[40] = 127.0f;
    size_t n_bytes;
    void *data = pack(b, VLM_DTYPE_Q8, w, 1, COLS, &n_bytes);
    const vlm_weight packed = {.data = data, .dtype = VLM_DTYPE_Q8, .n_rows = 1, .n_cols = COLS};
    assert_int_equal(b->ops->reserve(b, COLS, &err), VLM_OK);
    for (size_t k = 0; k < COLS; k++) {
        memset(x, 0, sizeof x);
        x[k] = 1.0f;
        b->ops->linear(b, &y, x, 1, &packed, NULL, false);
        check_near(y, w[k], fabsf(w[k]) * 1e-6f, "column %zu", k);
    }
    free(data);
    b->ops->close(b);
}

static void not_finite(vlm_cpu_level level)
{
    enum { COLS = 128, ROWS = 20 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    vlm_backend *b = open_cpu(1, level);
    vlm_error err;
    assert_int_equal(b->ops->reserve(b, COLS, &err), VLM_OK);
    for (size_t i = 0; i < 3 * 2 * 2; i++) {
        const vlm_dtype dtype = int_dtypes[i % 2];
        float w[ROWS * COLS], x[2 * COLS], y[2 * ROWS];
        for (size_t k = 0; k < ROWS * COLS; k++) w[k] = check_uniform();
        for (size_t k = 0; k < 2 * COLS; k++) x[k] = check_uniform();
        const bool in_weight = i / 2 % 2 == 0;
        if (in_weight)
            w[3 * COLS + 70] = bad[i / 4];
        else
            x[COLS + 70] = bad[i / 4];
        size_t n_bytes;
        void *data = pack(b, dtype, w, ROWS, COLS, &n_bytes);
        const vlm_weight packed = {.data = data, .dtype = dtype, .n_rows = ROWS, .n_cols = COLS};
        b->ops->linear(b, y, x, 2, &packed, NULL, false);
        for (size_t r = 0; r < 2; r++)
            for (size_t o = 0; o < ROWS; o++)
                assert_true(isnan(y[r * ROWS + o]) == (in_weight ? o == 3 : r == 1));
        free(data);
    }
    b->ops->close(b);
}

static void what_is_not_finite_stays_so(void **state)
{
    (void)state;
    not_finite(VLM_CPU_REFERENCE);
    check_each_level(not_finite, "packed products of NaN");
}

/* A row's bits do not depend on the rows beside it nor on the threads. */
static void rows_do_not_meet(vlm_cpu_level level)
{
    enum { N = 211, ROWS = 70, COLS = 160 };
    float *x = make_values(N, COLS), *w = make_values(ROWS, COLS);
    float *all = malloc(sizeof *all * N * ROWS), *one = malloc(sizeof *one * N * ROWS);
    assert_true(all != NULL && one != NULL);
    vlm_error err;
    for (int d = VLM_N_DTYPES; d < VLM_N_WEIGHT_DTYPES; d++) {
        for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
            vlm_backend *b = open_cpu(n_threads, level);
            size_t n_bytes;
            void *data = pack(b, (vlm_dtype)d, w, ROWS, COLS, &n_bytes);
            const vlm_weight packed = {
                .data = data, .dtype = (vlm_dtype)d, .n_rows = ROWS, .n_cols = COLS};
            assert_int_equal(b->ops->reserve(b, COLS, &err), VLM_OK);
            if (n_threads == 1) b->ops->linear(b, all, x, N, &packed, NULL, false);
            for (uint32_t r = 0, n = 1; r < N; r += n, n = n * 2 % 37 + 1) {
                const uint32_t n_rows = n < N - r ? n : N - r;
                b->ops->linear(b, one + (size_t)r * ROWS, x + (size_t)r * COLS, n_rows, &packed,
                               NULL, false);
            }
            assert_memory_equal(one, all, sizeof *all * N * ROWS);
            free(data);
            b->ops->close(b);
        }
    }
    free(x);
    free(w);
    free(all);
    free(one);
}

static void bits_do_not_depend_on_company(void **state)
{
    (void)state;
    rows_do_not_meet(VLM_CPU_REFERENCE);
    check_each_level(rows_do_not_meet, "packed rows");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_give_the_bits_of_the_reference),
        cmocka_unit_test(products_are_near),
        cmocka_unit_test(q8_keeps_whole_numbers),
        cmocka_unit_test(what_is_not_finite_stays_so),
        cmocka_unit_test(bits_do_not_depend_on_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
