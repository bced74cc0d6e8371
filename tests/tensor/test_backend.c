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

/* softmax(scale q k) v of one row and head over the keys first..last, in double. */
static void attn_by_definition(double *out, const float *q, const float *k, const float *v,
                               size_t stride, size_t dim, size_t first, size_t last, double scale)
{
    double max = -HUGE_VAL, sum = 0.0;
    double *s = calloc(last + 1, sizeof *s);
    assert_non_null(s);
    for (size_t j = first; j <= last; j++) {
        for (size_t i = 0; i < dim; i++) s[j] += (double)q[i] * (double)k[j * stride + i];
        s[j] *= scale;
        if (s[j] > max) max = s[j];
    }
    for (size_t i = 0; i < dim; i++) out[i] = 0.0;
    for (size_t j = first; j <= last; j++) {
        const double p = exp(s[j] - max);
        sum += p;
        for (size_t i = 0; i < dim; i++) out[i] += p * (double)v[j * stride + i];
    }
    for (size_t i = 0; i < dim; i++) out[i] /= sum;
    free(s);
}

/* A cache of one layer for one sequence of n tokens, its blocks in no particular order; what no
 * token has been written to is NaN. */
typedef struct paged {
    vlm_kv_layer layer;
    uint32_t *blocks;
    size_t part_bytes;
} paged;

static paged paged_new(size_t n, uint32_t n_kv_heads, uint32_t head_dim, vlm_dtype dtype)
{
    const uint32_t n_blocks = (uint32_t)(n / VLM_KV_BLOCK_TOKENS + 1);
    const size_t n_elems = (size_t)n_blocks * VLM_KV_BLOCK_TOKENS * n_kv_heads * head_dim;
    paged p = {.layer = {.dtype = dtype, .n_kv_heads = n_kv_heads, .head_dim = head_dim},
               .part_bytes = n_elems * vlm_dtype_size(dtype)};
    p.layer.k = malloc(p.part_bytes);
    p.layer.v = malloc(p.part_bytes);
    p.blocks = calloc(n_blocks, sizeof *p.blocks);
    assert_true(p.layer.k != NULL && p.layer.v != NULL && p.blocks != NULL);
    memset(p.layer.k, 0xff, p.part_bytes);
    memset(p.layer.v, 0xff, p.part_bytes);
    for (uint32_t i = 0; i < n_blocks; i++) p.blocks[i] = n_blocks - 1 - i;
    if (n_blocks > 3) {
        p.blocks[0] = p.blocks[2];
        p.blocks[2] = n_blocks - 1;
    }
    return p;
}

static void paged_free(paged *p)
{
    free(p->layer.k);
    free(p->layer.v);
    free(p->blocks);
}

typedef struct attn_shape {
    uint32_t n, n_heads, n_kv_heads, head_dim, window;
    vlm_dtype dtype;
} attn_shape;

static const attn_shape attn_shapes[] = {
    {1, 1, 1, 8, 0, VLM_DTYPE_F32},     {150, 4, 4, 16, 0, VLM_DTYPE_F32},
    {150, 4, 2, 24, 0, VLM_DTYPE_F32},  {150, 6, 1, 7, 0, VLM_DTYPE_F32},
    {200, 4, 2, 16, 1, VLM_DTYPE_F32},  {200, 4, 2, 16, 50, VLM_DTYPE_F32},
    {200, 2, 2, 64, 64, VLM_DTYPE_F32}, {130, 3, 3, 10, 129, VLM_DTYPE_F32},
    {70, 80, 2, 8, 0, VLM_DTYPE_F32},   {150, 4, 2, 24, 0, VLM_DTYPE_F16},
    {200, 4, 2, 16, 50, VLM_DTYPE_F16}, {90, 6, 1, 7, 0, VLM_DTYPE_F16},
};
enum { N_ATTN_SHAPES = sizeof attn_shapes / sizeof attn_shapes[0] };

