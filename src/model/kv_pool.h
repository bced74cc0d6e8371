/* kv_pool.h - the memory of the paged key/value cache: blocks of VLM_KV_BLOCK_TOKENS tokens, each
 * with the keys and values of all layers.
 * Source of the layout: Kwon et al., "Efficient memory management for large language model serving
 * with PagedAttention", 2023.
 * Not: who holds which block (engine/kv.h).
 * Ownership: the backend must outlive the pool.  Threads: one at a time. */
#ifndef VLM_MODEL_KV_POOL_H
#define VLM_MODEL_KV_POOL_H

#include "tensor/backend.h"

typedef struct vlm_kv_pool {
    vlm_backend *backend;
    vlm_kv_layer *layers; /* [n_layers] */
    uint32_t n_layers, n_blocks;
    size_t part_bytes; /* the keys, or the values, of a block in one layer */
} vlm_kv_pool;

enum { VLM_KV_F16_HEAD_DIM_MAX = 512 };

/* Bytes of a block in all layers; false when that does not fit into a size_t. */
VLM_MUST_USE bool vlm_kv_block_bytes(uint32_t n_layers, uint32_t n_kv_heads, uint32_t head_dim,
                                     vlm_dtype dtype, size_t *out);

/* dtype F32 or F16; memory is taken as it is used.  RESOURCE_EXHAUSTED; UNIMPLEMENTED for F16 with
 * heads beyond VLM_KV_F16_HEAD_DIM_MAX. */
VLM_MUST_USE vlm_status vlm_kv_pool_init(vlm_kv_pool *pool, vlm_backend *backend, uint32_t n_layers,
                                         uint32_t n_kv_heads, uint32_t head_dim, uint32_t n_blocks,
                                         vlm_dtype dtype, vlm_error *err);
void vlm_kv_pool_fini(vlm_kv_pool *pool);

/* Block dst becomes what src is. */
void vlm_kv_pool_copy(const vlm_kv_pool *pool, uint32_t dst, uint32_t src);

#endif
