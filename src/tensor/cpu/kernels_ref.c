#include <math.h>

#include "tensor/cpu/kernels.h"
#include "tensor/cpu/lanes.h"

static float sum_squares(const float *x, size_t n)
{
    float s[VLM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % VLM_LANES] += x[i] * x[i];
    return vlm_sum_lanes(s);
}

static void mean_var(const float *x, size_t n, float *mean, float *var)
{
    float s[VLM_LANES] = {0}, t[VLM_LANES] = {0};
    for (size_t i = 0; i < n; i++) s[i % VLM_LANES] += x[i];
    *mean = vlm_sum_lanes(s) / (float)n;
    for (size_t i = 0; i < n; i++) {
        const float d = x[i] - *mean;
        t[i % VLM_LANES] += d * d;
    }
    *var = vlm_sum_lanes(t) / (float)n;
}

static void norm_apply(float *y, const float *x, size_t n, float mean, float inv, const float *w,
                       const float *bias)
{
    for (size_t i = 0; i < n; i++) {
        const float scaled = (x[i] - mean) * inv * w[i];
        y[i] = bias == NULL ? scaled : scaled + bias[i];
    }
}

static void rope(float *x, size_t n_heads, size_t half, const float *cos_sin)
{
    for (size_t h = 0; h < n_heads; h++, x += 2 * half) {
        for (size_t i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1];
            x[i] = a * c - b * s;
            x[i + half] = b * c + a * s;
        }
    }
}

static void act_gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.707106781f));
}

static void act_gelu_tanh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float u = 0.797884561f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        x[i] = 0.5f * x[i] * (1.0f + tanhf(u));
    }
}

static void act_quick_gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + expf(-1.702f * x[i]));
}

static void act_silu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = x[i] / (1.0f + expf(-x[i]));
}

static void act_relu(float *x, size_t n)
{
    /* NaN stays NaN, as in torch. */
    for (size_t i = 0; i < n; i++) x[i] = x[i] < 0.0f ? 0.0f : x[i];
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void mul(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= y[i];
}

void vlm_cpu_kernels_fill_reference(vlm_cpu_kernels *kernels)
{
    *kernels = (vlm_cpu_kernels){
        .widen = {[VLM_DTYPE_F32] = vlm_cpu_widen_f32,
                  [VLM_DTYPE_F16] = vlm_cpu_widen_f16,
                  [VLM_DTYPE_BF16] = vlm_cpu_widen_bf16},
        .narrow_f16 = vlm_cpu_narrow_f16,
        .attn_block = {[VLM_DTYPE_F32] = vlm_cpu_attn_block_reference},
        .sum_squares = sum_squares,
        .mean_var = mean_var,
        .norm_apply = norm_apply,
        .rope = rope,
        .act = {[VLM_ACT_GELU] = act_gelu,
                [VLM_ACT_GELU_TANH] = act_gelu_tanh,
                [VLM_ACT_QUICK_GELU] = act_quick_gelu,
                [VLM_ACT_SILU] = act_silu,
                [VLM_ACT_RELU] = act_relu},
        .add = add,
        .mul = mul,
    };
    for (int i = 0; i < VLM_N_DTYPES; i++) kernels->linear[i] = vlm_cpu_linear_reference[i];
    vlm_cpu_fill_packed_reference(kernels);
}
