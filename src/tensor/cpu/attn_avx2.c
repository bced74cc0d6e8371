#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX2__)

typedef float score_row[VLM_ATTN_KEYS_MAX];

/* The keys or values first..first+n-1 of a block. */
typedef struct key_run {
    const void *const *pages;
    size_t stride, first, n;
} key_run;

VLM_INLINE const float *key_at(const key_run *keys, size_t j)
{
    return (const float *)keys->pages[j / VLM_ATTN_PAGE] + j % VLM_ATTN_PAGE * keys->stride;
}

/* p[r][j] = scale * q_r k_j for n_rows rows (a constant, at most VLM_TILE_ROWS). */
VLM_INLINE void score_rows(const size_t n_rows, score_row *p, const float *q, size_t q_stride,
                           const key_run *keys, size_t head_dim, float scale)
{
    const size_t stride = keys->stride;
    for (size_t j = 0, n; j < keys->n; j += n) {
        __m256 s[VLM_TILE_ROWS][VLM_TILE_OUTS];
        for (size_t r = 0; r < n_rows; r++) {
            for (size_t i = 0; i < VLM_TILE_OUTS; i++) s[r][i] = _mm256_setzero_ps();
        }
        const size_t at = (keys->first + j) % VLM_ATTN_PAGE;
        const float *from = key_at(keys, keys->first + j);
        n = keys->n - j < VLM_ATTN_PAGE - at ? keys->n - j : VLM_ATTN_PAGE - at;
        if (n > VLM_TILE_OUTS) n = VLM_TILE_OUTS;
        switch (n) {
        case 1: vlm_dot_tile(n_rows, 1, s, q, q_stride, from, stride, head_dim); break;
        case 2: vlm_dot_tile(n_rows, 2, s, q, q_stride, from, stride, head_dim); break;
        case 3: vlm_dot_tile(n_rows, 3, s, q, q_stride, from, stride, head_dim); break;
        default: vlm_dot_tile(n_rows, VLM_TILE_OUTS, s, q, q_stride, from, stride, head_dim); break;
        }
        /* Past the last key of the group this writes zeros, which the next group overwrites or
         * nobody reads; the row is long enough, since groups but the first page's begin at keys
         * divisible by 4. */
        for (size_t r = 0; r < n_rows; r++) {
            const __m128 sum = vlm_sum_lanes_x4(s[r][0], s[r][1], s[r][2], s[r][3]);
            _mm_storeu_ps(&p[r][j], _mm_mul_ps(sum, _mm_set1_ps(scale)));
        }
    }
}

/* max of the lanes of max and the first n <= 8 scores; a NaN among the scores is passed over. */
VLM_INLINE __m256 max8(__m256 max, const float *p, size_t n)
{
    const __m256 s = vlm_load_first(p, n);
    if (n == 8) return _mm256_max_ps(s, max);
    return _mm256_max_ps(_mm256_blendv_ps(max, s, _mm256_castsi256_ps(vlm_mask8(n))), max);
}

/* The first n <= 8 scores to exp(score - max); returned with zeros after them. */
VLM_INLINE __m256 exp8(__m256 max, float *p, size_t n)
{
    __m256 e = vlm_exp_avx2(_mm256_sub_ps(vlm_load_first(p, n), max));
    if (n < 8) e = _mm256_and_ps(e, _mm256_castsi256_ps(vlm_mask8(n)));
    vlm_store_first(p, e, n);
    return e;
}

/* Scores to exp(score - max) in place; the factor for what was summed before is returned. */
static float softmax_row(float *p, size_t n_keys, float *row_max, float *row_sum)
{
    __m256 max = _mm256_set1_ps(*row_max);
    size_t j = 0;
    for (; j + 8 <= n_keys; j += 8) max = max8(max, p + j, 8);
    if (j < n_keys) max = max8(max, p + j, n_keys - j);
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(max), _mm256_extractf128_ps(max, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_shuffle_ps(m, m, 1));
    max = _mm256_broadcastss_ps(m);

    __m256 sums = _mm256_setzero_ps();
    for (j = 0; j + 8 <= n_keys; j += 8) sums = _mm256_add_ps(sums, exp8(max, p + j, 8));
    if (j < n_keys) sums = _mm256_add_ps(sums, exp8(max, p + j, n_keys - j));
    const __m256 before = _mm256_set1_ps(*row_max);
    const float keep = _mm256_cvtss_f32(vlm_exp_avx2(_mm256_sub_ps(before, max)));
    *row_max = _mm_cvtss_f32(m);
    *row_sum = *row_sum * keep + vlm_sum_lanes_avx2(sums);
    return keep;
}

/* acc_r[i] = acc_r[i] * keep_r + sum over j of p_r[j] v_j[i], i from column `at` on, for n_rows
 * rows and n_vecs vectors of 8 (constants); p rows are VLM_ATTN_KEYS_MAX apart.  The last vector
 * holds n_last elements. */
