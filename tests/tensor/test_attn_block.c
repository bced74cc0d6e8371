/* test_attn_block.c - the kernel attn_block of each level against the reference: any number of
 * rows and keys, heads of odd lengths, rows that see different keys; and against itself: a row gets
 * the same bits alone as among others. */
#include "checkkernels.h"

#include "tensor/cpu/kernels.h"

/* What each row sees of a block. */
typedef enum seen { ALL_THE_SAME, CAUSAL, WINDOW, ANY, N_SEEN } seen;

typedef struct shape {
    size_t n_rows, head_dim, first, end; /* the keys that any row may see */
    seen seen;
    vlm_dtype dtype;
} shape;

/* Rows further apart than a head is long.  Inputs end with the last head, and pages lie as if their
 * other keys were there, of which none is in front of the first or after the last. */
enum { GAP = 5 };

typedef struct input {
    const shape *shape;
    size_t stride;
    check_input q, k, v, wide_k, wide_v;
    vlm_attn_keys keys, wide_keys; /* those of the dtype, and as float */
    uint8_t first[VLM_ATTN_ROWS_MAX], end[VLM_ATTN_ROWS_MAX];
} input;

static const void *key_address(const void *data, size_t first, size_t key, size_t row_bytes)
{
    /* By numbers: it may lie in front of the buffer. */
    return (const void *)((uintptr_t)data + (key - first) * row_bytes);
}

static vlm_attn_keys keys_at(const shape *s, size_t stride, const void *k, const void *v,
                             size_t elem_size)
{
    vlm_attn_keys keys = {.stride = stride};
    for (size_t page = s->first / VLM_ATTN_PAGE; page * VLM_ATTN_PAGE < s->end; page++) {
        const size_t key = page * VLM_ATTN_PAGE;
        keys.k[page] = key_address(k, s->first, key, stride * elem_size);
        keys.v[page] = key_address(v, s->first, key, stride * elem_size);
    }
    return keys;
}

static check_input widened(vlm_dtype dtype, const check_input *from, size_t n)
{
    check_input to = check_input_new(n * sizeof(float));
    vlm_cpu_kernels_get(VLM_CPU_REFERENCE).widen[dtype](to.data, from->data, n);
    return to;
}

static size_t random_below(size_t n)
{
    return check_random() % n;
}

static input input_new(const shape *s)
{
    const size_t n_keys = s->end - s->first, stride = s->head_dim + GAP;
    const size_t n_kv = (n_keys - 1) * stride + s->head_dim;
    input in = {.shape = s,
                .stride = stride,
                .q = check_floats((s->n_rows - 1) * stride + s->head_dim),
                .k = check_weights(s->dtype, n_kv),
                .v = check_weights(s->dtype, n_kv)};
    in.wide_k = widened(s->dtype, &in.k, n_kv);
    in.wide_v = widened(s->dtype, &in.v, n_kv);
    in.keys = keys_at(s, stride, in.k.data, in.v.data, vlm_dtype_size(s->dtype));
    in.wide_keys = keys_at(s, stride, in.wide_k.data, in.wide_v.data, sizeof(float));
    const size_t shift = random_below(n_keys), window = 1 + random_below(n_keys);
    for (size_t r = 0; r < s->n_rows; r++) {
        size_t first = s->first, end = s->end;
        if (s->seen == CAUSAL || s->seen == WINDOW) {
            end = first + shift + r < s->end ? first + shift + r : s->end;
            if (s->seen == WINDOW && shift + r > window) first += shift + r - window;
        } else if (s->seen == ANY) {
            first += random_below(n_keys + 1);
            end = s->first + random_below(n_keys + 1);
        }
        in.first[r] = (uint8_t)(first < end ? first : 0);
        in.end[r] = (uint8_t)(first < end ? end : 0);
    }
    return in;
}

static void input_free(input *in)
{
    check_input_free(&in->q);
    check_input_free(&in->k);
    check_input_free(&in->v);
    check_input_free(&in->wide_k);
    check_input_free(&in->wide_v);
}

/* What is carried from block to block. */
typedef struct state {
    check_output acc, max, sum;
} state;

