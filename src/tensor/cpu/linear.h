/* linear.h - matrix products of the CPU backend over the kernels: which rows meet which outputs on
 * which thread; and packing.
 * Not: the arithmetic (kernels.h, packed.h).  Threads: as the pool. */
#ifndef VLM_TENSOR_CPU_LINEAR_H
#define VLM_TENSOR_CPU_LINEAR_H

#include "base/pool.h"
#include "tensor/backend.h"
#include "tensor/cpu/kernels.h"

/* Work below which a range is not worth handing to another thread: some microseconds. */
enum { VLM_GRAIN_PRODUCTS = 1 << 18 };

typedef struct vlm_cpu_linear {
    const vlm_cpu_kernels *kernels;
    vlm_pool *pool;
    float *scratch; /* VLM_LINEAR_SCRATCH_LEN floats for each thread */
    /* Rows made ready for packed weights: prepared_cols of VLM_PREPARED_ROWS_MAX rows. */
    void *prepared;
    size_t prepared_cols;
    size_t l2_bytes; /* of the cache that a thread has to itself */
} vlm_cpu_linear;

/* What vlm_backend_ops.linear, pack, packed_bytes and reserve promise. */
void vlm_cpu_linear_run(const vlm_cpu_linear *cpu, float *y, const float *x, uint32_t n,
                        const vlm_weight *w, const vlm_weight *bias, bool add);
void vlm_cpu_pack(const vlm_cpu_linear *cpu, void *dst, vlm_dtype dtype, const vlm_weight *src);
size_t vlm_cpu_packed_bytes(vlm_dtype dtype, uint32_t n_rows, uint32_t n_cols);
VLM_MUST_USE vlm_status vlm_cpu_reserve(vlm_cpu_linear *cpu, uint32_t n_cols, vlm_error *err);

#endif
