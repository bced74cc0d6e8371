#include "checkkernels.h"

#include "failmalloc.h"
#include "tensor/backend.h"

/* Every operation against plain loops in double, and the promise that rows, threads and split calls
 * never change a bit. */

static vlm_backend *open_cpu(uint32_t n_threads, vlm_cpu_level level)
{
    vlm_backend *b = NULL;
    vlm_error err;
    assert_int_equal(vlm_backend_cpu_open(n_threads, level, &b, &err), VLM_OK);
    return b;
}

static void each_level(void (*fn)(vlm_cpu_level level), const char *what)
{
    fn(VLM_CPU_REFERENCE);
    check_each_level(fn, what);
}

static double weight_value(const vlm_weight *w, size_t row, size_t col)
{
    const size_t i = row * w->n_cols + col;
    if (w->dtype == VLM_DTYPE_F32) return (double)((const float *)w->data)[i];
    const uint16_t bits = ((const uint16_t *)w->data)[i];
    return (double)(w->dtype == VLM_DTYPE_F16 ? vlm_f16_to_f32(bits) : vlm_bf16_to_f32(bits));
}

static void linear_equals_double(vlm_cpu_level level)
{
    enum { N = 200, K = 150, OUT = 101 };
    vlm_backend *b = open_cpu(2, level);
    for (int dtype = 0; dtype < VLM_N_DTYPES; dtype++) {
        check_input x = check_floats(N * K), y0 = check_floats(N * OUT);
        check_input w_data = check_weights((vlm_dtype)dtype, OUT * K);
        check_input bias_data = check_weights(VLM_DTYPE_BF16, OUT);
        const vlm_weight w = {w_data.data, (vlm_dtype)dtype, OUT, K};
        const vlm_weight bias = {bias_data.data, VLM_DTYPE_BF16, 1, OUT};
        check_output y = check_output_new(N * OUT);
        memcpy(y.data, y0.data, N * OUT * sizeof(float));
        b->ops->linear(b, y.data, x.data, N, &w, &bias, true);
        for (size_t r = 0; r < N; r++) {
            for (size_t o = 0; o < OUT; o++) {
                double sum = weight_value(&bias, 0, o) + (double)((float *)y0.data)[r * OUT + o];
                for (size_t k = 0; k < K; k++)
                    sum += (double)((float *)x.data)[r * K + k] * weight_value(&w, o, k);
                /* 150 products: some 25 roundings of numbers of about 10. */
                check_near(y.data[r * OUT + o], (float)sum, 1e-5f, "row %zu out %zu", r, o);
            }
        }
        check_output_free(&y);
        check_input_free(&x);
        check_input_free(&y0);
        check_input_free(&w_data);
        check_input_free(&bias_data);
    }
    b->ops->close(b);
}

static void linear_bits_do_not_depend_on_rows_or_threads(vlm_cpu_level level)
{
    enum { N = 230, K = 1100, OUT = 131 };
    static float x[N * K], y[3][N * OUT], one[OUT];
    static uint16_t w_data[OUT * K];
    for (size_t i = 0; i < N * K; i++) x[i] = check_uniform();
    for (size_t i = 0; i < OUT * K; i++) w_data[i] = vlm_f32_to_f16(check_uniform());
    const vlm_weight w = {w_data, VLM_DTYPE_F16, OUT, K};
    for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
        vlm_backend *b = open_cpu(n_threads, level);
        b->ops->linear(b, y[n_threads - 1], x, N, &w, NULL, false);
        assert_memory_equal(y[n_threads - 1], y[0], sizeof y[0]);
        for (size_t r = 0; r < N; r += 23) {
            b->ops->linear(b, one, x + r * K, 1, &w, NULL, false);
            assert_memory_equal(one, y[0] + r * OUT, sizeof one);
        }
        static float part[7 * OUT];
        b->ops->linear(b, part, x + 100 * K, 7, &w, NULL, false);
        assert_memory_equal(part, y[0] + 100 * OUT, sizeof part);
        b->ops->close(b);
    }
}