static state state_new(const input *in)
{
    const shape *s = in->shape;
    state to = {.acc = check_output_new((s->n_rows - 1) * in->stride + s->head_dim),
                .max = check_output_new(s->n_rows),
                .sum = check_output_new(s->n_rows)};
    for (size_t r = 0; r < s->n_rows; r++) {
        to.max.data[r] = -INFINITY;
        to.sum.data[r] = 0.0f;
        memset(to.acc.data + r * in->stride, 0, s->head_dim * sizeof(float));
    }
    return to;
}

static void state_free(state *s)
{
    check_output_free(&s->acc);
    check_output_free(&s->max);
    check_output_free(&s->sum);
}

/* The rows row..row+n-1 over the block twice, with other scores the second time, so that the first
 * is scaled down or up. */
static void run_rows(const vlm_cpu_kernels *kernels, const input *in, state *to, size_t row,
                     size_t n, float *scratch)
{
    vlm_attn_block_kernel *kernel = kernels->attn_block[in->shape->dtype];
    const vlm_attn_keys *keys = &in->keys;
    if (kernel == NULL) {
        kernel = kernels->attn_block[VLM_DTYPE_F32];
        keys = &in->wide_keys;
    }
    const vlm_attn_rows rows = {.acc = to->acc.data + row * in->stride,
                                .max = to->max.data + row,
                                .sum = to->sum.data + row,
                                .q = (const float *)in->q.data + row * in->stride,
                                .first = in->first + row,
                                .end = in->end + row,
                                .n = n,
                                .acc_stride = in->stride,
                                .q_stride = in->stride};
    /* Left-overs of an earlier call must not matter. */
    memset(scratch, 0xff, sizeof(float) * VLM_ATTN_SCRATCH_LEN);
    kernel(&rows, keys, in->shape->head_dim, 0.7f, scratch);
    kernel(&rows, keys, in->shape->head_dim, 1.3f, scratch);
}

static void check_same_bits(const state *a, const state *b, const shape *s)
{
    assert_memory_equal(a->acc.data, b->acc.data, a->acc.n * sizeof(float));
    assert_memory_equal(a->max.data, b->max.data, s->n_rows * sizeof(float));
    assert_memory_equal(a->sum.data, b->sum.data, s->n_rows * sizeof(float));
}

/* Products of numbers below 1, head_dim of them: sum_tolerance of test_kernels.c, for sums in a
 * row. */
static float score_tolerance(size_t head_dim)
{
    return 4e-7f * (1.0f + (float)head_dim / 8.0f);
}

static void check_states(const state *a, const state *b, const input *in)
{
    const shape *s = in->shape;
    /* Scores are off by that, so e^score is by that factor; the sum of n_keys of them, each at
     * most 1, then the mean of values below 1. */
    const float score = score_tolerance(s->head_dim), relative = 2e-6f + 4.0f * score;
    for (size_t r = 0; r < s->n_rows; r++) {
        const float sum = b->sum.data[r];
        check_near(a->max.data[r], b->max.data[r], 2.0f * score, "max");
        check_near(a->sum.data[r], sum, relative * sum, "sum");
        for (size_t i = 0; i < in->stride && r * in->stride + i < a->acc.n; i++) {
            const size_t at = r * in->stride + i;
            check_near(a->acc.data[at], b->acc.data[at], i < s->head_dim ? relative * sum : 0.0f,
                       "rows %zu keys %zu to %zu seen %d head_dim %zu at %zu", s->n_rows, s->first,
                       s->end, (int)s->seen, s->head_dim, at);
        }
    }
}

static void check_shape(const vlm_cpu_kernels *kernels, const shape *s, float *scratch)
{
    const vlm_cpu_kernels reference = vlm_cpu_kernels_get(VLM_CPU_REFERENCE);
    input in = input_new(s);
    state together = state_new(&in), expected = state_new(&in), alone = state_new(&in);
    run_rows(kernels, &in, &together, 0, s->n_rows, scratch);
    run_rows(&reference, &in, &expected, 0, s->n_rows, scratch);
    check_states(&together, &expected, &in);
    /* In parties of 1, 2, 3, ... rows: a bit is a bit. */
    for (size_t r = 0, n = 1; r < s->n_rows; r += n, n++) {
        if (n > s->n_rows - r) n = s->n_rows - r;
        run_rows(kernels, &in, &alone, r, n, scratch);
    }
    check_same_bits(&together, &alone, s);
    state_free(&together);
    state_free(&expected);
    state_free(&alone);
    input_free(&in);
}

