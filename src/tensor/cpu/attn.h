/* attn.h - attention of the CPU backend over the kernel attn_block: which rows see which keys, in
 * what blocks, on which thread.
 * Keys are taken in blocks of VLM_ATTN_KEYS_MAX by absolute position, so a row's order of additions
 * depends on its position alone.
 * Not: the arithmetic (kernels.h).  Threads: as the pool. */
#ifndef VLM_TENSOR_CPU_ATTN_H
#define VLM_TENSOR_CPU_ATTN_H

#include "base/pool.h"
#include "tensor/backend.h"
#include "tensor/cpu/kernels.h"

/* What vlm_backend_ops.attn_causal promises. */
void vlm_cpu_attn_causal(const vlm_cpu_kernels *kernels, vlm_pool *pool, const vlm_attn_args *args);

/* Each of n_tokens rows sees all n_tokens keys; n_past and window are not looked at. */
void vlm_cpu_attn_full(const vlm_cpu_kernels *kernels, vlm_pool *pool, const vlm_attn_args *args);

#endif
