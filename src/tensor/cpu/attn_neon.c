#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_neon.h"

#if defined(__aarch64__)

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
        vlm_f8 s[VLM_TILE_ROWS][VLM_TILE_OUTS];
        for (size_t r = 0; r < n_rows; r++)
            for (size_t i = 0; i < VLM_TILE_OUTS; i++) s[r][i] = vlm_set8(0.0f);
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
            const float32x4_t sum = vlm_sum_lanes_x4(s[r][0], s[r][1], s[r][2], s[r][3]);
            vst1q_f32(&p[r][j], vmulq_n_f32(sum, scale));
        }
    }
}

/* The larger of each lane; a NaN in s is passed over. */
VLM_INLINE float32x4_t larger(float32x4_t max, float32x4_t s)
{
    return vbslq_f32(vcgtq_f32(s, max), s, max);
}

/* Scores to exp(score - max) in place; the factor for what was summed before is returned. */
static float softmax_row(float *p, size_t n_keys, float *row_max, float *row_sum)
{
    /* To whole vectors, with scores that weigh nothing: the row has room for 64. */
    const size_t n_all = (n_keys + 7) / 8 * 8;
    for (size_t j = n_keys; j < n_all; j++) p[j] = -__builtin_inff();
    float32x4_t max4 = vdupq_n_f32(*row_max);
    for (size_t j = 0; j < n_all; j += 4) max4 = larger(max4, vld1q_f32(p + j));
    /* No NaN is left unless the row began with one. */
    const float max = vmaxvq_f32(max4);
    const vlm_f8 m = vlm_set8(max);
    vlm_f8 sums = vlm_set8(0.0f);
    for (size_t j = 0; j < n_all; j += 8) {
        const size_t n = n_keys - j < 8 ? n_keys - j : 8;
        vlm_f8 e = vlm_exp8(vlm_sub8(vlm_loadu8(p + j), m));
        if (n < 8) e = vlm_keep_first(e, n);
        vlm_storeu8(p + j, e);
        sums = vlm_add8(sums, e);
    }
    const float keep = vgetq_lane_f32(vlm_exp4(vdupq_n_f32(*row_max - max)), 0);
    *row_max = max;
    *row_sum = *row_sum * keep + vlm_sum_lanes_neon(sums);
    return keep;
}

/* acc_r[i] = acc_r[i] * keep_r + sum over j of p_r[j] v_j[i], i from column `at` on, for n_rows
 * rows and n_vecs vectors of 4 (constants); p rows are VLM_ATTN_KEYS_MAX apart. */
VLM_INLINE void value_tile(const size_t n_rows, const size_t n_vecs, float *acc, size_t acc_stride,
                           const float *keep, const float *p, const key_run *keys, size_t at)
{
    enum { VECS_MAX = 24 };
    float32x4_t s[VECS_MAX];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n_vecs; i++)
            s[r * n_vecs + i] = vmulq_n_f32(vld1q_f32(acc + r * acc_stride + at + 4 * i), keep[r]);
    for (size_t j = 0; j < keys->n;) {
        const size_t in_page = (keys->first + j) % VLM_ATTN_PAGE;
        const float *v = key_at(keys, keys->first + j) + at;
        size_t end = j + VLM_ATTN_PAGE - in_page;
        if (end > keys->n) end = keys->n;
        for (; j < end; j++, v += keys->stride) {
            float32x4_t value[VECS_MAX];
            for (size_t i = 0; i < n_vecs; i++) value[i] = vld1q_f32(v + 4 * i);
            for (size_t r = 0; r < n_rows; r++) {
                const float32x4_t weight = vld1q_dup_f32(&p[r * VLM_ATTN_KEYS_MAX + j]);
                for (size_t i = 0; i < n_vecs; i++)
                    s[r * n_vecs + i] = vfmaq_f32(s[r * n_vecs + i], weight, value[i]);
            }
        }
    }
    for (size_t r = 0; r < n_rows; r++)
        for (size_t i = 0; i < n_vecs; i++)
            vst1q_f32(acc + r * acc_stride + at + 4 * i, s[r * n_vecs + i]);
}

/* The same for one column, fused as the vectors are. */
static void value_column(size_t n_rows, float *acc, size_t acc_stride, const float *keep,
                         const float *p, const key_run *keys, size_t at)
{
    for (size_t r = 0; r < n_rows; r++) {
        float s = acc[r * acc_stride + at] * keep[r];
        for (size_t j = 0; j < keys->n; j++) {
            const float value = key_at(keys, keys->first + j)[at];
            s = __builtin_fmaf(p[r * VLM_ATTN_KEYS_MAX + j], value, s);
        }
        acc[r * acc_stride + at] = s;
    }
}

/* value_tile over the whole head, n_vecs vectors at a time, then one by one. */
VLM_INLINE void value_rows(const size_t n_rows, const size_t n_vecs, float *acc, size_t acc_stride,
                           const float *keep, const float *p, const key_run *keys, size_t head_dim)
{
    size_t i = 0;
    for (; i + 4 * n_vecs <= head_dim; i += 4 * n_vecs)
        value_tile(n_rows, n_vecs, acc, acc_stride, keep, p, keys, i);
    for (; i + 4 <= head_dim; i += 4) value_tile(n_rows, 1, acc, acc_stride, keep, p, keys, i);
    for (; i < head_dim; i++) value_column(n_rows, acc, acc_stride, keep, p, keys, i);
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
        value_rows(6, 4, acc + r * acc_stride, acc_stride, keep + r, p[r], &v, head_dim);
    for (; r < n; r++)
        value_rows(1, 16, acc + r * acc_stride, acc_stride, keep + r, p[r], &v, head_dim);
}

static void attn_block_neon(const vlm_attn_rows *rows, const vlm_attn_keys *keys, size_t head_dim,
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

void vlm_cpu_fill_attn_neon(vlm_cpu_kernels *kernels)
{
    kernels->attn_block[VLM_DTYPE_F32] = attn_block_neon;
}

#endif
