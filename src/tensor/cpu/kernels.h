/* kernels.h - the inner loops of the CPU backend: one table of plain functions per CPU level.
 * vlm_cpu_kernels_get starts from the reference kernels in plain C, which define what is correct,
 * and lets each level up to the one asked for replace the entries that it does better.  A new level
 * is one file with a fill function and one line in kernels.c.
 *
 * Order of additions.  An output element's order depends on its own row alone: not on the other
 * rows, on where a call's ranges begin, nor on alignment.  Each entry states its order:
 * - "by lanes": 8 partial sums, element i goes to partial sum i % 8 in rising i, then
 *   ((s0+s4)+(s2+s6)) + ((s1+s5)+(s3+s7)).  A level may have 16, which are first folded into 8: s_i
 * + s_(i+8).
 * - "in a row": one sum, in rising index.
 * A level may fuse multiply and add, hence levels differ by rounding; one level never differs from
 * itself.  NaN and infinity go through as IEEE 754 says.
 *
 * Not: threads, dtype dispatch, sizes without limit (cpu_backend.c).
 * Threads: pure but for the arguments. */
#ifndef VLM_TENSOR_CPU_KERNELS_H
#define VLM_TENSOR_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "tensor/backend.h"
#include "tensor/cpu/packed.h"
#include "tensor/dtype.h"

enum {
    /* Most rows and outputs of one call of linear, and the floats of its scratch: a level may keep
     * there a panel of weights as float and 16 partial sums per output element. */
    VLM_LINEAR_ROWS_MAX = 96,
    VLM_LINEAR_OUTS_MAX = 48,
    VLM_LINEAR_K_BLOCK = 1024,
    VLM_LINEAR_SCRATCH_LEN =
        VLM_LINEAR_OUTS_MAX * VLM_LINEAR_K_BLOCK + VLM_LINEAR_ROWS_MAX * VLM_LINEAR_OUTS_MAX * 16,
    /* Most query rows and keys of one call of attn_block, and the floats of its scratch: a level
     * may keep there the scores and 128 columns of keys or values. */
    VLM_ATTN_ROWS_MAX = 96,
    VLM_ATTN_KEYS_MAX = 64,
    VLM_ATTN_SCRATCH_LEN = VLM_ATTN_KEYS_MAX * (VLM_ATTN_ROWS_MAX + 128),
    VLM_ATTN_PAGE = 16, /* keys that follow each other in memory */
};

/* dst[i] = src[i] as float, exact.  src aligned to its element. */
typedef void vlm_widen_kernel(float *dst, const void *src, size_t n);

/* y[r * y_stride + o] = (bias[o] +) sum over k of x[r * n_k + k] * w[o * n_k + k]; with add, that
 * is added to y instead.  n rows <= VLM_LINEAR_ROWS_MAX, n_out <= VLM_LINEAR_OUTS_MAX; x [n, n_k],
 * w [n_out, n_k] of the kernel's dtype, aligned to its element; bias [n_out] or NULL; y not
 * aliasing the others; scratch aligned to 64 bytes, VLM_LINEAR_SCRATCH_LEN floats. Order: products
 * by lanes, then bias, then y. */
typedef void vlm_linear_kernel(float *y, size_t y_stride, const float *x, size_t n, const void *w,
                               size_t n_out, size_t n_k, const float *bias, bool add,
                               float *scratch);

/* dst[i] = src[i] rounded to nearest even.  dst aligned to its element. */
typedef void vlm_narrow_kernel(void *dst, const float *src, size_t n);

/* A block of VLM_ATTN_KEYS_MAX keys and values of the kernel's dtype: number i is at
 * pages[i / VLM_ATTN_PAGE], i % VLM_ATTN_PAGE * stride elements on.  Those that no row sees are not
 * read, nor is a page of such. */
typedef struct vlm_attn_keys {
    const void *k[VLM_ATTN_KEYS_MAX / VLM_ATTN_PAGE], *v[VLM_ATTN_KEYS_MAX / VLM_ATTN_PAGE];
    size_t stride;
    /* Nothing else lies between the rows of a page, and the next block's keys are these; it may
     * help to ask for either early.  false and NULL: not known. */
    bool pages_are_whole;
    const void *next_k[VLM_ATTN_KEYS_MAX / VLM_ATTN_PAGE];
} vlm_attn_keys;

/* Query rows: row r sees the keys first[r]..end[r]-1 of the block, none when first[r] >= end[r].
 * max, sum [n] and acc [n, head_dim] are carried from block to block; they start at -infinity, 0
 * and 0, and acc / sum is the result after the last block.  q rows are q_stride floats apart, acc's
 * acc_stride. */