static void norms_equal_double(vlm_cpu_level level)
{
    static const uint32_t dims[] = {1, 7, 64, 511, 512, 513, 1100};
    enum { N = 9 };
    vlm_backend *b = open_cpu(2, level);
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        const uint32_t dim = dims[i];
        check_input x_in = check_floats(N * dim), w_in = check_weights(VLM_DTYPE_F16, dim);
        check_input bias_in = check_floats(dim);
        const float *x = x_in.data, *bias_x = bias_in.data;
        const vlm_weight w = {w_in.data, VLM_DTYPE_F16, 1, dim};
        const vlm_weight bias = {bias_x, VLM_DTYPE_F32, 1, dim};
        check_output rms = check_output_new(N * dim), layer = check_output_new(N * dim);
        memcpy(rms.data, x, N * dim * sizeof(float));
        b->ops->rms_norm(b, rms.data, rms.data, N, &w, 1e-5f);
        b->ops->layer_norm(b, layer.data, x, N, &w, &bias, 1e-3f);
        for (size_t r = 0; r < N; r++) {
            double sum = 0.0, squares = 0.0, var = 0.0;
            for (size_t c = 0; c < dim; c++) {
                sum += (double)x[r * dim + c];
                squares += (double)x[r * dim + c] * (double)x[r * dim + c];
            }
            for (size_t c = 0; c < dim; c++) {
                const double d = (double)x[r * dim + c] - sum / dim;
                var += d * d;
            }
            for (size_t c = 0; c < dim; c++) {
                const double in = (double)x[r * dim + c], weight = weight_value(&w, 0, c);
                const double rms_y = in / sqrt(squares / dim + 1e-5) * weight;
                const double layer_y =
                    (in - sum / dim) / sqrt(var / dim + 1e-3) * weight + (double)bias_x[c];
                check_near(rms.data[r * dim + c], (float)rms_y, 3e-6f, "rms dim %u", dim);
                check_near(layer.data[r * dim + c], (float)layer_y, 3e-6f, "layer dim %u", dim);
            }
        }
        /* Absent bias, by NULL or by empty data. */
        const vlm_weight absent = {0};
        check_output other = check_output_new(N * dim);
        b->ops->layer_norm(b, layer.data, x, N, &w, NULL, 1e-3f);
        b->ops->layer_norm(b, other.data, x, N, &w, &absent, 1e-3f);
        assert_memory_equal(layer.data, other.data, N * dim * sizeof(float));
        check_output_free(&other);
        check_output_free(&rms);
        check_output_free(&layer);
        check_input_free(&x_in);
        check_input_free(&w_in);
        check_input_free(&bias_in);
    }
    b->ops->close(b);
}

static void rope_rotates_halves_by_position(vlm_cpu_level level)
{
    enum { N = 5, HEADS = 3, HALF = 6, POSITIONS = 40 };
    static float cos_sin[POSITIONS][HALF][2], x[N][HEADS][2 * HALF], y[N][HEADS][2 * HALF];
    static const uint32_t positions[N] = {0, 39, 7, 7, 20};
    for (size_t p = 0; p < POSITIONS; p++) {
        for (size_t i = 0; i < HALF; i++) {
            const double angle = (double)p * pow(10000.0, -(double)i / HALF);
            cos_sin[p][i][0] = (float)cos(angle);
            cos_sin[p][i][1] = (float)sin(angle);
        }
    }
    for (size_t i = 0; i < sizeof x / sizeof(float); i++) (&x[0][0][0])[i] = check_uniform();
    memcpy(y, x, sizeof y);
    vlm_backend *b = open_cpu(2, level);
    b->ops->rope(b, &y[0][0][0], N, HEADS, 2 * HALF, positions, &cos_sin[0][0][0]);
    b->ops->close(b);
    assert_memory_equal(y[0], x[0], sizeof y[0]); /* position 0: no turn */
    for (size_t r = 0; r < N; r++) {
        for (size_t h = 0; h < HEADS; h++) {
            for (size_t i = 0; i < HALF; i++) {
                const double angle = positions[r] * pow(10000.0, -(double)i / HALF);
                const double p = (double)x[r][h][i], q = (double)x[r][h][i + HALF];
                check_near(y[r][h][i], (float)(p * cos(angle) - q * sin(angle)), 3e-7f, "first");
                check_near(y[r][h][i + HALF], (float)(q * cos(angle) + p * sin(angle)), 3e-7f,
                           "second");
            }
        }
    }
}

