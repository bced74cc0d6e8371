#include <math.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/lanes.h"

static float dot(const float *a, const float *b, size_t n)
{
    float s[VLM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % VLM_LANES] += a[i] * b[i];
    return vlm_sum_lanes(s);
}

static const float *row_of(const float *const *pages, const vlm_attn_keys *keys, size_t j)
{
    const size_t i = keys->first + j;
    return pages[i / VLM_ATTN_PAGE] + i % VLM_ATTN_PAGE * keys->stride;
}

static void attn_row(float *acc, float *row_max, float *row_sum, const float *q,
                     const vlm_attn_keys *keys, size_t head_dim, float scale)
{
    const size_t n_keys = keys->n;
    float p[VLM_ATTN_KEYS_MAX];
    float max = *row_max;
    for (size_t j = 0; j < n_keys; j++) {
        p[j] = dot(q, row_of(keys->k, keys, j), head_dim) * scale;
        if (p[j] > max) max = p[j];
    }
    float sums[VLM_LANES] = {0};
    for (size_t j = 0; j < n_keys; j++) {
        p[j] = expf(p[j] - max);
        sums[j % VLM_LANES] += p[j];
    }
    const float keep = expf(*row_max - max);
    *row_max = max;
    *row_sum = *row_sum * keep + vlm_sum_lanes(sums);
    for (size_t i = 0; i < head_dim; i++) acc[i] *= keep;
    for (size_t j = 0; j < n_keys; j++) {
        const float *v_row = row_of(keys->v, keys, j);
        for (size_t i = 0; i < head_dim; i++) acc[i] += p[j] * v_row[i];
    }
}

void vlm_cpu_attn_block_reference(float *acc, size_t acc_stride, float *row_max, float *row_sum,
                                  const float *q, size_t q_stride, size_t n_rows,
                                  const vlm_attn_keys *keys, size_t head_dim, float scale)
{
    for (size_t r = 0; r < n_rows; r++)
        attn_row(acc + r * acc_stride, &row_max[r], &row_sum[r], q + r * q_stride, keys, head_dim,
                 scale);
}