typedef struct vlm_attn_rows {
    float *acc, *max, *sum;
    const float *q;
    const uint8_t *first, *end;
    size_t n, acc_stride, q_stride;
} vlm_attn_rows;

/* Softmax attention of rows->n <= VLM_ATTN_ROWS_MAX rows over a block of keys.
 *   s = scale * q k^T;  m' = max(m, s);  c = exp(m - m');  p = exp(s - m')
 *   sum = sum * c + sum of p;  acc = acc * c + p v
 * scratch aligned to 64 bytes, VLM_ATTN_SCRATCH_LEN floats.
 * Order: q k and sum of p by lanes (from the row's first key), or q k in a row and sum of p by 16
 * lanes (from the block's first key; a key that is not seen counts 0); p v in a row. */
typedef void vlm_attn_block_kernel(const vlm_attn_rows *rows, const vlm_attn_keys *keys,
                                   size_t head_dim, float scale, float *scratch);

typedef struct vlm_cpu_kernels {
    vlm_widen_kernel *widen[VLM_N_DTYPES];
    vlm_linear_kernel *linear[VLM_N_DTYPES];
    vlm_prepare_kernel *prepare[VLM_N_WEIGHT_DTYPES]; /* of packed dtypes; NULL of others */
    vlm_packed_kernel *packed[VLM_N_WEIGHT_DTYPES];
    vlm_pack_kernel *pack[VLM_N_WEIGHT_DTYPES];
    vlm_narrow_kernel *narrow_f16;
    /* Of F32 and F16 keys; F16 NULL: the caller makes them float. */
    vlm_attn_block_kernel *attn_block[VLM_N_DTYPES];

    /* Sum of x[i]^2 by lanes. */
    float (*sum_squares)(const float *x, size_t n);
    /* Mean, and the mean of (x[i] - mean)^2, both by lanes.  n >= 1. */
    void (*mean_var)(const float *x, size_t n, float *mean, float *var);
    /* y[i] = (x[i] - mean) * inv * w[i] (+ bias[i]).  y may be x; bias may be NULL. */
    void (*norm_apply)(float *y, const float *x, size_t n, float mean, float inv, const float *w,
                       const float *bias);

    /* One row x [n_heads, 2 * half]: (a, b) = (x[i], x[i + half]) becomes
     * (a cos - b sin, b cos + a sin); cos_sin [half, 2]. */
    void (*rope)(float *x, size_t n_heads, size_t half, const float *cos_sin);

    void (*act[VLM_N_ACTS])(float *x, size_t n);     /* x = act(x) */
    void (*add)(float *x, const float *y, size_t n); /* x += y */
    void (*mul)(float *x, const float *y, size_t n); /* x *= y */
} vlm_cpu_kernels;

/* The table of a level that this CPU has (vlm_cpu_level_best or lower). */
vlm_cpu_kernels vlm_cpu_kernels_get(vlm_cpu_level level);

/* Each level's file: replace the entries that it has. */
void vlm_cpu_kernels_fill_reference(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_avx2(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_avx512(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_avx512vnni(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_avx512bf16(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_neon(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_dotprod(vlm_cpu_kernels *kernels);
void vlm_cpu_kernels_fill_i8mm(vlm_cpu_kernels *kernels);

/* Parts of the reference level, for its fill function. */
void vlm_cpu_fill_packed_reference(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_pack_reference(vlm_cpu_kernels *kernels);
vlm_widen_kernel vlm_cpu_widen_f32, vlm_cpu_widen_f16, vlm_cpu_widen_bf16;
vlm_narrow_kernel vlm_cpu_narrow_f16;
extern vlm_linear_kernel *const vlm_cpu_linear_reference[VLM_N_DTYPES];
vlm_attn_block_kernel vlm_cpu_attn_block_reference;

/* Parts of the AVX2 level, for its fill function. */
void vlm_cpu_fill_linear_avx2(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_attn_avx2(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_packed_avx2(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_packed_bf16_avx2(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_pack_avx2(vlm_cpu_kernels *kernels);

/* Parts of the AVX-512 level, for its fill function. */
void vlm_cpu_fill_packed_avx512(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_packed_bf16_avx512(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_pack_avx512(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_attn_avx512(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_rows_avx512(vlm_cpu_kernels *kernels);

/* Parts of the NEON level, for its fill function. */
void vlm_cpu_fill_linear_neon(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_attn_neon(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_packed_neon(vlm_cpu_kernels *kernels);
void vlm_cpu_fill_pack_neon(vlm_cpu_kernels *kernels);

#endif
