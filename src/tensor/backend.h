/* backend.h - the coarse operations that a model is made of, as one table of functions per device.
 * A model calls only these; adding a device touches tensor/ only.
 *
 * Conventions
 * - Activations are float32, row-major, in device memory from alloc; a "row" is one token or patch.
 * - Weights are vlm_weight: row-major [rows, cols] of any vlm_dtype, in device memory.  On the CPU
 *   a weight may point into the mapped file, at any alignment that its dtype allows.  Packed
 *   weights (vlm_dtype_is_packed) lie in the backend's own order and are taken by linear alone.
 * - Accumulation is float32.  The result of a row never depends on the other rows of the call, on
 *   how rows are split over calls, or on the number of threads: every output element has one fixed
 *   order of additions per backend and level.
 * - Sizes are checked by the model when it is loaded; here a bad size is a bug (assert).
 * - Operations are queued in order; results are on the host after download or sync.
 * Not: collectives.
 * Threads: one thread uses a backend at a time. */
#ifndef VLM_TENSOR_BACKEND_H
#define VLM_TENSOR_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "base/status.h"
#include "tensor/dtype.h"

/* A weight matrix [n_rows, n_cols], or a vector with n_rows == 1.  data NULL: absent. */
typedef struct vlm_weight {
    const void *data;
    vlm_dtype dtype;
    uint32_t n_rows, n_cols;
} vlm_weight;

/* X(enum, name in config.json) : Transformers, activations.ACT2FN */
#define VLM_ACT_LIST(X)                                                                            \
    X(GELU, "gelu")                   /* x/2 (1 + erf(x/sqrt 2)) */                                \
    X(GELU_TANH, "gelu_pytorch_tanh") /* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */          \
    X(QUICK_GELU, "quick_gelu")       /* x sigmoid(1.702 x) */                                     \
    X(SILU, "silu")                   /* x sigmoid(x) */                                           \
    X(RELU, "relu")

typedef enum vlm_act {
#define VLM_ACT_ENUM(name, text) VLM_ACT_##name,
    VLM_ACT_LIST(VLM_ACT_ENUM)
#undef VLM_ACT_ENUM
        VLM_N_ACTS
} vlm_act;

/* By the name in config.json; also the aliases "swish" (silu) and "gelu_new" (gelu_pytorch_tanh).
 * False for any other. */
bool vlm_act_parse(const char *name, size_t len, vlm_act *act);
const char *vlm_act_name(vlm_act act);

enum { VLM_KV_BLOCK_TOKENS = 16 };

/* The paged key/value cache of one layer: k and v are [n_blocks, n_kv_heads, VLM_KV_BLOCK_TOKENS,
 * head_dim] in device memory, F32 or F16. */
typedef struct vlm_kv_layer {
    void *k, *v;
    vlm_dtype dtype;
    uint32_t n_kv_heads, head_dim;
} vlm_kv_layer;

/* The rows of a batch that are one sequence's: its tokens n_past..n_past+n_rows-1. */
typedef struct vlm_seq_rows {
    uint32_t row, n_rows;   /* rows row..row+n_rows-1 of the batch; sequences follow each other */
    uint32_t n_past;        /* tokens of the sequence that are in the cache */
    const uint32_t *blocks; /* on the host: token t lies in block blocks[t / VLM_KV_BLOCK_TOKENS];
                               as many as n_past + n_rows tokens need */
} vlm_seq_rows;

/* Causal attention of a batch's rows, each over its own sequence. */
typedef struct vlm_attn_args {
    const float *q;           /* [rows, n_heads * head_dim], rope applied */
    float *out;               /* the same shape, not aliasing q */
    const vlm_kv_layer *kv;   /* the batch's own keys and values are written already */
    const vlm_seq_rows *seqs; /* [n_seqs] on the host */
    uint32_t n_seqs;
    uint32_t n_heads; /* n_heads % kv->n_kv_heads == 0 */
    uint32_t window;  /* row at position p sees keys p-window+1..p; 0: all keys up to p */
    float scale;      /* of q.k before softmax, 1/sqrt(head_dim) as a rule */
} vlm_attn_args;

typedef struct vlm_backend vlm_backend;