static vlm_attn_args attn_args(const attn_shape *shape, const vlm_kv_layer *kv,
                               const vlm_seq_rows *seqs, uint32_t n_seqs)
{
    return (vlm_attn_args){.kv = kv,
                           .seqs = seqs,
                           .n_seqs = n_seqs,
                           .n_heads = shape->n_heads,
                           .window = shape->window,
                           .scale = 0.9f};
}

/* Numbers that F16 holds exactly, where the cache is F16. */
static check_input attn_input(size_t n, vlm_dtype dtype)
{
    check_input in = check_floats(n);
    float *data = (float *)(uintptr_t)in.data;
    for (size_t i = 0; i < n && dtype == VLM_DTYPE_F16; i++)
        data[i] = vlm_f16_to_f32(vlm_f32_to_f16(data[i]));
    return in;
}

static void check_attn(const attn_shape *s, const float *out, const float *q, const float *k,
                       const float *v)
{
    const size_t dim = s->head_dim, q_row = s->n_heads * dim, kv_row = s->n_kv_heads * dim;
    double *expected = calloc(dim, sizeof *expected);
    assert_non_null(expected);
    for (size_t t = 0; t < s->n; t++)
        for (size_t h = 0; h < s->n_heads; h++) {
            const size_t at = t * q_row + h * dim;
            const size_t kv_at = h / (s->n_heads / s->n_kv_heads) * dim;
            const size_t first = s->window != 0 && t + 1 > s->window ? t + 1 - s->window : 0;
            attn_by_definition(expected, q + at, k + kv_at, v + kv_at, kv_row, dim, first, t, 0.9);
            for (size_t d = 0; d < dim; d++)
                check_near(out[at + d], (float)expected[d], 3e-6f, "token %zu head %zu", t, h);
        }
    free(expected);
}

static void attn_paged_equals_double_however_split(vlm_cpu_level level)
{
    for (size_t i = 0; i < N_ATTN_SHAPES; i++) {
        const attn_shape *s = &attn_shapes[i];
        const size_t n = s->n, dim = s->head_dim;
        const size_t q_row = s->n_heads * dim, kv_row = s->n_kv_heads * dim;
        check_input q = check_floats(n * q_row);
        check_input k = attn_input(n * kv_row, s->dtype), v = attn_input(n * kv_row, s->dtype);
        check_output whole = check_output_new(n * q_row), split = check_output_new(n * q_row);
        paged cache = paged_new(n, s->n_kv_heads, s->head_dim, s->dtype);
        vlm_seq_rows seq = {.n_rows = s->n, .blocks = cache.blocks};
        vlm_attn_args args = attn_args(s, &cache.layer, &seq, 1);
        vlm_backend *b = open_cpu(1, level);
        b->ops->kv_write(b, &cache.layer, &seq, 1, k.data, v.data);
        args.q = q.data;
        args.out = whole.data;
        b->ops->attn_paged(b, &args);
        b->ops->close(b);
        check_attn(s, whole.data, q.data, k.data, v.data);
        paged_free(&cache);
        /* The same tokens in pieces, on 1 to 3 threads: a bit is a bit. */
        static const uint32_t pieces[] = {1, 2, 33, 64, 7};
        for (uint32_t n_threads = 1; n_threads <= 3; n_threads++) {
            b = open_cpu(n_threads, level);
            cache = paged_new(n, s->n_kv_heads, s->head_dim, s->dtype);
            args.kv = &cache.layer;
            seq = (vlm_seq_rows){.blocks = cache.blocks};
            for (size_t piece = 0; seq.n_past < n; piece++, seq.n_past += seq.n_rows) {
                const uint32_t n_left = s->n - seq.n_past;
                seq.n_rows = pieces[piece % 5] < n_left ? pieces[piece % 5] : n_left;
                const size_t at = seq.n_past;
                b->ops->kv_write(b, &cache.layer, &seq, 1, (const float *)k.data + at * kv_row,
                                 (const float *)v.data + at * kv_row);
                args.q = (const float *)q.data + at * q_row;
                args.out = split.data + at * q_row;
                b->ops->attn_paged(b, &args);
            }
            b->ops->close(b);
            paged_free(&cache);
            assert_memory_equal(split.data, whole.data, n * q_row * sizeof(float));
        }
        check_output_free(&whole);
        check_output_free(&split);
        check_input_free(&q);
        check_input_free(&k);
        check_input_free(&v);
    }
}

