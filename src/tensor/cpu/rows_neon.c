/* rows_neon.c - norms, rope and activations.  Not add and mul: the reference's loops are vectors
 * already, since every 64-bit ARM has NEON. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_neon.h"

#if defined(__aarch64__)

static float sum_squares_neon(const float *x, size_t n)
{
    vlm_f8 s = vlm_set8(0.0f);
    for (size_t i = 0; i < n; i += 8) {
        const vlm_f8 v = vlm_load_first(x + i, n - i);
        s = vlm_fma8(v, v, s);
    }
    return vlm_sum_lanes_neon(s);
}

static void mean_var_neon(const float *x, size_t n, float *mean, float *var)
{
    vlm_f8 s = vlm_set8(0.0f), t = vlm_set8(0.0f);
    for (size_t i = 0; i < n; i += 8) s = vlm_add8(s, vlm_load_first(x + i, n - i));
    *mean = vlm_sum_lanes_neon(s) / (float)n;
    const vlm_f8 m = vlm_set8(*mean);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const vlm_f8 d = vlm_sub8(vlm_loadu8(x + i), m);
        t = vlm_fma8(d, d, t);
    }
    if (i < n) {
        const vlm_f8 d = vlm_keep_first(vlm_sub8(vlm_load_first(x + i, n - i), m), n - i);
        t = vlm_fma8(d, d, t);
    }
    *var = vlm_sum_lanes_neon(t) / (float)n;
}

static void norm_apply_neon(float *y, const float *x, size_t n, float mean, float inv,
                            const float *w, const float *bias)
{
    const vlm_f8 m = vlm_set8(mean), f = vlm_set8(inv);
    for (size_t i = 0; i < n; i += 8) {
        const vlm_f8 d = vlm_mul8(vlm_sub8(vlm_load_first(x + i, n - i), m), f);
        const vlm_f8 weight = vlm_load_first(w + i, n - i);
        const vlm_f8 r = bias == NULL ? vlm_mul8(d, weight)
                                      : vlm_fma8(d, weight, vlm_load_first(bias + i, n - i));
        vlm_store_first(y + i, r, n - i);
    }
}

/* Pairs i..i+n-1 of all heads, n <= 4. */
VLM_INLINE void rope4(float *x, size_t n_heads, size_t half, const float *cos_sin, size_t n)
{
    /* c0 s0 c1 s1 ... to c0..c3 and s0..s3. */
    const vlm_f8 both = vlm_load_first(cos_sin, 2 * n);
    const float32x4_t c = vuzp1q_f32(both.lo, both.hi), s = vuzp2q_f32(both.lo, both.hi);
    for (size_t h = 0; h < n_heads; h++, x += 2 * half) {
        float a4[4] = {0}, b4[4] = {0};
        const bool whole = n == 4;
        if (!whole) {
            memcpy(a4, x, n * sizeof *x);
            memcpy(b4, x + half, n * sizeof *x);
        }
        const float32x4_t a = vld1q_f32(whole ? x : a4), b = vld1q_f32(whole ? x + half : b4);
        vst1q_f32(whole ? x : a4, vfmaq_f32(vnegq_f32(vmulq_f32(b, s)), a, c));
        vst1q_f32(whole ? x + half : b4, vfmaq_f32(vmulq_f32(a, s), b, c));
        if (!whole) {
            memcpy(x, a4, n * sizeof *x);
            memcpy(x + half, b4, n * sizeof *x);
        }
    }
}

static void rope_neon(float *x, size_t n_heads, size_t half, const float *cos_sin)
{
    size_t i = 0;
    for (; i + 4 <= half; i += 4) rope4(x + i, n_heads, half, cos_sin + 2 * i, 4);
    if (i < half) rope4(x + i, n_heads, half, cos_sin + 2 * i, half - i);
}

/* x / (1 + e^-u) */
VLM_INLINE float32x4_t times_sigmoid(float32x4_t x, float32x4_t u)
{
    return vdivq_f32(x, vaddq_f32(vlm_exp4(vnegq_f32(u)), vdupq_n_f32(1.0f)));
}