static void acts_equal_double_on_any_threads(vlm_cpu_level level)
{
    enum { N = 10007 };
    static float x[N], y[N], first[N], up[N];
    for (size_t i = 0; i < N; i++) {
        x[i] = ((float)i - N / 2.0f) * 3e-3f;
        up[i] = check_uniform();
    }
    for (int act = 0; act < VLM_N_ACTS; act++) {
        for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
            vlm_backend *b = open_cpu(n_threads, level);
            memcpy(y, x, sizeof y);
            b->ops->act(b, y, N, (vlm_act)act);
            if (n_threads == 1) memcpy(first, y, sizeof y);
            assert_memory_equal(y, first, sizeof y);
            memcpy(y, x, sizeof y);
            b->ops->act_mul(b, y, up, N, (vlm_act)act);
            for (size_t i = 0; i < N; i++) assert_true(y[i] == first[i] * up[i]);
            b->ops->add(b, y, up, N);
            for (size_t i = 0; i < N; i++) assert_true(y[i] == first[i] * up[i] + up[i]);
            b->ops->close(b);
        }
        for (size_t i = 0; i < N; i++) {
            const double v = (double)x[i];
            double expected = v > 0.0 ? v : 0.0;
            switch ((vlm_act)act) {
            case VLM_ACT_GELU: expected = v / 2 * erfc(-v / sqrt(2.0)); break;
            case VLM_ACT_GELU_TANH:
                expected = v / 2 * (1 + tanh(sqrt(2 / acos(-1.0)) * (v + 0.044715 * v * v * v)));
                break;
            case VLM_ACT_QUICK_GELU: expected = v / (1 + exp(-1.702 * v)); break;
            case VLM_ACT_SILU: expected = v / (1 + exp(-v)); break;
            case VLM_ACT_RELU:
            case VLM_N_ACTS: break;
            }
            check_near(first[i], (float)expected, 3e-7f * fabsf(x[i]), "%s(%g)",
                       vlm_act_name((vlm_act)act), v);
        }
    }
}

static void im2col_takes_whole_patches(vlm_cpu_level level)
{
    enum { CHANNELS = 3, HEIGHT = 11, WIDTH = 14, PATCH = 4, ROWS = 2 * 3 };
    static float pixels[CHANNELS][HEIGHT][WIDTH];
    for (size_t i = 0; i < sizeof pixels / sizeof(float); i++) (&pixels[0][0][0])[i] = (float)i;
    check_output y = check_output_new(ROWS * CHANNELS * PATCH * PATCH);
    vlm_backend *b = open_cpu(2, level);
    b->ops->im2col(b, y.data, &pixels[0][0][0], CHANNELS, HEIGHT, WIDTH, PATCH);
    b->ops->close(b);
    const float *at = y.data;
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t c = 0; c < CHANNELS; c++) {
            for (size_t i = 0; i < PATCH * PATCH; i++, at++)
                assert_true(*at == pixels[c][r / 3 * PATCH + i / PATCH][r % 3 * PATCH + i % PATCH]);
        }
    }
    check_output_free(&y);
}

