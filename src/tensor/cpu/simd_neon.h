/* simd_neon.h - what the NEON kernel files share: 8 floats in two registers, loads of any dtype,
 * the tile of dot products, sums over lanes, exp. Not: part of any interface; nothing here for
 * other CPUs.  Threads: pure. */
#ifndef VLM_TENSOR_CPU_SIMD_NEON_H
#define VLM_TENSOR_CPU_SIMD_NEON_H

#include <stddef.h>

#include "tensor/dtype.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define VLM_INLINE static inline __attribute__((always_inline))

/* Tile of dot products: 24 registers of sums, and of each half of 8 columns in turn 3 of rows and 1
 * of an output, of 32. */
enum { VLM_TILE_ROWS = 3, VLM_TILE_OUTS = 4 };

/* Lanes 0..3 and 4..7 of the order "by lanes". */
typedef struct vlm_f8 {
    float32x4_t lo, hi;
} vlm_f8;

VLM_INLINE vlm_f8 vlm_set8(float x)
{
    return (vlm_f8){vdupq_n_f32(x), vdupq_n_f32(x)};
}

VLM_INLINE vlm_f8 vlm_loadu8(const float *x)
{
    return (vlm_f8){vld1q_f32(x), vld1q_f32(x + 4)};
}

VLM_INLINE void vlm_storeu8(float *x, vlm_f8 v)
{
    vst1q_f32(x, v.lo);
    vst1q_f32(x + 4, v.hi);
}

/* The first n <= 8 floats, zeros after them. */
VLM_INLINE vlm_f8 vlm_load_first(const float *x, size_t n)
{
    if (n >= 8) return vlm_loadu8(x);
    float padded[8] = {0};
    memcpy(padded, x, n * sizeof *x);
    return vlm_loadu8(padded);
}

/* The first n <= 8 floats to x. */
VLM_INLINE void vlm_store_first(float *x, vlm_f8 v, size_t n)
{
    if (n >= 8) {
        vlm_storeu8(x, v);
        return;
    }
    float all[8];
    vlm_storeu8(all, v);
    memcpy(x, all, n * sizeof *x);
}

/* v, with zeros after the first n <= 8. */
VLM_INLINE vlm_f8 vlm_keep_first(vlm_f8 v, size_t n)
{
    static const uint32_t number[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const uint32x4_t end = vdupq_n_u32((uint32_t)n);
    const uint32x4_t lo = vcltq_u32(vld1q_u32(number), end);
    const uint32x4_t hi = vcltq_u32(vld1q_u32(number + 4), end);
    return (vlm_f8){vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v.lo), lo)),
                    vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v.hi), hi))};
}

VLM_INLINE vlm_f8 vlm_add8(vlm_f8 a, vlm_f8 b)
{
    return (vlm_f8){vaddq_f32(a.lo, b.lo), vaddq_f32(a.hi, b.hi)};
}

VLM_INLINE vlm_f8 vlm_sub8(vlm_f8 a, vlm_f8 b)
{
    return (vlm_f8){vsubq_f32(a.lo, b.lo), vsubq_f32(a.hi, b.hi)};
}

VLM_INLINE vlm_f8 vlm_mul8(vlm_f8 a, vlm_f8 b)
{
    return (vlm_f8){vmulq_f32(a.lo, b.lo), vmulq_f32(a.hi, b.hi)};
}

/* a b + sum, fused. */
VLM_INLINE vlm_f8 vlm_fma8(vlm_f8 a, vlm_f8 b, vlm_f8 sum)
{
    return (vlm_f8){vfmaq_f32(sum.lo, a.lo, b.lo), vfmaq_f32(sum.hi, a.hi, b.hi)};
}

/* 4 elements at data as float. */
VLM_INLINE float32x4_t vlm_load4(const vlm_dtype dtype, const void *data)
{
    if (dtype == VLM_DTYPE_F32) return vld1q_f32(data);
    const uint16x4_t half = vld1_u16(data);
    if (dtype == VLM_DTYPE_F16) return vcvt_f32_f16(vreinterpret_f16_u16(half));
    return vreinterpretq_f32_u32(vshll_n_u16(half, 16));
}

/* 8 elements at data as float. */
VLM_INLINE vlm_f8 vlm_load8(const vlm_dtype dtype, const void *data)
{
    const size_t size = dtype == VLM_DTYPE_F32 ? 4 : 2;
    const unsigned char *from = data;
    return (vlm_f8){vlm_load4(dtype, from), vlm_load4(dtype, from + 4 * size)};
}

