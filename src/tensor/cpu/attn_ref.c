#include <math.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/lanes.h"

static float dot(const float *a, const float *b, size_t n)
{
    float s[VLM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % VLM_LANES] += a[i] * b[i];
    return vlm_sum_lanes(s);
}

static const float *row_of(const void *const *pages, size_t stride, size_t j)
{
    return (const float *)pages[j / VLM_ATTN_PAGE] + j % VLM_ATTN_PAGE * stride;
}

static void attn_row(const vlm_attn_rows *rows, size_t r, const vlm_attn_keys *keys,
                     size_t head_dim, float scale)
{
    const size_t first = rows->first[r], end = rows->end[r];
    const float *q = rows->q + r * rows->q_stride;
    float *acc = rows->acc + r * rows->acc_stride;
    float p[VLM_ATTN_KEYS_MAX];
    float max = rows->max[r];
    for (size_t j = first; j < end; j++) {
        p[j] = dot(q, row_of(keys->k, keys->stride, j), head_dim) * scale;
        if (p[j] > max) max = p[j];
    }
    float sums[VLM_LANES] = {0};
    for (size_t j = first; j < end; j++) {
        p[j] = expf(p[j] - max);
        sums[(j - first) % VLM_LANES] += p[j];
    }
    const float keep = expf(rows->max[r] - max);
    rows->max[r] = max;
    rows->sum[r] = rows->sum[r] * keep + vlm_sum_lanes(sums);
    for (size_t i = 0; i < head_dim; i++) acc[i] *= keep;
    for (size_t j = first; j < end; j++) {
        const float *v_row = row_of(keys->v, keys->stride, j);
        for (size_t i = 0; i < head_dim; i++) acc[i] += p[j] * v_row[i];
    }
}

void vlm_cpu_attn_block_reference(const vlm_attn_rows *rows, const vlm_attn_keys *keys,
                                  size_t head_dim, float scale, float *scratch)
{
    (void)scratch;
    for (size_t r = 0; r < rows->n; r++) {
        if (rows->first[r] < rows->end[r]) attn_row(rows, r, keys, head_dim, scale);
    }
}
