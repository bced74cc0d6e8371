#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx2.h"

#if defined(__AVX2__)

static float sum_squares_avx2(const float *x, size_t n)
{
    __m256 s = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256 v = _mm256_loadu_ps(x + i);
        s = _mm256_fmadd_ps(v, v, s);
    }
    if (i < n) {
        const __m256 v = vlm_load_first(x + i, n - i);
        s = _mm256_fmadd_ps(v, v, s);
    }
    return vlm_sum_lanes_avx2(s);
}

static void mean_var_avx2(const float *x, size_t n, float *mean, float *var)
{
    __m256 s = _mm256_setzero_ps(), t = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 8 <= n; i += 8) s = _mm256_add_ps(s, _mm256_loadu_ps(x + i));
    if (i < n) s = _mm256_add_ps(s, vlm_load_first(x + i, n - i));
    *mean = vlm_sum_lanes_avx2(s) / (float)n;
    const __m256 m = _mm256_set1_ps(*mean);
    for (i = 0; i + 8 <= n; i += 8) {
        const __m256 d = _mm256_sub_ps(_mm256_loadu_ps(x + i), m);
        t = _mm256_fmadd_ps(d, d, t);
    }
    if (i < n) {
        const __m256 mask = _mm256_castsi256_ps(vlm_mask8(n - i));
        const __m256 d = _mm256_and_ps(_mm256_sub_ps(vlm_load_first(x + i, n - i), m), mask);
        t = _mm256_fmadd_ps(d, d, t);
    }
    *var = vlm_sum_lanes_avx2(t) / (float)n;
}

VLM_INLINE void norm_apply8(float *y, const float *x, size_t n, __m256 mean, __m256 inv,
                            const float *w, const float *bias)
{
    const __m256 d = _mm256_mul_ps(_mm256_sub_ps(vlm_load_first(x, n), mean), inv);
    const __m256 weight = vlm_load_first(w, n);
    const __m256 r = bias == NULL ? _mm256_mul_ps(d, weight)
                                  : _mm256_fmadd_ps(d, weight, vlm_load_first(bias, n));
    vlm_store_first(y, r, n);
}

static void norm_apply_avx2(float *y, const float *x, size_t n, float mean, float inv,
                            const float *w, const float *bias)
{
    const __m256 m = _mm256_set1_ps(mean), f = _mm256_set1_ps(inv);
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        norm_apply8(y + i, x + i, 8, m, f, w + i, bias == NULL ? NULL : bias + i);
    if (i < n) norm_apply8(y + i, x + i, n - i, m, f, w + i, bias == NULL ? NULL : bias + i);
}

/* Pairs i..i+n-1 of all heads, n <= 8. */
VLM_INLINE void rope8(float *x, size_t n_heads, size_t half, const float *cos_sin, size_t n)
{
    const __m256 low = vlm_load_first(cos_sin, n > 4 ? 8 : 2 * n);
    const __m256 high = n > 4 ? vlm_load_first(cos_sin + 8, 2 * n - 8) : _mm256_setzero_ps();
    /* c0 s0 c1 s1 ... to c0..c7 and s0..s7. */
    const __m256 c = _mm256_castpd_ps(
        _mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88)), 0xd8));
    const __m256 s = _mm256_castpd_ps(
        _mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(low, high, 0xdd)), 0xd8));
    for (size_t h = 0; h < n_heads; h++, x += 2 * half) {
        const __m256 a = vlm_load_first(x, n), b = vlm_load_first(x + half, n);
        vlm_store_first(x, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)), n);
        vlm_store_first(x + half, _mm256_fmadd_ps(b, c, _mm256_mul_ps(a, s)), n);
    }
}

static void rope_avx2(float *x, size_t n_heads, size_t half, const float *cos_sin)
{
    size_t i = 0;
    for (; i + 8 <= half; i += 8) rope8(x + i, n_heads, half, cos_sin + 2 * i, 8);
    if (i < half) rope8(x + i, n_heads, half, cos_sin + 2 * i, half - i);
}

