/* attn.h - attention of the CPU backend over the kernel attn_block: which rows see which keys, in
 * what blocks, on which thread; and the paged key/value cache that it reads.
 * Keys are taken in blocks of VLM_ATTN_KEYS_MAX by absolute position, so a row's order of additions
 * depends on its position alone.
 * Not: the arithmetic (kernels.h).  Threads: as the pool. */
#ifndef VLM_TENSOR_CPU_ATTN_H
#define VLM_TENSOR_CPU_ATTN_H

#include "base/pool.h"
#include "tensor/backend.h"
#include "tensor/cpu/kernels.h"

enum {
    VLM_ATTN_WIDEN_HEAD_MAX = 512, /* where the level has no kernel for F16 */
    /* Floats of a thread's scratch: the kernel's, then a block of keys and values made float. */
    VLM_CPU_ATTN_SCRATCH_LEN =
        VLM_ATTN_SCRATCH_LEN + 2 * VLM_ATTN_KEYS_MAX * VLM_ATTN_WIDEN_HEAD_MAX,
};

typedef struct vlm_cpu_attn {
    const vlm_cpu_kernels *kernels;
    vlm_pool *pool;
    float *scratch; /* scratch_len floats for each thread, at least VLM_CPU_ATTN_SCRATCH_LEN */
    size_t scratch_len;
} vlm_cpu_attn;

/* What vlm_backend_ops.kv_write, attn_paged and attn_full promise. */
void vlm_cpu_kv_write(const vlm_cpu_attn *cpu, const vlm_kv_layer *kv, const vlm_seq_rows *seqs,
                      uint32_t n_seqs, const float *k, const float *v);
void vlm_cpu_attn_paged(const vlm_cpu_attn *cpu, const vlm_attn_args *args);
void vlm_cpu_attn_full(const vlm_cpu_attn *cpu, float *out, const float *q, const float *k,
                       const float *v, uint32_t n_batch, uint32_t n_tokens, uint32_t n_heads,
                       uint32_t head_dim, float scale);

#endif