/* As rows_avx2.c has it: x/2 erfc(-x/sqrt 2) with erfc(z) = e^(-z^2) t Q(t), t = 1/(1 + z/2). */
VLM_INLINE float32x4_t gelu4(float32x4_t x)
{
    static const float q[] = {-5.91270216e-02f, 2.84858614e-01f,  -4.87787962e-01f,
                              2.78740734e-01f,  -2.70902365e-02f, 2.02883661e-01f,
                              2.43053973e-01f,  2.82382160e-01f,  2.82086015e-01f};
    const float32x4_t one = vdupq_n_f32(1.0f);
    const float32x4_t z = vabsq_f32(vmulq_f32(x, vdupq_n_f32(0.707106781f)));
    const float32x4_t t = vdivq_f32(one, vfmaq_f32(one, z, vdupq_n_f32(0.5f)));
    float32x4_t poly = vdupq_n_f32(q[0]);
    for (size_t i = 1; i < sizeof q / sizeof q[0]; i++)
        poly = vfmaq_f32(vdupq_n_f32(q[i]), poly, t);
    const float32x4_t e = vlm_exp4(vnegq_f32(vmulq_f32(z, z)));
    /* Half of erfc(z), which is the factor of a negative x. */
    const float32x4_t half_erfc = vmulq_f32(vdupq_n_f32(0.5f), vmulq_f32(e, vmulq_f32(t, poly)));
    const uint32x4_t negative = vcltzq_s32(vreinterpretq_s32_f32(x));
    return vmulq_f32(x, vbslq_f32(negative, half_erfc, vsubq_f32(one, half_erfc)));
}

VLM_INLINE float32x4_t gelu_tanh4(float32x4_t x)
{
    /* (1 + tanh u) / 2 is the sigmoid of 2u. */
    const float32x4_t cube = vmulq_f32(vmulq_f32(x, x), x);
    const float32x4_t u = vfmaq_f32(x, cube, vdupq_n_f32(0.044715f));
    return times_sigmoid(x, vmulq_f32(u, vdupq_n_f32(2.0f * 0.797884561f)));
}

VLM_INLINE float32x4_t quick_gelu4(float32x4_t x)
{
    return times_sigmoid(x, vmulq_f32(x, vdupq_n_f32(1.702f)));
}

VLM_INLINE float32x4_t silu4(float32x4_t x)
{
    return times_sigmoid(x, x);
}

VLM_INLINE float32x4_t relu4(float32x4_t x)
{
    return vbslq_f32(vcltzq_f32(x), vdupq_n_f32(0.0f), x); /* x when x is NaN */
}

#define ACT_OF(name)                                                                               \
    static void act_##name##_neon(float *x, size_t n)                                              \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + 4 <= n; i += 4) vst1q_f32(x + i, name##4(vld1q_f32(x + i)));                    \
        if (i == n) return;                                                                        \
        float last[4] = {0};                                                                       \
        memcpy(last, x + i, (n - i) * sizeof *x);                                                  \
        vst1q_f32(last, name##4(vld1q_f32(last)));                                                 \
        memcpy(x + i, last, (n - i) * sizeof *x);                                                  \
    }
ACT_OF(gelu)
ACT_OF(gelu_tanh)
ACT_OF(quick_gelu)
ACT_OF(silu)
ACT_OF(relu)

void vlm_cpu_kernels_fill_neon(vlm_cpu_kernels *kernels)
{
    vlm_cpu_fill_linear_neon(kernels);
    vlm_cpu_fill_pack_neon(kernels);
    vlm_cpu_fill_packed_neon(kernels);
    vlm_cpu_fill_attn_neon(kernels);
    kernels->sum_squares = sum_squares_neon;
    kernels->mean_var = mean_var_neon;
    kernels->norm_apply = norm_apply_neon;
    kernels->rope = rope_neon;
    kernels->act[VLM_ACT_GELU] = act_gelu_neon;
    kernels->act[VLM_ACT_GELU_TANH] = act_gelu_tanh_neon;
    kernels->act[VLM_ACT_QUICK_GELU] = act_quick_gelu_neon;
    kernels->act[VLM_ACT_SILU] = act_silu_neon;
    kernels->act[VLM_ACT_RELU] = act_relu_neon;
}

#endif