static void embed_and_argmax(vlm_cpu_level level)
{
    vlm_backend *b = open_cpu(1, level);
    enum { ROWS = 5, DIM = 11 };
    check_input table = check_weights(VLM_DTYPE_BF16, ROWS * DIM);
    const vlm_weight w = {table.data, VLM_DTYPE_BF16, ROWS, DIM};
    static const uint32_t ids[] = {4, 0, 4};
    check_output y = check_output_new(3 * DIM);
    b->ops->embed(b, y.data, ids, 3, &w);
    for (size_t i = 0; i < 3 * DIM; i++)
        assert_true((double)y.data[i] == weight_value(&w, ids[i / DIM], i % DIM));
    check_output_free(&y);
    check_input_free(&table);

    static const struct {
        float x[5];
        uint32_t n, best;
    } rows[] = {
        {{1.0f}, 1, 0},
        {{1.0f, 3.0f, 2.0f, 3.0f}, 4, 1},
        {{NAN, -INFINITY, -5.0f, NAN, -6.0f}, 5, 2},
        {{NAN, -INFINITY}, 2, 1},
        {{-INFINITY, -INFINITY}, 2, 0},
        {{2.0f, NAN, INFINITY, NAN}, 4, 2},
        {{NAN, NAN, NAN}, 3, 0},
        {{-0.0f, 0.0f}, 2, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(b->ops->argmax(b, rows[i].x, rows[i].n), rows[i].best);
    b->ops->close(b);
}

static void memory(void **state)
{
    (void)state;
    vlm_backend *b = open_cpu(1, VLM_CPU_REFERENCE);
    vlm_error err;
    void *p = NULL, *q = NULL;
    assert_int_equal(b->ops->alloc(b, 0, &p, &err), VLM_OK);
    assert_non_null(p);
    assert_int_equal(b->ops->alloc(b, 1001, &q, &err), VLM_OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_int_equal((uintptr_t)q % 64, 0);
    char text[1001] = "upload", back[1001];
    b->ops->upload(b, q, text, sizeof text);
    b->ops->copy(b, q, q, sizeof text);
    b->ops->download(b, back, q, sizeof back);
    b->ops->sync(b);
    assert_memory_equal(text, back, sizeof text);
    const void *weight = NULL;
    assert_int_equal(b->ops->weight(b, text, sizeof text, &weight, &err), VLM_OK);
    assert_ptr_equal(weight, text);
    b->ops->free(b, p);
    b->ops->free(b, q);
    b->ops->free(b, NULL);
    assert_int_equal(b->ops->alloc(b, SIZE_MAX, &p, &err), VLM_RESOURCE_EXHAUSTED);
    assert_null(p);
    assert_int_equal(err.code, VLM_RESOURCE_EXHAUSTED);
    b->ops->close(b);
}

/* Resident pages of this process, from /proc. */
static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    unsigned long size, resident;
    assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void untouched_memory_is_not_resident(void **state)
{
    (void)state;
    vlm_backend *b = open_cpu(1, VLM_CPU_REFERENCE);
    vlm_error err;
    void *p;
    const size_t before = resident_bytes(), n_bytes = (size_t)512 << 20;
    assert_int_equal(b->ops->alloc(b, n_bytes, &p, &err), VLM_OK);
    /* A sanitizer's shadow is an eighth of it at most. */
    assert_true(resident_bytes() - before < n_bytes / 4);
    b->ops->free(b, p);
    b->ops->close(b);
}

static void open_fails_cleanly_without_memory(void **state)
{
    (void)state;
#if FAILMALLOC_AVAILABLE
    unsigned n_failed = 0;
    for (unsigned n = 1; failmalloc_again(n); n++) {
        vlm_backend *b = NULL;
        vlm_error err;
        const vlm_status status = vlm_backend_cpu_open(2, VLM_CPU_REFERENCE, &b, &err);
        failmalloc_off();
        if (status == VLM_OK) {
            b->ops->close(b);
            continue;
        }
        n_failed++;
        assert_int_equal(status, VLM_RESOURCE_EXHAUSTED);
        assert_null(b);
        assert_int_equal(err.code, VLM_RESOURCE_EXHAUSTED);
    }
    assert_true(n_failed >= 4); /* the backend, its scratch, the pool and its workers */
    vlm_backend *b = open_cpu(1, VLM_CPU_REFERENCE);
    failmalloc_left = 1;
    void *p;
    assert_int_equal(b->ops->alloc(b, 100, &p, NULL), VLM_RESOURCE_EXHAUSTED);
    failmalloc_off();
    b->ops->close(b);
#else
    print_message("allocation failures not run: the sanitizer owns the allocator\n");
#endif
}

#define LEVEL_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        each_level(name, #name);                                                                   \
    }
LEVEL_TEST(linear_equals_double)
LEVEL_TEST(linear_bits_do_not_depend_on_rows_or_threads)
LEVEL_TEST(norms_equal_double)
LEVEL_TEST(rope_rotates_halves_by_position)
LEVEL_TEST(acts_equal_double_on_any_threads)
LEVEL_TEST(im2col_takes_whole_patches)
LEVEL_TEST(embed_and_argmax)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_equals_double),
        cmocka_unit_test(test_linear_bits_do_not_depend_on_rows_or_threads),
        cmocka_unit_test(test_norms_equal_double),
        cmocka_unit_test(test_rope_rotates_halves_by_position),
        cmocka_unit_test(test_acts_equal_double_on_any_threads),
        cmocka_unit_test(test_im2col_takes_whole_patches),
        cmocka_unit_test(test_embed_and_argmax),
        cmocka_unit_test(memory),
        cmocka_unit_test(untouched_memory_is_not_resident),
        cmocka_unit_test(open_fails_cleanly_without_memory),
    };
    return cmocka_run_group_tests_name("tensor/backend", tests, NULL, NULL);
}
