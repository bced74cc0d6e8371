/* test_attention.c - attention over a paged cache and the dense one against double: however a
 * sequence is split, whatever lies beside it, on any number of threads. */
#include "checkkernels.h"

#include "tensor/backend.h"

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
    {170, 8, 2, 64, 0, VLM_DTYPE_F16},  {140, 2, 1, 136, 70, VLM_DTYPE_F16},
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

#define LEVEL_TEST(name)                                                                           \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        each_level(name, #name);                                                                   \
    }
LEVEL_TEST(attn_paged_equals_double_however_split)
LEVEL_TEST(attn_paged_batch_is_each_alone)
LEVEL_TEST(attn_paged_never_looks_ahead)
LEVEL_TEST(attn_full_equals_double)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attn_paged_equals_double_however_split),
        cmocka_unit_test(test_attn_paged_batch_is_each_alone),
        cmocka_unit_test(test_attn_paged_never_looks_ahead),
        cmocka_unit_test(test_attn_full_equals_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
