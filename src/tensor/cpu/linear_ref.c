#include <stdint.h>
#include <string.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/lanes.h"

enum { CHUNK = 256 };

/* sums[k % 8] += x[k] * w[k] */
static void add_products(float sums[VLM_LANES], const float *x, const float *w, size_t n_k)
{
    float s[VLM_LANES];
    memcpy(s, sums, sizeof s);
    size_t k = 0;
    for (; k + VLM_LANES <= n_k; k += VLM_LANES) {
        for (size_t i = 0; i < VLM_LANES; i++) s[i] += x[k + i] * w[k + i];
    }
    for (size_t i = 0; k + i < n_k; i++) s[i] += x[k + i] * w[k + i];
    memcpy(sums, s, sizeof s);
}

static void linear(float *y, size_t y_stride, const float *x, size_t n, const unsigned char *w,
                   size_t elem_size, vlm_widen_kernel *widen, size_t n_out, size_t n_k,
                   const float *bias, bool add)
{
    float chunk[CHUNK];
    float sums[VLM_LINEAR_ROWS_MAX][VLM_LANES];
    for (size_t o = 0; o < n_out; o++, w += n_k * elem_size) {
        memset(sums, 0, n * sizeof sums[0]);
        for (size_t k = 0; k < n_k; k += CHUNK) {
            const size_t len = n_k - k < CHUNK ? n_k - k : CHUNK;
            widen(chunk, w + k * elem_size, len);
            for (size_t r = 0; r < n; r++) add_products(sums[r], x + r * n_k + k, chunk, len);
        }
        for (size_t r = 0; r < n; r++) {
            float sum = vlm_sum_lanes(sums[r]);
            if (bias != NULL) sum += bias[o];
            float *out = &y[r * y_stride + o];
            *out = add ? *out + sum : sum;
        }
    }
}

void vlm_cpu_widen_f32(float *dst, const void *src, size_t n)
{
    if (n > 0) memcpy(dst, src, n * sizeof *dst);
}

void vlm_cpu_widen_f16(float *dst, const void *src, size_t n)
{
    const uint16_t *from = src;
    for (size_t i = 0; i < n; i++) dst[i] = vlm_f16_to_f32(from[i]);
}

void vlm_cpu_narrow_f16(void *dst, const float *src, size_t n)
{
    uint16_t *to = dst;
    for (size_t i = 0; i < n; i++) to[i] = vlm_f32_to_f16(src[i]);
}

void vlm_cpu_widen_bf16(float *dst, const void *src, size_t n)
{
    const uint16_t *from = src;
    for (size_t i = 0; i < n; i++) dst[i] = vlm_bf16_to_f32(from[i]);
}

#define LINEAR_OF(dtype, size)                                                                     \
    static void linear_##dtype##_reference(float *y, size_t y_stride, const float *x, size_t n,    \
                                           const void *w, size_t n_out, size_t n_k,                \
                                           const float *bias, bool add, float *scratch)            \
    {                                                                                              \
        (void)scratch;                                                                             \
        linear(y, y_stride, x, n, w, size, vlm_cpu_widen_##dtype, n_out, n_k, bias, add);          \
    }
LINEAR_OF(f32, 4)
LINEAR_OF(f16, 2)
LINEAR_OF(bf16, 2)

vlm_linear_kernel *const vlm_cpu_linear_reference[VLM_N_DTYPES] = {
    [VLM_DTYPE_F32] = linear_f32_reference,
    [VLM_DTYPE_F16] = linear_f16_reference,
    [VLM_DTYPE_BF16] = linear_bf16_reference,
};