static void attn_block_level(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    static const size_t dims[] = {1,  4,  7,  8,  9,  16,  17,  24,  31, 32,
                                  61, 64, 72, 80, 96, 128, 131, 160, 257};
    enum { N_DIMS = sizeof dims / sizeof dims[0] };
    float *scratch = aligned_alloc(64, sizeof(float) * VLM_ATTN_SCRATCH_LEN);
    assert_non_null(scratch);
    for (size_t i = 0; i < N_DIMS * 2 * N_SEEN; i++) {
        shape s = {.head_dim = dims[i / 2 / N_SEEN],
                   .dtype = i % 2 == 0 ? VLM_DTYPE_F32 : VLM_DTYPE_F16,
                   .seen = (seen)(i / 2 % N_SEEN)};
        for (size_t n_keys = 1; n_keys <= VLM_ATTN_KEYS_MAX; n_keys++) {
            if ((n_keys + i) % 5 != 0 && n_keys != VLM_ATTN_KEYS_MAX) continue;
            s.first = random_below(VLM_ATTN_KEYS_MAX - n_keys + 1);
            s.end = s.first + n_keys;
            s.n_rows = 1 + random_below(36);
            check_shape(&kernels, &s, scratch);
        }
        s.n_rows = VLM_ATTN_ROWS_MAX;
        check_shape(&kernels, &s, scratch);
    }
    /* Every number of rows. */
    for (size_t n = 1; n <= VLM_ATTN_ROWS_MAX; n++) {
        const shape s = {.n_rows = n, .head_dim = 40, .first = 3, .end = 60, .seen = CAUSAL};
        check_shape(&kernels, &s, scratch);
    }
    free(scratch);
}

/* A key that a row does not see is not weighed with 0: NaN in it, or in its value, stays there. */
static void attn_block_unseen(vlm_cpu_level level)
{
    const vlm_cpu_kernels kernels = vlm_cpu_kernels_get(level);
    float *scratch = aligned_alloc(64, sizeof(float) * VLM_ATTN_SCRATCH_LEN);
    assert_non_null(scratch);
    for (int is_value = 0; is_value < 2; is_value++) {
        const shape s = {
            .n_rows = 20, .head_dim = 40, .first = 0, .end = VLM_ATTN_KEYS_MAX, .seen = ANY};
        input in = input_new(&s);
        state clean = state_new(&in), spoilt = state_new(&in);
        run_rows(&kernels, &in, &clean, 0, s.n_rows, scratch);
        enum { SPOILT = 30 };
        float *data = is_value ? in.v.data : in.k.data;
        data[SPOILT * in.stride + 7] = NAN;
        run_rows(&kernels, &in, &spoilt, 0, s.n_rows, scratch);
        size_t n_seen = 0;
        for (size_t r = 0; r < s.n_rows; r++) {
            const size_t at = r * in.stride;
            const bool sees = in.first[r] <= SPOILT && SPOILT < in.end[r];
            n_seen += sees;
            if (sees)
                assert_true(isnan(spoilt.acc.data[at + 7]));
            else
                assert_memory_equal(spoilt.acc.data + at, clean.acc.data + at,
                                    s.head_dim * sizeof(float));
        }
        assert_true(n_seen >= 1 && n_seen <= s.n_rows - 1);
        state_free(&clean);
        state_free(&spoilt);
        input_free(&in);
    }
    free(scratch);
}

static void test_attn_block(void **unused)
{
    (void)unused;
    attn_block_level(VLM_CPU_REFERENCE);
    check_each_level(attn_block_level, "attn_block");
}

static void test_attn_block_unseen(void **unused)
{
    (void)unused;
    attn_block_unseen(VLM_CPU_REFERENCE);
    check_each_level(attn_block_unseen, "attn_block_unseen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attn_block),
        cmocka_unit_test(test_attn_block_unseen),
    };
    return cmocka_run_group_tests_name("tensor/attn_block", tests, NULL, NULL);
}
