/* rows_avx512.c - norms and activations in 16 lanes.  What is not here (rope, sums and products of
 * two rows) waits for memory with 8 lanes already. */
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/simd_avx512.h"

#if defined(__AVX512F__)

enum { LANES = 16 };

static float sum_squares_avx512(const float *x, size_t n)
{
    __m512 s = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const __m512 v = _mm512_loadu_ps(x + i);
        s = _mm512_fmadd_ps(v, v, s);
    }
    const __m512 v = _mm512_maskz_loadu_ps(vlm_mask16(n - i), x + i);
    return vlm_sum_16_lanes(_mm512_fmadd_ps(v, v, s));
}

static void mean_var_avx512(const float *x, size_t n, float *mean, float *var)
{
    __m512 s = _mm512_setzero_ps(), t = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) s = _mm512_add_ps(s, _mm512_loadu_ps(x + i));
    const __mmask16 rest = vlm_mask16(n - i);
    s = _mm512_add_ps(s, _mm512_maskz_loadu_ps(rest, x + i));
    *mean = vlm_sum_16_lanes(s) / (float)n;
    const __m512 m = _mm512_set1_ps(*mean);
    for (i = 0; i + LANES <= n; i += LANES) {
        const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + i), m);
        t = _mm512_fmadd_ps(d, d, t);
    }
    const __m512 d = _mm512_maskz_sub_ps(rest, _mm512_maskz_loadu_ps(rest, x + i), m);
    *var = vlm_sum_16_lanes(_mm512_fmadd_ps(d, d, t)) / (float)n;
}

VLM_INLINE void norm_apply16(float *y, const float *x, size_t n, __m512 mean, __m512 inv,
                             const float *w, const float *bias)
{
    const __m512 d = _mm512_mul_ps(_mm512_sub_ps(vlm_load16_floats(x, n), mean), inv);
    const __m512 weight = vlm_load16_floats(w, n);
    const __m512 r = bias == NULL ? _mm512_mul_ps(d, weight)
                                  : _mm512_fmadd_ps(d, weight, vlm_load16_floats(bias, n));
    vlm_store16_floats(y, r, n);
}

static void norm_apply_avx512(float *y, const float *x, size_t n, float mean, float inv,
                              const float *w, const float *bias)
{
    const __m512 m = _mm512_set1_ps(mean), f = _mm512_set1_ps(inv);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        norm_apply16(y + i, x + i, LANES, m, f, w + i, bias == NULL ? NULL : bias + i);
    if (i < n) norm_apply16(y + i, x + i, n - i, m, f, w + i, bias == NULL ? NULL : bias + i);
}

/* x / (1 + e^-u) */
VLM_INLINE __m512 times_sigmoid(__m512 x, __m512 u)
{
    const __m512 e = vlm_exp_avx512(_mm512_sub_ps(_mm512_setzero_ps(), u));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

/* As gelu8 in rows_avx2.c. */
VLM_INLINE __m512 gelu16(__m512 x)
{
    static const float q[] = {-5.91270216e-02f, 2.84858614e-01f,  -4.87787962e-01f,
                              2.78740734e-01f,  -2.70902365e-02f, 2.02883661e-01f,
                              2.43053973e-01f,  2.82382160e-01f,  2.82086015e-01f};
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 z = _mm512_abs_ps(_mm512_mul_ps(x, _mm512_set1_ps(0.707106781f)));
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.5f), one));
    __m512 poly = _mm512_set1_ps(q[0]);
    for (size_t i = 1; i < sizeof q / sizeof q[0]; i++)
        poly = _mm512_fmadd_ps(poly, t, _mm512_set1_ps(q[i]));
    const __m512 e = vlm_exp_avx512(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)));
    const __m512 half_erfc =
        _mm512_mul_ps(_mm512_set1_ps(0.5f), _mm512_mul_ps(e, _mm512_mul_ps(t, poly)));
    const __mmask16 negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
    const __m512 factor = _mm512_mask_sub_ps(half_erfc, (__mmask16)~negative, one, half_erfc);
    return _mm512_mul_ps(x, factor);
}

VLM_INLINE __m512 gelu_tanh16(__m512 x)
{
    const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
    const __m512 u = _mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x);
    return times_sigmoid(x, _mm512_mul_ps(u, _mm512_set1_ps(2.0f * 0.797884561f)));
}

VLM_INLINE __m512 quick_gelu16(__m512 x)
{
    return times_sigmoid(x, _mm512_mul_ps(x, _mm512_set1_ps(1.702f)));
}

VLM_INLINE __m512 silu16(__m512 x)
{
    return times_sigmoid(x, x);
}

#define ACT_OF(name)                                                                               \
    static void act_##name##_avx512(float *x, size_t n)                                            \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + LANES <= n; i += LANES)                                                         \
            _mm512_storeu_ps(x + i, name##16(_mm512_loadu_ps(x + i)));                             \
        if (i < n) vlm_store16_floats(x + i, name##16(vlm_load16_floats(x + i, n - i)), n - i);    \
    }
ACT_OF(gelu)
ACT_OF(gelu_tanh)
ACT_OF(quick_gelu)
ACT_OF(silu)

void vlm_cpu_fill_rows_avx512(vlm_cpu_kernels *kernels)
{
    kernels->sum_squares = sum_squares_avx512;
    kernels->mean_var = mean_var_avx512;
    kernels->norm_apply = norm_apply_avx512;
    kernels->act[VLM_ACT_GELU] = act_gelu_avx512;
    kernels->act[VLM_ACT_GELU_TANH] = act_gelu_tanh_avx512;
    kernels->act[VLM_ACT_QUICK_GELU] = act_quick_gelu_avx512;
    kernels->act[VLM_ACT_SILU] = act_silu_avx512;
}

#endif
