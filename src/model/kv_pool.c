#include "model/kv_pool.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

/* Keys, or values, of one block in one layer. */
static bool part_bytes(uint32_t n_kv_heads, uint32_t head_dim, vlm_dtype dtype, size_t *out)
{
    size_t n;
    return vlm_size_mul(n_kv_heads, head_dim, &n) &&
           vlm_size_mul(n, VLM_KV_BLOCK_TOKENS * vlm_dtype_size(dtype), out);
}

bool vlm_kv_block_bytes(uint32_t n_layers, uint32_t n_kv_heads, uint32_t head_dim, vlm_dtype dtype,
                        size_t *out)
{
    size_t n;
    return part_bytes(n_kv_heads, head_dim, dtype, &n) && vlm_size_mul(n, n_layers, &n) &&
           vlm_size_mul(n, 2, out);
}

vlm_status vlm_kv_pool_init(vlm_kv_pool *pool, vlm_backend *backend, uint32_t n_layers,
                            uint32_t n_kv_heads, uint32_t head_dim, uint32_t n_blocks,
                            vlm_dtype dtype, vlm_error *err)
{
    assert(dtype == VLM_DTYPE_F32 || dtype == VLM_DTYPE_F16);
    *pool = (vlm_kv_pool){.backend = backend, .n_layers = n_layers, .n_blocks = n_blocks};
    if (dtype == VLM_DTYPE_F16 && head_dim > VLM_KV_F16_HEAD_DIM_MAX)
        return vlm_fail(err, VLM_UNIMPLEMENTED, "kv-dtype f16: head_dim %u is more than %d",
                        head_dim, VLM_KV_F16_HEAD_DIM_MAX);
    size_t n_bytes;
    pool->layers = vlm_calloc(n_layers, sizeof *pool->layers);
    if (pool->layers == NULL || !part_bytes(n_kv_heads, head_dim, dtype, &pool->part_bytes) ||
        !vlm_size_mul(pool->part_bytes, n_blocks, &n_bytes)) {
        vlm_kv_pool_fini(pool);
        return vlm_fail_memory(err, "key/value cache");
    }
    for (uint32_t i = 0; i < n_layers; i++) {
        vlm_kv_layer *l = &pool->layers[i];
        *l = (vlm_kv_layer){.dtype = dtype, .n_kv_heads = n_kv_heads, .head_dim = head_dim};
        vlm_status status = backend->ops->alloc(backend, n_bytes, &l->k, err);
        if (status == VLM_OK) status = backend->ops->alloc(backend, n_bytes, &l->v, err);
        if (status == VLM_OK) continue;
        vlm_kv_pool_fini(pool);
        return status;
    }
    return VLM_OK;
}

void vlm_kv_pool_fini(vlm_kv_pool *pool)
{
    for (uint32_t i = 0; i < pool->n_layers && pool->layers != NULL; i++) {
        pool->backend->ops->free(pool->backend, pool->layers[i].k);
        pool->backend->ops->free(pool->backend, pool->layers[i].v);
    }
    free(pool->layers);
    *pool = (vlm_kv_pool){0};
}

void vlm_kv_pool_copy(const vlm_kv_pool *pool, uint32_t dst, uint32_t src)
{
    vlm_backend *b = pool->backend;
    const size_t n = pool->part_bytes;
    assert(dst < pool->n_blocks && src < pool->n_blocks);
    for (uint32_t i = 0; i < pool->n_layers; i++) {
        char *k = pool->layers[i].k, *v = pool->layers[i].v;
        b->ops->copy(b, k + dst * n, k + src * n, n);
        b->ops->copy(b, v + dst * n, v + src * n, n);
    }
}