/* Sequences of any lengths in one batch: each gets the bytes that it gets alone. */
static void attn_paged_batch_is_each_alone(vlm_cpu_level level)
{
    enum { N_SEQS = 7, N_PAST_MAX = 100, N_MAX = N_PAST_MAX + 40 };
    for (size_t i = 1; i < N_ATTN_SHAPES; i++) {
        const attn_shape *s = &attn_shapes[i];
        const size_t q_row = (size_t)s->n_heads * s->head_dim;
        const size_t kv_row = (size_t)s->n_kv_heads * s->head_dim;
        paged all =
            paged_new(N_SEQS * (N_MAX + VLM_KV_BLOCK_TOKENS), s->n_kv_heads, s->head_dim, s->dtype);
        vlm_seq_rows seqs[N_SEQS];
        uint32_t n_rows = 0;
        for (uint32_t q = 0; q < N_SEQS; q++) {
            const uint32_t n = q % 2 == 0 ? 1 : 5 * q;
            seqs[q] = (vlm_seq_rows){.row = n_rows,
                                     .n_rows = n,
                                     .n_past = q * 37 % N_PAST_MAX,
                                     .blocks = all.blocks + q * (N_MAX / VLM_KV_BLOCK_TOKENS + 1)};
            n_rows += n;
        }
        check_input q = check_floats(n_rows * q_row);
        check_input k = check_floats(N_MAX * kv_row), v = check_floats(N_MAX * kv_row);
        check_output together = check_output_new(n_rows * q_row);
        check_output alone = check_output_new(n_rows * q_row);
        vlm_backend *b = open_cpu(2, level);
        for (uint32_t p = 0; p < N_SEQS; p++) {
            const vlm_seq_rows past = {.n_rows = seqs[p].n_past, .blocks = seqs[p].blocks};
            b->ops->kv_write(b, &all.layer, &past, 1, k.data, v.data);
        }
        check_input k2 = check_floats(n_rows * kv_row), v2 = check_floats(n_rows * kv_row);
        b->ops->kv_write(b, &all.layer, seqs, N_SEQS, k2.data, v2.data);
        vlm_attn_args args = attn_args(s, &all.layer, seqs, N_SEQS);
        args.q = q.data;
        args.out = together.data;
        b->ops->attn_paged(b, &args);
        for (uint32_t p = 0; p < N_SEQS; p++) {
            vlm_seq_rows one = seqs[p];
            one.row = 0;
            args.seqs = &one;
            args.n_seqs = 1;
            args.q = (const float *)q.data + seqs[p].row * q_row;
            args.out = alone.data + seqs[p].row * q_row;
            b->ops->attn_paged(b, &args);
        }
        b->ops->close(b);
        assert_memory_equal(together.data, alone.data, n_rows * q_row * sizeof(float));
        check_output_free(&together);
        check_output_free(&alone);
        check_input_free(&q);
        check_input_free(&k);
        check_input_free(&v);
        check_input_free(&k2);
        check_input_free(&v2);
        paged_free(&all);
    }
}

