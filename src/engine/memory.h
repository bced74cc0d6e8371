/* memory.h - how the memory of an engine is shared out when it is opened: weights and working
 * memory as they are, then the pictures of requests, the encoder cache, and the rest for keys and
 * values.
 * Threads: pure, but for asking what is free. */
#ifndef VLM_ENGINE_MEMORY_H
#define VLM_ENGINE_MEMORY_H

#include "engine/engine.h"
#include "model/model.h"

typedef struct vlm_memory_plan {
    uint32_t n_blocks; /* of the key/value cache */
    size_t block_bytes;
    uint32_t n_pictures; /* of the encoder cache */
    size_t picture_bytes;
    size_t pixels_max;
    size_t fixed_bytes; /* weights and working memory */
} vlm_memory_plan;

/* FAILED_PRECONDITION with the numbers when memory_max leaves no room for keys and values. */
VLM_MUST_USE vlm_status vlm_memory_plan_of(const vlm_model *model,
                                           const vlm_engine_options *options, uint32_t running_max,
                                           vlm_memory_plan *out, vlm_error *err);

#endif