typedef struct vlm_backend_ops {
    const char *name; /* "cpu" */
    void (*close)(vlm_backend *b);

    /* Device memory, aligned to 64 bytes, not zeroed, lazily backed.  RESOURCE_EXHAUSTED. */
    VLM_MUST_USE vlm_status (*alloc)(vlm_backend *b, size_t n_bytes, void **out, vlm_error *err);
    void (*free)(vlm_backend *b, void *ptr); /* NULL is legal */
    /* Back these bytes of alloc before they are used, keeping what they hold.  On any thread,
     * beside all other operations. */
    void (*populate)(vlm_backend *b, void *ptr, size_t n_bytes);
    void (*upload)(vlm_backend *b, void *dst, const void *host_src, size_t n_bytes);
    void (*download)(vlm_backend *b, void *host_dst, const void *src, size_t n_bytes);
    void (*copy)(vlm_backend *b, void *dst, const void *src, size_t n_bytes);
    /* Make host memory (the mapped file) readable as a weight: the same pointer on a CPU. */
    VLM_MUST_USE vlm_status (*weight)(vlm_backend *b, const void *host_data, size_t n_bytes,
                                      const void **out, vlm_error *err);

    /* Packing: weights that linear takes faster, in fewer bytes.  pack_layout names the order in
     * which they lie, and is another when that changes: who keeps packed weights in a file keeps
     * the name with them.
     * packed_bytes: of a matrix [n_rows, n_cols], a multiple of 64.
     * pack: src on the host, of a dtype that is not packed, to host memory dst, aligned to 64
     * bytes; any number of threads gives the same bytes.
     * reserve: before linear takes packed weights of n_cols columns; RESOURCE_EXHAUSTED. */
    const char *pack_layout;
    size_t (*packed_bytes)(vlm_backend *b, vlm_dtype dtype, uint32_t n_rows, uint32_t n_cols);
    void (*pack)(vlm_backend *b, void *dst, vlm_dtype dtype, const vlm_weight *src);
    VLM_MUST_USE vlm_status (*reserve)(vlm_backend *b, uint32_t n_cols, vlm_error *err);

    /* y = x W^T + bias.   x [n, w.n_cols], w [w.n_rows, w.n_cols], bias [1, w.n_rows] or absent
     * (data NULL), y [n, w.n_rows] not aliasing x.  add: y += instead of y =. */
    void (*linear)(vlm_backend *b, float *y, const float *x, uint32_t n, const vlm_weight *w,
                   const vlm_weight *bias, bool add);

    /* y[i] = w[ids[i]] as float.  ids on the host, each < w.n_rows; y [n, w.n_cols]. */
    void (*embed)(vlm_backend *b, float *y, const uint32_t *ids, uint32_t n, const vlm_weight *w);

    /* y = x / sqrt(mean(x^2) + eps) * w, per row of d = w.n_cols (LlamaRMSNorm).  y may be x. */
    void (*rms_norm)(vlm_backend *b, float *y, const float *x, uint32_t n, const vlm_weight *w,
                     float eps);

    /* y = (x - mean) / sqrt(var + eps) * w + bias, biased variance (torch.nn.LayerNorm).  y may be
     * x. */
    void (*layer_norm)(vlm_backend *b, float *y, const float *x, uint32_t n, const vlm_weight *w,
                       const vlm_weight *bias, float eps);

    /* Rotate in place each head of x [n, n_heads * head_dim]: element pairs (i, i + head_dim/2) by
     * the angle of position positions[row] and frequency i (Transformers' rotate_half).  cos_sin:
     * [max position + 1, head_dim/2, 2] float, on the host, made by the model with its scaling. */
    void (*rope)(vlm_backend *b, float *x, uint32_t n, uint32_t n_heads, uint32_t head_dim,
                 const uint32_t *positions, const float *cos_sin);

    /* Put the batch's keys and values, [rows, n_kv_heads * head_dim] each, to their places in the
     * cache, rounded to its dtype. */
    void (*kv_write)(vlm_backend *b, const vlm_kv_layer *kv, const vlm_seq_rows *seqs,
                     uint32_t n_seqs, const float *k, const float *v);

    /* softmax(scale q k^T + causal mask) v, n_heads/n_kv_heads query heads sharing a kv head; no
     * n x n scores are kept (FlashAttention, Dao et al., 2022).  A row's result depends on its own
     * sequence alone. */
    void (*attn_paged)(vlm_backend *b, const vlm_attn_args *args);

    /* The same without a mask, for n_batch independent blocks of n_tokens rows (one per image).
     * q, k, v, out: [n_batch * n_tokens, n_heads * head_dim]; out not aliasing the others. */
    void (*attn_full)(vlm_backend *b, float *out, const float *q, const float *k, const float *v,
                      uint32_t n_batch, uint32_t n_tokens, uint32_t n_heads, uint32_t head_dim,
                      float scale);

    /* x = act(x), n_elems elements. */
    void (*act)(vlm_backend *b, float *x, size_t n_elems, vlm_act act);
    /* gate = act(gate) * up, n_elems elements (SwiGLU). */
    void (*act_mul)(vlm_backend *b, float *gate, const float *up, size_t n_elems, vlm_act act);
    /* x += y, n_elems elements. */
    void (*add)(vlm_backend *b, float *x, const float *y, size_t n_elems);

    /* Patches of an image: pixels [channels, height, width] to rows
     * y [(height/patch)*(width/patch), channels*patch*patch], each row in the order (channel, row,
     * column) of a convolution's weight; pixels beyond the last whole patch are left out. */
    void (*im2col)(vlm_backend *b, float *y, const float *pixels, uint32_t channels,
                   uint32_t height, uint32_t width, uint32_t patch);

    /* Index of the largest of x [n], the lowest on ties; NaN never wins. */
    uint32_t (*argmax)(vlm_backend *b, const float *x, uint32_t n);

    void (*sync)(vlm_backend *b);
} vlm_backend_ops;

struct vlm_backend {
    const vlm_backend_ops *ops;
};

/* The CPU.  n_threads >= 1; vlm_cpu_level_has(level).  Freed with ops->close. */
VLM_MUST_USE vlm_status vlm_backend_cpu_open(uint32_t n_threads, vlm_cpu_level level,
                                             vlm_backend **out, vlm_error *err);

#endif