/* The first n < 8 elements at data as float, zeros after them. */
VLM_INLINE vlm_f8 vlm_load8_first(const vlm_dtype dtype, const void *data, size_t n)
{
    _Alignas(16) unsigned char padded[32] = {0};
    memcpy(padded, data, n * (dtype == VLM_DTYPE_F32 ? 4 : 2));
    return vlm_load8(dtype, padded);
}

/* a0 + a2, a1 + a3, b0 + b2, b1 + b3 */
VLM_INLINE float32x4_t vlm_add_halves(float32x4_t a, float32x4_t b)
{
    return vaddq_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)),
                     vcombine_f32(vget_high_f32(a), vget_high_f32(b)));
}

/* The sums of 4 vectors, each by the tree of lanes.h. */
VLM_INLINE float32x4_t vlm_sum_lanes_x4(vlm_f8 a, vlm_f8 b, vlm_f8 c, vlm_f8 d)
{
    const float32x4_t ab = vlm_add_halves(vaddq_f32(a.lo, a.hi), vaddq_f32(b.lo, b.hi));
    const float32x4_t cd = vlm_add_halves(vaddq_f32(c.lo, c.hi), vaddq_f32(d.lo, d.hi));
    return vpaddq_f32(ab, cd);
}

VLM_INLINE float vlm_sum_lanes_neon(vlm_f8 a)
{
    return vgetq_lane_f32(vlm_sum_lanes_x4(a, a, a, a), 0);
}

/* s[r][o] += x[r * x_stride + k] * w[o * w_stride + k], k to lane k % 8, for n_rows x n_outs
 * (constants at the call, so that the sums live in registers). */
VLM_INLINE void vlm_dot_tile(const size_t n_rows, const size_t n_outs,
                             vlm_f8 s[VLM_TILE_ROWS][VLM_TILE_OUTS], const float *x,
                             size_t x_stride, const float *w, size_t w_stride, size_t n_k)
{
    size_t k = 0;
    for (; k + 8 <= n_k; k += 8) {
        float32x4_t row[VLM_TILE_ROWS];
        for (size_t r = 0; r < n_rows; r++) row[r] = vld1q_f32(x + r * x_stride + k);
        for (size_t o = 0; o < n_outs; o++) {
            const float32x4_t out = vld1q_f32(w + o * w_stride + k);
            for (size_t r = 0; r < n_rows; r++) s[r][o].lo = vfmaq_f32(s[r][o].lo, row[r], out);
        }
        for (size_t r = 0; r < n_rows; r++) row[r] = vld1q_f32(x + r * x_stride + k + 4);
        for (size_t o = 0; o < n_outs; o++) {
            const float32x4_t out = vld1q_f32(w + o * w_stride + k + 4);
            for (size_t r = 0; r < n_rows; r++) s[r][o].hi = vfmaq_f32(s[r][o].hi, row[r], out);
        }
    }
    if (k == n_k) return;
    for (size_t o = 0; o < n_outs; o++) {
        const vlm_f8 out = vlm_load_first(w + o * w_stride + k, n_k - k);
        for (size_t r = 0; r < n_rows; r++)
            s[r][o] = vlm_fma8(vlm_load_first(x + r * x_stride + k, n_k - k), out, s[r][o]);
    }
}

/* e^x within 1.5 ulp, as simd_avx2.h has it; NaN stays NaN, since min and max hand it on. */
VLM_INLINE float32x4_t vlm_exp4(float32x4_t x)
{
    x = vmaxq_f32(vminq_f32(x, vdupq_n_f32(89.0f)), vdupq_n_f32(-105.0f));
    const float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(1.44269504f)));
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
    r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));
    float32x4_t p = vdupq_n_f32(1.38144508e-03f);
    p = vfmaq_f32(vdupq_n_f32(8.36878363e-03f), p, r);
    p = vfmaq_f32(vdupq_n_f32(4.16683946e-02f), p, r);
    p = vfmaq_f32(vdupq_n_f32(1.66665201e-01f), p, r);
    p = vfmaq_f32(vdupq_n_f32(4.99999934e-01f), p, r);
    p = vaddq_f32(vfmaq_f32(r, vmulq_f32(r, r), p), vdupq_n_f32(1.0f));
    const int32x4_t whole = vcvtq_s32_f32(n);
    const int32x4_t n1 = vshrq_n_s32(whole, 1), n2 = vsubq_s32(whole, n1);
    const int32x4_t bias = vdupq_n_s32(127);
    const float32x4_t f1 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n1, bias), 23));
    const float32x4_t f2 = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n2, bias), 23));
    return vmulq_f32(vmulq_f32(p, f1), f2);
}

VLM_INLINE vlm_f8 vlm_exp8(vlm_f8 x)
{
    return (vlm_f8){vlm_exp4(x.lo), vlm_exp4(x.hi)};
}

#endif
#endif