/* What a later token holds, even NaN, cannot be seen by an earlier row. */
static void attn_paged_never_looks_ahead(vlm_cpu_level level)
{
    enum { N = 100, DIM = 16 };
    static float q[N * DIM], kv[N * DIM], clean[N * DIM], out[N * DIM], keys[N * DIM];
    for (size_t i = 0; i < N * DIM; i++) {
        q[i] = check_uniform();
        kv[i] = check_uniform();
    }
    vlm_backend *b = open_cpu(1, level);
    paged cache = paged_new(N, 1, DIM, VLM_DTYPE_F32);
    const vlm_seq_rows seq = {.n_rows = N, .blocks = cache.blocks};
    vlm_attn_args args = {.q = q,
                          .out = clean,
                          .kv = &cache.layer,
                          .seqs = &seq,
                          .n_seqs = 1,
                          .n_heads = 1,
                          .scale = 1.0f};
    b->ops->kv_write(b, &cache.layer, &seq, 1, kv, kv);
    b->ops->attn_paged(b, &args);
    for (size_t i = 0; i < DIM; i++) kv[50 * DIM + i] = i % 2 == 0 ? NAN : INFINITY;
    b->ops->kv_write(b, &cache.layer, &seq, 1, kv, kv);
    args.out = out;
    b->ops->attn_paged(b, &args);
    assert_memory_equal(out, clean, 50 * DIM * sizeof(float));
    assert_true(isnan(out[50 * DIM]));
    /* A query that is NaN makes its own row NaN, whatever the values, and no other. */
    q[20 * DIM] = NAN;
    b->ops->attn_paged(b, &args);
    for (size_t i = 0; i < DIM; i++) assert_true(isnan(out[20 * DIM + i]));
    assert_memory_equal(out, clean, 20 * DIM * sizeof(float));
    assert_memory_equal(out + 21 * DIM, clean + 21 * DIM, 29 * DIM * sizeof(float));
    /* Nor is a key that is NaN left out of the sum when its value is finite. */
    memcpy(keys, kv, sizeof keys);
    keys[30 * DIM] = NAN;
    b->ops->kv_write(b, &cache.layer, &seq, 1, keys, kv);
    b->ops->attn_paged(b, &args);
    assert_memory_equal(out, clean, 20 * DIM * sizeof(float));
    assert_true(isfinite(out[29 * DIM]));
    for (size_t t = 30; t < 50; t++) assert_true(isnan(out[t * DIM]));
    b->ops->kv_write(b, &cache.layer, &seq, 1, kv, kv);
    /* With a window that has moved past it, it is forgotten. */
    args.window = 10;
    b->ops->attn_paged(b, &args);
    assert_true(isnan(out[59 * DIM]));
    assert_true(isfinite(out[60 * DIM]));
    paged_free(&cache);
    b->ops->close(b);
}

static void attn_full_equals_double(vlm_cpu_level level)
{
    enum { BATCH = 2, N = 77, HEADS = 3, DIM = 20, ROW = HEADS * DIM };
    static float q[BATCH * N * ROW], k[BATCH * N * ROW], v[BATCH * N * ROW];
    for (size_t i = 0; i < BATCH * N * ROW; i++) {
        q[i] = 3.0f * check_uniform();
        k[i] = 3.0f * check_uniform();
        v[i] = check_uniform();
    }
    check_output out = check_output_new(BATCH * N * ROW), one = check_output_new(N * ROW);
    vlm_backend *b = open_cpu(2, level);
    b->ops->attn_full(b, out.data, q, k, v, BATCH, N, HEADS, DIM, 0.5f);
    double expected[DIM];
    for (size_t t = 0; t < BATCH * N; t++) {
        for (size_t h = 0; h < HEADS; h++) {
            const size_t start = t / N * N * ROW + h * DIM, at = t * ROW + h * DIM;
            attn_by_definition(expected, q + at, k + start, v + start, ROW, DIM, 0, N - 1, 0.5);
            for (size_t d = 0; d < DIM; d++)
                check_near(out.data[at + d], (float)expected[d], 5e-6f, "row %zu head %zu", t, h);
        }
    }
    /* One image alone: the same bits. */
    b->ops->attn_full(b, one.data, q + N * ROW, k + N * ROW, v + N * ROW, 1, N, HEADS, DIM, 0.5f);
    assert_memory_equal(one.data, out.data + N * ROW, N * ROW * sizeof(float));
    b->ops->close(b);
    check_output_free(&out);
    check_output_free(&one);
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
LEVEL_TEST(attn_paged_equals_double_however_split)
LEVEL_TEST(attn_paged_batch_is_each_alone)
LEVEL_TEST(attn_paged_never_looks_ahead)
LEVEL_TEST(attn_full_equals_double)
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
        cmocka_unit_test(test_attn_paged_equals_double_however_split),
        cmocka_unit_test(test_attn_paged_batch_is_each_alone),
        cmocka_unit_test(test_attn_paged_never_looks_ahead),
        cmocka_unit_test(test_attn_full_equals_double),
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