/* x / (1 + e^-u) */
VLM_INLINE __m256 times_sigmoid(__m256 x, __m256 u)
{
    const __m256 e = vlm_exp_avx2(_mm256_sub_ps(_mm256_setzero_ps(), u));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

/* x/2 erfc(-x/sqrt 2), where erfc(z) = e^(-z^2) t Q(t) with t = 1/(1 + z/2) for z >= 0 and
 * 2 - erfc(-z) below; Q of degree 8 (least squares, relative error 4e-8 for z up to 10.2, beyond
 * which e^(-z^2) is 0). */
VLM_INLINE __m256 gelu8(__m256 x)
{
    static const float q[] = {-5.91270216e-02f, 2.84858614e-01f,  -4.87787962e-01f,
                              2.78740734e-01f,  -2.70902365e-02f, 2.02883661e-01f,
                              2.43053973e-01f,  2.82382160e-01f,  2.82086015e-01f};
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    const __m256 z = _mm256_andnot_ps(sign, _mm256_mul_ps(x, _mm256_set1_ps(0.707106781f)));
    const __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(z, _mm256_set1_ps(0.5f), one));
    __m256 poly = _mm256_set1_ps(q[0]);
    for (size_t i = 1; i < sizeof q / sizeof q[0]; i++)
        poly = _mm256_fmadd_ps(poly, t, _mm256_set1_ps(q[i]));
    const __m256 e = vlm_exp_avx2(_mm256_xor_ps(sign, _mm256_mul_ps(z, z)));
    /* Half of erfc(z), which is the factor of a negative x. */
    const __m256 half_erfc =
        _mm256_mul_ps(_mm256_set1_ps(0.5f), _mm256_mul_ps(e, _mm256_mul_ps(t, poly)));
    const __m256 factor = _mm256_blendv_ps(_mm256_sub_ps(one, half_erfc), half_erfc, x);
    return _mm256_mul_ps(x, factor);
}

VLM_INLINE __m256 gelu_tanh8(__m256 x)
{
    /* (1 + tanh u) / 2 is the sigmoid of 2u. */
    const __m256 cube = _mm256_mul_ps(_mm256_mul_ps(x, x), x);
    const __m256 u = _mm256_fmadd_ps(cube, _mm256_set1_ps(0.044715f), x);
    return times_sigmoid(x, _mm256_mul_ps(u, _mm256_set1_ps(2.0f * 0.797884561f)));
}

VLM_INLINE __m256 quick_gelu8(__m256 x)
{
    return times_sigmoid(x, _mm256_mul_ps(x, _mm256_set1_ps(1.702f)));
}

VLM_INLINE __m256 silu8(__m256 x)
{
    return times_sigmoid(x, x);
}

VLM_INLINE __m256 relu8(__m256 x)
{
    return _mm256_max_ps(_mm256_setzero_ps(), x); /* x when x is NaN */
}

#define ACT_OF(name)                                                                               \
    static void act_##name##_avx2(float *x, size_t n)                                              \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + 8 <= n; i += 8) _mm256_storeu_ps(x + i, name##8(_mm256_loadu_ps(x + i)));       \
        if (i == n) return;                                                                        \
        const __m256i mask = vlm_mask8(n - i);                                                     \
        _mm256_maskstore_ps(x + i, mask, name##8(_mm256_maskload_ps(x + i, mask)));                \
    }
ACT_OF(gelu)
ACT_OF(gelu_tanh)
ACT_OF(quick_gelu)
ACT_OF(silu)
ACT_OF(relu)

static void add_avx2(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}

static void mul_avx2(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] *= y[i];
}

void vlm_cpu_kernels_fill_avx2(vlm_cpu_kernels *kernels)
{
    vlm_cpu_fill_linear_avx2(kernels);
    vlm_cpu_fill_pack_avx2(kernels);
    vlm_cpu_fill_packed_avx2(kernels);
    vlm_cpu_fill_packed_bf16_avx2(kernels);
    vlm_cpu_fill_attn_avx2(kernels);
    kernels->sum_squares = sum_squares_avx2;
    kernels->mean_var = mean_var_avx2;
    kernels->norm_apply = norm_apply_avx2;
    kernels->rope = rope_avx2;
    kernels->act[VLM_ACT_GELU] = act_gelu_avx2;
    kernels->act[VLM_ACT_GELU_TANH] = act_gelu_tanh_avx2;
    kernels->act[VLM_ACT_QUICK_GELU] = act_quick_gelu_avx2;
    kernels->act[VLM_ACT_SILU] = act_silu_avx2;
    kernels->act[VLM_ACT_RELU] = act_relu_avx2;
    kernels->add = add_avx2;
    kernels->mul = mul_avx2;
}

#endif
