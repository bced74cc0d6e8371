#include "engine/memory.h"

#include "base/mem.h"
#include "base/sysmem.h"

/* Without --memory half of what is free is taken, and no more than this many contexts: what is
 * never used is never backed, but the prefix cache uses all there is in the end. */
enum { SHARE = 2, CONTEXTS_MAX = 16 };
#define ENCODER_CACHE_DEFAULT ((size_t)256 << 20)
#define PIXELS_MAX_DEFAULT ((size_t)2 << 30)
#define BLOCKS_MAX ((size_t)1 << 24)

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t less(size_t a, size_t b)
{
    return a > b ? a - b : 0;
}

/* At least one picture; by default no more than a sixteenth of the memory. */
static uint32_t pictures_of(const vlm_engine_options *o, size_t picture_bytes, size_t available)
{
    enum { PICTURES_MAX = 1 << 16 };
    size_t bytes = o->encoder_cache_bytes;
    if (bytes == 0)
        bytes =
            size_min(ENCODER_CACHE_DEFAULT, (o->memory_max != 0 ? o->memory_max : available) / 16);
    const size_t n = bytes / picture_bytes;
    return n == 0 ? 1 : n > PICTURES_MAX ? PICTURES_MAX : (uint32_t)n;
}

static size_t pixels_of(const vlm_engine_options *o)
{
    if (o->pixels_max != 0) return o->pixels_max;
    return o->memory_max == 0 ? PIXELS_MAX_DEFAULT
                              : size_min(PIXELS_MAX_DEFAULT, o->memory_max / 16);
}

/* Blocks for every context that runs to its end: more would be for the prefix cache alone. */
static size_t blocks_wanted(uint32_t n_ctx, uint32_t running_max)
{
    const size_t n = running_max < CONTEXTS_MAX ? running_max : CONTEXTS_MAX;
    return (n_ctx / VLM_KV_BLOCK_TOKENS + 1) * n;
}

static vlm_status no_room(const vlm_engine_options *o, const vlm_memory_plan *p, vlm_error *err)
{
    return vlm_fail(err, VLM_FAILED_PRECONDITION,
                    "memory %zu MiB: weights and working memory take %zu MiB, pictures %zu MiB; "
                    "nothing is left for keys and values",
                    o->memory_max >> 20, p->fixed_bytes >> 20,
                    (p->pixels_max + p->n_pictures * p->picture_bytes) >> 20);
}

static vlm_status need_of(const vlm_model *m, const vlm_engine_options *o, size_t *n_bytes,
                          vlm_error *err)
{
    enum { PROCESS_BYTES = 64 << 20 }; /* program, tokenizer, requests */
    const vlm_text_config *t = &vlm_model_config(m)->text;
    const size_t n_blocks = vlm_model_n_ctx(m) / VLM_KV_BLOCK_TOKENS + 1;
    size_t block_bytes, kv_bytes, most;
    if (!vlm_kv_block_bytes(t->n_layers, t->n_kv_heads, t->head_dim, o->kv_dtype, &block_bytes) ||
        !vlm_size_mul(block_bytes, n_blocks, &kv_bytes) ||
        !vlm_size_add(kv_bytes, vlm_model_mapped_bytes(m), &most) ||
        !vlm_size_add(most, vlm_model_working_bytes(m) + PROCESS_BYTES, &most) ||
        !vlm_size_add(most, o->encoder_cache_bytes, &most) ||
        !vlm_size_add(most, most / 7, n_bytes)) /* pictures and pixels: a sixteenth each */
        return vlm_fail_memory(err, "key/value cache");
    return VLM_OK;
}

vlm_status vlm_engine_memory_need(vlm_folder *folder, const vlm_engine_options *o, size_t *n_bytes,
                                  vlm_error *err)
{
    const vlm_model_options options = {
        .dtype = o->dtype, .vision_dtype = o->vision_dtype, .plan_only = true, .n_ctx = o->n_ctx};
    vlm_backend *backend = NULL;
    vlm_model *model = NULL;
    vlm_status status = vlm_backend_cpu_open(1, VLM_CPU_REFERENCE, &backend, err);
    if (status == VLM_OK) status = vlm_model_open(folder, backend, &options, &model, err);
    if (status == VLM_OK) status = need_of(model, o, n_bytes, err);
    vlm_model_close(model);
    if (backend != NULL) backend->ops->close(backend);
    return status;
}

vlm_status vlm_memory_plan_of(const vlm_model *m, const vlm_engine_options *o, uint32_t running_max,
                              vlm_memory_plan *p, vlm_error *err)
{
    const vlm_text_config *t = &vlm_model_config(m)->text;
    const uint32_t n_ctx = vlm_model_n_ctx(m);
    *p = (vlm_memory_plan){.pixels_max = pixels_of(o)};
    const size_t row_bytes = t->hidden_size * sizeof(float);
    if (!vlm_kv_block_bytes(t->n_layers, t->n_kv_heads, t->head_dim, o->kv_dtype,
                            &p->block_bytes) ||
        !vlm_size_mul(row_bytes, vlm_model_n_image_tokens(m), &p->picture_bytes))
        return vlm_fail_memory(err, "key/value cache");
    const size_t available = less(vlm_memory_available(), vlm_model_mapped_bytes(m));
    p->n_pictures = pictures_of(o, p->picture_bytes, available);
    p->fixed_bytes = vlm_model_mapped_bytes(m) + vlm_model_working_bytes(m);
    const size_t pictures = p->n_pictures * p->picture_bytes;

    size_t n_blocks;
    if (o->kv_bytes != 0) {
        n_blocks = o->kv_bytes / p->block_bytes;
    } else if (o->memory_max != 0) {
        n_blocks = less(o->memory_max, p->fixed_bytes + pictures + p->pixels_max) / p->block_bytes;
        if (n_blocks == 0) return no_room(o, p, err);
    } else {
        /* What is mapped counts as free until it is read; what is not left is tried all the same
         * with one context. */
        n_blocks = size_min(less(available, pictures) / SHARE / p->block_bytes,
                            blocks_wanted(n_ctx, running_max));
        const size_t one = n_ctx / VLM_KV_BLOCK_TOKENS + 1;
        if (n_blocks < one) n_blocks = one;
    }
    if (n_blocks == 0) n_blocks = 1;
    p->n_blocks = (uint32_t)size_min(n_blocks, BLOCKS_MAX);
    return VLM_OK;
}