VLM_INLINE void value_tile(const size_t n_rows, const size_t n_vecs, float *acc, size_t acc_stride,
                           const float *keep, const float *p, const key_run *keys, size_t at,
                           size_t n_last)
{
    enum { VECS_MAX = 12 };
    __m256 s[VECS_MAX];
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n_vecs; i++) {
            const __m256 before =
                vlm_load_first(acc + r * acc_stride + at + 8 * i, i + 1 == n_vecs ? n_last : 8);
            s[r * n_vecs + i] = _mm256_mul_ps(before, _mm256_set1_ps(keep[r]));
        }
    }
    for (size_t j = 0; j < keys->n;) {
        const size_t in_page = (keys->first + j) % VLM_ATTN_PAGE;
        const float *v = key_at(keys, keys->first + j) + at;
        size_t end = j + VLM_ATTN_PAGE - in_page;
        if (end > keys->n) end = keys->n;
        for (; j < end; j++, v += keys->stride) {
            __m256 value[VECS_MAX];
            for (size_t i = 0; i < n_vecs; i++)
                value[i] = vlm_load_first(v + 8 * i, i + 1 == n_vecs ? n_last : 8);
            for (size_t r = 0; r < n_rows; r++) {
                const __m256 weight = _mm256_broadcast_ss(&p[r * VLM_ATTN_KEYS_MAX + j]);
                for (size_t i = 0; i < n_vecs; i++)
                    s[r * n_vecs + i] = _mm256_fmadd_ps(weight, value[i], s[r * n_vecs + i]);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n_vecs; i++) {
            vlm_store_first(acc + r * acc_stride + at + 8 * i, s[r * n_vecs + i],
                            i + 1 == n_vecs ? n_last : 8);
        }
    }
}

/* value_tile over the whole head, n_vecs vectors at a time, then one by one. */
VLM_INLINE void value_rows(const size_t n_rows, const size_t n_vecs, float *acc, size_t acc_stride,
                           const float *keep, const float *p, const key_run *keys, size_t head_dim)
{
    size_t i = 0;
    for (; i + 8 * n_vecs <= head_dim; i += 8 * n_vecs)
        value_tile(n_rows, n_vecs, acc, acc_stride, keep, p, keys, i, 8);
    for (; i + 8 <= head_dim; i += 8) value_tile(n_rows, 1, acc, acc_stride, keep, p, keys, i, 8);
    if (i < head_dim) value_tile(n_rows, 1, acc, acc_stride, keep, p, keys, i, head_dim - i);
}

/* n rows from row `row` on, which see the same keys. */
static void same_rows(const vlm_attn_rows *rows, size_t row, size_t n, const vlm_attn_keys *keys,
                      size_t head_dim, float scale)
{
    score_row p[VLM_ATTN_ROWS_MAX];
    float keep[VLM_ATTN_ROWS_MAX];
    const size_t first = rows->first[row], n_keys = rows->end[row] - first;
    const key_run k = {.pages = keys->k, .stride = keys->stride, .first = first, .n = n_keys};
    const key_run v = {.pages = keys->v, .stride = keys->stride, .first = first, .n = n_keys};
    const size_t q_stride = rows->q_stride, acc_stride = rows->acc_stride;
    const float *q = rows->q + row * q_stride;
    float *acc = rows->acc + row * acc_stride;
    size_t r = 0;
    for (; r + VLM_TILE_ROWS <= n; r += VLM_TILE_ROWS)
        score_rows(VLM_TILE_ROWS, p + r, q + r * q_stride, q_stride, &k, head_dim, scale);
    for (; r < n; r++) score_rows(1, p + r, q + r * q_stride, q_stride, &k, head_dim, scale);
    for (r = 0; r < n; r++)
        keep[r] = softmax_row(p[r], n_keys, &rows->max[row + r], &rows->sum[row + r]);
    for (r = 0; r + 6 <= n; r += 6)
        value_rows(6, 2, acc + r * acc_stride, acc_stride, keep + r, p[r], &v, head_dim);
    for (; r < n; r++)
        value_rows(1, 8, acc + r * acc_stride, acc_stride, keep + r, p[r], &v, head_dim);
}

static void attn_block_avx2(const vlm_attn_rows *rows, const vlm_attn_keys *keys, size_t head_dim,
                            float scale, float *scratch)
{
    (void)scratch;
    for (size_t r = 0, n; r < rows->n; r += n) {
        for (n = 1; r + n < rows->n; n++) {
            if (rows->first[r + n] != rows->first[r] || rows->end[r + n] != rows->end[r]) break;
        }
        if (rows->first[r] < rows->end[r]) same_rows(rows, r, n, keys, head_dim, scale);
    }
}

void vlm_cpu_fill_attn_avx2(vlm_cpu_kernels *kernels)
{
    kernels->attn_block[VLM_DTYPE_F32] = attn_block_avx2;
}

#endif
