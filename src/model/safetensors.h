/* safetensors.h - named tensors of one or several mapped files, checked so that no tensor reaches
 * outside its file; and a writer.
 * Format: https://github.com/huggingface/safetensors: u64 little-endian header length, a JSON
 * object name -> {dtype, shape, data_offsets}, the data.
 * Not: what a tensor means (weights.h).  The data is not touched.
 * Ownership: data points into the mapped files, which belong to the folder; names are owned here.
 * Threads: immutable after open. */
#ifndef VLM_MODEL_SAFETENSORS_H
#define VLM_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "model/folder.h"
#include "tensor/dtype.h"

enum { VLM_ST_RANK_MAX = 8, VLM_ST_TENSORS_MAX = 1000000 };

typedef struct vlm_st_tensor {
    const char *name;
    const char *dtype_name; /* as in the file: "F16", "I64", ... */
    bool dtype_known;       /* dtype below is valid: a type that kernels can compute with */
    vlm_dtype dtype;
    uint32_t rank;
    uint64_t shape[VLM_ST_RANK_MAX];
    const void *data; /* the format does not promise that it is aligned to the element size */
    uint64_t n_bytes; /* product of shape times element size */
    uint32_t file_idx;
} vlm_st_tensor;

typedef struct vlm_safetensors vlm_safetensors;

/* model.safetensors; else the shards that model.safetensors.index.json names; else the folder's
 * only
 * *.safetensors.  NOT_FOUND when there is none of these.
 * INVALID_ARGUMENT or DATA_LOSS names the file and the tensor or byte. */
VLM_MUST_USE vlm_status vlm_safetensors_open_folder(vlm_folder *f, vlm_safetensors **out,
                                                    vlm_error *err);

/* One file's contents, which must outlive the result; error texts begin with name. */
VLM_MUST_USE vlm_status vlm_safetensors_open_bytes(vlm_bytes bytes, const char *name,
                                                   vlm_safetensors **out, vlm_error *err);
void vlm_safetensors_close(vlm_safetensors *s); /* NULL is legal */

/* NULL when absent. */
const vlm_st_tensor *vlm_safetensors_find(const vlm_safetensors *s, const char *name);
size_t vlm_safetensors_n(const vlm_safetensors *s);
/* In the order of names. */
const vlm_st_tensor *vlm_safetensors_at(const vlm_safetensors *s, size_t idx);

/* Write tensors (name, dtype_name, rank, shape, data, n_bytes) to a new file at path, replacing it
 * whole or not at all.  UNAVAILABLE, PERMISSION_DENIED, RESOURCE_EXHAUSTED. */
VLM_MUST_USE vlm_status vlm_safetensors_write(const char *path, const vlm_st_tensor *tensors,
                                              size_t n, vlm_error *err);

#endif
